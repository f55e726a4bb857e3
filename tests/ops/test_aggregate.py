"""Weights of several rewards by hand, and each against the optimum it stands for."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.losses.preference import dr_dpo, group_weights, mixture_loss
from rlhf_jax.ops.aggregate import (
    exponentiated_weights,
    group_values,
    known_values,
    minimum_rewards,
    soft_minimum,
    soft_minimum_weights,
    weighted_rewards,
    worst_group_weights,
)
from rlhf_jax.ops.directions import scalarise
from rlhf_jax.ops.ensembles import mean_scores

NAN = float("nan")
REWARDS = jnp.array([[1.0, 4.0], [3.0, -2.0]])
THIRDS = jnp.array([0.5, 0.3, 0.2])
VALUES = jnp.array([0.7, -0.2, 0.1])


@pytest.fixture(params=[False, True], ids=["float32", "x64"])
def x64(request):
    with jax.enable_x64(request.param):
        yield request.param


def test_rewards_by_hand(x64):
    # 1/4 1 + 3/4 4 and 1/4 3 - 3/4 2; the lower of each row
    rewards, weights = jnp.array([[1.0, 4.0], [3.0, -2.0]]), jnp.array([0.25, 0.75])
    np.testing.assert_allclose(weighted_rewards(rewards, weights), [3.25, -0.75])
    np.testing.assert_allclose(minimum_rewards(rewards), [1.0, -2.0])
    assert weighted_rewards(rewards, weights).dtype == (jnp.float64 if x64 else jnp.float32)


def test_values_by_hand():
    # (1 + 3) / 2 and (4 - 2) / 2; with weights 3 and 1: (3 + 3) / 4 and (12 - 2) / 4
    np.testing.assert_allclose(group_values(REWARDS).value(), [2.0, 1.0])
    weighted = group_values(REWARDS, jnp.array([3.0, 1.0]))
    np.testing.assert_allclose(weighted.value(), [1.5, 2.5])
    halves = [group_values(REWARDS[i : i + 1]) for i in range(2)]
    summed = jax.tree.map(jnp.add, *halves)
    np.testing.assert_allclose(summed.value(), [2.0, 1.0])


def test_an_answer_that_is_not_scored_counts_for_no_group():
    rewards = jnp.array([[1.0, NAN, NAN], [jnp.inf, 5.0, NAN]])
    found = group_values(rewards)
    np.testing.assert_array_equal(found.weight, [1.0, 1.0, 0.0])
    np.testing.assert_array_equal(known_values(found), [1.0, 5.0, NAN])
    slopes = jax.grad(lambda r: jnp.sum(group_values(r).value()))(rewards)
    np.testing.assert_array_equal(slopes, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    left_out = group_values(jnp.array([[1.0, 2.0], [NAN, NAN]]), jnp.array([1.0, 0.0]))
    np.testing.assert_array_equal(left_out.value(), [1.0, 2.0])


def test_weights_by_hand(x64):
    values, prior = jnp.array([1.0, 0.0]), jnp.array([0.5, 0.5])
    np.testing.assert_array_equal(worst_group_weights(values), [0.0, 1.0])
    # exp(-log 2 (1, 0)) = 1/2 : 1, and -1 / log 2 times the log of their mean, 3/4
    eta = float(np.log(2.0))
    np.testing.assert_allclose(exponentiated_weights(prior, values, eta=eta), [1 / 3, 2 / 3], 1e-6)
    soft = soft_minimum_weights(values, prior, temperature=1 / eta)
    np.testing.assert_allclose(soft, [1 / 3, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(soft_minimum(values, prior, temperature=1 / eta), 0.4150375, 1e-6)


def test_the_first_of_equal_groups_is_the_worst():
    np.testing.assert_array_equal(worst_group_weights(jnp.array([2.0, 1.0, 1.0])), [0, 1, 0])


def test_a_soft_minimum_is_the_least_mixture_near_the_prior(x64):
    """-T log sum_u p_u exp(-F_u / T) = min_w w . F + T KL(w || p), and where it is least."""
    values, prior = jnp.array([0.7, -0.2, 0.1]), jnp.array([0.5, 0.3, 0.2])
    soft = partial(soft_minimum, prior=prior, temperature=0.4)
    weights = soft_minimum_weights(values, prior, temperature=0.4)

    def cost(w):
        return w @ values + 0.4 * np.sum(w * np.log(w / np.asarray(prior)), -1)

    np.testing.assert_allclose(soft(values), cost(np.asarray(weights)), rtol=1e-5)
    others = np.random.default_rng(0).dirichlet(np.ones(3), 2000)
    assert (cost(others) >= float(soft(values)) - 1e-6).all()
    np.testing.assert_allclose(jax.grad(soft)(values), weights, rtol=1e-5)


def test_the_limits_of_a_soft_minimum():
    soft = partial(soft_minimum_weights, VALUES, THIRDS)
    np.testing.assert_allclose(soft(temperature=1e-3), worst_group_weights(VALUES), atol=1e-6)
    np.testing.assert_allclose(soft(temperature=1e6), THIRDS, rtol=1e-5)
    stepped = exponentiated_weights(THIRDS, VALUES, eta=2.0)
    np.testing.assert_allclose(soft(temperature=0.5), stepped, rtol=1e-5)
    np.testing.assert_allclose(soft_minimum(VALUES, THIRDS, temperature=1e-3), -0.2, atol=2e-3)
    # (0.35 - 0.06 + 0.02)
    np.testing.assert_allclose(soft_minimum(VALUES, THIRDS, temperature=1e3), 0.31, atol=1e-3)
    for alike in (soft_minimum(jnp.full(3, 0.7), THIRDS, temperature=0.1), jnp.float32(0.7)):
        np.testing.assert_allclose(alike, 0.7, rtol=1e-5)
    for temperature in (1e-30, 1e-38, 1e30):
        assert jnp.isfinite(soft_minimum(VALUES, THIRDS, temperature=temperature))


def test_losses_of_groups_are_the_same_arithmetic():
    """EM-DPO and Dr. DPO are soft minima of losses; group-robust weights climb losses."""
    np.testing.assert_allclose(
        soft_minimum(VALUES, THIRDS, temperature=0.4), dr_dpo(VALUES, THIRDS, temperature=0.4), 1e-5
    )
    mixed = soft_minimum(VALUES, THIRDS, temperature=1.0)
    np.testing.assert_allclose(mixed, mixture_loss(VALUES, THIRDS), rtol=1e-6)
    climbed = group_weights(THIRDS, -VALUES, eta=0.3)
    np.testing.assert_allclose(exponentiated_weights(THIRDS, VALUES, eta=0.3), climbed, rtol=1e-6)


def test_a_direction_is_a_weighting_with_a_unit_vector():
    direction = jnp.array([0.6, 0.8])
    np.testing.assert_allclose(
        weighted_rewards(REWARDS, direction), scalarise(REWARDS, direction), rtol=1e-6
    )


def test_one_group_and_equal_rewards_are_the_reward_itself():
    one, same = jnp.array([[1.0], [2.0]]), jnp.full((2, 3), 0.5)
    for weights in (
        worst_group_weights(group_values(one).value()),
        exponentiated_weights(jnp.ones(1), group_values(one).value(), eta=1.0),
        soft_minimum_weights(group_values(one).value(), jnp.ones(1), temperature=0.1),
    ):
        np.testing.assert_array_equal(weighted_rewards(one, weights), one[:, 0])
    np.testing.assert_array_equal(minimum_rewards(one), one[:, 0])
    np.testing.assert_allclose(weighted_rewards(same, THIRDS), 0.5, rtol=1e-6)
    uniform = weighted_rewards(REWARDS, jnp.array([0.5, 0.5]))
    np.testing.assert_allclose(uniform, mean_scores(REWARDS.T), rtol=1e-6)


def test_the_mean_of_minima_is_below_the_minimum_of_means():
    rewards = jax.random.normal(jax.random.key(0), (500, 3))
    assert float(minimum_rewards(rewards).mean()) < float(group_values(rewards).value().min()) - 0.3


def test_the_game_of_weights_and_policy_ends_at_its_value():
    """max_p min(p, 1 - p + 1/2): equal at p = 3/4, in weights (1/2, 1/2)."""
    table = jnp.array([[1.0, 0.5], [0.0, 1.5]])

    def step(state, _):
        logits, weights = state
        values = jax.nn.softmax(logits) @ table
        logits = logits + 0.05 * weighted_rewards(table, weights)
        return (logits, exponentiated_weights(weights, values, eta=0.05)), (values, weights)

    start = jnp.zeros(2), jnp.array([0.5, 0.5])
    _, (values, weights) = jax.lax.scan(step, start, None, length=4000)
    np.testing.assert_allclose(values.mean(0), 0.75, atol=0.01)
    np.testing.assert_allclose(weights.mean(0), 0.5, atol=0.01)


def test_a_group_without_a_value_gets_no_weight_or_keeps_its_own():
    values = jnp.array([NAN, 2.0, 1.0])
    np.testing.assert_array_equal(worst_group_weights(values), [0, 0, 1])
    soft = soft_minimum_weights(values, THIRDS, temperature=1.0)
    # 0.3 e^-2 : 0.2 e^-1
    np.testing.assert_allclose(soft, [0.0, 0.3555922, 0.6444078], rtol=1e-5)
    moved = exponentiated_weights(THIRDS, values, eta=1.0)
    np.testing.assert_allclose(moved, [0.5, 0.1777961, 0.3222039], rtol=1e-5)
    nobody = jnp.full(3, NAN)
    np.testing.assert_array_equal(exponentiated_weights(THIRDS, nobody, eta=1.0), THIRDS)
    assert jnp.isnan(worst_group_weights(nobody)).all()
    assert jnp.isnan(soft_minimum_weights(nobody, THIRDS, temperature=1.0)).all()


def test_a_weight_of_zero_stays_and_its_reward_never_matters():
    weights = jnp.array([0.5, 0.5, 0.0])
    for _ in range(50):
        weights = exponentiated_weights(weights, jnp.array([0.3, 0.8, -2.0]), eta=0.5)
    np.testing.assert_allclose(weights, [1.0, 0.0, 0.0], atol=1e-4)
    rewards = jnp.array([[1.0, 2.0, NAN], [NAN, 2.0, 3.0]])
    held = jnp.array([0.5, 0.5, 0.0])
    np.testing.assert_array_equal(weighted_rewards(rewards, held), [1.5, NAN])
    slopes = jax.grad(lambda r: weighted_rewards(r, held)[0])(rewards)
    np.testing.assert_array_equal(slopes, [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]])
    alone = soft_minimum(jnp.array([1.0, NAN]), jnp.array([1.0, 0.0]), temperature=0.5)
    np.testing.assert_allclose(alone, 1.0)


def test_no_gradient_reaches_the_weights():
    for weigh in (
        worst_group_weights,
        lambda v: exponentiated_weights(THIRDS, v, eta=1.0),
        lambda v: soft_minimum_weights(v, THIRDS, temperature=1.0),
    ):
        np.testing.assert_array_equal(jax.jacobian(weigh)(VALUES), 0.0)
    rewards = jnp.array([[1.0, 2.0, 3.0]])
    slope = jax.grad(lambda w: weighted_rewards(rewards, w)[0])(THIRDS)
    np.testing.assert_array_equal(slope, 0.0)


def test_leading_axes_order_and_jit():
    rewards = jax.random.normal(jax.random.key(0), (3, 2, 5, 3))
    for reduce in (partial(weighted_rewards, weights=THIRDS), minimum_rewards):
        whole = reduce(rewards)
        for one in (jax.vmap(reduce), jax.jit(reduce)):
            np.testing.assert_allclose(one(rewards), whole, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(reduce(rewards[1, 0]), whole[1, 0], rtol=1e-5, atol=1e-6)
    turned = group_values(rewards[::-1, :, ::-1]).value()
    np.testing.assert_allclose(group_values(rewards).value(), turned, rtol=1e-5, atol=1e-6)
    for weigh in (
        worst_group_weights,
        partial(exponentiated_weights, THIRDS, eta=0.3),
        partial(soft_minimum_weights, prior=THIRDS, temperature=0.3),
    ):
        np.testing.assert_allclose(jax.jit(weigh)(VALUES), weigh(VALUES), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: weighted_rewards(REWARDS, jnp.array([-1.0, 2.0])), r"weights must be in \[0, inf"),
        (lambda: exponentiated_weights(THIRDS, VALUES, eta=-1.0), r"eta must be in \[0, inf\)"),
        (lambda: exponentiated_weights(-THIRDS, VALUES, eta=1.0), "weights must be"),
        (lambda: soft_minimum(VALUES, THIRDS, temperature=0.0), r"temperature must be in \(0, inf"),
        (lambda: soft_minimum(VALUES, -THIRDS, temperature=1.0), "prior must be in"),
        (lambda: soft_minimum_weights(VALUES, THIRDS, temperature=NAN), "temperature must be in"),
        (lambda: soft_minimum_weights(VALUES, -THIRDS, temperature=1.0), "prior must be in"),
        (lambda: group_values(REWARDS, jnp.array([1.0, -1.0])), "weights must be in"),
    ],
)
def test_numbers_out_of_range_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
