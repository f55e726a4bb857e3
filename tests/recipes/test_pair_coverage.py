"""Pairs that other pairs do not cover: planted ones, small files and files without words."""

import numpy as np
import pytest

from rlhf_jax.data.audit.rows import JudgedPair
from rlhf_jax.data.records import Pair
from rlhf_jax.recipes.pair_coverage import thin_coverage


def judged(chosen, rejected):
    return [
        JudgedPair(str(i + 1), Pair(f"question {i}", a, b), i, (0, 1))
        for i, (a, b) in enumerate(zip(chosen, rejected, strict=True))
    ]


def test_what_few_pairs_differ_in_is_thin():
    """100 pairs are of red and blue, six of other words, two of which share a word at most."""
    metals = ["zinc", "tin", "lead", "iron", "gold", "silver"]
    chosen = ["red is nice"] * 100 + metals
    rejected = ["blue is nice"] * 100 + metals[1:] + metals[:1]
    found = thin_coverage("pairs", judged(chosen, rejected), most=1000)
    assert set(found.places) == {str(i) for i in range(101, 107)}
    assert (found.count, found.total) == (6, 106)
    assert found.details["words"] == 10
    # red less blue, and five differences of metals.
    assert 5 < found.details["effective dimension"] < 6


def test_more_pairs_of_the_same_words_cover_better():
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(40)]

    def pairs(count):
        return judged(*([" ".join(rng.choice(words, 4)) for _ in range(count)] for _ in "ab"))

    few, many = (thin_coverage("pairs", pairs(count), most=10_000) for count in (60, 2000))
    assert few.share > 0.3
    assert many.share == 0.0
    assert thin_coverage("pairs", pairs(2000), most=60).total == 60


@pytest.mark.parametrize(
    ("pairs", "why"),
    [
        ([], "texts without judgements"),
        (judged(["a b"] * 10, ["b c"] * 10), "fewer than 50 pairs"),
        (judged(["same words"] * 60, ["same words"] * 60), "differ in no frequent word"),
        (judged([""] * 60, [""] * 60), "no n-gram occurs"),
    ],
)
def test_what_has_no_coverage_says_so(pairs, why):
    assert why in thin_coverage("texts", pairs, most=100).inapplicable
