"""Win rates of sampled answers over the comparisons made, and the gradients they give; float64."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import TypeCheckError

from rlhf_jax.losses.games import nash_md_pg_loss
from rlhf_jax.losses.pairwise_gradient import p3o_v1_loss, p3o_v2_loss, pairwise_gradient_loss
from rlhf_jax.losses.policy_gradient import reinforce_loss
from rlhf_jax.ops.games import answer_win_rates, score_win_rates, win_rates
from rlhf_jax.ops.groups import leave_one_out_advantages

GOLDEN = np.array(
    [[0.5, 0.9, 0.6, 0.2], [0.1, 0.5, 0.7, 0.4], [0.4, 0.3, 0.5, 0.8], [0.8, 0.6, 0.2, 0.5]]
)
RPS = np.array([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]])
CYCLE = np.array([[0.5, 0.9, 0.4], [0.1, 0.5, 0.9], [0.6, 0.1, 0.5]])
seeds = given(st.integers(0, 10_000))
some = settings(derandomize=True, deadline=None, max_examples=15)


@pytest.fixture(autouse=True, scope="module")
def double():
    with jax.enable_x64(True):
        yield


def complementary(seed, size=5):
    """W [size, size] with W + W^T = 1."""
    lower = np.tril(np.random.default_rng(seed).uniform(size=(size, size)), -1)
    return jnp.asarray(lower + np.triu(1.0 - lower.T, 1) + 0.5 * np.eye(size))


def ring(size):
    """Each answer with its two neighbours."""
    following = np.roll(np.eye(size, dtype=bool), 1, axis=1)
    return jnp.asarray(following | following.T)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)


def test_golden_vector_and_its_payoffs():
    got = answer_win_rates(jnp.asarray(GOLDEN))
    np.testing.assert_allclose(got, [0.56666667, 0.4, 0.5, 0.53333333], atol=5e-9)
    np.testing.assert_allclose(2 * got - 1, [0.13333333, -0.2, 0.0, 0.06666667], atol=5e-9)
    close(jnp.mean(got), 0.5)


def test_masks_by_hand():
    """A ring, a queue of two that holds answer 0 itself, one whose column is never compared."""
    prefs = jnp.asarray(GOLDEN)
    close(answer_win_rates(prefs, ring(4)), [0.55, 0.4, 0.55, 0.5])
    queue = jnp.array([[False, True], [True, True], [True, True], [False, False]])
    close(answer_win_rates(prefs[:, :2], queue), [0.9, 0.3, 0.35, 0.5])
    unseen = prefs.at[:, 3].set(jnp.nan)
    close(answer_win_rates(unseen[:, :3], jnp.ones((4, 3), bool))[0], 2.0 / 3)
    counted = jnp.broadcast_to(jnp.arange(4) < 3, (4, 4)) & ~jnp.eye(4, dtype=bool)
    close(answer_win_rates(unseen, counted), [0.75, 0.4, 0.35, 1.6 / 3])


@some
@seeds
def test_the_mean_is_one_half_and_order_does_not_matter(seed):
    prefs = complementary(seed)
    order = np.random.default_rng(seed).permutation(5)
    got = answer_win_rates(prefs)
    close(jnp.mean(got), 0.5)
    close(answer_win_rates(prefs[order][:, order]), got[order])
    close(jnp.mean(answer_win_rates(prefs, ring(5))), 0.5)
    drawn = jnp.asarray(np.random.default_rng(seed + 1).random((5, 5)) < 0.5)
    mask = drawn & drawn.T & ~jnp.eye(5, dtype=bool)
    counts = jnp.sum(mask, axis=1)
    close(jnp.sum(counts * (answer_win_rates(prefs, mask) - 0.5)), 0.0)


@pytest.mark.long
@pytest.mark.parametrize("size", [2, 8, 32])
def test_a_duplicate_moves_the_others_by_at_most_one_over_k(size):
    prefs = complementary(size, size)
    twice = np.append(np.arange(size), 0)
    moved = answer_win_rates(prefs[twice][:, twice])[:size] - answer_win_rates(prefs)
    assert float(jnp.max(jnp.abs(moved))) <= 1.0 / size
    assert float(jnp.max(jnp.abs(moved))) > 0.1 / size


def test_labels_are_unbiased():
    """The mean over all 2^6 outcomes of six bits, weighted by their chances."""
    prefs, size = jnp.asarray(GOLDEN), 4
    upper = np.triu_indices(size, 1)
    bits = np.array(list(product((0.0, 1.0), repeat=6)))
    chances = np.prod(np.where(bits == 1, GOLDEN[upper], 1 - GOLDEN[upper]), axis=1)
    labels = np.full((64, size, size), 0.5)
    labels[:, upper[0], upper[1]] = bits
    labels[:, upper[1], upper[0]] = 1 - bits
    for mask in (None, jnp.broadcast_to(ring(size), labels.shape)):
        mean = chances @ np.asarray(answer_win_rates(jnp.asarray(labels), mask))
        close(mean, answer_win_rates(prefs, None if mask is None else mask[0]))


def test_pairings_have_the_same_mean_and_fewer_comparisons_more_spread():
    """The first of four answers: mean over the others' draws from pi is P(y > pi), whatever y."""
    probs = np.array([0.2, 0.5, 0.3])
    answers = np.array(list(product(range(3), repeat=4)))
    chances = np.prod(probs[answers[:, 1:]], axis=1)
    prefs = jnp.asarray(CYCLE)[answers[:, :, None], answers[:, None, :]]
    masks = {
        "ring": ring(4),
        "queue": jnp.arange(4) == jnp.full((4, 1), 3),
        "all": ~np.eye(4, dtype=bool),
    }
    spread = {}
    for name, mask in masks.items():
        rates = np.asarray(
            answer_win_rates(prefs, jnp.broadcast_to(jnp.asarray(mask), prefs.shape))
        )[:, 0]
        own = answers[:, 0]
        mean = np.array([chances[own == y] @ rates[own == y] for y in range(3)])
        close(mean, CYCLE @ probs)
        spread[name] = chances @ (rates - mean[own]) ** 2
    assert spread["all"] < spread["ring"] < spread["queue"]


