"""Pairs that other pairs do not cover, by words and by states; guarantees that are none."""

import numpy as np
import pytest

from rlhf_jax.data.audit.rows import JudgedPair
from rlhf_jax.data.records import Pair
from rlhf_jax.recipes.pair_coverage import pair_features, thin_coverage, vacuous_guarantee


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
    found = thin_coverage(pair_features("pairs", judged(chosen, rejected), most=1000))
    assert set(found.places) == {str(i) for i in range(101, 107)}
    assert (found.count, found.total) == (6, 106)
    assert found.details["features"] == 10
    # red less blue, and five differences of metals.
    assert 5 < found.details["effective dimension"] < 6


def test_more_pairs_of_the_same_words_cover_better():
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(40)]

    def pairs(count):
        return judged(*([" ".join(rng.choice(words, 4)) for _ in range(count)] for _ in "ab"))

    few, many = (
        thin_coverage(pair_features("pairs", pairs(count), most=10_000)) for count in (60, 2000)
    )
    assert few.share > 0.3
    assert many.share == 0.0
    assert thin_coverage(pair_features("pairs", pairs(2000), most=60)).total == 60


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
    features = pair_features("texts", pairs, most=100)
    for finding in (thin_coverage(features), vacuous_guarantee(features)):
        assert why in finding.inapplicable


def test_a_guarantee_is_vacuous_where_its_bound_spans_the_rewards():
    """One direction, in which `right` of N labels agree; more pairs make the same bound smaller."""

    def states_of(right):
        def states(pairs):
            signs = np.where(np.arange(len(pairs)) < right * len(pairs), 1.0, -1.0)
            return np.stack([signs, -signs], axis=1)[..., None]

        return states

    def found(count, right):
        pairs = judged(["yes"] * count, ["no"] * count)
        features = pair_features("pairs", pairs, most=count, states=states_of(right))
        assert features.sides.shape == (count, 2, 1)
        return vacuous_guarantee(features)

    few, many = found(60, 0.9), found(20_000, 0.9)
    assert (few.count, few.total) == (60, 60)
    assert "is vacuous" in few.examples[0]
    assert many.count == 0
    assert "is not vacuous" in many.examples[0]
    # x = 2, and 2 w = log 9 up to the ridge: rewards of 1 and -1 span log 9.
    assert many.details["range of rewards"] == pytest.approx(np.log(9), rel=1e-2)
    assert "no linear reward" in found(60, 0.5).inapplicable
