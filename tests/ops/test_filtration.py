"""Filters of the answers to a prompt by hand, their laws by drawing, and R^2."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.exact.bandit import ranked_law
from rlhf_jax.ops.filtration import (
    best_random_weights,
    best_weights,
    best_worst_weights,
    filter_r2,
    power_weights,
    resampled,
    uniform_weights,
    widest_weights,
)

RANKED = (best_weights, best_random_weights, best_worst_weights)
FILTERS = (uniform_weights, *RANKED, power_weights)
SCORES = jnp.array([1.0, 4.0, -2.0, 3.0, 0.0])
# Ranks of the scores: 2, 0, 4, 1, 3. Squares 1 + 16 + 4 + 9 + 0 = 30.
BY_HAND = {
    uniform_weights: [0.2, 0.2, 0.2, 0.2, 0.2],
    best_weights: [0.0, 1.0, 0.0, 0.0, 0.0],
    best_random_weights: [0.125, 0.5, 0.125, 0.125, 0.125],
    best_worst_weights: [0.0, 0.5, 0.5, 0.0, 0.0],
    power_weights: [1 / 30, 16 / 30, 4 / 30, 9 / 30, 0.0],
}


@pytest.mark.parametrize("weigh", FILTERS)
def test_weights_by_hand(weigh):
    np.testing.assert_allclose(weigh(SCORES), BY_HAND[weigh], rtol=1e-6)


@pytest.mark.parametrize("weigh", FILTERS)
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_an_answer_without_a_score_is_as_if_it_were_not_there(weigh, bad):
    spoiled = jnp.insert(SCORES, 2, bad)
    found = weigh(spoiled)
    assert float(found[2]) == 0.0
    np.testing.assert_allclose(jnp.delete(found, 2), weigh(SCORES), rtol=1e-6)


@pytest.mark.parametrize("weigh", FILTERS)
def test_groups_that_say_nothing(weigh):
    """Equal scores: uniform. One score: all of the weight. None: no weight at all."""
    nan = jnp.nan
    scores = jnp.array([[2.0, 2.0, 2.0, nan], [nan, 5.0, nan, nan], [nan] * 4])
    third = np.float32(1) / np.float32(3)
    np.testing.assert_array_equal(
        weigh(scores), [[third, third, third, 0], [0, 1, 0, 0], [0, 0, 0, 0]]
    )


@pytest.mark.parametrize("weigh", FILTERS)
def test_weights_are_data_and_sum_to_one_in_any_layout(weigh):
    scores = jax.random.normal(jax.random.key(0), (2, 3, 4))
    found = weigh(scores)
    np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-6)
    np.testing.assert_array_equal(
        found, jnp.stack([jnp.stack([weigh(y) for y in x]) for x in scores])
    )
    np.testing.assert_array_equal(found, jax.jit(jax.vmap(weigh))(scores))
    assert found.dtype == jnp.float32
    np.testing.assert_array_equal(
        jax.grad(lambda x: jnp.sum(weigh(x) * x.sum()))(SCORES).shape, (5,)
    )
    slope = jax.jacobian(weigh)(SCORES)
    np.testing.assert_array_equal(slope, 0.0)


@pytest.mark.parametrize("weigh", FILTERS)
def test_weights_keep_float64(weigh):
    with jax.enable_x64(True):
        found = weigh(jnp.asarray(np.array(SCORES), jnp.float64))
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(found, BY_HAND[weigh], rtol=1e-12)


@pytest.mark.parametrize("weigh", RANKED)
def test_a_rising_transform_of_scores_changes_no_rank_filter(weigh):
    np.testing.assert_array_equal(weigh(jnp.exp(3.0 * SCORES) - 7.0), weigh(SCORES))
    assert not np.allclose(power_weights(SCORES + 5.0), power_weights(SCORES))


def test_two_answers_are_all_kept_by_best_and_random_and_best_and_worst():
    scores = jnp.array([0.3, -1.0])
    for weigh in (best_random_weights, best_worst_weights):
        np.testing.assert_array_equal(weigh(scores), [0.5, 0.5])


def test_the_earlier_of_equal_scores_ranks_higher():
    scores = jnp.array([1.0, 3.0, 3.0, 1.0])
    np.testing.assert_array_equal(best_worst_weights(scores), [0.0, 0.5, 0.0, 0.5])


def test_powers():
    np.testing.assert_allclose(power_weights(SCORES, power=0.0), 0.2, rtol=1e-6)
    huge = power_weights(jnp.array([1e30, -1e30, 1.0]), power=3.0)
    np.testing.assert_allclose(huge, [0.5, 0.5, 0.0], atol=1e-6)
    # |r| is 0 everywhere it differs from nothing else: nothing to weigh by.
    np.testing.assert_allclose(power_weights(jnp.array([0.0, -0.0])), 0.5)
    with pytest.raises(ValueError, match=r"power must be in \[0, inf\)"):
        power_weights(SCORES, power=-1.0)


@pytest.mark.parametrize("weigh", RANKED)
def test_one_answer_cannot_be_ranked(weigh):
    with pytest.raises(ValueError, match="ranks at least 2 answers to a prompt, got 1"):
        weigh(jnp.ones((3, 1)))
    np.testing.assert_array_equal(uniform_weights(jnp.ones((3, 1))), 1.0)


def law(weigh, size):
    """The weights of a filter by rank."""
    return weigh(jnp.arange(size, 0.0, -1.0))


PROBS, REWARDS = jnp.array([0.4, 0.1, 0.3, 0.2]), jnp.array([0.0, 3.0, 1.0, 2.0])


@pytest.mark.long
@pytest.mark.parametrize("weigh", [uniform_weights, *RANKED])
def test_the_law_of_what_is_kept(weigh):
    """200,000 groups of 5 from four answers: frequencies within 4 deviations of `ranked_law`."""
    with jax.enable_x64(True):
        count, size = 200_000, 5
        draw_key, keep_key = jax.random.split(jax.random.key(1))
        actions = jax.random.categorical(draw_key, jnp.log(PROBS), shape=(count, size))
        # Ties within a group are copies of one answer, so their order does not matter; a group of
        # copies alone has uniform weights and the same law.
        numbers, kept = resampled(weigh(REWARDS[actions]), keep_key, size=1)
        assert bool(kept.all())
        found = jnp.take_along_axis(actions, numbers, axis=-1)[:, 0]
        frequencies = jnp.bincount(found, length=4) / count
        wanted = ranked_law(PROBS, REWARDS, law(weigh, size))
        np.testing.assert_allclose(wanted.sum(), 1.0, rtol=1e-6)
        sigma = np.sqrt(np.asarray(wanted * (1 - wanted)) / count)
        assert (np.abs(np.asarray(frequencies - wanted)) < 4 * sigma).all()


def test_ranked_laws_by_hand():
    with jax.enable_x64(True):
        probs, rewards = (jnp.asarray(np.array(x), jnp.float64) for x in (PROBS, REWARDS))
        best, worst, pairs, none = (
            ranked_law(probs, rewards, jnp.asarray(w, jnp.float64))
            for w in ([1.0, 0, 0], [0, 0, 1.0], [0.5, 0.25, 0.25], [1 / 3] * 3)
        )
        # F = 0.4, 1, 0.7, 0.9 and F- = 0, 0.9, 0.4, 0.7: F^3 - F-^3, and the same of 1 - F.
        np.testing.assert_allclose(best, [0.064, 0.271, 0.279, 0.386], rtol=1e-6)
        np.testing.assert_allclose(worst, [0.784, 0.001, 0.189, 0.026], rtol=1e-5)
        np.testing.assert_allclose(none, probs, rtol=1e-6)
        np.testing.assert_allclose(pairs, 0.5 * best + 0.5 * (3 * probs - best) / 2, rtol=1e-6)
        # Equal rewards share their level by probability: 1 - 0.4^3 for the three upper ones.
        tied = ranked_law(probs, jnp.array([0.0, 1.0, 1.0, 1.0]), jnp.array([1.0, 0.0, 0.0]))
        np.testing.assert_allclose(tied, [0.064, *(0.936 * probs[1:] / 0.6)], rtol=1e-6)


def test_resampling_draws_by_weight_and_marks_empty_groups():
    weights = jnp.array([[0.0, 1.0, 0.0], [0.5, 0.0, 0.5], [0.0, 0.0, 0.0]])
    numbers, kept = resampled(weights, jax.random.key(0), size=4000)
    assert numbers.shape == (3, 4000)
    np.testing.assert_array_equal(kept, [True, True, False])
    np.testing.assert_array_equal(numbers[0], 1)
    assert set(np.unique(numbers[1])) == {0, 2}
    assert abs(float(jnp.mean(numbers[1] == 0)) - 0.5) < 0.04
    assert set(np.unique(numbers[2])) == {0, 1, 2}
    with pytest.raises(ValueError, match=r"size must be in \[1, inf\), got 0"):
        resampled(weights, jax.random.key(0), size=0)


def test_r2_by_hand():
    scores, gold = jnp.array([[0.0, 1.0], [2.0, 9.0]]), jnp.array([[1.0, 1.0], [2.0, jnp.nan]])
    # Kept: (0, 1), (1, 1), (2, 2): cov 1/3, var r 2/3, var g 2/9: (1/9) / (4/27) = 3/4.
    kept = jnp.ones((2, 2))
    np.testing.assert_allclose(filter_r2(scores, gold, kept), 0.75, rtol=1e-6)
    # Weight 2 of the first: mean r 3/4, g 5/4; cov 5/16, var r 11/16, var g 3/16: 25 / 33.
    np.testing.assert_allclose(filter_r2(scores, gold, kept.at[0, 0].set(2.0)), 25 / 33, rtol=1e-5)
    np.testing.assert_allclose(filter_r2(-3e8 * scores, gold, kept), 0.75, rtol=1e-5)


@pytest.mark.parametrize(
    ("scores", "gold", "weights"),
    [
        ([[0.1, 0.1, 0.1]], [[0.0, 1.0, 0.0]], [[1.0, 1.0, 1.0]]),
        ([[0.0, 1.0, 2.0]], [[0.1, 0.1, 0.1]], [[1.0, 1.0, 1.0]]),
        ([[0.0, 1.0, 2.0]], [[0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]]),
        ([[0.0, 1.0, 2.0]], [[0.0, 1.0, 0.0]], [[0.0, 0.0, 0.0]]),
        ([[jnp.nan, 1.0, 2.0]], [[0.0, jnp.nan, 0.0]], [[1.0, 1.0, 1.0]]),
    ],
)
def test_r2_of_too_little_is_not_a_number(scores, gold, weights):
    assert np.isnan(filter_r2(*(jnp.array(x) for x in (scores, gold, weights))))


def test_r2_chooses_the_filter_that_drops_noise():
    """Gold of the middle is a coin: the ends alone are read better than all."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(size=(500, 5))
    sure = np.abs(scores - 0.5) > 0.4
    gold = np.where(sure, scores > 0.5, rng.random(scores.shape) < 0.5).astype(float)
    r2 = partial(filter_r2, jnp.asarray(scores), jnp.asarray(gold))
    found = {weigh: float(r2(weigh(jnp.asarray(scores)))) for weigh in FILTERS}
    assert found[best_worst_weights] > found[best_random_weights] > found[uniform_weights]


def test_the_widest_groups_by_hand():
    """Deviations 0, 1, 2, 1 and none: half of the five groups is three, of equal ones the first."""
    nan = jnp.nan
    scores = jnp.array([[3.0, 3.0], [0.0, 2.0], [5.0, 1.0], [4.0, 2.0], [nan, nan]])
    third = [[0, 0], [0, 0], [0.5, 0.5], [0, 0], [0, 0]]
    np.testing.assert_array_equal(widest_weights(scores, share=0.2), third)
    half = [[0, 0], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0, 0]]
    np.testing.assert_array_equal(widest_weights(scores, share=0.5), half)
    np.testing.assert_array_equal(widest_weights(scores, share=1.0), uniform_weights(scores))
    lost = jnp.array([[1.0, nan, 3.0], [1.0, 1.5, 2.0]])
    np.testing.assert_array_equal(widest_weights(lost, share=0.5), [[0.5, 0, 0.5], [0, 0, 0]])
    with pytest.raises(ValueError, match="share must be in"):
        widest_weights(scores, share=0.0)