def test_leading_axes_and_no_mask_for_other_columns():
    prefs = jnp.stack([complementary(seed) for seed in range(3)])
    close(answer_win_rates(prefs), jax.vmap(answer_win_rates)(prefs))
    with pytest.raises(ValueError, match=r"prefs \[..., 5, 3\] is not square: a mask is needed"):
        answer_win_rates(prefs[..., :3])
    with pytest.raises((AssertionError, TypeCheckError)):
        answer_win_rates(prefs, jnp.ones((5, 5), bool))


# ---- Win rates of scores over a reference set.


def test_win_rates_of_scores_by_hand():
    # sigmoid(0), sigmoid(log 3) and their mean; sigmoid(-log 3), sigmoid(0)
    scores = jnp.array([np.log(3.0), 0.0])
    close(score_win_rates(scores, jnp.array([np.log(3.0), 0.0])), [0.625, 0.375])


def test_win_rates_of_scores_know_no_zero_and_hardly_a_unit():
    """A shift changes nothing; scores ten times as large range over [0, 1] as much."""
    rng = np.random.default_rng(0)
    scores, reference = jnp.asarray(4 * rng.normal(size=50)), jnp.asarray(4 * rng.normal(size=1000))
    rates = score_win_rates(scores, reference)
    close(score_win_rates(scores + 7.0, reference + 7.0), rates)
    larger = score_win_rates(10.0 * scores, 10.0 * reference)
    np.testing.assert_array_equal(np.argsort(larger), np.argsort(scores))
    assert float(larger.min()) >= 0.0
    assert float(larger.max()) <= 1.0
    assert 0.8 < float(np.ptp(larger) / np.ptp(rates)) < 1.25
    close(1.0 - score_win_rates(-scores, -reference), rates)


# ---- What the win rates of two answers give to a policy gradient.


@pytest.mark.long
@pytest.mark.parametrize("game", [RPS, CYCLE])
def test_two_answers_rloo_is_p3o_and_twice_nash_md_pg(game):
    """RLOO on win rates = P3O with reward difference 2 P - 1, pair by pair.

    In the mean over pairs from pi both are twice Nash-MD-PG in self-play without a KL term.
    """
    prefs, logits = jnp.asarray(game), jnp.array([0.3, -0.2, 0.1])
    probs = jax.nn.softmax(logits)
    answers = jnp.array(list(product(range(3), repeat=2)))
    between = prefs[answers[:, :, None], answers[:, None, :]]
    rates = answer_win_rates(between)
    gaps = 2 * between[:, 0, 1] - 1
    scores = jnp.stack([gaps, jnp.zeros(9)], axis=-1)
    close(rates[:, 0] - rates[:, 1], gaps)
    old = jax.nn.log_softmax(logits)[answers]

    def losses(logits):
        logps = jax.nn.log_softmax(logits)[answers]
        rloo = jnp.mean(reinforce_loss(logps, leave_one_out_advantages(rates)), axis=-1)
        p3o = pairwise_gradient_loss(logps, scores)
        clipped = [p3o_v1_loss, p3o_v2_loss]
        clipped = [loss(logps, old, scores, clip_eps=0.2) for loss in clipped]
        first, one = logps[:, :1], jnp.ones((9, 1), bool)
        nash = nash_md_pg_loss(first, 0 * first, between[:, 0, 1], one, beta=0.0)
        return jnp.stack([rloo, p3o, *clipped, nash])

    rloo, *p3o, nash = jax.jit(jax.jacrev(losses))(logits)
    for each in p3o:
        close(each, rloo)
    chances = probs[answers[:, 0]] * probs[answers[:, 1]]
    advantages = win_rates(prefs, probs) - 0.5
    exact = -probs * (advantages - probs @ advantages)
    assert float(jnp.max(jnp.abs(exact))) > 1e-2
    close(chances @ nash, exact)
    close(chances @ rloo, 2 * exact)
