"""Win rates at equal lengths, and scores on benchmarks, by hand."""

import json

import numpy as np
import pytest
from scipy.special import expit, logit

from rlhf_jax.data.reward_bench import BenchItem, is_bench, read_bench
from rlhf_jax.recipes.win_rates import (
    bench_credits,
    bench_pairs,
    length_controlled_win_rate,
    pairwise_scores,
    ties_score,
)


def test_a_judge_that_likes_length_alone_is_corrected_to_one_half():
    """30 of 40 answers are longer by 10. The longer one wins 8 times in 10: 3/4 0.8 + 1/4 0.2 =
    0.65 of all. theta + phi t = logit 0.8, theta - phi t = logit 0.2, so theta = 0."""
    gaps = np.array([10.0] * 30 + [-10.0] * 10)[:, None]
    prefs = np.where(gaps > 0, 0.8, 0.2)
    assert prefs.mean() == pytest.approx(0.65)
    rate, low, high = length_controlled_win_rate(prefs, gaps)
    assert rate == pytest.approx(0.5, abs=1e-3)
    assert low <= rate <= high


def test_what_is_better_stays_better_at_equal_lengths():
    """Wins of 9 in 10 when longer and 5 in 10 when shorter: theta = (logit 0.9 + logit 0.5) / 2 =
    log 9 / 2, a rate of 3 / 4; a judge without a length bias keeps its rate."""
    gaps = np.array([10.0] * 20 + [-10.0] * 20)[:, None]
    wins = np.r_[np.ones(18), np.zeros(2), np.ones(10), np.zeros(10)][:, None]
    rate, low, high = length_controlled_win_rate(wins, gaps)
    assert rate == pytest.approx(0.75, abs=1e-3)
    # Var of each logit is 1 / (n p (1 - p)): 1 / 1.8 and 1 / 5, of theta a quarter of their sum.
    error = 1.96 * np.sqrt((1 / 1.8 + 1 / 5) / 4)
    ends = expit(logit(0.75) + error * np.array([-1, 1]))
    np.testing.assert_allclose([low, high], ends, atol=2e-3)
    fair = np.tile([[1.0], [1.0], [1.0], [0.0]], (10, 1))
    assert length_controlled_win_rate(fair, gaps)[0] == pytest.approx(0.75, abs=1e-3)
    assert length_controlled_win_rate(fair, 0 * gaps)[0] == pytest.approx(0.75, abs=1e-3)


def test_a_sure_win_is_finite_and_no_verdict_is_left_out():
    gaps = np.ones((4, 2))
    rate, low, high = length_controlled_win_rate(np.array([[1.0, np.nan]] * 4), gaps)
    assert 0.99 < rate < 1.0
    assert low <= rate <= high
    with pytest.raises(ValueError, match="two prompts at least"):
        length_controlled_win_rate(np.array([[1.0, 0.0], [np.nan, np.nan]]), gaps[:2])


def item(chosen, rejected, name="", subset="Math"):
    return BenchItem("p", ("r",) * chosen, ("w",) * rejected, subset, name)


def test_an_item_counts_by_the_share_of_right_answers_at_the_top():
    items = [item(1, 3)] * 3 + [item(2, 1)]
    scores = [[2, 1, 0, 0], [0, 1, 0, 0], [1, 1, 0, 1], [3, 3, 3]]
    # Best; not best; one of three at the top; two of three at the top
    found = bench_credits(items, [np.array(row, float) for row in scores])
    np.testing.assert_allclose(found, [1, 0, 1 / 3, 2 / 3])


def test_comparisons_of_every_two_answers_are_scores_by_hand():
    """right beats wrong 1 by 1, loses to wrong 2 by 1/2; wrong 2 beats wrong 1 by 1/4; then right
    beats its only rival by 3. Halves of sums, since each of three answers has two rivals."""
    items = [BenchItem("p", ("r",), ("w1", "w2"), "Math", ""), item(1, 1)]
    pairs = bench_pairs(items)
    assert pairs.items == [0, 0, 0, 1]
    assert pairs.first == ["r", "r", "w1", "r"]
    assert pairs.second == ["w1", "w2", "w2", "w"]
    found = pairwise_scores(items, np.array([1.0, -0.5, -0.25, 3.0]))
    np.testing.assert_allclose(found[0], [0.25, -0.625, 0.375])
    np.testing.assert_allclose(found[1], [3.0, -3.0])
    np.testing.assert_array_equal(bench_credits(items, found), [0.0, 1.0])


def test_the_score_of_ties_by_hand():
    """tied:1 right 5, 4, wrong 2: a = 2, d = 1; ref:1 right 3, wrong 1.5: a = 1.5.
    tied:2 right 5, 1, wrong 2: a = -1, d = 4; ref:2 right 3, wrong 1: a = 2.

    accuracies 1/2 and 1; a_tied > d once of two; min(a) > d once (1.5 > 1);
    tanh(1.5 / 1 - 1) = tanh 0.5, tanh(-1 / 4 - 1) = tanh(-1.25).
    """
    items = [item(2, 1, "tied:1"), item(1, 1, "ref:1"), item(2, 1, "tied:2"), item(1, 1, "ref:2")]
    scores = [np.array(row) for row in ([5.0, 4, 2], [3.0, 1.5], [5.0, 1, 2], [3.0, 1])]
    margins = (np.tanh(0.5) + np.tanh(-1.25)) / 2
    expected = 0.3 * 0.5 + 0.3 * 1 + 0.2 * 0.5 + 0.2 * 0.5 + 0.01 * margins
    assert ties_score(items, scores) == pytest.approx(expected)
    with pytest.raises(ValueError, match="has the id '', not tied:N"):
        ties_score([item(2, 1)], scores[:1])
    with pytest.raises(ValueError, match="no item tied:N with its ref:N"):
        ties_score(items[:1], scores[:1])


def test_items_are_read_from_texts_and_from_lists_of_them(tmp_path):
    rows = [
        {"prompt": "p", "chosen": "a", "rejected": "b", "subset": "hep-go", "id": 7},
        {"prompt": "q", "chosen": ["a", "c"], "rejected": ["b"], "subset": "Ties", "id": "tied:1"},
    ]
    path = tmp_path / "bench.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    assert is_bench(path)
    assert list(read_bench(path)) == [
        BenchItem("p", ("a",), ("b",), "hep-go", "7"),
        BenchItem("q", ("a", "c"), ("b",), "Ties", "tied:1"),
    ]
    path.write_text(json.dumps({**rows[1], "rejected": []}))
    with pytest.raises(ValueError, match=r"bench\.jsonl, row 1: field rejected is empty"):
        read_bench(path)
    path.write_text(json.dumps({"prompt": "p", "chosen": "a", "rejected": "b"}))
    assert not is_bench(path)
