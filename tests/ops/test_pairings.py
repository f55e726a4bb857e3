"""Ranked pairing and soft labels by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.ops.pairings import label_entropy, mean_wins, ranked_pairing, tempered_prefs

SCORES = jnp.array([0.0, 3.0, 1.0, 2.0])
PREFS = jax.nn.sigmoid(SCORES[:, None] - SCORES[None, :])


def test_win_rates_are_over_the_known_others():
    prefs = jnp.array([[0.5, 0.8, jnp.nan], [0.2, 0.5, jnp.nan], [jnp.nan, jnp.nan, 0.5]])
    np.testing.assert_allclose(mean_wins(prefs), [0.8, 0.2, jnp.nan])


def test_pairs_by_rank_use_every_answer_once():
    # ranks: 1, 3, 2, 0
    halves = ranked_pairing(PREFS)
    assert (halves.first.tolist(), halves.second.tolist()) == ([1, 3], [2, 0])
    np.testing.assert_allclose(halves.prefs, jax.nn.sigmoid(jnp.array([2.0, 2.0])), rtol=1e-6)
    ends = ranked_pairing(PREFS, pairing="ends")
    assert (ends.first.tolist(), ends.second.tolist()) == ([1, 3], [0, 2])
    np.testing.assert_allclose(ends.prefs, jax.nn.sigmoid(jnp.array([3.0, 1.0])), rtol=1e-6)


def test_the_label_is_that_of_the_very_pair():
    """A circle: each pair's own P, even below one half, and NaN where it has none."""
    prefs = jnp.array([[0.5, 0.1, 0.9, 0.9], [0.9, 0.5, 0.1, 0.1], [0.1, 0.9, 0.5, 0.5]])
    prefs = jnp.concatenate([prefs, jnp.array([[0.1, 0.9, 0.5, 0.5]])])
    found = ranked_pairing(prefs)
    # win rates 1.9, 1.1, 1.5, 1.5 over 3: order 0, 2, 3, 1
    assert (found.first.tolist(), found.second.tolist()) == ([0, 2], [3, 1])
    np.testing.assert_allclose(found.prefs, [0.9, 0.9])
    # Without a verdict on 0 and 3 the order is 3, 0, 2, 1; two answers without one stay a pair.
    unknown = ranked_pairing(prefs.at[0, 3].set(jnp.nan).at[3, 0].set(jnp.nan))
    assert (unknown.first.tolist(), unknown.second.tolist()) == ([3, 0], [2, 1])
    assert bool(jnp.isnan(ranked_pairing(jnp.full((2, 2), jnp.nan)).prefs).all())


def test_leading_axes_are_free():
    batch = jnp.stack([PREFS, PREFS[::-1, ::-1]])
    found = jax.jit(ranked_pairing)(batch)
    assert found.first.tolist() == [[1, 3], [2, 0]]
    each = jax.vmap(ranked_pairing)(batch)
    np.testing.assert_array_equal(found.prefs, each.prefs)


@pytest.mark.parametrize("size", [1, 3])
def test_an_odd_number_and_one_answer_are_refused(size):
    with pytest.raises(ValueError, match=r"an even number of answers .* at least 2"):
        ranked_pairing(jnp.full((2, size, size), 0.5))


def test_temperature_and_clip_by_hand():
    prefs = jnp.array([0.0, 0.5, 0.8, 1.0, jnp.nan])
    # logit 0.8 = log 4, half of it log 2: 2 / 3; the ends are 1e-4 before it
    found = tempered_prefs(prefs, temperature=2.0)
    np.testing.assert_allclose(found[1:3], [0.5, 2 / 3], rtol=1e-6)
    np.testing.assert_allclose(found[0], 1 / (1 + 9999**0.5), rtol=1e-4)
    assert bool(jnp.isnan(found[4]))
    np.testing.assert_allclose(tempered_prefs(prefs)[:4], [1e-4, 0.5, 0.8, 1 - 1e-4], rtol=1e-4)
    np.testing.assert_allclose(found[0] + found[3], 1.0, rtol=1e-5)
    slope = jax.grad(lambda p: jnp.sum(tempered_prefs(p)))(jnp.array([0.3, 0.6]))
    np.testing.assert_array_equal(slope, 0.0)


@pytest.mark.parametrize("bad", [-0.01, 1.2])
def test_a_label_outside_0_and_1_is_named_or_becomes_no_verdict(bad):
    with pytest.raises(ValueError, match=r"prefs must be in \[0, 1\]"):
        tempered_prefs(jnp.array([0.5, bad]))
    found = jax.jit(tempered_prefs)(jnp.array([0.5, bad]))
    assert bool(jnp.isnan(found[1]))
    with pytest.raises(ValueError, match="temperature must be in"):
        tempered_prefs(jnp.array([0.5]), temperature=0.0)


def test_entropy_of_a_label():
    found = label_entropy(jnp.array([0.5, 0.0, 1.0, 0.25, jnp.nan]))
    want = [np.log(2), 0.0, 0.0, -0.25 * np.log(0.25) - 0.75 * np.log(0.75), np.nan]
    np.testing.assert_allclose(found, want, rtol=1e-6)
