"""Upper confidence bounds: by hand, against exact intervals, and how often they fail."""

import numpy as np
import pytest
import scipy

from rlhf_jax.exact.upper_bounds import (
    bernstein_upper_bound,
    clopper_pearson_upper_bound,
    cost_inflation,
    hoeffding_upper_bound,
    mean_upper_bound,
    t_factor,
    t_failure,
    t_upper_bound,
)
from rlhf_jax.reports.intervals import share_interval

COSTS = np.array([0.0, 0.5, 1.0, 0.5])


def test_t_by_hand():
    # t_{0.9, 3} = 1.637744 in any table, s = sqrt(1 / 6): 0.5 + 1.637744 * 0.4082483 / 2
    assert t_upper_bound(COSTS, delta=0.1) == pytest.approx(0.834305, rel=1e-5)
    assert t_factor(4, delta=0.1) == pytest.approx(1.637744 / 2, rel=1e-6)


def test_hoeffding_and_bernstein_by_hand():
    # 0.5 + 2 sqrt(ln 10 / 8) for a width of 2
    found = hoeffding_upper_bound(COSTS, delta=0.1, bounds=(-1.0, 1.0))
    assert found == pytest.approx(0.5 + 2.0 * np.sqrt(2.302585 / 8), rel=1e-6)
    # sqrt(2 (1/6) ln 20 / 4) + 7 * 1 * ln 20 / (3 * 3)
    found = bernstein_upper_bound(COSTS, delta=0.1, bounds=(0.0, 1.0))
    assert found == pytest.approx(0.5 + np.sqrt(2.995732 / 12) + 7 * 2.995732 / 9, rel=1e-6)


def test_clopper_pearson_is_the_binomial_tail_turned_round():
    for ones, size in ((0, 10), (3, 10), (7, 50), (10, 10)):
        costs = np.arange(size) < ones
        bound = clopper_pearson_upper_bound(costs, delta=0.1)
        tail = scipy.stats.binom.cdf(ones, size, bound)
        assert bound == 1.0 if ones == size else tail == pytest.approx(0.1, rel=1e-6)
    assert clopper_pearson_upper_bound(np.zeros(20), delta=0.1) == pytest.approx(1 - 0.1**0.05)
    # The two-sided interval of reports has 0.025 in each tail.
    assert clopper_pearson_upper_bound(np.arange(50) < 7, delta=0.025) == pytest.approx(
        share_interval(np.arange(50) < 7)[1]
    )


def test_rows_are_samples_of_their_own():
    many = np.random.default_rng(0).uniform(size=(3, 5, 40))
    for kind in ("t", "hoeffding", "bernstein"):
        found = mean_upper_bound(many, delta=0.1, kind=kind, bounds=(0.0, 1.0))
        each = mean_upper_bound(many[1, 2], delta=0.1, kind=kind, bounds=(0.0, 1.0))
        assert found.shape == (3, 5)
        assert found[1, 2] == pytest.approx(float(each))
    ones = clopper_pearson_upper_bound(many > 0.5, delta=0.1)
    assert ones.shape == (3, 5)
    assert (mean_upper_bound(many > 0.5, delta=0.1, kind="clopper_pearson") == ones).all()


def test_a_smaller_delta_is_a_higher_bound():
    for kind in ("t", "hoeffding", "bernstein"):
        strict, loose = (
            mean_upper_bound(COSTS, delta=delta, kind=kind, bounds=(0.0, 1.0))
            for delta in (0.01, 0.1)
        )
        assert strict > loose > COSTS.mean()


def test_failures_of_4000_samples_on_the_boundary():
    """The frame's law Beta(0.05, 0.95): the t bound fails too often, Hoeffding and Bernstein do
    not fail; a uniform law is no trouble for t."""
    random = np.random.default_rng(0)
    skewed, even = random.beta(0.05, 0.95, (4000, 20)), random.uniform(size=(4000, 20))
    assert 0.26 < (t_upper_bound(skewed, delta=0.1) < 0.05).mean() < 0.31
    assert 0.08 < (t_upper_bound(even, delta=0.1) < 0.5).mean() < 0.12
    for bound in (hoeffding_upper_bound, bernstein_upper_bound):
        assert (bound(skewed, delta=0.1, bounds=(0.0, 1.0)) < 0.05).mean() == 0.0


def test_t_failure_is_delta_without_skew_and_close_for_many_costs():
    assert t_failure(0.0, 20, delta=0.1) == pytest.approx(0.1)
    skewness = float(scipy.stats.beta.stats(0.05, 0.95, moments="s"))
    # gamma = 3.89; 0.1 + 3.89 * 4.2848 * 0.17550 / (6 * 31.62): measured 0.111 at n = 1000
    assert t_failure(skewness, 1000, delta=0.1) == pytest.approx(0.1154, abs=2e-4)


def test_inflation_by_hand():
    # C = (0, 1) is the test's own factor; (4, 2) adds the data's.
    assert cost_inflation(50, 150, delta=0.1, own=0.0, test=1.0) == t_factor(150, delta=0.1)
    both = 4 * t_factor(50, delta=0.1) + 2 * t_factor(150, delta=0.1)
    assert cost_inflation(50, 150, delta=0.1, own=4.0, test=2.0) == pytest.approx(both)
    assert cost_inflation(50, 150, delta=0.1, own=0.0, test=0.0) == 0.0


@pytest.mark.parametrize(
    ("costs", "options", "words"),
    [
        ([0.1, np.nan], {"kind": "t"}, "costs must be finite, got 1 of 2"),
        ([0.1], {"kind": "t"}, "with N >= 2"),
        ([0.1, 2.0], {"kind": "hoeffding", "bounds": (0.0, 1.0)}, r"costs must be in bounds \[0"),
        ([0.1, 0.2], {"kind": "hoeffding", "bounds": (1.0, 0.0)}, "finite with a < b"),
        ([0.1, 0.2], {"kind": "bernstein"}, "needs the bounds"),
        ([0.0, 0.5], {"kind": "clopper_pearson"}, "0 or 1, got 0.5"),
        ([0.0, 0.5], {"kind": "normal"}, "kind"),
        ([0.0, 0.5], {"kind": "t", "delta": 0.0}, "delta must"),
    ],
)
def test_bad_input_is_named(costs, options, words):
    # Annotations are checked while testing, before the function's own ValueError.
    with pytest.raises((ValueError, TypeError), match=words):
        mean_upper_bound(np.array(costs), **{"delta": 0.1, **options})
