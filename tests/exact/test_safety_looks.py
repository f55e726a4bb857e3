"""The safety test: what passes, what is refused, how delta is shared, and how often it is wrong."""

import warnings

import numpy as np
import pytest

from rlhf_jax.exact.safety_test import Limit, Looks, NoSolution, release, safety_test, t_doubts
from rlhf_jax.exact.upper_bounds import t_upper_bound

SAFE = np.random.default_rng(0).normal(-1.0, 1.0, 200)
HARM = {"harm": Limit(0.0)}


def test_a_safe_policy_is_released_and_an_unsafe_one_is_not():
    result, looks = safety_test(Looks(0.1), {"harm": SAFE}, HARM)
    assert result.passed
    assert result.uppers["harm"] == pytest.approx(float(t_upper_bound(SAFE, delta=0.1)))
    assert result.means["harm"] == pytest.approx(SAFE.mean())
    assert (result.sizes, result.thresholds, looks.used) == ({"harm": 200}, {"harm": 0.0}, 1)
    assert release({"w": 1}, result) == {"w": 1}
    failed, _ = safety_test(Looks(0.1), {"harm": SAFE + 1.0}, HARM)
    assert release({"w": 1}, failed) == NoSolution(failed)


def test_the_bound_decides_and_not_the_mean():
    bound = float(t_upper_bound(SAFE, delta=0.1))
    assert safety_test(Looks(0.1), {"harm": SAFE}, {"harm": Limit(bound)})[0].passed
    below = {"harm": Limit(np.nextafter(bound, -1))}
    assert not safety_test(Looks(0.1), {"harm": SAFE}, below)[0].passed
    assert SAFE.mean() < bound


def test_a_second_look_is_refused_unless_delta_was_split():
    result, looks = safety_test(Looks(0.1), {"harm": SAFE}, HARM)
    with pytest.raises(ValueError, match="all planned looks are used"):
        safety_test(looks, {"harm": SAFE}, HARM)
    split, looks = safety_test(Looks(0.1, count=2), {"harm": SAFE}, HARM)
    assert (result.delta, split.delta) == (0.1, 0.05)
    _, looks = safety_test(looks, {"harm": SAFE}, HARM)
    with pytest.raises(ValueError, match="all planned looks are used"):
        safety_test(looks, {"harm": SAFE}, HARM)


def test_several_constraints_share_delta_and_all_must_pass():
    costs = {"harm": SAFE, "rude": SAFE + 0.2}
    limits = {"harm": Limit(0.0), "rude": Limit(0.0)}
    result, _ = safety_test(Looks(0.1), costs, limits)
    assert result.delta == 0.05
    assert result.uppers["harm"] == pytest.approx(float(t_upper_bound(SAFE, delta=0.05)))
    assert result.passed
    worse = {**costs, "rude": SAFE + 1.5}
    assert not safety_test(Looks(0.1), worse, limits)[0].passed


def test_ten_looks_release_an_unsafe_policy_half_of_the_time_and_split_ones_do_not():
    """The frame: n = 100, the mean 0.02 standard deviations above the limit: 0.51."""
    random = np.random.default_rng(1)
    costs = random.normal(0.02, 1.0, (2000, 10, 100))
    for delta, low, high in ((0.1, 0.47, 0.55), (0.01, 0.0, 0.1)):
        passed = (t_upper_bound(costs, delta=delta) <= 0.0).any(-1).mean()
        assert low <= passed <= high


def test_skewed_and_constant_costs_are_warned_about():
    skewed = np.zeros(50)
    skewed[:2] = 1.0
    with pytest.warns(UserWarning, match="harm: 50 costs are skewed"):
        result, _ = safety_test(Looks(0.1), {"harm": skewed}, {"harm": Limit(0.5)})
    assert len(result.warnings) == 1
    with pytest.warns(UserWarning, match="all 20 costs are 0"):
        safety_test(Looks(0.1), {"harm": np.zeros(20)}, {"harm": Limit(0.5)})
    assert t_doubts(SAFE, delta=0.1) == 0.0
    found = t_doubts(np.stack([skewed, np.zeros(50), SAFE[:50]]), delta=0.1)
    # Of 48 zeros and 2 ones: p = 0.04, skewness (1 - 2p) / sqrt(p (1 - p)) = 4.695;
    # 0.1 + 4.695 * 4.2848 * 0.17550 / (6 * 7.0711)
    np.testing.assert_allclose(found, [0.18321, 1.0, 0.0], rtol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exact = {"harm": Limit(0.5, "clopper_pearson")}
        assert safety_test(Looks(0.1), {"harm": skewed}, exact)[0].passed


@pytest.mark.parametrize(
    ("costs", "limits", "words"),
    [
        ({"harm": [0.1, np.nan]}, HARM, "costs must be finite"),
        ({"harm": [[0.1, 0.2]]}, HARM, r"costs of 'harm' must be \[N\]"),
        ({"rude": SAFE}, HARM, "the same names"),
        ({}, {}, "the same names"),
        ({"harm": SAFE}, {"harm": Limit(np.nan)}, "must be finite, got nan"),
        ({"harm": [0.0, 1.0]}, {"harm": Limit(0.0, "clopper_pearson")}, "inside the range"),
        ({"harm": [0.0, 1.0]}, {"harm": Limit(1.0, "hoeffding", (0.0, 1.0))}, "inside the range"),
    ],
)
def test_bad_input_is_named(costs, limits, words):
    with pytest.raises(ValueError, match=words):
        safety_test(Looks(0.1), costs, limits)


def test_a_plan_out_of_range_is_named():
    for looks, words in ((Looks(0.0), "delta must"), (Looks(0.1, count=0), "looks must")):
        with pytest.raises(ValueError, match=words):
            safety_test(looks, {"harm": SAFE}, HARM)
