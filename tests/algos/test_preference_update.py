"""The pairwise update: by hand, its reference, its errors."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import preference
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import PreferenceBatch, Trajectory

SGD = optax.sgd(1.0)
POLICY = tabular_policy(1, 2)
LOSS = partial(dpo_loss, beta=0.5)
STATE = jnp.zeros(1, jnp.int32)
PAIR = PreferenceBatch(bandit_trajectory(STATE, STATE), bandit_trajectory(STATE, STATE + 1))


def test_first_step_from_the_reference_golden_numbers():
    params = jnp.log(jnp.array([[0.25, 0.75]]))
    batch = preference.attach_reference(POLICY, params, PAIR)
    update = jax.jit(preference.make_update(POLICY, SGD, LOSS))
    state, metrics = update(init_state(params, SGD), batch)
    np.testing.assert_allclose(metrics["loss"].value(), np.log(2.0), rtol=1e-6)
    assert metrics["rewards/accuracy"].value() == 0.5  # a tie
    assert metrics["rewards/margin"].value() == 0.0
    np.testing.assert_allclose(metrics["logps/chosen"].value(), np.log(0.25), rtol=1e-6)
    np.testing.assert_allclose(metrics["logps/rejected"].value(), np.log(0.75), rtol=1e-6)
    # slope -beta sigmoid(0) = -0.25 in h, and h = z_0 - z_1 + constant: (+0.25, -0.25)
    np.testing.assert_allclose(state.params - params, [[0.25, -0.25]], rtol=1e-5)
    _, metrics = update(state, batch)
    # h is now 0.5: margin 0.5, loss log(1 + e^-0.25) = 0.5759394
    assert metrics["rewards/accuracy"].value() == 1.0
    np.testing.assert_allclose(metrics["rewards/margin"].value(), 0.5, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss"].value(), 0.5759394, rtol=1e-5)


def test_trajectory_logps_sum_the_counted_steps():
    params = jnp.log(jnp.array([[0.25, 0.75]]))
    mask = jnp.array([[1, 1, 0], [0, 0, 0]], bool)
    actions = jnp.array([[0, 1, 1], [0, 0, 0]])
    logps = preference.trajectory_logps(POLICY, params, Trajectory(0 * actions, actions, mask))
    np.testing.assert_allclose(logps, [np.log(0.25 * 0.75), 0.0], rtol=1e-6)


@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_a_missing_reference_is_named(transform):
    update = transform(preference.make_update(POLICY, SGD, LOSS))
    with pytest.raises(ValueError, match=r"no reference log-probs.*attach_reference"):
        update(init_state(jnp.zeros((1, 2)), SGD), PAIR)
