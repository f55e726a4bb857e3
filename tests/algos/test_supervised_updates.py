"""SFT and reward-model updates by hand, and at their optima."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rlhf_jax.algos import reward_model, sft
from rlhf_jax.algos.gradient import gradient_step, init_state
from rlhf_jax.envs.bandit import bandit_trajectory, preference_matrix
from rlhf_jax.ops.masking import Mean
from rlhf_jax.policies.tabular import tabular_policy, tabular_reward
from rlhf_jax.types import PreferenceBatch, Trajectory

SGD = optax.sgd(1.0)


def test_sft_golden_numbers():
    policy = tabular_policy(2, 2)
    params = jnp.log(jnp.array([[0.75, 0.25], [0.5, 0.5]]))
    mask = jnp.array([[1, 1], [1, 0]], bool)
    batch = Trajectory(jnp.array([[0, 0], [1, 1]]), jnp.array([[0, 1], [1, 1]]), mask)
    state, metrics = jax.jit(sft.make_update(policy, SGD))(init_state(params, SGD), batch)
    # three counted tokens: -log 0.75 - log 0.25 - log 0.5 = 0.2876821 + 1.3862944 + 0.6931472
    np.testing.assert_allclose(metrics["loss"], (2.3671236, 3.0), rtol=1e-6)
    # softmax minus one-hot, over 3: state 0 (0.75 - 1) + (0.75 - 0) = 0.5, state 1 0.5
    expected = np.array([[0.5, -0.5], [0.5, -0.5]]) / 3
    np.testing.assert_allclose(params - state.params, expected, rtol=1e-5)


def test_sft_optimum_is_the_observed_frequency():
    policy, optimizer = tabular_policy(2, 3), optax.sgd(2.0)
    # state 0: actions 0, 0, 1, 2; state 1: 2, 2, 2, 1, 0, 0
    states = jnp.array([[0] * 4 + [1] * 6])
    actions = jnp.array([[0, 0, 1, 2, 2, 2, 2, 1, 0, 0]])
    update = sft.make_update(policy, optimizer)
    batch = Trajectory(states, actions, jnp.ones((1, 10), bool))
    state = init_state(jnp.zeros((2, 3)), optimizer)
    state, losses = jax.lax.scan(
        lambda state, _: (lambda new, metrics: (new, metrics["loss"].value()))(
            *update(state, batch)
        ),
        state,
        length=200,
    )
    expected = [[0.5, 0.25, 0.25], [1 / 3, 1 / 6, 1 / 2]]
    np.testing.assert_allclose(jax.nn.softmax(state.params), expected, atol=1e-5)
    # entropies 1.5 log 2 = 1.0397208 and 1.0114043, weighted 0.4 and 0.6
    np.testing.assert_allclose(losses[-1], 0.4 * 1.0397208 + 0.6 * 1.0114043, rtol=1e-5)


def test_reward_model_golden_numbers():
    reward = tabular_reward(1, 2)
    states = jnp.zeros(2, jnp.int32)
    chosen = bandit_trajectory(states, jnp.array([0, 1]))
    rejected = bandit_trajectory(states, jnp.array([1, 1]))
    params = jnp.array([[1.0, 0.0]])
    update = jax.jit(reward_model.make_update(reward, SGD))
    state, metrics = update(init_state(params, SGD), PreferenceBatch(chosen, rejected))
    # margins 1 and 0: log(1 + e^-1) + log 2 = 0.3132617 + 0.6931472; the tie counts one half
    np.testing.assert_allclose(metrics["loss"], (1.0064089, 2.0), rtol=1e-6)
    np.testing.assert_allclose(metrics["scores/accuracy"], (1.5, 2.0))
    np.testing.assert_allclose(metrics["scores/margin"], (1.0, 2.0))
    # first pair: -+ sigmoid(-1) / 2 = 0.1344707; the second moves one entry both ways
    np.testing.assert_allclose(state.params - params, [[0.1344707, -0.1344707]], rtol=1e-5)


def test_reward_model_of_the_population_recovers_reward_differences():
    rewards = jnp.array([0.7, -0.4, 0.0, 1.5])
    prefs = preference_matrix(rewards)
    first, second = jnp.meshgrid(jnp.arange(4), jnp.arange(4), indexing="ij")
    states = jnp.zeros_like(first)
    batch = PreferenceBatch(
        bandit_trajectory(states, first), bandit_trajectory(states, second), weights=prefs
    )
    optimizer = optax.sgd(8.0)
    update = reward_model.make_update(tabular_reward(1, 4), optimizer)
    state = init_state(jnp.zeros((1, 4)), optimizer)
    state, _ = jax.lax.scan(lambda state, _: (update(state, batch)[0], None), state, length=200)
    learned = state.params[0]
    np.testing.assert_allclose(learned - learned[2], rewards, atol=1e-4)


def test_gradient_step_reports_the_norm_before_the_optimizer():
    optimizer = optax.chain(optax.clip_by_global_norm(0.1), SGD)
    params = jnp.array([3.0, 4.0])
    extra = {"extra": Mean(jnp.float32(6.0), jnp.float32(3.0))}

    def objective(params):
        return Mean(jnp.sum(params**2), jnp.float32(2.0)), extra

    step = partial(gradient_step, objective=objective, optimizer=optimizer)
    state, metrics = step(init_state(params, optimizer))
    # gradient of sum(x^2) / 2 is x: norm 5, clipped to length 0.1 along (0.6, 0.8)
    np.testing.assert_allclose(metrics["grad_norm"], (5.0, 1.0), rtol=1e-6)
    np.testing.assert_allclose(metrics["loss"], (25.0, 2.0))
    assert metrics["extra"].value() == 2.0
    np.testing.assert_allclose(state.params, [2.94, 3.92], rtol=1e-6)
    assert step(state)[0].step == 2
