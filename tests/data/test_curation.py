"""Curation of pairs by hand, its limits, and its precision against simulation."""

import numpy as np
import pytest

from rlhf_jax.data.curation import (
    agreement_precision,
    consistency_filter,
    cosine_neighbours,
    curated_pairs,
    judge_relabel,
    nested_majority,
    pair_confidences,
    retrieval_counts,
)
from rlhf_jax.data.records import Pair

NAN = np.nan


def names(curation):
    """One letter a pair: keep, flip, discard."""
    return "".join("dkf"[sign] for sign in curation.signs)


def test_confidences_are_sigmoids_of_gaps():
    # 1 / (1 + e^-2), 1 / 2, and gaps that overflow exp.
    found = pair_confidences([1.0, 3.0, -1e4, 1e4], [-1.0, 3.0, 1e4, -1e4])
    np.testing.assert_allclose(found, [0.8807970779778823, 0.5, 0.0, 1.0], rtol=1e-12)


def test_more_neighbours_where_the_model_errs():
    # 8 up to 1/2, then ceil(8 (1 - p)): 8 * 0.49 = 3.92, 8 * 0.25 = 2, 8 * 0.125 = 1.
    confidences = [0.0, 0.3, 0.5, 0.51, 0.75, 0.76, 0.874, 0.875, 0.99, 1.0 - 1e-12, 1.0]
    expected = [8, 8, 8, 4, 2, 2, 2, 1, 1, 1, 1]
    np.testing.assert_array_equal(retrieval_counts(np.array(confidences)), expected)
    np.testing.assert_array_equal(retrieval_counts(np.array([0.5, 0.6]), most=1), [1, 1])


def test_neighbours_are_the_most_similar_by_angle():
    pool = np.array([[0.0, 5.0], [1.0, 0.1], [100.0, 100.0], [-1.0, 0.0], [3.0, 0.3]])
    found = cosine_neighbours(np.array([[2.0, 0.0], [0.0, 1.0]]), pool, np.array([3, 9]))
    # Rows 1 and 4 have one direction: the first comes first, whatever their lengths.
    np.testing.assert_array_equal(found[0], [1, 4, 2])
    np.testing.assert_array_equal(found[1], [0, 2, 1, 4, 3])


def test_judges_vote_within_themselves_and_then_among_each_other():
    prefs = np.array(
        [
            # pair:  0    1    2    3    4
            [[1.0, 0.9, 0.0, NAN, 0.5], [1.0, 0.2, 0.0, NAN, NAN], [0.0, 0.8, 0.1, 1.0, NAN]],
            [[0.0, 0.0, 0.0, 0.0, NAN], [0.0, 1.0, 1.0, 0.0, NAN], [0.0, NAN, 0.0, NAN, 0.5]],
            [[1.0, 1.0, 0.0, NAN, NAN], [1.0, 1.0, 0.0, NAN, NAN], [1.0, 1.0, 0.0, NAN, NAN]],
        ]
    )
    # Pair 0: judges say 1, 0, 1; pair 1: 1, a tie, 1; pair 2: 0; pair 3: 1, 0, nothing; 4: nothing.
    np.testing.assert_array_equal(nested_majority(prefs), [1.0, 1.0, 0.0, NAN, NAN])


def test_the_filter_on_every_combination():
    # Each of g and b agrees, does neither or disagrees; the verdict agrees, does not, or is none.
    sure = {"+": 0.9, "0": 0.5, "-": 0.1}
    said = {"+": 1.0, "-": 0.0, "?": NAN}
    cases = [(g, b, v) for g in "+0-" for b in "+0-" for v in "+-?"]
    gold, best = (np.array([sure[case[i]] for case in cases]) for i in (0, 1))
    verdicts = np.array([said[case[2]] for case in cases])
    found = consistency_filter(gold, best, verdicts)
    assert names(found) == "kkkkddkdd" + "ddd" * 3 + "dddddddfd"
    assert found.counts == {"keep": 5, "flip": 1, "discard": 21, "relabel": 18, "unjudged": 6}
    every = consistency_filter(gold, best, verdicts, flip_discarded=True)
    assert names(every) == names(found).replace("d", "f")
    assert names(judge_relabel(best, verdicts)) == ("kkkkfdkfd") * 3


def test_an_oracle_keeps_the_right_labels_and_flips_the_wrong_ones():
    right = np.random.default_rng(0).random(1000) < 0.6
    oracle = np.where(right, 0.9, 0.1)
    found = consistency_filter(oracle, oracle, right.astype(float))
    np.testing.assert_array_equal(found.keep, right)
    np.testing.assert_array_equal(found.flip, ~right)


