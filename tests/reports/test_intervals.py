"""Intervals of means, shares and any statistic: hand numbers, coverage, single units."""

import numpy as np
import pytest

from rlhf_jax.reports.intervals import (
    bootstrap_claim,
    bootstrap_interval,
    group_error,
    grouped_mean_interval,
    mean_claim,
    mean_interval,
    mean_text,
    near_end,
    share_claim,
    share_interval,
)


def test_mean_interval_by_hand():
    """1, 2, 3: mean 2, s = 1, t(0.975; 2) = 4.302653, half = 4.302653 / sqrt 3 = 2.484138."""
    np.testing.assert_allclose(mean_interval([1, 2, 3]), (2 - 2.484138, 2 + 2.484138), atol=1e-6)


def test_a_mean_as_text_has_its_interval():
    low, high = mean_interval([1.0, 2.0, 4.0])
    assert mean_text([1.0, 2.0, 4.0]) == f"2.333 [{low:.3f}, {high:.3f}]"


def test_numbers_of_one_group_count_as_one_draw():
    """0, 1, 1, 1: s = 1/2, so se = 1/4, and no other if each comes twice in its group."""
    x = np.array([0.0, 1.0, 1.0, 1.0])
    assert group_error(x, np.arange(4)) == pytest.approx(0.25)
    assert group_error(np.repeat(x, 2), np.repeat(np.arange(4), 2)) == pytest.approx(0.25)
    assert grouped_mean_interval(x, np.arange(4)) == pytest.approx(mean_interval(x))
    assert np.isnan(grouped_mean_interval(x, np.zeros(4, int))).all()


def test_share_interval_by_hand():
    """10 of 10: the lower end solves p^10 = 0.025; 0 of 10: one less that."""
    low = 0.025**0.1
    np.testing.assert_allclose(share_interval(np.ones(10, bool)), (low, 1))
    np.testing.assert_allclose(share_interval(np.zeros(10, bool)), (0, 1 - low))


def test_bootstrap_of_a_mean_agrees_with_the_normal_one_and_keeps_pairs_together():
    x = np.random.default_rng(0).normal(3, 1, 400)
    low, high = bootstrap_interval(np.mean, x)
    np.testing.assert_allclose((low, high), x.mean() + np.array([-1, 1]) * 1.96 / 20, atol=0.02)
    ratio = bootstrap_interval(lambda a, b: a.mean() / b.mean(), x, 2 * x)
    np.testing.assert_allclose(ratio, 0.5)  # paired rows: exact in every draw


def test_one_unit_has_no_interval():
    assert np.isnan(mean_interval([1.0])).all()
    assert np.isnan(bootstrap_interval(np.mean, [1.0])).all()


def test_units_that_are_not_paired_are_refused():
    with pytest.raises(ValueError, match=r"units have \[2, 3\] rows"):
        bootstrap_interval(lambda a, b: 0.0, [1, 2], [1, 2, 3])


def test_a_baseline_fails_with_its_whole_interval_or_leaves_the_claim_undecided():
    """Rival [0.4, 0.6]: a threshold of 0.5 is inside of it, one of 0.3 (<=) or 0.7 (>=) is not."""
    rival = (0.4, 0.6)
    assert near_end("rival", rival, "<=") == ("rival, low end of its interval", 0.4)
    assert near_end("rival", rival, ">") == ("rival, high end of its interval", 0.6)
    about = {"kind": "ours", "source": "by hand"}
    for op, value, cases in (
        ("<=", 0.1, {0.3: "holds", 0.5: "undecided"}),
        (">=", 0.9, {0.7: "holds", 0.5: "undecided"}),
    ):
        baseline = near_end("rival", rival, op)
        for threshold, verdict in cases.items():
            claim = mean_claim("m", [value] * 3, op, threshold, baseline=baseline, **about)
            assert claim.verdict == verdict
    with pytest.raises(ValueError, match="op must be >=, >, <= or <, got =="):
        near_end("rival", rival, "==")


def test_claims_on_units_carry_their_interval():
    """Mean 2 [-0.48, 4.48]; 10 of 10 is [0.69, 1]; a constant ratio has no width."""
    about = {"kind": "paper", "source": "Table 1"}
    mean = mean_claim("m", [1, 2, 3], ">=", 1, **about)
    share = share_claim("s", np.ones(10, bool), ">=", 0.7, **about)
    ratio = bootstrap_claim(
        "r", lambda a, b: a.sum() / b.sum(), ([1, 2], [2, 4]), "<=", 0.5, **about
    )
    assert [claim.verdict for claim in (mean, share, ratio)] == ["undecided", "undecided", "holds"]
    assert (mean.value, mean.interval, mean.source) == (2, mean_interval([1, 2, 3]), "Table 1")
    assert (share.value, share.interval) == (1, share_interval(np.ones(10, bool)))
    assert (ratio.value, ratio.interval) == (0.5, (0.5, 0.5))
