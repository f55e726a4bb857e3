"""The pairwise update: by hand, its reference, its errors."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import preference
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.losses.preference import dpo_loss, ipo_loss
from rlhf_jax.ops.logprobs import mean_logps
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


LENGTHS = jnp.array([[1, 1, 0], [1, 0, 0]], bool)
SHORT_AND_LONG = PreferenceBatch(
    Trajectory(jnp.zeros((2, 3), jnp.int32), jnp.array([[0, 1, 1], [0, 0, 0]]), LENGTHS),
    Trajectory(jnp.zeros((2, 3), jnp.int32), jnp.array([[1, 1, 0], [1, 0, 0]]), ~LENGTHS),
)


def test_mean_logps_reach_the_loss_and_the_reference():
    """IPO per token: means of log 0.25 and log 0.75 over the counted steps, by hand."""
    params = jnp.log(jnp.array([[0.25, 0.75]]))
    uniform = jnp.zeros((1, 2))
    pairs = preference.attach_reference(POLICY, uniform, SHORT_AND_LONG, logps=mean_logps)
    # A mean over any number of steps of log 1/2 is log 1/2.
    assert pairs.ref_chosen_logps is not None
    assert pairs.ref_rejected_logps is not None
    np.testing.assert_allclose(pairs.ref_chosen_logps, np.log([0.5, 0.5]), rtol=1e-6)
    np.testing.assert_allclose(pairs.ref_rejected_logps, np.log([0.5, 0.5]), rtol=1e-6)
    objective = preference.make_objective(POLICY, partial(ipo_loss, beta=0.5), logps=mean_logps)
    loss, diagnostics = objective(params, pairs)
    chosen = [np.log(0.25 * 0.75) / 2, np.log(0.25)]  # actions 0 1; 0
    rejected = [np.log(0.25), np.log(0.25)]  # action 0; 0 0
    gaps = np.subtract(chosen, rejected)
    np.testing.assert_allclose(loss.value(), np.mean((gaps - 1.0) ** 2), rtol=1e-5)
    np.testing.assert_allclose(diagnostics["logps/chosen"].value(), np.mean(chosen), rtol=1e-6)


def test_a_loss_of_two_arrays_needs_no_reference():
    """One step by hand, and the same whether or not the batch has a reference."""

    def gap_loss(chosen_logps, rejected_logps):
        return -2.0 * (chosen_logps - rejected_logps)

    params = jnp.log(jnp.array([[0.25, 0.75]]))
    update = jax.jit(preference.make_update(POLICY, SGD, gap_loss, reference=False))
    state, metrics = update(init_state(params, SGD), PAIR)
    gap = np.log(0.25) - np.log(0.75)
    np.testing.assert_allclose(metrics["loss"].value(), -2.0 * gap, rtol=1e-6)
    np.testing.assert_allclose(metrics["rewards/margin"].value(), gap, rtol=1e-6)
    assert metrics["rewards/accuracy"].value() == 0.0
    # the gap is z_0 - z_1: a step of (+2, -2)
    np.testing.assert_allclose(state.params - params, [[2.0, -2.0]], rtol=1e-5)
    spoiled = replace(PAIR, ref_chosen_logps=jnp.full(1, jnp.nan))
    other, _ = update(init_state(params, SGD), spoiled)
    np.testing.assert_array_equal(other.params, state.params)


def test_a_loss_with_the_wrong_number_of_arrays_is_refused():
    state = init_state(jnp.zeros((1, 2)), SGD)
    with pytest.raises(TypeError):
        preference.make_update(POLICY, SGD, LOSS, reference=False)(state, PAIR)
