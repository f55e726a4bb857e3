"""Advantages and per-step rewards."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from rlhf_jax.ops.returns import answer_discounts, answer_rewards, gae, last_step

# lengths 4, 2, 1, 0
MASK = jnp.arange(4) < jnp.array([[4], [2], [1], [0]])


def numpy_gae(rewards, values, discounts, last_values, gae_lambda):
    """The recursion of the docstring, one row and one step at a time."""
    advantages = np.zeros_like(rewards)
    for b in range(rewards.shape[0]):
        following, advantage = last_values[b], 0.0
        for t in reversed(range(rewards.shape[1])):
            delta = rewards[b, t] + discounts[b, t] * following - values[b, t]
            advantage = delta + discounts[b, t] * gae_lambda * advantage
            advantages[b, t], following = advantage, values[b, t]
    return advantages


def draw():
    rng = np.random.default_rng(0)
    rewards, values = rng.standard_normal((2, 4, 6)).astype(np.float32)
    discounts = np.where(rng.random((4, 6)) < 0.2, 0.0, 0.9).astype(np.float32)
    return tuple(jnp.asarray(x) for x in (rewards, values, discounts, values[:, 0] + 1))


def test_gae_golden_numbers():
    rewards, values = jnp.array([1.0, 0.0, 2.0]), jnp.array([0.5, 1.0, 1.5])
    discounts = jnp.array([0.5, 0.5, 0.5])
    advantages = gae(rewards, values, discounts, jnp.float32(4.0), gae_lambda=0.5)
    # deltas: 1 + 0.5 * 1 - 0.5 = 1, 0 + 0.5 * 1.5 - 1 = -0.25, 2 + 0.5 * 4 - 1.5 = 2.5
    # backwards, d lambda = 0.25: 2.5, -0.25 + 0.625 = 0.375, 1 + 0.09375
    np.testing.assert_allclose(advantages, [1.09375, 0.375, 2.5])


@pytest.mark.parametrize("gae_lambda", [0.0, 0.7, 1.0])
def test_gae_equals_a_loop(gae_lambda):
    batch = draw()
    expected = numpy_gae(*(np.asarray(x) for x in batch), gae_lambda)
    np.testing.assert_allclose(gae(*batch, gae_lambda=gae_lambda), expected, rtol=1e-5, atol=1e-6)


def test_gae_shapes_and_transformations():
    batch = draw()
    batched = gae(*batch, gae_lambda=0.9)
    mapped = jax.vmap(lambda *x: gae(*x, gae_lambda=0.9))(*batch)
    np.testing.assert_allclose(mapped, batched, rtol=1e-6)
    np.testing.assert_allclose(jax.jit(gae)(*batch, gae_lambda=0.9), batched, atol=1e-6)
    deep = gae(*(x.reshape(2, 2, *x.shape[1:]) for x in batch), gae_lambda=0.9)
    np.testing.assert_allclose(deep.reshape(4, 6), batched, rtol=1e-6)


def test_gae_lambda_zero_is_the_one_step_error():
    rewards, values, discounts, last_values = draw()
    following = jnp.concatenate([values[:, 1:], last_values[:, None]], axis=1)
    expected = rewards + discounts * following - values
    np.testing.assert_allclose(gae(*draw(), gae_lambda=0.0), expected, rtol=1e-6)


def test_gae_lambda_one_is_reward_to_go_minus_value():
    rewards, values, discounts, _ = draw()
    discounts = discounts.at[:, -1].set(0.0)
    returns, following = np.zeros((4, 6)), np.zeros(4)
    for t in reversed(range(6)):
        following = returns[:, t] = rewards[:, t] + discounts[:, t] * following
    # The bootstrap value cannot matter: the last discount is 0.
    advantages = gae(rewards, values, discounts, jnp.full(4, 7.0), gae_lambda=1.0)
    np.testing.assert_allclose(advantages, returns - values, atol=1e-5)
    undiscounted = gae(rewards, jnp.zeros((4, 6)), jnp.ones((4, 6)), jnp.zeros(4), gae_lambda=1.0)
    to_go = np.cumsum(np.asarray(rewards)[:, ::-1], axis=1)[:, ::-1]
    np.testing.assert_allclose(undiscounted, to_go, atol=1e-5)


def test_gae_of_one_step_is_a_bandit():
    rewards, values = jnp.array([[2.0], [-1.0]]), jnp.array([[0.5], [0.25]])
    advantages = gae(rewards, values, jnp.zeros((2, 1)), jnp.zeros(2), gae_lambda=0.95)
    np.testing.assert_allclose(advantages, [[1.5], [-1.25]])


def test_an_ended_episode_hides_what_comes_after():
    rewards, values, discounts, last_values = draw()
    discounts = discounts.at[:, 2].set(0.0)
    before = gae(rewards, values, discounts, last_values, gae_lambda=0.9)
    rewards, values = rewards.at[:, 3:].add(50.0), values.at[:, 3:].add(-9.0)
    after = gae(rewards, values, discounts, last_values, gae_lambda=0.9)
    np.testing.assert_array_equal(after[:, :3], before[:, :3])


def test_last_step():
    expected = [[0, 0, 0, 1], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(last_step(MASK), expected)
    left_padded = jnp.array([0, 1, 1], bool)
    np.testing.assert_array_equal(last_step(left_padded), [0, 0, 1])


def test_answer_discounts():
    expected = [[0.9, 0.9, 0.9, 0], [0.9, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(answer_discounts(MASK, gamma=0.9), expected, rtol=1e-6)
    np.testing.assert_allclose(answer_discounts(jnp.array([0, 1, 1], bool)), [0.0, 1.0, 0.0])


def test_answer_rewards_golden_numbers():
    token_kl = jnp.array([[0.1, 0.2, 0.3, 0.4]] * 4)
    token_kl = jnp.where(MASK, token_kl, jnp.nan)
    scores = jnp.array([1.0, 2.0, 3.0, jnp.nan])
    # -0.5 kl on counted steps, plus the score at the last of them; an empty answer is paid nothing
    expected = [[-0.05, -0.1, -0.15, 0.8], [-0.05, 1.9, 0, 0], [2.95, 0, 0, 0], [0, 0, 0, 0]]
    rewards = answer_rewards(scores, token_kl, MASK, beta=0.5)
    np.testing.assert_allclose(rewards, expected, rtol=1e-5)


def test_answer_rewards_sum_to_the_penalised_score():
    token_kl = jax.random.normal(jax.random.key(0), (4, 4))
    scores = jnp.array([1.0, -2.0, 3.0, 0.0])
    rewards = jax.jit(answer_rewards)(scores, token_kl, MASK, beta=0.3)
    expected = scores - 0.3 * np.where(MASK, token_kl, 0.0).sum(-1)
    np.testing.assert_allclose(rewards.sum(-1), expected, rtol=1e-5)


def test_shapes_must_agree():
    errors = (AssertionError, jaxtyping.TypeCheckError)
    square = jnp.zeros((2, 3))
    with pytest.raises(errors):
        gae(square, square, square[:1], jnp.zeros(2), gae_lambda=1.0)
    with pytest.raises(errors):
        gae(square, square, square, jnp.zeros(1), gae_lambda=1.0)
    with pytest.raises(errors):
        answer_rewards(jnp.zeros(1), square, jnp.ones((2, 3), bool), beta=0.1)
