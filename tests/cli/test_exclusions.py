"""Options of the commands on fresh answers that exclude each other, and those that do not."""

from pathlib import Path

import pytest

from rlhf_jax.cli.evaluate import Evaluate
from rlhf_jax.cli.exclusions import (
    EXCLUDED,
    FROZEN,
    PARTS,
    SELF_PLAY,
    UNPADDED,
    WHOLE,
    check_eval,
    check_exclusions,
    check_reward,
)
from rlhf_jax.cli.job import Job
from rlhf_jax.cli.limits import Costs
from rlhf_jax.cli.offline import Reward
from rlhf_jax.cli.online_options import (
    Curriculum,
    Directions,
    Groups,
    Improvement,
    Retries,
    Scoring,
)
from rlhf_jax.cli.options import (
    Adapter,
    Contrast,
    Features,
    Members,
    Model,
    Optimizer,
    Output,
    Padding,
    Repair,
    Robust,
    Rows,
    Sampling,
    Spans,
    Unlabelled,
)
from rlhf_jax.training import UserError

HERE = Path()
JUDGED = {"scoring": Scoring(prompts=HERE, judge="a:b")}
DIRECTED = {"directions": Directions(directions=("a", "b"))}
GROUPED = {"groups": Groups(groups="worst")}
TRIED = {"retries": Retries(turns=2)}
STAGED = {"curriculum": Curriculum(difficulty="level")}
SHOWN = {"improvement": Improvement(improve=True)}
COSTLY = {"costs": Costs(cost=("a:b<=1",))}
STOPPED = {"sampling": Sampling(stop=("a",))}
OVERLAPPED = {"overlap": True}

CASES = [
    (DIRECTED | JUDGED, (), "--directions excludes --judge"),
    (DIRECTED, (PARTS,), "--directions excludes scores of steps or pairs"),
    (GROUPED | JUDGED, (), "--groups excludes --judge"),
    (GROUPED, (PARTS,), "--groups excludes scores of steps or pairs"),
    (GROUPED, (SELF_PLAY,), "--groups excludes self-play"),
    (GROUPED | DIRECTED, (), "--groups excludes --directions"),
    (SHOWN | JUDGED, (), "--improve excludes --judge"),
    (SHOWN, (PARTS,), "--improve excludes scores of steps or pairs"),
    (SHOWN | DIRECTED, (), "--improve excludes --directions"),
    (SHOWN | TRIED, (), "--improve excludes --turns"),
    (SHOWN | STAGED, (), "--improve excludes --difficulty"),
    (TRIED | JUDGED, (), "--turns excludes --judge"),
    (TRIED, (PARTS,), "--turns excludes scores of steps or pairs"),
    (TRIED | GROUPED, (), "--turns excludes --groups"),
    (TRIED, (SELF_PLAY,), "--turns excludes self-play"),
    (TRIED | OVERLAPPED, (), "--turns excludes --overlap"),
    (STAGED | DIRECTED, (), "--difficulty excludes --directions"),
    (COSTLY, (SELF_PLAY,), "--cost excludes self-play"),
    (COSTLY, (PARTS,), "--cost excludes scores of steps or pairs"),
    (COSTLY | DIRECTED, (), "--cost excludes --directions"),
    (COSTLY | GROUPED, (), "--cost excludes --groups"),
    (COSTLY | TRIED, (), "--cost excludes --turns"),
    (COSTLY | SHOWN, (), "--cost excludes --improve"),
    (OVERLAPPED, (SELF_PLAY,), "self-play excludes --overlap"),
    (STOPPED, (SELF_PLAY,), "self-play excludes --stop"),
]


def job(**given):
    needed = {"model": Model(model=HERE), "output": Output(out=HERE)}
    return Job(**needed | {"scoring": Scoring(prompts=HERE, reward=("a:b",))} | given)


@pytest.mark.parametrize(("given", "also", "message"), CASES)
def test_both_are_named(given, also, message):
    with pytest.raises(UserError, match=message):
        check_exclusions(job(**given), also)


def test_every_exclusion_is_tried_above():
    assert len({message for *_, message in CASES}) == sum(len(x) for _, x, _ in EXCLUDED)


@pytest.mark.parametrize(
    ("given", "also"),
    [
        ({}, (PARTS, SELF_PLAY)),
        (JUDGED | COSTLY | OVERLAPPED | STOPPED, ()),
        (TRIED | DIRECTED, ()),
        (TRIED | STAGED | STOPPED, ()),
        (GROUPED | STAGED | OVERLAPPED, ()),
        (GROUPED | SHOWN, ()),
        (SHOWN, (SELF_PLAY,)),
        (JUDGED, (PARTS, SELF_PLAY)),
    ],
)
def test_others_go_together(given, also):
    check_exclusions(job(**given), also)


# ---- rlhf reward and rlhf eval.

LORA = {"adapter": Adapter(lora_rank=2)}
REPAIRED = {"repair": Repair(repair="flip")}
ROBUST = {"robust": Robust(robust="vrex")}
TWICE = {"contrast": Contrast(contrast="simcse"), "unlabelled": Unlabelled(unlabelled=HERE)}

REWARDS = [
    *(
        ({"kind": x, "padding": Padding(buckets=2)}, f"--buckets is not for.* {x};")
        for x in UNPADDED
    ),
    *(({"kind": x} | LORA, f"--kind {x} leaves the model as it is") for x in FROZEN),
    *(({"kind": x} | LORA, f"--lora-rank is not for --kind {x};") for x in WHOLE),
    ({"kind": "ensemble"} | LORA, "--lora-rank is not for --kind ensemble; train members apart"),
    ({"features": Features(features=("x=exact",))}, "--features is for --kind features"),
    ({"spans": Spans(heads={"one": "answer:b"})}, "--heads is for --kind spans"),
    ({"ensemble": Members(by_annotator=True)}, "--by-annotator is for --kind ensemble"),
    ({"kind": "ensemble"} | REPAIRED, "--repair is for --kind outcome without --lora-rank"),
    (LORA | REPAIRED, "--repair is for --kind outcome without --lora-rank"),
    (TWICE, "--contrast and --unlabelled are two ways to train"),
    ({"kind": "ensemble"} | ROBUST, "--robust is a loss of whole batches of pairs: leave --kind"),
    (ROBUST | REPAIRED, "--robust is a loss of whole batches of pairs: leave --repair"),
    (ROBUST | {"optimizer": Optimizer(micro_batches=2)}, "leave --micro-batches out"),
]


@pytest.mark.parametrize(("given", "message"), REWARDS)
def test_options_of_a_reward_model_that_do_not_go_together(given, message):
    needed = {"model": Model(model=HERE), "rows": Rows(data=HERE), "output": Output(out=HERE)}
    with pytest.raises(ValueError, match=message):
        Reward(**needed, **given)
    check_reward(Reward(**needed, kind="ensemble", ensemble=Members(by_annotator=True)))


def test_comparisons_are_for_a_reward_of_users_alone():
    options = Evaluate(model=Model(model=HERE), comparisons=HERE)
    check_eval(options, users=True)
    check_eval(Evaluate(model=Model(model=HERE)), users=False)
    with pytest.raises(UserError, match="--comparisons show who a user is, to a reward of users"):
        check_eval(options, users=False)
    both = Evaluate(model=Model(model=HERE), comparisons=HERE, reward=("exact",))
    with pytest.raises(UserError, match="--comparisons excludes --reward: write user_score:"):
        check_eval(both, users=True)
