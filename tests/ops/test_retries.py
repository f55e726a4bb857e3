"""Returns of several tries by hand, their limits, and Succ@k against independent tries."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from rlhf_jax.ops.retries import (
    distinct_count,
    first_success,
    independent_success,
    retry_return,
    success_within,
)

PAPER = {"decay": 0.5, "repetition": 0.5, "malformed_reward": -0.1}
# Solved at the third try, one of two earlier answers repeated; never solved, four times the same;
# never solved, all different; solved at once; one malformed and then right; nothing but malformed.
COUNTS = [(2, 3, 2, 0), (-1, 4, 1, 0), (-1, 5, 5, 0), (0, 1, 1, 0), (1, 1, 1, 1), (-1, 0, 0, 3)]


def test_returns_by_hand():
    # 1/4 - (1 - 2/3) / 2, -(1 - 1/4) / 2, 0, 1, 1/2 - 0.1, -0.3
    want = [0.25 - 1 / 6, -0.375, 0.0, 1.0, 0.4, -0.3]
    counts = jnp.array(COUNTS).T
    np.testing.assert_allclose(retry_return(*counts, **PAPER), want, rtol=1e-6)
    one = [float(retry_return(*map(jnp.asarray, row), **PAPER)) for row in COUNTS]
    np.testing.assert_allclose(one, want, rtol=1e-6)
    mapped = jax.jit(jax.vmap(partial(retry_return, **PAPER)))(*counts)
    np.testing.assert_allclose(mapped, want, rtol=1e-6)
    with jax.enable_x64(True):
        found = retry_return(*(jnp.asarray(np.array(x)) for x in np.array(COUNTS).T), **PAPER)
        assert found.dtype == "float64"
        np.testing.assert_allclose(found, want, rtol=1e-15)


def test_one_try_without_terms_is_the_reward_of_the_answer():
    solved = jnp.array([0, -1])
    ones, none = jnp.ones(2, int), jnp.zeros(2, int)
    np.testing.assert_array_equal(retry_return(solved, ones, ones, none), [1.0, 0.0])
    np.testing.assert_array_equal(retry_return(solved, ones, ones, none, **PAPER), [1.0, 0.0])


def test_the_penalty_is_between_none_and_all_but_one():
    """0 where all answers differ, lambda (1 - 1/T) where all are the same."""
    tries = jnp.arange(1, 6)
    none, never = jnp.zeros(5, int), jnp.full(5, -1)
    options = {"repetition": 0.7}
    np.testing.assert_allclose(retry_return(never, tries, tries, none, **options), 0.0)
    same = retry_return(never, tries, jnp.ones(5, int), none, **options)
    np.testing.assert_allclose(same, -0.7 * (1 - 1 / np.arange(1, 6)), rtol=1e-6)


def test_different_answers_among_the_valid():
    answers = jnp.array([[3, 5, 3, 9, 5], [3, 5, 3, 9, 5], [7, 7, 7, 7, 7]])
    valid = jnp.array([[True] * 5, [True, False, True, False, False], [False] * 5])
    np.testing.assert_array_equal(distinct_count(answers, valid), [3, 1, 0])
    np.testing.assert_array_equal(jax.vmap(distinct_count)(answers, valid), [3, 1, 0])


def test_success_and_its_first_try():
    right = jnp.array([[0, 0, 1, 1], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]], bool)
    taken = jnp.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]], bool)
    want = [[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(success_within(right, taken), want)
    np.testing.assert_array_equal(first_success(right, taken), [2, 1, -1, -1])


def test_independent_tries():
    found = independent_success(jnp.array([0.0, 0.5, 1.0]), 3)
    np.testing.assert_allclose(found, [[0, 0, 0], [0.5, 0.75, 0.875], [1, 1, 1]])


def test_what_is_out_of_range_is_named():
    counts = [jnp.array([0])] * 4
    for options, message in (
        ({"decay": 1.5}, r"decay must be in \[0, 1\]"),
        ({"repetition": -1.0}, r"repetition must be in \[0, inf\)"),
        ({"malformed_reward": jnp.inf}, r"malformed_reward must be in \(-inf, inf\)"),
    ):
        with pytest.raises(ValueError, match=message):
            retry_return(*counts, **options)
    with pytest.raises(ValueError, match="tries must be in"):
        independent_success(jnp.ones(2), 0)
    with pytest.raises((AssertionError, jaxtyping.TypeCheckError)):
        retry_return(jnp.array([0, 1]), *counts[:3])
