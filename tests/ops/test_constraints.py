"""Lagrangians of mean costs: by hand, against finite differences, and the multipliers in a loop."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.ops.constraints import (
    CostMoments,
    cost_moments,
    lagrangian_beta,
    lagrangian_scores,
    log_gradient_multipliers,
    mirror_multipliers,
    pessimistic_violations,
    pid_multipliers,
    pid_start,
    projected_multipliers,
    shaped_costs,
)

NAN = jnp.nan


def test_moments_by_hand_leave_out_missing_costs():
    # (1 + 3) / 2 = 2, sd = sqrt(((1 - 2)^2 + (3 - 2)^2) / 1) = sqrt 2; one cost has no sd.
    costs = jnp.array([[[1.0, NAN], [3.0, jnp.inf]], [[NAN, 5.0], [NAN, NAN]]])
    found = cost_moments(costs)
    np.testing.assert_allclose(found.means, [2.0, 5.0])
    np.testing.assert_allclose(found.stds, [np.sqrt(2.0), 0.0], rtol=1e-6)
    np.testing.assert_array_equal(found.counts, [2, 1])
    assert np.isnan(cost_moments(jnp.full((1, 3), NAN)).means).all()


def test_violations_by_hand():
    moments = CostMoments(jnp.array([2.0, 0.5]), jnp.array([1.5, 0.2]), jnp.array([9.0, 9.0]))
    # 2 + 0.1 * 1.5 - 1 = 1.15; 0.5 + 0.1 * 0.2 - 1 = -0.48
    found = pessimistic_violations(moments, jnp.array([1.0, 1.0]), inflation=0.1)
    np.testing.assert_allclose(found, [1.15, -0.48], rtol=1e-6)


def test_shaped_costs_by_hand():
    # m = 2, s = sqrt 2, k = 0.5: c + (c^2 - 4 c) 0.5 / (2 sqrt 2); at c = 1: 1 - 3 * 0.1767767
    costs = jnp.array([[1.0, 3.0]])
    found = shaped_costs(costs, cost_moments(costs), inflation=0.5)
    np.testing.assert_allclose(found, [[0.4696699, 2.4696699]], rtol=1e-6)
    np.testing.assert_array_equal(shaped_costs(costs, cost_moments(costs), inflation=0.0), costs)
    same = jnp.full((1, 4), 0.3)
    np.testing.assert_array_equal(shaped_costs(same, cost_moments(same), inflation=2.0), same)


def test_the_gradient_of_a_shaped_cost_is_that_of_mean_plus_deviations():
    with jax.enable_x64(True):
        logits, costs = (jax.random.normal(jax.random.key(i), (7,)) for i in (0, 1))
        k = 0.7

        def moments(logits):
            probs = jax.nn.softmax(logits)
            mean = probs @ costs
            return mean, jnp.sqrt(probs @ costs**2 - mean**2)

        def pessimistic(logits):
            mean, std = moments(logits)
            return mean + k * std

        mean, std = moments(logits)
        fixed = CostMoments(mean[None], std[None], jnp.ones(1))
        shaped = shaped_costs(costs[None], fixed, inflation=k)[0]
        found = jax.grad(lambda x: jax.nn.softmax(x) @ shaped)(logits)
        np.testing.assert_allclose(found, jax.grad(pessimistic)(logits), atol=1e-12)


def test_lagrangian_scores_by_hand():
    scores, costs = jnp.array([1.0, 2.0]), jnp.array([[1.0, 0.0], [0.5, 3.0]])
    multipliers = jnp.array([1.0, 2.0])
    # 1 - 1 - 1 = -1 and 2 - 0 - 6 = -4, over 1 + 3
    np.testing.assert_allclose(lagrangian_scores(scores, costs, multipliers), [-0.25, -1.0])
    whole = lagrangian_scores(scores, costs, multipliers, normalised=False)
    np.testing.assert_allclose(whole, [-1.0, -4.0])
    np.testing.assert_array_equal(lagrangian_scores(scores, costs, jnp.zeros(2)), scores)
    assert float(lagrangian_beta(0.2, multipliers)) == pytest.approx(0.05)
    assert float(lagrangian_beta(0.2, multipliers, normalised=False)) == pytest.approx(0.2)


def test_the_division_moves_no_optimum():
    """pi ~ ref exp(R / beta) is the same with and without it."""
    scores, costs = (jax.random.normal(jax.random.key(i), (1, 5)) for i in (0, 1))
    multipliers = jnp.array([1.7])
    found = [
        jax.nn.softmax(
            lagrangian_scores(scores, costs[None], multipliers, normalised=how)
            / lagrangian_beta(0.3, multipliers, normalised=how)
        )
        for how in (True, False)
    ]
    np.testing.assert_allclose(*found, rtol=1e-5)


def test_a_cost_without_a_number_leaves_the_answer_out():
    found = lagrangian_scores(jnp.ones(3), jnp.array([[0.0, NAN, 1.0]]), jnp.array([0.5]))
    np.testing.assert_array_equal(jnp.isfinite(found), [True, False, True])


def test_dual_steps_by_hand():
    multipliers, violations = jnp.array([1.0, 2.0]), jnp.array([0.5, -3.0])
    found = projected_multipliers(multipliers, violations, rate=1.0)
    np.testing.assert_allclose(found, [1.5, 0.0])  # 1 + 0.5; 2 - 3 < 0
    # exp(0.1 * 1 * 0.5) and 2 exp(0.1 * 2 * -3)
    found = log_gradient_multipliers(multipliers, violations, rate=0.1)
    np.testing.assert_allclose(found, [np.exp(0.05), 2.0 * np.exp(-0.6)], rtol=1e-6)
    # the same steps over 1 + 1 + 2
    found = log_gradient_multipliers(multipliers, violations, rate=0.1, normalised=True)
    np.testing.assert_allclose(found, [np.exp(0.0125), 2.0 * np.exp(-0.15)], rtol=1e-6)
    found = mirror_multipliers(multipliers, violations, rate=0.1)
    np.testing.assert_allclose(found, [np.exp(0.05), 2.0 * np.exp(-0.3)], rtol=1e-6)


@pytest.mark.parametrize(
    "step", [projected_multipliers, log_gradient_multipliers, mirror_multipliers]
)
def test_a_multiplier_stays_in_its_range_and_an_unknown_violation_moves_nothing(step):
    move = partial(step, rate=100.0, largest=5.0)
    np.testing.assert_allclose(move(jnp.array([1.0]), jnp.array([9.0])), [5.0], rtol=1e-6)
    least = 0.0 if step is projected_multipliers else 1e-3
    np.testing.assert_allclose(move(jnp.array([1.0]), jnp.array([-9.0])), [least], rtol=1e-5)
    np.testing.assert_allclose(move(jnp.array([1.0]), jnp.array([NAN])), [1.0], rtol=1e-6)
    with pytest.raises(ValueError, match="rate must"):
        step(jnp.ones(1), jnp.ones(1), rate=-1.0)


def test_pid_by_hand():
    move = partial(
        pid_multipliers,
        proportional=2.0,
        rate=0.5,
        derivative=3.0,
        smoothing=0.5,
        derivative_smoothing=0.75,
    )
    first, state = move(pid_start(jnp.array([1.0])), jnp.array([0.4]))
    # I = 1 + 0.2, P = 0.2, C = 0.1: 2 * 0.2 + 1.2 + 3 * 0.1
    np.testing.assert_allclose(first, [1.9], rtol=1e-6)
    second, state = move(state, jnp.array([-1.0]))
    # I = 0.7, P = 0.1 - 0.5 = -0.4, C = 0.075 - 0.25 = -0.175 < 0.1: -0.8 + 0.7 + 0 < 0
    np.testing.assert_allclose(second, [0.0], atol=1e-7)
    np.testing.assert_allclose(state.integrals, [0.7], rtol=1e-6)
    np.testing.assert_allclose(state.past, [[-0.175]], rtol=1e-6)


def test_pid_looks_back_as_far_as_its_delay():
    move = partial(pid_multipliers, proportional=0.0, rate=1e-9, derivative=1.0)
    state, seen = pid_start(jnp.zeros(1), delay=2), []
    for violation in (1.0, 2.0, 5.0):
        multipliers, state = move(state, jnp.array([violation]))
        seen.append(float(multipliers[0]))
    np.testing.assert_allclose(seen, [1.0, 2.0, 4.0], rtol=1e-5)  # less 0, 0, 1


def test_pid_without_its_two_other_terms_is_a_projected_multipliers():
    multipliers, state = jnp.array([0.3]), pid_start(jnp.array([0.3]))
    for violation in (0.5, -2.0, 0.1):
        multipliers = projected_multipliers(multipliers, jnp.array([violation]), rate=0.4)
        found, state = pid_multipliers(state, jnp.array([violation]), proportional=0.0, rate=0.4)
        np.testing.assert_allclose(found, multipliers, rtol=1e-6)


def two_actions(step, start, *, rate=0.3, steps=1000):
    """P(the paid and costly action), limit 0.3, as the multiplier moves: reward = cost = p."""

    def one(carry, _):
        logit, dual = carry
        multipliers, dual = step(dual, jax.nn.sigmoid(logit)[None] - 0.3)
        probs = jax.nn.sigmoid(logit)
        return (logit + rate * (1.0 - multipliers[0]) * probs * (1.0 - probs), dual), probs

    return jax.lax.scan(one, (jnp.zeros(()), start), length=steps)[1]


def test_the_proportional_term_ends_the_swing_of_the_integral():
    plain = partial(pid_multipliers, proportional=0.0, rate=0.05)
    damped = partial(pid_multipliers, proportional=1.0, rate=0.05)
    swing, still = (
        np.ptp(two_actions(step, pid_start(jnp.zeros(1)), steps=3000)[-500:])
        for step in (plain, damped)
    )
    assert swing > 0.3
    assert still < 0.01


def test_steps_are_the_same_compiled_and_over_a_swept_rate():
    rates = jnp.array([0.1, 0.2])
    given = (jnp.array([1.0, 2.0]), jnp.array([0.5, -3.0]))
    for step in (projected_multipliers, log_gradient_multipliers, mirror_multipliers):
        swept = jax.jit(jax.vmap(lambda rate, step=step: step(*given, rate=rate)))(rates)
        each = [step(*given, rate=float(rate)) for rate in rates]
        np.testing.assert_allclose(swept, each, rtol=1e-5)
