"""Verdicts as numbers: rewards by the rule, gaps, votes, and the identities of their advantages."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from rlhf_jax.ops.groups import group_normalised_advantages, pairwise_advantages
from rlhf_jax.ops.verdicts import (
    majority_verdicts,
    verdict_credits,
    verdict_gaps,
    verdict_rewards,
)

NAN = jnp.nan


def test_rewards_by_hand():
    # exact, right side, wrong side, no verdict, exact, right side
    verdicts = jnp.array([-3.0, -1.0, 2.0, NAN, 2.0, 3.0])
    labels = jnp.array([-3.0, -3.0, -3.0, -3.0, 2.0, 1.0])
    found = verdict_rewards(verdicts, labels)
    np.testing.assert_array_equal(found, [1.0, 0.5, 0.0, 0.0, 1.0, 0.5])
    np.testing.assert_array_equal(verdict_rewards(verdicts, labels, partial_credit=0.0)[1], 0.0)
    binary = verdict_rewards(jnp.array([-1.0, 1.0, NAN]), jnp.array([1.0, 1.0, 1.0]))
    np.testing.assert_array_equal(binary, [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(jax.jit(verdict_rewards)(verdicts, labels), found)
    rows = jax.vmap(verdict_rewards)(verdicts.reshape(2, 3), labels.reshape(2, 3))
    np.testing.assert_array_equal(rows.reshape(-1), found)


@pytest.mark.parametrize("label", [0.0, np.nan, np.inf])
def test_a_label_that_is_no_verdict_is_named(label):
    for function in (verdict_rewards, verdict_credits):
        with pytest.raises(ValueError, match=r"absolute_labels must be in \(0, inf\)"):
            function(jnp.array([1.0]), jnp.array([label]))


def test_shares_outside_the_unit_interval_are_named():
    one = jnp.array([1.0])
    with pytest.raises(ValueError, match=r"partial_credit must be in \[0, 1\]"):
        verdict_rewards(one, one, partial_credit=1.5)
    with pytest.raises(ValueError, match=r"unread must be in \[0, 1\]"):
        verdict_credits(one, one, unread=-0.1)


def test_gaps_by_hand():
    # Answer 1 is better than 0 by 2, 0 than 2 by 3, and the pair (1, 2) has no verdict.
    verdicts = jnp.full((3, 3), 99.0).at[0, 1].set(2.0).at[0, 2].set(-3.0).at[1, 2].set(NAN)
    found = verdict_gaps(verdicts)
    np.testing.assert_array_equal(found, [[0, -2, 3], [2, 0, NAN], [-3, NAN, 0]])
    lengths = jnp.full((3, 3), 4.0).at[0, 2].set(10.0)
    np.testing.assert_allclose(
        verdict_gaps(verdicts, lengths), [[0, -0.5, 0.3], [0.5, 0, NAN], [-0.3, NAN, 0]], rtol=1e-6
    )
    below = verdicts.at[2, 0].set(NAN)
    np.testing.assert_array_equal(verdict_gaps(below), found)
    # Advantages leave the pair out: rows 1 and -2 + 3, 2, -3; squares 2 (4 + 9) over 2 * 3 * 2.
    np.testing.assert_allclose(
        pairwise_advantages(found, eps=0.0), np.array([1.0, 2.0, -3.0]) / 3 / np.sqrt(26 / 12)
    )
    with pytest.raises((ValueError, jaxtyping.TypeCheckError)):
        verdict_gaps(jnp.zeros((2, 3)))


def drawn(key, answers=5):
    """Verdicts of the graded scale on all pairs, some missing."""
    key, other = jax.random.split(jax.random.key(key))
    size = jax.random.randint(key, (4, answers, answers), 1, 4).astype(float)
    sign = jax.random.rademacher(other, size.shape, dtype=size.dtype)
    return size * sign


@pytest.mark.long
@pytest.mark.parametrize("x64", [False, True])
def test_the_identities_of_the_advantages(x64):
    with jax.enable_x64(x64):
        tolerance = 1e-12 if x64 else 2e-6
        rewards = jax.random.normal(jax.random.key(1), (7, 6))
        exact = partial(pairwise_advantages, eps=0.0)
        # (i) differences of rewards: GRPO's advantages; z_ij = r_j - r_i.
        differences = verdict_gaps(rewards[..., None, :] - rewards[..., :, None])
        grpo = group_normalised_advantages(rewards, eps=0.0)
        np.testing.assert_allclose(exact(differences), grpo, atol=tolerance)
        # (ii) they sum to 0 and (iii) have no scale, also with missing comparisons.
        gaps = verdict_gaps(drawn(2))
        np.testing.assert_allclose(exact(gaps).sum(-1), 0.0, atol=tolerance)
        np.testing.assert_allclose(exact(1e-3 * gaps), exact(gaps), atol=10 * tolerance)
        # (iv) a cycle is 0, and (v) two answers get 1 / sqrt 2 whatever the verdict.
        cycle = verdict_gaps(jnp.array([[0.0, -1.0, 1.0], [0.0, 0.0, -1.0], [0.0, 0.0, 0.0]]))
        np.testing.assert_allclose(exact(cycle), 0.0, atol=tolerance)
        for z in (1.0, 2.0, 3.0):
            two = exact(verdict_gaps(jnp.array([[0.0, z], [0.0, 0.0]])))
            np.testing.assert_allclose(two, np.array([-1.0, 1.0]) / np.sqrt(2), atol=tolerance)


def test_long_judgements_shrink_the_advantages_of_the_papers_code():
    """(vi): binary verdicts over lengths, 1e-6 in the root. D^2 is 1/l^2, and the mean of D^2 over
    ordered pairs is halved: v = 1 / (2 l^2), so A shrinks by sqrt(v / (v + 1e-6))."""
    signs = jnp.array([[0.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    for length, expected in ((10, 0.99990), (1000, 0.57735), (8000, 0.08805)):
        gaps = verdict_gaps(signs, jnp.full((3, 3), float(length)))
        found = pairwise_advantages(gaps, eps=0.0, root_eps=1e-6)
        plain = pairwise_advantages(gaps, eps=0.0)
        np.testing.assert_allclose(found / plain, np.where(plain == 0, np.nan, expected), rtol=1e-4)


def test_a_negative_root_eps_is_named():
    with pytest.raises(ValueError, match=r"root_eps must be in \[0, inf\)"):
        pairwise_advantages(jnp.zeros((2, 2)), root_eps=-1.0)


def test_votes_and_credits_by_hand():
    verdicts = jnp.array([[-3.0, 1.0, 1.0, NAN], [-1.0, 2.0, NAN, NAN], [NAN] * 4])
    votes = majority_verdicts(verdicts)
    np.testing.assert_array_equal(votes, [1.0, 0.0, NAN])
    labels = jnp.array([2.0, -1.0, 1.0])
    np.testing.assert_array_equal(verdict_credits(votes, labels), [1.0, 0.5, 0.0])
    np.testing.assert_array_equal(verdict_credits(votes, labels, unread=0.5), [1.0, 0.5, 0.5])
    np.testing.assert_array_equal(verdict_credits(-votes, labels)[:2], [0.0, 0.5])
    np.testing.assert_array_equal(jax.jit(majority_verdicts)(verdicts), votes)
