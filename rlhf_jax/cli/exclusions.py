"""Which options exclude each other: the one place that says so.

Of the commands on fresh answers (`check_exclusions`), of `rlhf reward` (`check_reward`) and of
`rlhf eval` (`check_eval`).
"""

from collections.abc import Collection
from typing import Any

from rlhf_jax.cli.job import Job
from rlhf_jax.training import UserError

# What a command does by itself, beside its options.
SELF_PLAY, PARTS = "self-play", "scores of steps or pairs"
# (option, what it excludes, why)
EXCLUDED: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("--directions", ("--judge", PARTS), "directions are weights of --reward of whole answers"),
    ("--groups", ("--judge", PARTS, SELF_PLAY), "groups are --reward of whole answers"),
    ("--groups", ("--directions",), "both combine rewards"),
    ("--improve", ("--judge", PARTS), "answers are scored by --reward, e.g. gap:FOLDER"),
    ("--improve", ("--directions",), "both change prompts"),
    ("--improve", ("--turns", "--difficulty"), "a prompt shows one answer, in its own order"),
    ("--turns", ("--judge", PARTS), "a try is right by --reward of whole answers"),
    ("--turns", ("--groups", SELF_PLAY), "an episode has one reward, and answers are not compared"),
    ("--turns", ("--overlap",), "an answer is read before the next one is drawn"),
    ("--difficulty", ("--directions",), "directions make several prompts of one"),
    (
        "--cost",
        (SELF_PLAY, PARTS, "--directions", "--groups", "--turns", "--improve"),
        "costs are of answers that are scored one by one",
    ),
    (SELF_PLAY, ("--overlap",), "a round begins after the last one"),
    (SELF_PLAY, ("--stop",), "whole answers are drawn"),
)


def check_exclusions(job: Job, also: Collection[str] = ()) -> None:
    """UserError for options that exclude each other.

    Args:
      also: what the command does by itself, of SELF_PLAY and PARTS.
    """
    given = {
        "--judge": job.scoring.judge is not None,
        "--cost": bool(job.costs.cost),
        "--directions": bool(job.directions.directions),
        "--groups": job.groups.groups != "sum",
        "--turns": job.retries.turns != 1,
        "--difficulty": job.curriculum.difficulty is not None,
        "--improve": job.improvement.improve,
        "--stop": bool(job.sampling.stop),
        "--overlap": job.overlap,
    }
    used = {name for name, chosen in given.items() if chosen} | set(also)
    for option, others, why in EXCLUDED:
        for other in others:
            if {option, other} <= used:
                raise UserError(f"{option} excludes {other}: {why}")


# ---- rlhf reward.

# Kinds that pad every row to the longest one.
UNPADDED = ("process", "spans", "users", "mixture", "features", "judge", "principles")
UNPADDED += ("reactions", "ratings", "entailment")
FROZEN = ("users", "mixture", "features")  # they leave the model as it is
WHOLE = ("spans", "judge", "pairwise", "ratings")  # they train all of it


def check_reward(options: Any) -> None:
    """ValueError for options of `rlhf reward` that its --kind has no use for, or that exclude each
    other."""
    kind, lora = options.kind, bool(options.adapter.lora_rank)
    if kind in UNPADDED and options.padding.buckets is not None:
        raise ValueError(f"--buckets is not for --kind {kind}; leave it out")
    if kind == "ensemble" and lora:
        raise ValueError(
            "--lora-rank is not for --kind ensemble; train members apart, each from another --seed"
        )
    if kind in FROZEN and lora:
        raise ValueError(f"--kind {kind} leaves the model as it is; leave --lora-rank out")
    if kind in WHOLE and lora:
        raise ValueError(f"--lora-rank is not for --kind {kind}; leave it out")
    for option, used, own in (
        ("--features", options.features.features, "features"),
        ("--ratings", options.ratings.ratings, "ratings"),
        ("--heads", options.spans.heads, "spans"),
        ("--by-annotator", options.ensemble.by_annotator, "ensemble"),
    ):
        if used and kind != own:
            raise ValueError(f"{option} is for --kind {own}; leave it out")
    _check_terms(options, lora=lora)


def _check_terms(options: Any, *, lora: bool) -> None:
    """Of what is trained on beside the labels of pairs, or in their place."""
    terms = {
        "--repair": options.repair.repair != "none",
        "--contrast": options.contrast.contrast != "none",
        "--unlabelled": options.unlabelled.unlabelled is not None,
    }
    named = [name for name, used in terms.items() if used]
    if named and (options.kind != "outcome" or lora):
        raise ValueError(f"{named[0]} is for --kind outcome without --lora-rank; leave it out")
    if named[-2:] == ["--contrast", "--unlabelled"]:
        raise ValueError("--contrast and --unlabelled are two ways to train: choose one")
    if options.robust.robust != "none":
        beside = ["--kind"] * (options.kind != "outcome") + named
        beside += ["--micro-batches"] * (options.optimizer.micro_batches > 1)
        if beside:
            raise ValueError(f"--robust is a loss of whole batches of pairs: leave {beside[0]} out")


# ---- rlhf eval.


def check_eval(options: Any, *, users: bool) -> None:
    """UserError for options of `rlhf eval` that exclude each other.

    Args:
      users: whether the model is a reward of users.
    """
    if options.comparisons is None:
        return
    if not users:
        raise UserError("--comparisons show who a user is, to a reward of users: leave them out")
    if options.reward:
        raise UserError(
            "--comparisons excludes --reward: write user_score:FOLDER,FILE, with the file of the "
            "comparisons"
        )
