"""Wrong labels that were planted are estimated and found."""

from pathlib import Path

import numpy as np
import pytest

from rlhf_jax.data.audit import AuditEntry, AuditFile
from rlhf_jax.data.audit.rows import judged_pairs
from rlhf_jax.data.records import Answer, Labelled, Pair
from rlhf_jax.recipes.label_noise import label_noise

GOOD, BAD = ["kind", "clear", "helpful", "right"], ["rude", "vague", "useless", "wrong"]
OTHER = [f"word{i}" for i in range(40)]
SHARE = 0.1


def file_of(kind, records):
    entries = tuple(AuditEntry(str(i), record) for i, record in enumerate(records))
    return AuditFile(Path("a.jsonl"), kind, kind, len(records), entries)


def planted(rng, count):
    """Good and bad texts of six words, two of them telling, and which rows have wrong labels."""

    def text(telling):
        return " ".join(rng.permutation([*rng.choice(telling, 2), *rng.choice(OTHER, 4)]))

    return [(text(GOOD), text(BAD)) for _ in range(count)], rng.random(count) < SHARE


def check(found, flips):
    """The estimate is within 3 points of the planted share; 80% of what is flagged is planted."""
    assert found.finding.share == pytest.approx(flips.mean(), abs=0.03)
    flagged = [int(judgement.place) for judgement, _ in found.suspects]
    assert flips[flagged].mean() > 0.8  # by chance 0.1
    assert flips[flagged].sum() > 0.8 * flips.sum()
    # The model is right where the label is.
    assert found.right.hits.mean() == pytest.approx(1 - flips.mean(), abs=0.03)


@pytest.mark.long
def test_planted_flips_of_pairs_are_estimated_and_found():
    texts, flips = planted(np.random.default_rng(0), 600)
    sides = [pair[::-1] if flip else pair for pair, flip in zip(texts, flips, strict=True)]
    file = file_of("pairs", [Pair(f"question {i}", *pair) for i, pair in enumerate(sides)])
    found = label_noise(file, judged_pairs(file), most=10_000)
    check(found, flips)
    assert found.suspects[0][1] < 0.3
    part = label_noise(file, judged_pairs(file), most=300)
    assert part.finding.details["judgements read"] == 300


@pytest.mark.long
def test_planted_flips_of_labels_are_estimated_and_found():
    texts, flips = planted(np.random.default_rng(1), 600)
    records = [
        Labelled(f"question {i}", good if i % 3 else bad, bool(i % 3) != flip)
        for i, ((good, bad), flip) in enumerate(zip(texts, flips, strict=True))
    ]
    found = label_noise(file_of("labelled", records), [], most=10_000)
    check(found, flips)


def test_files_that_have_no_estimate_say_why():
    answers = label_noise(file_of("answers", [Answer("p", "a")]), [], most=10)
    assert answers.finding.inapplicable == "answers without judgements"
    few = file_of("pairs", [Pair("p", "a", "b")] * 60)
    found = label_noise(few, judged_pairs(few), most=100)
    assert found.finding.inapplicable == "fewer than 50 different prompts"
    letters = [Pair(f"p{i}", f"a{i}", f"b{i}") for i in range(60)]
    found = label_noise(file_of("pairs", letters), judged_pairs(file_of("pairs", letters)), most=60)
    assert "no n-gram occurs in 2" in found.finding.inapplicable
