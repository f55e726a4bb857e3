"""The decision tree of ranked factors: by hand, its symmetries, its limits, its noise."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from rlhf_jax.feedback.comparisons import pref_loglik
from rlhf_jax.feedback.hierarchical import (
    deciding_levels,
    factor_margins,
    lexicographic_prefs,
    noisy_tree_prefs,
)

NUMBERS = jnp.asarray(np.random.default_rng(0).normal(size=(2, 200, 3)), jnp.float32)
MARGINS = jnp.array([1.0, 0.5, 0.25])
LABELS = jax.jit(lambda z, sigma: lexicographic_prefs(*z, factor_margins(z[0], sigma)))


def tree(factors, others, margins) -> tuple[int, int]:
    """(pref, level) as the paper tells it, one level after the other."""
    for level, (z, other, margin) in enumerate(zip(factors, others, margins, strict=True)):
        if z - other > margin:
            return 1, level
        if other - z > margin:
            return -1, level
    return 0, len(margins)


def test_by_hand():
    factors = jnp.array([[2.0, 0.0], [1.0, 3.0], [0.0, 0.0], [0.0, 1.0]])
    others = jnp.array([[0.5, 9.0], [0.0, 5.0], [1.0, 0.5], [5.0, 0.0]])
    margins = jnp.array([1.0, 1.0])
    prefs = lexicographic_prefs(factors, others, margins)
    # A gap equal to its margin decides nothing.
    assert prefs.tolist() == [1, -1, 0, -1]
    assert deciding_levels(factors, others, margins).tolist() == [0, 1, 2, 0]


def test_the_same_as_going_down_the_levels():
    expected = [tree(*row, np.asarray(MARGINS)) for row in zip(*np.asarray(NUMBERS), strict=True)]
    prefs = lexicographic_prefs(*NUMBERS, MARGINS)
    levels = deciding_levels(*NUMBERS, MARGINS)
    assert list(zip(prefs.tolist(), levels.tolist(), strict=True)) == expected
    assert {pref for pref, _ in expected} == {-1, 0, 1}
    assert {level for _, level in expected} == {0, 1, 2, 3}


def test_jit_vmap_and_leading_axes_change_nothing():
    plain = lexicographic_prefs(*NUMBERS, MARGINS)
    rows = jax.jit(jax.vmap(lexicographic_prefs, in_axes=(0, 0, None)))(*NUMBERS, MARGINS)
    np.testing.assert_array_equal(rows, plain)
    shaped = lexicographic_prefs(*NUMBERS.reshape(2, 4, 50, 3), MARGINS)
    np.testing.assert_array_equal(shaped.ravel(), plain)


def test_the_tree_is_antisymmetric_but_not_transitive():
    first, second = NUMBERS
    prefs = lexicographic_prefs(first, second, MARGINS)
    np.testing.assert_array_equal(prefs, -lexicographic_prefs(second, first, MARGINS))
    # Too close to call on the first factor twice, but not end to end: a cycle.
    items = jnp.array([[0.0, 2.0], [0.6, 1.0], [1.2, 0.0]])
    beats = lexicographic_prefs(items, jnp.roll(items, -1, axis=0), jnp.array([1.0, 0.0]))
    assert beats.tolist() == [1, 1, 1]


@settings(derandomize=True, deadline=None, max_examples=25)
@given(
    st.lists(st.sampled_from([0.01, 0.5, 3.0, 100.0]), min_size=3, max_size=3),
    st.lists(st.sampled_from([-5.0, 0.0, 2.0]), min_size=3, max_size=3),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_units_and_origins_of_factors_do_not_matter(scales, shifts, sigma):
    with jax.enable_x64(True):
        pair = np.asarray(NUMBERS, np.float64)
        moved = np.asarray(scales) * pair + np.asarray(shifts)
        plain, again = (LABELS(jnp.asarray(z), sigma) for z in (pair, moved))
        np.testing.assert_array_equal(plain, again)


@pytest.mark.long
def test_limits_of_the_margins():
    first, second = NUMBERS
    none = factor_margins(first, 0.0)
    np.testing.assert_array_equal(
        lexicographic_prefs(first, second, none), jnp.sign(first - second)[:, 0]
    )
    # A factor with an infinite margin might as well not be there.
    without = lexicographic_prefs(first, second, jnp.array([1.0, jnp.inf, 0.25]))
    rest = jnp.array([0, 2])
    expected = lexicographic_prefs(first[:, rest], second[:, rest], MARGINS[rest])
    np.testing.assert_array_equal(without, expected)
    assert not lexicographic_prefs(first, second, jnp.full(3, jnp.inf)).any()


def test_margins_are_deviations_and_constants_make_no_nan():
    factors = jnp.array([[1.0, 7.0, 0.0], [3.0, 7.0, 4.0]])
    margins = factor_margins(factors, jnp.array([2.0, jnp.inf, 0.5]))
    np.testing.assert_allclose(margins, [2.0, np.inf, 1.0])
    np.testing.assert_allclose(factor_margins(factors, 1.0), [1.0, 0.0, 2.0])


def test_noise_by_enumeration_of_its_two_stages():
    verdicts = jnp.array([1, 0, -1])
    prefs = noisy_tree_prefs(verdicts, beta=2.0, mistake_rate=0.1)
    for verdict, pref in zip(verdicts.tolist(), prefs.tolist(), strict=True):
        second = 1 / (1 + np.exp(2.0 * verdict))
        total = 0.0
        for drawn, flipped in itertools.product((0, 1), (False, True)):
            chance = (second if drawn else 1 - second) * (0.1 if flipped else 0.9)
            total += chance * ((1 - drawn) if flipped else drawn)
        assert pref == pytest.approx(total, rel=1e-6)


def test_a_sure_teacher_says_the_verdict_and_throws_a_coin_when_undecided():
    verdicts = jnp.array([1, 0, -1])
    sure = noisy_tree_prefs(verdicts)
    np.testing.assert_array_equal(sure, [0.0, 0.5, 1.0])
    np.testing.assert_allclose(noisy_tree_prefs(verdicts, mistake_rate=0.1), [0.1, 0.5, 0.9])
    loglik = pref_loglik(jnp.array([0, 0, 0]), sure)
    np.testing.assert_allclose(loglik, [0.0, np.log(0.5), -np.inf])


def test_shapes_that_do_not_match_are_refused():
    first, second = NUMBERS
    with pytest.raises((AssertionError, TypeCheckError)):
        lexicographic_prefs(first, second[:, :2], MARGINS)
    with pytest.raises((AssertionError, TypeCheckError)):
        lexicographic_prefs(first, second, MARGINS[:2])


def test_a_factor_that_is_not_known_is_not_passed_over():
    nan, inf = jnp.nan, jnp.inf
    factors = jnp.array([[nan, 1.0], [1.0, nan], [inf, 1.0], [0.0, 1.0]])
    others = jnp.array([[0.0, 0.0], [0.0, 0.0], [inf, 0.0], [0.0, 0.0]])
    assert lexicographic_prefs(factors, others, jnp.zeros(2)).tolist() == [0, 1, 1, 1]
    assert deciding_levels(factors, others, jnp.zeros(2)).tolist() == [0, 0, 1, 1]
    off = jnp.array([inf, 0.0])
    assert lexicographic_prefs(factors, others, off).tolist() == [1, 0, 1, 1]
    unknown = jnp.array([nan, 0.0])  # of a factor with NaN in the pool
    assert lexicographic_prefs(factors[3:] + 1, others[3:], unknown).tolist() == [0]
