"""The max-min policy: special cases, duality, and what the worst reward of each answer misses."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.exact.maxmin import group_objectives, maxmin_optimum, weighted_optimum
from rlhf_jax.ops.aggregate import minimum_rewards
from rlhf_jax.ops.kl import exact_kl

BETA = 0.5


@pytest.fixture(autouse=True)
def x64():
    with jax.enable_x64(True):
        yield


def world(groups, states=4, answers=5):
    """rewards [S, A, k], reference logits [S, A]."""
    keys = jax.random.split(jax.random.key(groups))
    rewards = jax.random.normal(keys[0], (states, answers, groups))
    return rewards, jax.random.normal(keys[1], (states, answers))


def solved(rewards, ref_logits, steps=4000, eta=0.2):
    return maxmin_optimum(rewards, ref_logits, beta=BETA, eta=eta, steps=steps)


def test_two_answers_by_hand():
    """r_1 = (1, 0) and r_2 = (0, 2): both are equal at pi = (2/3, 1/3), so that w r is level by
    beta log 2 = 0.3466: w - 2 (1 - w) = 0.3466, w = 0.7822."""
    rewards = jnp.array([[[1.0, 0.0], [0.0, 2.0]]])
    found = solved(rewards, jnp.zeros((1, 2)))
    np.testing.assert_allclose(jnp.exp(found.logps[0]), [2 / 3, 1 / 3], atol=1e-9)
    np.testing.assert_allclose(found.weights, [0.7821912, 0.2178088], atol=1e-7)
    # 2/3 - 1/2 (2/3 log 4/3 + 1/3 log 2/3)
    np.testing.assert_allclose(found.values, 0.6383499, atol=1e-6)


def test_one_group_or_equal_rewards_are_rlhf():
    rewards, ref_logits = world(1)
    plain = regularised_optimum(rewards[..., 0], ref_logits, beta=BETA)
    for given in (rewards, jnp.repeat(rewards, 3, axis=-1)):
        np.testing.assert_allclose(solved(given, ref_logits, steps=3).logps, plain, atol=1e-12)


def test_opposite_rewards_leave_the_reference_if_it_is_their_zero():
    """Else one group would gain by any move to where both rewards have mean 0."""
    rewards, ref_logits = world(1)
    ref = jax.nn.log_softmax(ref_logits)
    mean = jnp.sum(jnp.exp(ref)[..., None] * rewards, axis=1, keepdims=True)
    for given, stays in ((rewards - mean, True), (rewards, False)):
        found = solved(jnp.concatenate([given, -given], -1), ref_logits)
        assert np.allclose(found.logps, ref, atol=1e-8) == stays
        np.testing.assert_allclose(found.values[0], found.values[1], atol=1e-8)


def test_fixed_weights_are_the_utilitarian_policy():
    rewards, ref_logits = world(3)
    shares = jnp.array([0.7, 0.2, 0.1])
    objective = partial(group_objectives, rewards=rewards, ref_logits=ref_logits, beta=BETA)
    best = weighted_optimum(shares, rewards, ref_logits, beta=BETA)
    for seed in range(20):
        noise = 0.3 * jax.random.normal(jax.random.key(seed), best.shape)
        other = jax.nn.log_softmax(best + noise)
        assert float(shares @ objective(other)) < float(shares @ objective(best))


def test_the_gap_of_a_group_is_a_divergence_to_its_own_policy():
    """F_u(pi_u) - F_u(pi) = beta E_x KL(pi || pi_u), for any pi."""
    rewards, ref_logits = world(3)
    logps = jax.nn.log_softmax(jax.random.normal(jax.random.key(9), ref_logits.shape))
    for u in range(3):
        own = regularised_optimum(rewards[..., u], ref_logits, beta=BETA)
        objective = partial(group_objectives, rewards=rewards, ref_logits=ref_logits, beta=BETA)
        lost = objective(own)[u] - objective(logps)[u]
        np.testing.assert_allclose(lost, BETA * exact_kl(logps, own).mean(), rtol=1e-12)


def dual_value(weights, rewards, ref_logits):
    """g(w), from its definition."""
    mixed = jnp.einsum("sak,k->sa", rewards, weights)
    terms = jax.nn.log_softmax(ref_logits) + mixed / BETA
    return BETA * jnp.mean(jax.nn.logsumexp(terms, axis=-1))


def test_duality_with_three_groups_of_which_two_bind():
    rewards, ref_logits = world(3)
    rewards = rewards.at[..., 2].add(3.0)  # well served by anything
    found = solved(rewards, ref_logits)
    np.testing.assert_allclose(found.gaps[-1], 0.0, atol=1e-12)
    assert (found.gaps >= -1e-12).all()
    assert float(found.gaps[0]) > 0.1
    np.testing.assert_allclose(
        dual_value(found.weights, rewards, ref_logits), found.values.min(), atol=1e-12
    )
    # Complementary slackness: who has weight is served alike, the third group better.
    np.testing.assert_allclose(found.values[0], found.values[1], atol=1e-9)
    assert float(found.values[2]) > float(found.values[0]) + 1.0
    np.testing.assert_allclose(found.weights[2], 0.0, atol=1e-12)
    for weights in np.random.default_rng(0).dirichlet(np.ones(3), 50):
        assert float(dual_value(jnp.asarray(weights), rewards, ref_logits)) > found.values.min()


@pytest.mark.long
def test_every_step_lowers_the_dual_at_the_step_that_is_stated():
    rewards, ref_logits = world(3)
    spread = jnp.max(rewards, -1) - jnp.min(rewards, -1)
    eta = float(4 * BETA / jnp.max(spread) ** 2)
    duals = [
        float(
            dual_value(solved(rewards, ref_logits, steps=n, eta=eta).weights, rewards, ref_logits)
        )
        for n in range(1, 12)
    ]
    assert (np.diff(duals) < 0).all()


def test_the_worst_reward_of_each_answer_serves_the_worst_group_less():
    """A third answer that is nobody's worst wins every minimum, and no group wants it."""
    rewards = jnp.array([[[1.0, -1.0], [-1.0, 1.0], [-0.5, -0.5]]])
    ref_logits = jnp.zeros((1, 3))
    least = regularised_optimum(minimum_rewards(rewards), ref_logits, beta=BETA)
    found = [
        float(group_objectives(logps, rewards, ref_logits, beta=BETA).min())
        for logps in (solved(rewards, ref_logits).logps, least)
    ]
    assert found[0] > found[1] + 0.2
    # min (1, -1, -1/2) / 1/2 by hand: probs e^-2 : e^-2 : e^-1 = 0.2119, 0.2119, 0.5761
    np.testing.assert_allclose(jnp.exp(least[0]), [0.2119416, 0.2119416, 0.5761169], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 0.0}, r"beta must be in \(0, inf\)"),
        ({"eta": -1.0}, r"eta must be in \(0, inf\)"),
        ({"steps": 0}, r"steps must be in \[1, inf\)"),
    ],
)
def test_numbers_out_of_range_are_named(change, message):
    given = {"beta": 1.0, "eta": 0.1, "steps": 1} | change
    with pytest.raises(ValueError, match=message):
        maxmin_optimum(*world(2), **given)
