"""Which options of the commands on fresh answers exclude each other: the one place that says so."""

from collections.abc import Collection

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
