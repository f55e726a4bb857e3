"""Teachers against exact probabilities, hand numbers and large samples."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp

from rlhf_jax.feedback import comparisons, teachers

PAIRS = 200_000


@pytest.fixture(scope="module")
def returns():
    """[N, 2] returns of segments of ten steps, each step N(0.2, 0.5^2): sd of R_1 - R_0 is 2.24."""
    steps = 0.2 + 0.5 * jax.random.normal(jax.random.key(0), (PAIRS, 2, 10))
    return steps.sum(-1)


def agreement(labels, values):
    """Share of labels that name the larger value."""
    return float(jnp.mean(labels == (values[:, 1] > values[:, 0])))


def test_reference_agreement_of_a_boltzmann_teacher(returns):
    assert float(jnp.std(returns[:, 1] - returns[:, 0])) == pytest.approx(2.24, abs=0.02)
    labels = teachers.bt_labels(jax.random.key(1), returns, beta=1.0)
    assert agreement(labels, returns) == pytest.approx(0.796, abs=0.004)
    prefs = teachers.bt_prefs(returns, beta=1.0)
    assert float(jnp.mean(jnp.maximum(prefs, 1 - prefs))) == pytest.approx(0.795, abs=0.004)


def test_reference_agreement_of_a_mistaken_teacher(returns):
    labels = teachers.bt_labels(jax.random.key(1), returns, beta=math.inf)
    assert agreement(labels, returns) == 1.0
    flipped = teachers.flip_labels(jax.random.key(2), labels, rate=0.1)
    assert agreement(flipped, returns) == pytest.approx(0.899, abs=0.004)


def test_flips_at_the_ends():
    labels = jnp.array([0, 1, 1, 0])
    assert teachers.flip_labels(jax.random.key(0), labels, rate=0.0).tolist() == [0, 1, 1, 0]
    assert teachers.flip_labels(jax.random.key(0), labels, rate=1.0).tolist() == [1, 0, 0, 1]


def test_bt_by_hand():
    values = jnp.array([[0.0, 1.0], [2.0, 0.0], [3.0, 3.0]])
    soft = teachers.bt_prefs(values, beta=2.0)
    np.testing.assert_allclose(soft, [0.880797, 0.017986, 0.5], atol=1e-6)
    np.testing.assert_allclose(teachers.bt_prefs(values, beta=0.0), [0.5] * 3)
    assert teachers.bt_prefs(values, beta=math.inf).tolist() == [1.0, 0.0, 0.0]  # a tie is item 0
    labels = teachers.bt_labels(jax.random.key(0), values, beta=math.inf)
    assert labels.tolist() == [1, 0, 0]


def test_bt_loglik_is_the_log_of_the_probability():
    values = jax.random.normal(jax.random.key(0), (5, 4, 2))
    prefs = teachers.bt_prefs(values, beta=1.5)
    ones = teachers.bt_loglik(jnp.ones((5, 4), int), values, beta=1.5)
    zeros = teachers.bt_loglik(jnp.zeros((5, 4), int), values, beta=1.5)
    np.testing.assert_allclose(ones, jnp.log(prefs), rtol=1e-4)
    np.testing.assert_allclose(zeros, jnp.log1p(-prefs), rtol=1e-4)
    np.testing.assert_allclose(jnp.exp(ones) + jnp.exp(zeros), 1.0, rtol=1e-6)


def test_swapping_the_items_swaps_the_probability():
    values = jax.random.normal(jax.random.key(3), (50, 2))
    for beta in (0.7, math.inf):
        there = teachers.bt_prefs(values, beta=beta)
        back = teachers.bt_prefs(values[:, ::-1], beta=beta)
        np.testing.assert_allclose(there + back, 1.0, atol=1e-6)


def test_beta_may_be_traced_and_mapped():
    values = jnp.array([[0.0, 1.0], [1.0, 1.0]])
    betas = jnp.array([0.0, 1.0, jnp.inf])
    mapped = jax.jit(jax.vmap(lambda beta: teachers.bt_prefs(values, beta=beta)))(betas)
    rows = [teachers.bt_prefs(values, beta=float(beta)) for beta in betas]
    np.testing.assert_allclose(mapped, jnp.stack(rows), rtol=1e-6)


def test_intransitive_population():
    """Utilities (2, 1, 0), (0, 2, 1), (1, 0, 2): each item loses to another 2 : 1."""
    utilities = jnp.array([[2.0, 0.0, 1.0], [1.0, 2.0, 0.0], [0.0, 1.0, 2.0]])  # [item, group]
    shares = jnp.full(3, 1 / 3)
    for winner, loser in ((0, 1), (1, 2), (2, 0)):
        pair = utilities[jnp.array([loser, winner])]  # [2, G], item 1 is the winner
        prefs = teachers.population_prefs(pair, shares, beta=math.inf)
        assert float(prefs) == pytest.approx(2 / 3, abs=1e-6)
        many = jnp.broadcast_to(pair, (20_000, 2, 3))
        labels, _ = teachers.population_labels(jax.random.key(winner), many, shares, beta=math.inf)
        assert float(labels.mean()) == pytest.approx(2 / 3, abs=0.015)


def test_population_labels_follow_the_mixture():
    shares = jnp.array([0.8, 0.2])
    pair = jnp.array([[0.0, 1.0], [1.0, -1.0]])  # group 0 likes item 1 by 1, group 1 item 0 by 2
    expected = 0.8 * jax.nn.sigmoid(1.0) + 0.2 * jax.nn.sigmoid(-2.0)
    prefs = teachers.population_prefs(jnp.broadcast_to(pair, (3, 4, 2, 2)), shares, beta=1.0)
    np.testing.assert_allclose(prefs, jnp.full((3, 4), expected), rtol=1e-6)
    many = jnp.broadcast_to(pair, (PAIRS, 2, 2))
    labels, groups = teachers.population_labels(jax.random.key(0), many, shares, beta=1.0)
    assert float(labels.mean()) == pytest.approx(float(expected), abs=0.004)
    assert float(groups.mean()) == pytest.approx(0.2, abs=0.004)
    within = float(labels[groups == 1].mean())
    assert within == pytest.approx(float(jax.nn.sigmoid(-2.0)), abs=0.008)


def test_an_absent_group_never_judges():
    many = jnp.zeros((1000, 2, 3))
    shares = jnp.array([0.5, 0.5, 0.0])
    _, groups = teachers.population_labels(jax.random.key(0), many, shares, beta=1.0)
    assert set(groups.tolist()) == {0, 1}


def test_rankings_have_plackett_luce_frequencies():
    values = jnp.array([0.0, 1.0, -0.5])
    many = jnp.broadcast_to(values, (60_000, 3))
    drawn = np.asarray(teachers.pl_ranking(jax.random.key(0), many, beta=0.8))
    total = 0.0
    for order in itertools.permutations(range(3)):
        ranking = jnp.array(order)
        prob = float(jnp.exp(teachers.pl_loglik(ranking, values, beta=0.8)))
        weights = np.exp(0.8 * np.asarray(values))[list(order)]
        by_hand = weights[0] / weights.sum() * weights[1] / weights[1:].sum()
        assert prob == pytest.approx(by_hand, rel=1e-5)
        assert (drawn == order).all(1).mean() == pytest.approx(prob, abs=0.008)
        total += prob
    assert total == pytest.approx(1.0, abs=1e-5)


def test_a_ranking_of_two_is_bradley_terry():
    values = jax.random.normal(jax.random.key(0), (6, 2))
    first = teachers.pl_loglik(jnp.tile(jnp.array([1, 0]), (6, 1)), values, beta=1.3)
    np.testing.assert_allclose(
        first, teachers.bt_loglik(jnp.ones(6, int), values, beta=1.3), rtol=1e-5
    )


def test_a_sure_ranking_sorts_with_ties_to_the_lower_index():
    values = jnp.array([[1.0, 3.0, 2.0, 3.0]])
    ranking = teachers.pl_ranking(jax.random.key(0), values, beta=math.inf)
    assert ranking.tolist() == [[1, 3, 2, 0]]


@pytest.mark.long
def test_ratings_follow_their_thresholds():
    thresholds = jnp.array([-1.0, 0.5, 2.0])
    values = jnp.array([-0.7, 1.2])
    probs = teachers.rating_probs(values, thresholds, beta=1.5)
    below = jax.nn.sigmoid(thresholds[None] - 1.5 * values[:, None])
    np.testing.assert_allclose(probs[:, 0], below[:, 0], rtol=1e-6)
    np.testing.assert_allclose(probs[:, 3], 1 - below[:, 2], rtol=1e-5)
    np.testing.assert_allclose(probs.sum(-1), 1.0, rtol=1e-6)
    many = jnp.broadcast_to(values, (60_000, 2))
    drawn = np.asarray(teachers.ratings(jax.random.key(0), many, thresholds, beta=1.5))
    for level in range(4):
        np.testing.assert_allclose((drawn == level).mean(0), probs[:, level], atol=0.008)
        loglik = teachers.rating_loglik(jnp.full(2, level), values, thresholds, beta=1.5)
        np.testing.assert_allclose(loglik, jnp.log(probs[:, level]), rtol=1e-4)


def test_rating_loglik_is_finite_in_the_tails():
    thresholds = jnp.array([-1.0, 1.0])
    values = jnp.array([-60.0, 60.0])
    for level in range(3):
        labels = jnp.full(2, level)
        loglik = teachers.rating_loglik(labels, values, thresholds, beta=1.0)
        slope = jax.grad(
            lambda v, labels=labels: teachers.rating_loglik(labels, v, thresholds, beta=1.0).sum()
        )(values)
        assert bool(jnp.isfinite(loglik).all())
        assert bool(jnp.isfinite(slope).all())
    total = [
        teachers.rating_loglik(jnp.full(2, m), values / 60, thresholds, beta=1.0) for m in range(3)
    ]
    np.testing.assert_allclose(logsumexp(jnp.stack(total), axis=0), 0.0, atol=1e-6)


def test_shapes_that_differ_are_refused():
    with pytest.raises((AssertionError, TypeError)):  # chex, or jaxtyping in the test run
        teachers.bt_prefs(jnp.zeros((4, 3)), beta=1.0)


def test_what_is_not_a_number_gets_no_label():
    key, values = jax.random.key(0), jnp.array([[0.0, jnp.nan], [jnp.nan, 0.0], [0.0, 1.0]])
    for beta in (1.0, math.inf):
        assert jnp.isnan(teachers.bt_prefs(values, beta=beta)).tolist() == [True, True, False]
        assert teachers.bt_labels(key, values, beta=beta).tolist()[:2] == [teachers.EQUAL] * 2
        assert teachers.pl_ranking(key, values, beta=beta).tolist()[:2] == [[-1, -1]] * 2
    cuts = jnp.array([0.0, 1.0])
    assert teachers.ratings(key, jnp.array([jnp.nan, 99.0]), cuts, beta=1.0).tolist() == [-1, 2]


@pytest.mark.long
def test_a_label_of_no_winner_wins_for_nobody():
    labels, values = jnp.array([-1, 2, 0, 1]), jnp.tile(jnp.array([0.0, 1.0]), (4, 1))
    assert teachers.flip_labels(jax.random.key(0), labels, rate=1.0).tolist() == [-1, 2, 1, 0]
    for logliks in (
        teachers.bt_loglik(labels, values, beta=1.0),
        comparisons.pref_loglik(labels, jnp.full(4, 0.7)),
        comparisons.thurstone_loglik(labels, values, scale=1.0),
        teachers.pl_loglik(jnp.array([[0, -1], [0, 2], [0, 1], [1, 0]]), values, beta=1.0),
    ):
        assert jnp.isnan(logliks).tolist() == [True, True, False, False]
    outcomes = comparisons.outcome_loglik(jnp.array([-1, 2, 0, 1]), jnp.zeros((4, 3)))
    assert jnp.isnan(outcomes).tolist() == [False, True, False, False]
