"""Wrong decisions by group, by hand, and of a language model's reward."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from rlhf_jax.models import TransformerConfig, make_reward_model
from rlhf_jax.ops.aggregate import known_values
from rlhf_jax.ops.stakes import stake_errors
from rlhf_jax.policies.language import language_reward, language_trajectory

NAN = float("nan")
SCORES = jnp.array([1.0, -1.0, 0.0, 2.0, -3.0])
VALUES = jnp.array([2.0, 1.0, -1.0, 0.5, -1.5])
GROUPS = jnp.array([0, 0, 0, 1, 1])


@pytest.mark.parametrize("x64", [False, True], ids=["float32", "x64"])
def test_golden_numbers(x64):
    # Group 0: (0 x 2 + 1 x 1 + 1/2 x 1) / 4; group 1: both right
    with jax.enable_x64(x64):
        scores, values = (jnp.asarray(np.asarray(x), float) for x in (SCORES, VALUES))
        errors = stake_errors(scores, values, GROUPS, num_groups=2)
        np.testing.assert_allclose(errors.value(), [0.375, 0.0])
        np.testing.assert_allclose(errors.weight, [4.0, 2.0])
        assert errors.total.dtype == (jnp.float64 if x64 else jnp.float32)


def test_signs_count_choices_alike():
    errors = stake_errors(SCORES, jnp.sign(VALUES), GROUPS, num_groups=2)
    np.testing.assert_allclose(errors.value(), [0.5, 0.0])


def test_shards_order_and_leading_axes_change_nothing():
    whole = stake_errors(SCORES, VALUES, GROUPS, num_groups=2)
    parts = [
        stake_errors(SCORES[i], VALUES[i], GROUPS[i], num_groups=2)
        for i in (slice(0, 2), slice(2, 5))
    ]
    order = jnp.array([3, 1, 4, 0, 2])
    moved = stake_errors(SCORES[order], VALUES[order], GROUPS[order], num_groups=2)
    raised = stake_errors(SCORES[:, None], VALUES[:, None], GROUPS[:, None], num_groups=2)
    jitted = jax.jit(stake_errors, static_argnames="num_groups")(
        SCORES, VALUES, GROUPS, num_groups=2
    )
    for other in (jax.tree.map(jnp.add, *parts), moved, raised, jitted):
        np.testing.assert_allclose(other.value(), whole.value())
        np.testing.assert_allclose(other.weight, whole.weight)


def test_what_is_unknown():
    """A score that is NaN is wrong; a value that is, a group out of range: not counted."""
    errors = stake_errors(
        jnp.array([NAN, 1.0, -1.0, -1.0]),
        jnp.array([1.0, 3.0, NAN, 1.0]),
        jnp.array([0, 0, 0, 3]),
        num_groups=2,
    )
    np.testing.assert_array_equal(errors.weight, [4.0, 0.0])
    np.testing.assert_array_equal(known_values(errors), [0.25, NAN])


def test_a_reward_of_all_is_as_wrong_for_a_group_as_the_group_disagrees():
    """Pooled without noise, the majority's sign decides: P(sign V_g != sign V_0)."""
    keys = jax.random.split(jax.random.key(0), 2)
    majority, minority = (jax.random.normal(key, (1000,)) for key in keys)
    signs = jnp.stack([jnp.sign(majority), jnp.sign(minority)])
    groups = jnp.broadcast_to(jnp.arange(2)[:, None], signs.shape)
    pooled = jnp.broadcast_to(0.7 * signs[0] + 0.3 * signs[1], signs.shape)
    errors = stake_errors(pooled, signs, groups, num_groups=2).value()
    np.testing.assert_allclose(errors, [0.0, jnp.mean(signs[0] != signs[1])], atol=1e-6)


@pytest.mark.long
def test_a_reward_of_a_language_model():
    """Two groups that prefer opposite tokens: what is right for one is wrong for the other."""
    config = TransformerConfig(
        vocab_size=8, d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=32
    )
    reward = language_reward(make_reward_model(config))
    params = reward.init(jax.random.key(0))
    params = jax.tree.map(
        lambda x: x + 0.3 * jax.random.normal(jax.random.key(1), x.shape, x.dtype), params
    )

    def scores(token):
        prompts, ones = jnp.array([[5], [6], [5], [6]]), jnp.ones((4, 1), bool)
        return reward.scores(
            params, language_trajectory(prompts, ones, jnp.full((4, 1), token), ones)
        )

    margins = scores(3) - scores(4)
    assert (margins != 0).all()
    values = jnp.array([1.0, 1.0, -1.0, -1.0])
    errors = stake_errors(margins, values, jnp.array([0, 0, 1, 1]), num_groups=2).value()
    np.testing.assert_allclose(errors[0], np.mean(np.asarray(margins[:2]) < 0))
    np.testing.assert_allclose(errors.sum(), 1.0)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"groups": GROUPS.astype(float)}, TypeError, "groups must be integers"),
        ({"num_groups": 0}, ValueError, r"num_groups must be in \[1, inf\)"),
        ({"values": VALUES[:4]}, AssertionError, "shape"),
    ],
)
def test_wrong_arguments_are_named(change, error, message):
    given = {"scores": SCORES, "values": VALUES, "groups": GROUPS, "num_groups": 2} | change
    jaxtyping.config.update("jaxtyping_disable", True)  # users have no type checker
    try:
        with pytest.raises(error, match=message):
            stake_errors(**given)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)
