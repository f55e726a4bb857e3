"""The pairwise preference model of language: antisymmetry, padding, leading axes, the separator."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from rlhf_jax.models import TransformerConfig, make_reward_model
from rlhf_jax.policies.language import language_preference, language_trajectory
from rlhf_jax.types import Trajectory

CONFIG = TransformerConfig(
    vocab_size=11, d_model=16, num_layers=2, num_heads=2, num_kv_heads=1, head_dim=8, d_ff=24
)
MODEL = make_reward_model(CONFIG)
SEPARATOR = 1
PREFERENCE = language_preference(MODEL, separator=SEPARATOR)
PARAMS = random_params(PREFERENCE.init)
LOGITS = jax.jit(PREFERENCE.logits)
ROWS, P, T = 4, 5, 3


def padded(rows, width, side):
    """Ids and mask [B, width], padding of id 9 on the left or on the right."""
    ids = np.full((len(rows), width), 9)
    mask = np.zeros((len(rows), width), bool)
    for b, row in enumerate(rows):
        place = slice(width - len(row), None) if side == "left" else slice(len(row))
        ids[b, place], mask[b, place] = row, True
    return jnp.asarray(ids), jnp.asarray(mask)


def answers(prompts, rows, width=T, prompt_width=P) -> Trajectory:
    return language_trajectory(
        *padded(prompts, prompt_width, "left"), *padded(rows, width, "right")
    )


def texts(rng, longest):
    return [rng.integers(2, 9, rng.integers(1, longest + 1)) for _ in range(ROWS)]


RNG = np.random.default_rng(0)
PROMPTS, FIRST, SECOND = texts(RNG, P), texts(RNG, T), texts(RNG, T)
PAIR = answers(PROMPTS, FIRST), answers(PROMPTS, SECOND)
WANT = LOGITS(PARAMS, *PAIR)


@pytest.mark.long
def test_logits_are_antisymmetric_to_the_last_bit():
    np.testing.assert_array_equal(LOGITS(PARAMS, *PAIR[::-1]), -WANT)
    np.testing.assert_array_equal(LOGITS(PARAMS, PAIR[0], PAIR[0]), np.zeros(ROWS))
    assert np.min(np.abs(WANT)) > 1e-3
    assert WANT.dtype == jnp.float32


def test_each_row_is_prompt_first_separator_second_without_padding():
    scalars = jax.jit(MODEL.scalars)
    x, y, z = PROMPTS[3], FIRST[3], SECOND[3]
    rows = jnp.array([[*x, *y, SEPARATOR, *z], [*x, *z, SEPARATOR, *y]])
    positions = jnp.broadcast_to(jnp.arange(rows.shape[1]), rows.shape)
    forward, backward = scalars(PARAMS, rows, positions, jnp.ones_like(rows))[:, -1]
    np.testing.assert_allclose(forward - backward, WANT[3], atol=1e-5)
    assert len(x) < P
    assert len(y) != len(z)


@pytest.mark.long
def test_padding_never_matters():
    wide = answers(PROMPTS, FIRST, T + 2), answers(PROMPTS, SECOND, T + 1)
    np.testing.assert_allclose(LOGITS(PARAMS, *wide), WANT, atol=1e-5)
    np.testing.assert_array_equal(LOGITS(PARAMS, *wide[::-1]), -LOGITS(PARAMS, *wide))
    left = answers(PROMPTS, FIRST, prompt_width=P + 3), answers(PROMPTS, SECOND)
    np.testing.assert_allclose(LOGITS(PARAMS, *left), WANT, atol=1e-5)


def test_padding_may_lie_on_the_other_side():
    first, second = (
        language_trajectory(*padded(PROMPTS, P, "right"), *padded(rows, T, "left"))
        for rows in (FIRST, SECOND)
    )
    np.testing.assert_allclose(LOGITS(PARAMS, first, second), WANT, atol=1e-5)


@pytest.mark.long
def test_leading_axes_are_free():
    def shaped(tree, *lead):
        return jax.tree.map(lambda x: x.reshape(*lead, x.shape[-1]), tree)

    square = tuple(shaped(each, 2, 2) for each in PAIR)
    np.testing.assert_allclose(LOGITS(PARAMS, *square), WANT.reshape(2, 2), atol=1e-5)
    single = tuple(jax.tree.map(lambda x: x[1], each) for each in PAIR)
    np.testing.assert_allclose(LOGITS(PARAMS, *single), WANT[1], atol=1e-5)
    mapped = jax.jit(jax.vmap(PREFERENCE.logits, in_axes=(None, 0, 0)))(PARAMS, *PAIR)
    np.testing.assert_allclose(mapped, WANT, atol=1e-5)


@pytest.mark.long
def test_numpy_answers_are_read_too():
    host = jax.device_get(PAIR)
    np.testing.assert_allclose(PREFERENCE.logits(PARAMS, *host), WANT, atol=1e-5)


def test_where_the_second_answer_begins_is_seen():
    """(2 2, 2) and (2, 2 2) are the same tokens in the same order."""
    logit = LOGITS(PARAMS, answers([[5]], [[2, 2]]), answers([[5]], [[2]]))
    assert abs(logit[0]) > 1e-3


def test_a_separator_outside_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match=r"separator must be in \[0, 11\), got 11"):
        language_preference(MODEL, separator=11)


def test_trajectories_of_other_shapes_are_refused():
    with pytest.raises(AssertionError):
        PREFERENCE.logits(PARAMS, PAIR[0], jax.tree.map(lambda x: x[:2], PAIR[1]))


@pytest.mark.long
def test_only_the_inputs_are_read():
    """The mask of a trajectory is for the policy's loss."""
    blank = replace(PAIR[0], mask=jnp.zeros_like(PAIR[0].mask))
    np.testing.assert_array_equal(LOGITS(PARAMS, blank, PAIR[1]), WANT)
