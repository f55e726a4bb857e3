"""`rlhf curate`: pairs kept, flipped or dropped by rewards and judges that are functions."""

import json

import numpy as np
import pytest
from refusals import refused

from rlhf_jax.cli import main
from rlhf_jax.cli.curate import read_pool, reward_confidence, text_judge, verified_quality
from rlhf_jax.data.records import Pair
from rlhf_jax.training import UserError

MINE = """
def longer(prompts, answers):
    return [float(len(answer)) for answer in answers]

def letters(prompts, answers):
    return [float(answer.count("a")) for answer in answers]

def shy(prompts, answers):
    return [None if answer == "b" else 1.0 for answer in answers]

def judge(prompts, first, second):
    return [float(a.count("a") > b.count("a")) for a, b in zip(first, second, strict=True)]

def mute(prompts, first, second):
    return [None for _ in first]
"""
# Right answers have more a; --best likes what is long, --gold and the judge what is right.
ROWS = [
    {"prompt": "1?", "chosen": "aaa", "rejected": "b", "user": 7},  # nobody doubts it
    {"prompt": "2?", "chosen": "b", "rejected": "aaa", "margin": 2.0},  # everybody does
    {"prompt": "3?", "chosen": "aa", "rejected": "bbbb"},  # --best alone does
    {"prompt": "4?", "chosen": "bbbb", "rejected": "aa"},  # --best alone does not
]
FLIPPED = {"prompt": "2?", "chosen": "aaa", "rejected": "b"}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "pool.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    verified = [{"prompt": "4?", "chosen": "aa", "rejected": "bbbb"}]
    (tmp_path / "verified.jsonl").write_text("\n".join(map(json.dumps, verified)))
    return tmp_path


CURATE = "curate --data pool.jsonl --out out.jsonl --best mine.py:longer --judge mine.py:judge"
GOLD = f"{CURATE} --gold mine.py:letters"


@pytest.mark.parametrize(
    ("line", "counts", "left"),
    [
        (
            GOLD,
            "keep 2, flip 1, discard 1, relabel 2, unjudged 0",
            [ROWS[0], FLIPPED, ROWS[2]],
        ),
        (
            f"{GOLD} --flip-discarded",
            "keep 2, flip 2, discard 0, relabel 1, unjudged 0",
            [ROWS[0], FLIPPED, ROWS[2], ROWS[3] | {"chosen": "aa", "rejected": "bbbb"}],
        ),
        # Without --gold nobody doubts the last one.
        (
            CURATE,
            "keep 3, flip 1, discard 0, relabel 2, unjudged 0",
            [ROWS[0], FLIPPED, ROWS[2], ROWS[3]],
        ),
        (
            GOLD.replace("mine.py:judge", "mine.py:mute"),
            "keep 1, flip 0, discard 3, relabel 2, unjudged 2",
            [ROWS[0]],
        ),
        # A majority of three, each asked twice.
        (
            GOLD.replace(":judge", ":judge mine.py:mute mine.py:judge --judgements 2"),
            "keep 2, flip 1, discard 1, relabel 2, unjudged 0",
            [ROWS[0], FLIPPED, ROWS[2]],
        ),
    ],
)
def test_counts_and_pairs_by_hand(here, capsys, line, counts, left):
    assert main(line.split()) == 0
    assert [json.loads(row) for row in (here / "out.jsonl").read_text().splitlines()] == left
    said = capsys.readouterr().out
    assert counts in said
    assert "--best agrees with 0.500 of 4 pairs" in said
    assert f"out.jsonl: {len(left)} pairs" in said


def test_verified_pairs_come_first_and_measure_the_others(here, capsys):
    assert main(f"{GOLD} --verified verified.jsonl".split()) == 0
    rows = [json.loads(row) for row in (here / "out.jsonl").read_text().splitlines()]
    verified = {"prompt": "4?", "chosen": "aa", "rejected": "bbbb"}
    assert rows == [verified, ROWS[0], FLIPPED, ROWS[2]]
    said = capsys.readouterr().out
    assert "verified pairs: accuracy of --best: 0\n" in said
    assert "verified pairs: accuracy of the judges: 1\n" in said
    assert "verified pairs: without a majority of the judges: 0\n" in said
    assert "pairs of pool.jsonl that are verified: 1" in said
    assert "keep 2, flip 1, discard 0, relabel 2" in said


def test_parts_by_hand(here, capsys):
    pairs = read_pool(here / "pool.jsonl", "mine.py:longer")
    assert pairs[0] == Pair("1?", "aaa", "b", user=7)
    found = reward_confidence("--best", "2*mine.py:longer")(pairs)
    np.testing.assert_allclose(found, 1 / (1 + np.exp([-4.0, 4.0, 4.0, -4.0])))
    # Without a score it neither agrees nor disagrees.
    found = reward_confidence("--best", "mine.py:shy")(pairs)
    np.testing.assert_array_equal(found, 0.5)
    assert "--best agrees with 0.500 of 4 pairs; no score for 2" in capsys.readouterr().out
    judge = text_judge("mine.py:judge")
    messages = [{"role": "assistant", "content": "aa"}]
    assert list(judge(["1?"], [messages], ["a"])) == [1.0]
    best, asking = reward_confidence("--best", "mine.py:longer"), {"samples": 1, "seed": 0}
    numbers = verified_quality(pairs, best, [text_judge("mine.py:mute")], asking)
    assert np.ravel(numbers.pop("accuracy of --best"))[0] == 0.5
    assert numbers == {"without a majority of the judges": 1.0}
    with pytest.raises(UserError, match="--gold exact reads the field 'answer', which pairs lack"):
        reward_confidence("--gold", "exact")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (CURATE.partition(" --judge")[0], "rlhf curate needs a judge: give --judge"),
        (f"{CURATE} --flip-discarded", "--flip-discarded needs --gold"),
        (f"{CURATE} --judgements 0", "--judgements must be in [1, inf)"),
        (CURATE.replace("out.jsonl", "mine.py"), "mine.py exists: choose another --out"),
        (f"{CURATE} --verified pool.jsonl", "all 4 pairs of pool.jsonl are verified"),
        (CURATE.replace("mine.py:judge", "nowhere:f"), "no module 'nowhere'"),
        (CURATE.replace("pool", "lost"), "lost.jsonl"),
    ],
)
def test_what_cannot_be_curated_is_named(here, capsys, line, message):
    refused(line.split(), message, capsys)
    assert not (here / "out.jsonl").exists()


def test_nothing_is_written_if_nothing_is_left(here, capsys):
    (here / "pool.jsonl").write_text(json.dumps(ROWS[3]))
    refused(GOLD.split(), "none of the 1 pairs is left: nothing is written", capsys)
    assert not (here / "out.jsonl").exists()
