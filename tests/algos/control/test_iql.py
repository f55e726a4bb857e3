"""Implicit Q-learning: one update by hand, its fixed point, and what padding cannot touch."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos.control import iql
from rlhf_jax.losses.expectile import expectile_loss
from rlhf_jax.losses.policy_gradient import value_loss
from rlhf_jax.policies.tabular import tabular_policy, tabular_value
from rlhf_jax.types import Trajectory

POLICY, VALUE = tabular_policy(3, 2), tabular_value(3)
SGD = optax.sgd(1.0)
# State 0: action 0 ends with 1, action 1 leads to state 1, where every action ends with 4.
STATES = jnp.array([[0], [0], [1], [1]])
ACTIONS = jnp.array([[0], [1], [0], [1]])
NEXT = jnp.array([[2], [1], [2], [2]])
REWARDS = jnp.array([[1.0], [0.0], [4.0], [4.0]])
DISCOUNTS = jnp.array([[0.0], [0.5], [0.0], [0.0]])


def transitions(weights=None):
    mask = jnp.ones(STATES.shape, bool)
    return iql.Transitions(Trajectory(STATES, ACTIONS, mask), NEXT, REWARDS, DISCOUNTS, weights)


def start(optimizer, action_values=None):
    q = jnp.zeros((3, 2)) if action_values is None else action_values
    return iql.init_iql(jnp.zeros((3, 2)), jnp.zeros(3), q, optimizer)


def make(optimizer, **numbers):
    config = iql.IQLConfig(**numbers)
    return iql.make_update(POLICY, VALUE, POLICY, optimizer, config)


@pytest.mark.long
def test_one_update_by_hand():
    q = jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    update = make(SGD, beta=0.5, expectile=0.75, max_weight=5.0, target_rate=0.5)
    state, metrics = update(start(SGD, q), transitions())
    # V = 0, so u = Q = 1, 0, -1, 0; gradient of e u^2 over 4 rows: -2 e u / 4.
    np.testing.assert_allclose(state.values.params, [0.375, -0.125, 0], rtol=1e-6)
    # Q less (r + d V(s')) over 4: (1 - 1), (0 - 0), (-1 - 4), (0 - 4).
    stepped = [[1, 0], [-1 + 1.25, 1], [0, 0]]
    np.testing.assert_allclose(state.action_values.params, stepped, rtol=1e-6)
    np.testing.assert_allclose(state.target, 0.5 * (np.asarray(q) + stepped), rtol=1e-6)
    # Weights exp(2 A) of A = 1, 0, -1, 0, the first cut at 5; one-hot less 1/2, over 4.
    low = np.exp(-2.0)
    expected = np.array([[2.0, -2.0], [(low - 1) / 2, (1 - low) / 2], [0, 0]]) / 4
    np.testing.assert_allclose(state.policy.params, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["policy/weight"].value(), (5 + 1 + low + 1) / 4, rtol=1e-6)


@pytest.mark.long
def test_the_fixed_point_is_the_expectile_of_exact_action_values():
    optimizer = optax.adam(0.05)
    update = make(optimizer, beta=1.0, expectile=0.8, target_rate=0.1)
    weights = jnp.array([3.0, 1.0, 1.0, 1.0])
    run = jax.jit(
        lambda s: jax.lax.scan(
            lambda s, _: (update(s, transitions(weights))[0], None), s, length=800
        )
    )
    state = run(start(optimizer))[0]
    np.testing.assert_allclose(state.action_values.params[:2], [[1, 2], [4, 4]], atol=0.02)
    # V(0): 0.8 * 1 * (2 - V) = 0.2 * 3 * (V - 1), so V = 2.2 / 1.4.
    np.testing.assert_allclose(state.values.params[:2], [2.2 / 1.4, 4], atol=0.02)
    advantages = np.array([1 - 2.2 / 1.4, 2 - 2.2 / 1.4])
    odds = 3 * np.exp(advantages[0]) / np.exp(advantages[1])
    probs = jax.nn.softmax(state.policy.params[0])
    np.testing.assert_allclose(probs[0] / probs[1], odds, rtol=0.05)


@pytest.mark.long
def test_rows_of_weight_zero_and_steps_under_the_mask_never_matter():
    update = make(SGD)
    plain, _ = update(start(SGD), transitions())
    more = transitions(jnp.ones(4))
    wide = jax.tree.map(lambda x: jnp.concatenate([x, x[:1]]), more)._replace(
        weights=jnp.array([1.0, 1, 1, 1, 0]),
        rewards=jnp.concatenate([REWARDS, jnp.full((1, 1), jnp.nan)]),
    )
    padded, _ = update(start(SGD), wide)
    jax.tree.map(np.testing.assert_array_equal, padded, plain)


def test_expectile_golden_numbers_and_its_limit():
    values, targets = jnp.array([0.0, 0.0, 1.0]), jnp.array([2.0, -2.0, 1.0])
    np.testing.assert_allclose(expectile_loss(values, targets, expectile=0.7), [2.8, 1.2, 0])
    half = expectile_loss(values, targets, expectile=0.5)
    np.testing.assert_allclose(half, value_loss(values, targets))


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"beta": 0.0}, r"beta must be in \(0, inf\)"),
        ({"max_weight": -1.0}, r"max_weight must be in \(0, inf\)"),
        ({"expectile": 1.0}, r"expectile must be in \(0, 1\)"),
        ({"target_rate": 0.0}, r"target_rate must be in \(0, 1\]"),
    ],
)
def test_numbers_out_of_range_are_named(numbers, message):
    with pytest.raises(ValueError, match=message):
        iql.IQLConfig(**numbers)


def test_weights_of_imitation_are_finite_for_huge_advantages():
    weights = iql.advantage_weights(jnp.array([-1e6, 0.0, 1e6]), config=iql.IQLConfig())
    np.testing.assert_allclose(weights, [0, 1, 100], rtol=1e-6)
