"""Options of the commands on fresh answers that exclude each other, and those that do not."""

from pathlib import Path

import pytest

from rlhf_jax.cli.exclusions import EXCLUDED, PARTS, SELF_PLAY, check_exclusions
from rlhf_jax.cli.job import Job
from rlhf_jax.cli.limits import Costs
from rlhf_jax.cli.online_options import (
    Curriculum,
    Directions,
    Groups,
    Improvement,
    Retries,
    Scoring,
)
from rlhf_jax.cli.options import Model, Output, Sampling
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
