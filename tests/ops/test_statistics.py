"""Intervals, best-of-n curves and calibration, against brute force and simulation."""

from itertools import combinations, product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.ops.statistics import (
    area_under_curve,
    best_of_n_curve,
    best_of_n_kl,
    calibration_error,
    choice_calibration_error,
    confidence_error,
    cross_prompt_collision,
    mean_with_interval,
    wins,
)


def test_wins():
    scores, others = jnp.array([1.0, 0.0, 2.0]), jnp.array([0.0, 1.0, 2.0])
    np.testing.assert_array_equal(wins(scores, others), [1.0, 0.0, 0.5])


def test_area_under_curve_by_hand():
    scores = jnp.array([2.0, 0.5, 3.0, -1.0, 1.0, 0.5])
    positive = jnp.array([True, True, True, False, False, False])
    # Of nine pairs 0.5 loses to 1 and ties with 0.5: 7.5 are in order.
    np.testing.assert_allclose(area_under_curve(scores, positive), 7.5 / 9, rtol=1e-6)
    np.testing.assert_allclose(area_under_curve(-scores, positive), 1.5 / 9, rtol=1e-6)
    assert area_under_curve(jnp.zeros(6), positive) == 0.5
    mask = jnp.array([True, True, True, True, True, False])
    hidden = jnp.where(mask, scores, jnp.nan)
    found = jax.jit(area_under_curve)(hidden, positive, mask)
    np.testing.assert_allclose(found, 5 / 6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_area_under_curve_is_the_share_of_pairs_in_order(dtype):
    rng = np.random.default_rng(0)
    scores, positive = rng.integers(0, 9, 60), rng.random(60) < 0.3
    with jax.enable_x64(dtype == jnp.float64):
        found = area_under_curve(jnp.asarray(scores, dtype), jnp.asarray(positive))
        assert found.dtype == dtype
    pairs = product(scores[positive], scores[~positive])
    order = [0.5 * (1 + np.sign(first - second)) for first, second in pairs]
    np.testing.assert_allclose(found, np.mean(order), rtol=1e-6)


def test_area_under_curve_of_one_kind_or_of_nan_is_nan():
    assert np.isnan(area_under_curve(jnp.arange(3.0), jnp.ones(3, bool)))
    assert np.isnan(area_under_curve(jnp.arange(3.0), jnp.zeros(3, bool)))
    nan = jnp.array([jnp.nan, 0.0])
    assert np.isnan(area_under_curve(nan, jnp.array([True, False])))


def test_infinite_scores_win_lose_and_tie():
    """log 0 of two answers is a tie, and what cannot be compared stays NaN."""
    scores, others = (
        jnp.array([-jnp.inf, jnp.inf, -jnp.inf, jnp.nan]),
        jnp.array([-jnp.inf, jnp.inf, 0.0, jnp.nan]),
    )
    np.testing.assert_array_equal(wins(scores, others), [0.5, 0.5, 0.0, jnp.nan])


def test_mean_with_interval_golden_numbers():
    # mean 2, standard deviation 1 (Bessel), half width 1.96 / sqrt(3) = 1.1315857
    expected = [2.0, 0.8684143, 3.1315857]
    np.testing.assert_allclose(mean_with_interval(jnp.array([1.0, 2.0, 3.0])), expected, rtol=1e-6)


def test_mean_with_interval_covers_the_truth_19_times_in_20():
    samples = jax.random.bernoulli(jax.random.key(0), 0.7, (4000, 200)).astype(jnp.float32)
    _, low, high = jax.vmap(mean_with_interval)(samples).T
    coverage = float(jnp.mean((low <= 0.7) & (high >= 0.7)))
    # 4,000 trials at 0.95: standard error 0.0034; the normal interval of a 0/1 mean runs low
    assert 0.93 < coverage < 0.965


def test_mean_with_interval_needs_two_numbers():
    with pytest.raises(ValueError, match="at least two numbers, got 1"):
        mean_with_interval(jnp.ones(1))


def test_best_of_n_curve_equals_brute_force():
    proxy, gold = np.random.default_rng(0).standard_normal((2, 3, 7)).astype(np.float32)
    curve = best_of_n_curve(jnp.asarray(proxy), jnp.asarray(gold), jnp.arange(1, 8))
    assert curve.shape == (3, 7)
    for row, n in product(range(3), range(1, 8)):
        subsets = [list(subset) for subset in combinations(range(7), n)]
        best = [gold[row, subset[np.argmax(proxy[row, subset])]] for subset in subsets]
        np.testing.assert_allclose(curve[row, n - 1], np.mean(best), rtol=1e-5, atol=1e-6)


def test_best_of_n_curve_equals_brute_force_to_rounding_in_float64():
    with jax.enable_x64(True):
        proxy, gold = np.random.default_rng(1).standard_normal((2, 8))
        found = best_of_n_curve(jnp.asarray(proxy), jnp.asarray(gold), jnp.array([3]))
        best = [gold[list(s)][np.argmax(proxy[list(s)])] for s in combinations(range(8), 3)]
        np.testing.assert_allclose(found, [np.mean(best)], atol=1e-12)


def test_best_of_n_curve_ends_are_the_mean_and_the_best():
    proxy = jnp.array([0.3, -1.0, 2.0, 0.1])
    gold = jnp.array([1.0, 2.0, 5.0, 4.0])
    np.testing.assert_allclose(best_of_n_curve(proxy, gold, jnp.array([1, 4])), [3.0, 5.0])


def test_best_of_n_has_no_curve_where_a_proxy_is_not_finite():
    """NaN sorts last: its gold score of 5 would be the best of 4."""
    proxy = jnp.array([[0.3, jnp.nan, 2.0], [0.3, 1.0, 2.0]])
    curve = best_of_n_curve(proxy, jnp.array([[1.0, 5.0, 4.0]] * 2), jnp.array([1, 3]))
    np.testing.assert_allclose(curve, [[jnp.nan, jnp.nan], [10.0 / 3.0, 4.0]], rtol=1e-6)


@pytest.mark.parametrize("size", [64, 1000])
def test_best_of_n_curve_weights_sum_to_one(size):
    ns = jnp.array([1, 2, 16, size // 2, size])
    curve = best_of_n_curve(jnp.arange(size, dtype=jnp.float32), jnp.ones(size), ns)
    np.testing.assert_allclose(curve, 1.0, rtol=3e-5)


def discrete_best_of_n_kl(probs, n):
    """KL of the law of the best of n draws, actions in ascending order of score."""
    top = np.cumsum(probs)
    law = top**n - (top - probs) ** n
    return np.sum(law * np.log(law / probs))


@pytest.mark.parametrize("n", [1, 2, 8])
def test_best_of_n_kl_bounds_the_discrete_divergence_and_is_its_limit(n):
    bound = best_of_n_kl(jnp.array(n))
    exact = [discrete_best_of_n_kl(np.full(k, 1 / k), n) for k in (4, 16, 4096)]
    assert all(kl <= bound + 1e-5 for kl in exact)
    assert exact == sorted(exact)
    np.testing.assert_allclose(exact[-1], bound, atol=2e-3)


def test_best_of_4_of_10_answers():
    """0.6288 nats of ten equally likely answers, under a bound of log 4 - 3/4 = 0.6363."""
    assert discrete_best_of_n_kl(np.full(10, 0.1), 4) == pytest.approx(0.6288, abs=5e-5)
    assert best_of_n_kl(jnp.array(4)) == pytest.approx(0.6363, abs=5e-5)


def test_best_of_n_kl_golden_number():
    np.testing.assert_allclose(best_of_n_kl(jnp.array(2)), 0.1931472, rtol=1e-6)  # log 2 - 1/2


def test_calibration_error_golden_numbers():
    probs, outcomes = jnp.array([0.6, 0.4, 0.9, 0.9]), jnp.array([1.0, 1.0, 1.0, 1.0])
    error, bins = calibration_error(probs, outcomes, num_bins=2)
    # turned: 0.6 won, 0.6 lost | 0.9 won twice: half of |0.5 - 0.6| + half of |1 - 0.9|
    np.testing.assert_allclose(error, 0.1, rtol=1e-5)
    np.testing.assert_allclose(bins, [[0.6, 0.5, 0.5], [0.9, 1.0, 0.5]], rtol=1e-5)


def test_calibration_error_is_blind_to_the_order_of_the_pair():
    probs = jax.random.uniform(jax.random.key(0), (50,))
    outcomes = jax.random.bernoulli(jax.random.key(1), 0.5, (50,)).astype(jnp.float32)
    error, _ = calibration_error(probs, outcomes)
    turned, _ = calibration_error(1.0 - probs, 1.0 - outcomes)
    np.testing.assert_allclose(turned, error, rtol=1e-4)


def test_calibration_error_of_a_calibrated_and_of_an_overconfident_model():
    count, num_bins = 4000, 10
    probs = jax.random.uniform(jax.random.key(0), (count,))
    outcomes = jax.random.bernoulli(jax.random.key(1), probs).astype(jnp.float32)
    bound = 3 * np.sqrt(num_bins / count)
    error, bins = calibration_error(probs, outcomes, num_bins=num_bins)
    assert error < bound
    np.testing.assert_allclose(bins[:, 2].sum(), 1.0, rtol=1e-5)
    confident = jax.nn.sigmoid(4.0 * jax.scipy.special.logit(probs))
    assert calibration_error(confident, outcomes, num_bins=num_bins)[0] > 0.1
    certain, _ = calibration_error(outcomes, outcomes)
    assert certain == 0.0


def test_calibration_of_a_choice_by_hand():
    # Confidence 0.6 (right), 0.7 (wrong), 0.75 (outcome 0.5): bins [0.6, 0.7) and [0.7, 0.8).
    probs = jnp.array([[0.6, 0.4], [0.3, 0.7], [0.25, 0.75]])
    outcomes = jnp.array([[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]])
    error, bins = choice_calibration_error(probs, outcomes)
    # (1/3) |1 - 0.6| + (2/3) |0.25 - 0.725|
    assert float(error) == pytest.approx(0.4 / 3 + 2 * 0.475 / 3, abs=1e-5)
    np.testing.assert_allclose(bins[7], [0.725, 0.25, 2 / 3], rtol=1e-5)


def test_confidence_and_outcome_are_enough():
    error, bins = confidence_error(jnp.array([0.95, 0.95]), jnp.array([1.0, 0.0]))
    assert float(error) == pytest.approx(0.45)
    np.testing.assert_allclose(bins[9], [0.95, 0.5, 1.0], rtol=1e-5)
    with pytest.raises(ValueError, match="num_bins must be in"):
        confidence_error(jnp.ones(2), jnp.ones(2), num_bins=0)


def test_a_law_is_its_own_calibrated_forecast():
    law = jax.nn.softmax(jax.random.normal(jax.random.key(0), (50, 6)))
    assert float(choice_calibration_error(law, law)[0]) == pytest.approx(0.0, abs=1e-6)
    sharp = jax.nn.softmax(5.0 * jnp.log(law))
    assert float(choice_calibration_error(sharp, law)[0]) > 0.1


def test_collision_across_prompts_by_hand():
    # Means (0.75, 0.25): 0.5625 + 0.0625.
    probs = jnp.array([[1.0, 0.0], [0.5, 0.5]])
    assert float(cross_prompt_collision(probs)) == pytest.approx(0.625)
    assert float(cross_prompt_collision(jnp.eye(4))) == pytest.approx(0.25)
    assert float(cross_prompt_collision(jnp.eye(4)[:1].repeat(3, 0))) == 1.0