def test_a_random_gold_model_keeps_half_whether_right_or_wrong():
    draws = np.random.default_rng(1)
    gold, sure = draws.random(100_000), np.full(100_000, 0.9)
    found = consistency_filter(gold, sure, np.ones(100_000))
    right = draws.random(100_000) < 0.7
    # 4 standard errors of a share of 30,000 are 0.0115.
    assert abs(found.keep[right].mean() - 0.5) < 0.0115
    assert abs(found.keep[~right].mean() - 0.5) < 0.0115


def test_precision_of_independent_checks_by_hand_and_by_simulation():
    # q = 0.6, a = 0.85: 0.6 * 0.7225 / (0.6 * 0.7225 + 0.4 * 0.0225) = 0.4335 / 0.4425, and for
    # flips 0.4 * 0.7225 / (0.4 * 0.7225 + 0.6 * 0.0225) = 0.289 / 0.3025.
    assert agreement_precision(0.6, 0.85, 0.85) == pytest.approx(0.4335 / 0.4425, rel=1e-12)
    assert agreement_precision(0.4, 0.85, 0.85) == pytest.approx(0.289 / 0.3025, rel=1e-12)
    assert agreement_precision(0.6) == pytest.approx(0.6, rel=1e-12)
    assert agreement_precision(0.6, 0.5, 0.5) == pytest.approx(0.6, rel=1e-12)
    assert np.isnan(agreement_precision(0.0, 1.0))
    draws = np.random.default_rng(2)
    right = draws.random(400_000) < 0.6
    gold, best, judge = (
        np.where((draws.random(400_000) < accuracy) == right, 0.9, 0.1)
        for accuracy in (0.85, 0.85, 0.8)
    )
    found = consistency_filter(gold, best, (judge > 0.5).astype(float))
    both = found.keep & (best > 0.5)
    # 4 standard errors are 0.0014 of 177,000 pairs and 0.0019 of 98,000.
    assert abs(right[both].mean() - agreement_precision(0.6, 0.85, 0.85)) < 0.0014
    flipped = agreement_precision(0.4, 0.85, 0.85, 0.8)
    assert abs((~right)[found.flip].mean() - flipped) < 0.0019


def test_flipped_pairs_are_swapped_and_nothing_else_is_lost():
    pool = [Pair(f"p{i}", f"good {i}", f"bad {i}", margin=float(i)) for i in range(4)]
    found = consistency_filter([0.9, 0.1, 0.1, 0.9], [0.9, 0.1, 0.9, 0.4], [NAN, 0.0, 1.0, 1.0])
    assert names(found) == "kfdk"
    assert curated_pairs(pool, found) == [pool[0], Pair("p1", "bad 1", "good 1"), pool[3]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pair_confidences([1.0, NAN], [0.0, 0.0]), "chosen_scores must be in"),
        (lambda: pair_confidences([1.0], [0.0, 0.0]), "scores must be paired"),
        (lambda: retrieval_counts([1.2]), r"confidences must be in \[0, 1\]"),
        (lambda: retrieval_counts([0.5], most=0), "most must be in"),
        (lambda: cosine_neighbours(np.ones((2, 3)), np.ones((2, 4)), [1, 1]), "keys must be"),
        (lambda: cosine_neighbours(np.ones((2, 3)), np.ones((2, 3)), [1]), "one per key"),
        (lambda: cosine_neighbours(np.ones((1, 2)), np.eye(2)[:, ::-1] * [0, 1], [1]), "in row 1"),
        (lambda: nested_majority(np.ones(3)), r"prefs must be \[judges, samples, N\]"),
        (lambda: nested_majority(np.full((1, 1, 1), 2.0)), r"prefs must be in \[0, 1\]"),
        (lambda: consistency_filter([0.5], [NAN], [1.0]), "confidences must be in"),
        (lambda: consistency_filter([0.5], [0.5], [2.0]), r"verdicts must be in \[0, 1\], got 2.0"),
        (lambda: judge_relabel([0.5, 0.5], [1.0]), r"must all be \[N\], got \(2,\), \(1,\)"),
        (lambda: agreement_precision(1.5), "right must be in"),
        (lambda: agreement_precision(0.5, -0.1), "accuracies must be in"),
        (lambda: curated_pairs([], judge_relabel([0.5], [1.0])), "masks are of 1 pairs"),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
