"""Hybrid rewards by hand, their limits, and how many groups carry a signal."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from rlhf_jax.ops.groups import informative_groups, signal_probability
from rlhf_jax.ops.operations import graded_return, operation_reward, understanding_reward

FORM = jnp.array([1.0, 1.0, 1.0, 0.0])
KIND = jnp.array([1.0, 1.0, 0.0, 0.0])
ARGUMENT = jnp.array([1.0, 0.5, 1.0, 0.0])


def test_operations_by_hand():
    # 1; 0.1 + 0.3 + 0.6 / 2; 0.1, the gate; 0
    want = [1.0, 0.7, 0.1, 0.0]
    np.testing.assert_allclose(operation_reward(FORM, KIND, ARGUMENT), want, rtol=1e-6)
    found = jax.jit(jax.vmap(operation_reward))(FORM, KIND, ARGUMENT)
    np.testing.assert_allclose(found, want, rtol=1e-6)
    argument = operation_reward(FORM, KIND, ARGUMENT, form_weight=0.0, kind_weight=0.0)
    np.testing.assert_array_equal(argument, KIND * ARGUMENT)


def test_answers_about_a_screen_by_hand():
    found = understanding_reward(FORM, ARGUMENT)
    np.testing.assert_allclose(found, [1.0, 0.55, 1.0, 0.0], rtol=1e-6)
    # A judge that is right or wrong: an operation without a kind.
    binary = jnp.floor(ARGUMENT)
    same = operation_reward(FORM, jnp.ones(4), FORM * binary, form_weight=0.1, kind_weight=0.0)
    np.testing.assert_allclose(understanding_reward(FORM, binary), same, rtol=1e-6)


def test_returns_of_episodes_by_hand():
    done, right = jnp.array([1.0, 0.0, 0.0]), jnp.array([1.0, 0.5, 0.0])
    np.testing.assert_allclose(graded_return(done, right, dense=0.2), [1.0, 0.1, 0.0], rtol=1e-6)
    np.testing.assert_array_equal(graded_return(done, right, dense=0.0), [1.0, 0.0, 0.0])


def test_rewards_are_float64_where_it_is_on():
    with jax.enable_x64(True):
        found = operation_reward(*(jnp.asarray(np.asarray(x)) for x in (FORM, KIND, ARGUMENT)))
        assert found.dtype == "float64"
        np.testing.assert_allclose(found, [1.0, 0.7, 0.1, 0.0], rtol=1e-15)


def test_what_is_out_of_range_is_named():
    with pytest.raises(ValueError, match=r"form_weight must be in \[0, 1/2\]"):
        operation_reward(FORM, KIND, ARGUMENT, form_weight=0.6)
    with pytest.raises(ValueError, match="form_weight must be in"):
        understanding_reward(FORM, ARGUMENT, form_weight=-0.1)
    with pytest.raises(ValueError, match="dense must be in"):
        graded_return(FORM, KIND, dense=2.0)
    with pytest.raises((AssertionError, jaxtyping.TypeCheckError)):
        operation_reward(FORM, KIND[:2], ARGUMENT)
    with pytest.raises(ValueError, match="samples must be in"):
        signal_probability(ARGUMENT, 0)


def test_groups_with_a_signal_by_hand():
    # a = 1/6, chains of 1, 2, 4, 7 steps, eight answers
    found = signal_probability((1 / 6) ** jnp.array([1.0, 2.0, 4.0, 7.0]), 8)
    np.testing.assert_allclose(found, [0.767, 0.202, 6.2e-3, 2.9e-5], rtol=2e-2)
    ends = signal_probability(jnp.array([0.0, 0.5, 1.0]), 8)
    np.testing.assert_allclose(ends, [0.0, 1 - 2 / 256, 0.0], atol=1e-6)
    assert float(signal_probability(jnp.array(0.083), 8)) == pytest.approx(0.5, abs=2e-3)


def test_the_measured_share_of_equal_groups_is_the_expected_one():
    for p in (0.03, 0.5, 0.9):
        answers = jax.random.bernoulli(jax.random.key(0), p, (4000, 8)).astype(jnp.float32)
        want = float(signal_probability(jnp.array(p), 8))
        error = np.sqrt(want * (1 - want) / 4000)
        assert abs(float(informative_groups(answers).mean()) - want) < 3 * error
