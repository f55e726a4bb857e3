"""A reference that follows the policy: its limits, its moves by hand, a language model."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rlhf_jax.algos import preference
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.moving_reference import (
    MovingReference,
    init_moving_reference,
    make_moving_reference_update,
)
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.policies.language import language_policy, language_trajectory
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import PreferenceBatch, Trajectory

POLICY = tabular_policy(1, 2)
SGD = optax.sgd(1.0)
LOSS = partial(dpo_loss, beta=0.5)


def pair():
    """Answer 0 preferred to answer 1, once."""
    chosen, rejected = (
        Trajectory(jnp.zeros((1, 1), int), jnp.array([[a]]), jnp.ones((1, 1), bool)) for a in (0, 1)
    )
    return PreferenceBatch(chosen, rejected)


def run(steps, **options):
    update = jax.jit(make_moving_reference_update(POLICY, SGD, LOSS, **options))
    state = init_moving_reference(jnp.zeros((1, 2)), jnp.zeros((1, 2)), SGD)
    metrics = None
    for _ in range(steps):
        state, metrics = update(state, pair())
    return state, metrics


def test_one_move_by_hand():
    # D = 0, so each logit moves by beta sigmoid(0) = 1/4 and the loss is log 2.
    # ref <- 0.4 (1/4, -1/4) = (0.1, -0.1); the next step sees D = 1/2 - 1/5 = 0.3.
    state, metrics = run(1, rate=0.4)
    np.testing.assert_allclose(metrics["loss"].value(), np.log(2), rtol=1e-6)
    np.testing.assert_allclose(state.train.params, [[0.25, -0.25]], rtol=1e-6)
    np.testing.assert_allclose(state.ref_params, [[0.1, -0.1]], rtol=1e-6)
    _, metrics = run(2, rate=0.4)
    np.testing.assert_allclose(metrics["rewards/margin"].value(), 0.3, rtol=1e-5)


def test_a_reference_in_bfloat16_does_not_shrink():
    """Where policy and reference are equal, a move changes nothing."""
    logits = jnp.full((1, 2), 3.859375, jnp.bfloat16)
    optimizer = optax.sgd(0.0)
    update = jax.jit(make_moving_reference_update(POLICY, optimizer, LOSS, rate=0.01))
    state = init_moving_reference(logits, logits, optimizer)
    for _ in range(20):
        state, _ = update(state, pair())
    np.testing.assert_array_equal(state.ref_params, logits)


@pytest.mark.long
def test_a_reference_at_rest_is_plain_dpo():
    state, _ = run(5, rate=0.0)
    plain = init_state(jnp.zeros((1, 2)), SGD)
    batch = preference.attach_reference(POLICY, plain.params, pair())
    update = preference.make_update(POLICY, SGD, LOSS)
    for _ in range(5):
        plain, _ = update(plain, batch)
    np.testing.assert_allclose(state.train.params, plain.params, rtol=1e-6)
    np.testing.assert_array_equal(state.ref_params, 0.0)


def test_a_hard_move_every_third_step():
    before, _ = run(2, rate=1.0, every=3)
    np.testing.assert_array_equal(before.ref_params, 0.0)
    after, metrics = run(3, rate=1.0, every=3)
    np.testing.assert_array_equal(after.ref_params, after.train.params)
    assert float(metrics["rewards/margin"].value()) > 0  # against the reference before the move
    later, _ = run(5, rate=1.0, every=3)
    np.testing.assert_array_equal(later.ref_params, after.ref_params)


def test_reference_log_probs_of_the_batch_are_not_read():
    batch = preference.attach_reference(POLICY, jnp.array([[3.0, -3.0]]), pair())
    update = make_moving_reference_update(POLICY, SGD, LOSS, rate=0.1)
    state = init_moving_reference(jnp.zeros((1, 2)), jnp.zeros((1, 2)), SGD)
    (one, _), (other, _) = update(state, batch), update(state, pair())
    np.testing.assert_array_equal(one.train.params, other.train.params)


@pytest.mark.long
def test_a_tiny_transformer_follows_and_its_reference_after_it():
    sizes = TransformerConfig(
        vocab_size=5, d_model=8, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=4, d_ff=16
    )
    policy = language_policy(make_transformer(sizes))
    prompts, ones = jnp.array([[1, 2], [2, 1]]), jnp.ones((2, 2), bool)
    chosen = language_trajectory(prompts, ones, jnp.array([[3, 4], [4, 3]]), ones)
    rejected = language_trajectory(prompts, ones, jnp.array([[1, 4], [4, 1]]), ones)
    batch = PreferenceBatch(chosen, rejected)
    optimizer = optax.adam(1e-2)
    update = jax.jit(make_moving_reference_update(policy, optimizer, LOSS, rate=0.5, parts=2))
    params = policy.init(jax.random.key(0))
    state = init_moving_reference(params, params, optimizer)
    assert isinstance(state, MovingReference)
    losses = []
    for _ in range(20):
        state, metrics = update(state, batch)
        losses.append(float(metrics["loss"].value()))
    np.testing.assert_allclose(losses[0], np.log(2), rtol=1e-5)
    # The margin, which is what the loss reads: the chosen answer alone may lose probability.
    first, ref, now = (
        preference.trajectory_logps(policy, each, chosen)
        - preference.trajectory_logps(policy, each, rejected)
        for each in (params, state.ref_params, state.train.params)
    )
    assert (first < ref).all()
    assert (ref < now).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 1.1}, r"rate must be .*\[0, 1\]"),
        ({"rate": float("nan")}, r"rate must be .*\[0, 1\]"),
        ({"rate": 0.5, "every": 0}, r"every must be .*\[1, inf\)"),
    ],
)
def test_values_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        make_moving_reference_update(POLICY, SGD, LOSS, **options)
