"""Implicit Q-learning with continuous actions: one update by hand, and padding."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos.control import iql
from rlhf_jax.policies.network import network_action_value, network_value, tanh_gaussian
from rlhf_jax.types import ActionValueFn, Policy, Trajectory, ValueFn

SGD = optax.sgd(1.0)
CONFIG = iql.IQLConfig(beta=0.5, expectile=0.75, max_weight=5.0, target_rate=0.5)


def no_logits(params, inputs):
    raise TypeError("continuous")


# Q = q s a, V = v s, log pi = -(a - p s)^2 up to a constant.
Q = ActionValueFn(lambda key: jnp.zeros(()), lambda q, s, a: q * (s * a)[..., 0])
V = ValueFn(lambda key: jnp.zeros(()), lambda v, s: v * s[..., 0])
PI = Policy(lambda key: jnp.zeros(()), no_logits, lambda p, s, a: -((a - p * s)[..., 0] ** 2))


def transitions(**changes):
    states, actions = jnp.array([[[1.0]], [[2.0]]]), jnp.array([[[0.5]], [[-0.5]]])
    batch = iql.Transitions(
        Trajectory(states, actions, jnp.ones((2, 1), bool)),
        next_inputs=jnp.array([[[2.0]], [[5.0]]]),
        rewards=jnp.array([[1.0], [0.0]]),
        discounts=jnp.array([[0.5], [0.0]]),
    )
    return batch._replace(**changes)


def test_one_update_by_hand():
    state = iql.init_iql(jnp.asarray(0.0), jnp.asarray(0.25), jnp.asarray(2.0), SGD)
    new, metrics = iql.make_update(PI, V, Q, SGD, CONFIG)(state, transitions())
    # Q = (1, -2), V = (0.25, 0.5), u = (0.75, -2.5).
    # V: slope of e u^2 to v is -2 e u s: (-1.125, +2.5); mean 0.6875.
    np.testing.assert_allclose(new.values.params, 0.25 - 0.6875, rtol=1e-6)
    # Targets 1 + 0.5 * 0.25 * 2 and 0; errors (-0.25, -2), times s a (0.5, -1): mean 0.9375.
    np.testing.assert_allclose(new.action_values.params, 2.0 - 0.9375, rtol=1e-6)
    np.testing.assert_allclose(new.target, (2.0 + 1.0625) / 2, rtol=1e-6)
    # Weights exp(2 u) = (4.481689, e^-5); -w log pi has slope -2 w (a - p s) s: -w and +2 w.
    weights = np.array([np.exp(1.5), np.exp(-5.0)])
    np.testing.assert_allclose(new.policy.params, (weights[0] - 2 * weights[1]) / 2, rtol=1e-5)
    np.testing.assert_allclose(metrics["policy/weight"].value(), weights.mean(), rtol=1e-5)


@pytest.mark.long
def test_steps_under_the_mask_and_rows_of_weight_zero_never_matter():
    """With networks, and junk in the observations, actions and rewards that do not count."""
    net = tanh_gaussian(1, 1, widths=(4,))
    models = net.policy, network_value(1, widths=(4,)), network_action_value(1, 1, widths=(4,))
    keys = jax.random.split(jax.random.key(0), 3)
    start = iql.init_iql(*(m.init(k) for m, k in zip(models, keys, strict=True)), SGD)
    update = jax.jit(iql.make_update(*models, SGD, CONFIG))
    want = update(start, transitions(weights=jnp.ones(2)))[0]

    def beside(x, junk):
        """A step more in each row, and a row more."""
        x = jnp.concatenate([x, jnp.full_like(x, junk)], axis=1)
        return jnp.concatenate([x, jnp.full_like(x[:1], junk)], axis=0)

    plain = transitions()
    shown, mask = plain.trajectory, jnp.array([[1, 0], [1, 0], [1, 1]], bool)
    wide = iql.Transitions(
        Trajectory(beside(shown.inputs, 50.0), beside(shown.actions, 1.0), mask),
        beside(plain.next_inputs, -50.0),
        beside(plain.rewards, jnp.nan),
        beside(plain.discounts, jnp.nan),
        jnp.array([1.0, 1.0, 0.0]),
    )
    found = update(start, wide)[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, want)
