"""Teachers who differ: enumerated likelihoods, drawn shares, and what a pooled fit makes of it."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.games import bradley_terry_game, check_prefs, low_rank_game
from rlhf_jax.feedback import populations
from rlhf_jax.feedback.comparisons import EQUAL
from rlhf_jax.feedback.teachers import bt_prefs, population_prefs
from rlhf_jax.losses.links import soft_logistic

KEY = jax.random.key(3, impl="rbg")  # compiles in half the time


def pooled_population():
    """Pairs of two-feature items, their gaps standard normal, on a grid with quadrature weights;
    group values [N, 2, G] of 80% (1, .5) and 20% (-1, .5)."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    gaps = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    values = gaps @ np.array([[1.0, -1.0], [0.5, 0.5]])
    group_values = np.stack([np.zeros_like(values), values], axis=1).astype(np.float32)
    share = np.outer(weights, weights).ravel() / weights.sum() ** 2
    return gaps.astype(np.float32), group_values, share.astype(np.float32)


def test_a_pooled_fit_serves_the_majority():
    """A conflict in one feature: Bradley-Terry of the pool is (.530, .442), neither the majority's
    reward nor the linear mix (.6, .5); a run of finite data gave (.532, .451). The fit agrees with
    the majority on .924 of pairs and with the minority on .371."""
    gaps, group_values, share = pooled_population()

    @jax.jit
    def fit(gaps, group_values, share):
        prefs = population_prefs(group_values, jnp.array([0.8, 0.2]), beta=1.0)
        slope = jax.grad(lambda w: jnp.sum(share * soft_logistic(gaps @ w, prefs)))
        step = lambda w, _: (w - 4.0 * slope(w), None)  # noqa: E731
        return jax.lax.scan(step, jnp.zeros(2), length=200)[0]

    weights = np.asarray(fit(gaps, group_values, share))
    np.testing.assert_allclose(weights, [0.5299, 0.4416], atol=1e-3)
    np.testing.assert_allclose(weights, [0.532, 0.451], atol=0.012)
    pairs = np.random.default_rng(0).normal(size=(200_000, 2))
    for truth, agreement in (((1.0, 0.5), 0.924), ((-1.0, 0.5), 0.371)):
        agree = (np.sign(pairs @ weights) == np.sign(pairs @ np.array(truth))).mean()
        assert agree == pytest.approx(agreement, abs=0.004)


def test_users_come_from_their_classes():
    means, shares = jnp.array([[2.0, 0.0], [-1.0, 5.0]]), jnp.array([0.3, 0.7])
    draw = jax.jit(partial(populations.draw_users, count=20_000))
    users = jax.tree.map(np.asarray, draw(KEY, means, shares, spread=0.5))
    assert users.classes.mean() == pytest.approx(0.7, abs=0.01)
    for z in (0, 1):
        mine = users.weights[users.classes == z]
        np.testing.assert_allclose(mine.mean(0), means[z], atol=0.03)
        np.testing.assert_allclose(mine.std(0), 0.5, atol=0.02)
    exact = jax.tree.map(np.asarray, draw(KEY, means, shares, spread=0.0))
    np.testing.assert_array_equal(exact.weights, np.asarray(means)[exact.classes])


def test_a_user_judges_by_the_users_own_weights():
    features = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    weights = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 2.0]], np.float32)
    judged = jax.jit(populations.user_values)(features, weights, np.array([2, 1]))
    np.testing.assert_array_equal(judged, [[4.0, 10.0], [7.0, 10.0]])


def test_the_likelihood_of_a_hidden_user():
    """Over all answers to three pairs it sums to one, and each answer alone is the population's;
    together they are not independent."""
    shares = np.array([0.3, 0.7], np.float32)
    class_values = np.random.default_rng(0).normal(size=(3, 2, 2)).astype(np.float32)
    answers = np.array(list(itertools.product([0, 1], repeat=3)))
    loglik = jax.jit(partial(populations.mixture_loglik, beta=2.0))
    everyone = np.broadcast_to(class_values, (8, 3, 2, 2))
    probs = np.exp(loglik(answers, everyone, shares))
    assert probs.sum() == pytest.approx(1.0, abs=1e-5)
    alone = np.asarray(jax.jit(partial(population_prefs, beta=2.0))(class_values, shares))
    np.testing.assert_allclose(probs @ answers, alone, rtol=1e-5)
    by_class = np.asarray(jax.jit(partial(bt_prefs, beta=2.0))(np.moveaxis(class_values, -1, 0)))
    want = shares @ np.prod(by_class, axis=-1)  # answer (1, 1, 1)
    assert probs[-1] == pytest.approx(want, rel=1e-5)
    assert abs(probs[-1] - np.prod(alone)) > 0.01


def test_intransitive_tastes():
    """A matrix is read row beats column; a skew product is the law of the low-rank games."""
    i, j = np.meshgrid(np.arange(6), np.arange(6), indexing="ij")

    @jax.jit
    def run(game):
        items = jnp.array([[1, 0], [0, 1], [2, 2]])
        factors = jax.random.normal(KEY, (2, 6, 4))
        vectors = jnp.concatenate([factors[0], factors[1]], axis=-1)
        pairs = jnp.stack([vectors[j], vectors[i]], axis=-2)  # P[i, j]: row i is item 1
        skew = populations.skew_prefs(pairs, beta=3.0 / 2.0)
        return populations.matrix_prefs(game, items), skew, low_rank_game(KEY, 6, rank=4)

    game = np.array([[0.5, 0.8, 0.2], [0.2, 0.5, 0.8], [0.8, 0.2, 0.5]], np.float32)
    read, prefs, want = map(np.asarray, run(game))
    np.testing.assert_allclose(read, [0.8, 0.2, 0.5])
    check_prefs(prefs)
    np.testing.assert_allclose(prefs, want, atol=1e-5)
    with pytest.raises(ValueError, match="even number of entries, got 3"):
        populations.skew_prefs(jnp.zeros((2, 3)), beta=1.0)


def test_a_taste_that_turns_and_one_that_switches():
    weights, times = np.array([1.0, 0.0, 3.0], np.float32), np.array([0.0, 1.0, 2.0], np.float32)
    turn = jax.jit(populations.rotated_weights)
    quarter = turn(weights, times, omega=np.pi / 2)
    np.testing.assert_allclose(quarter, [[1, 0, 3], [0, 1, 3], [-1, 0, 3]], atol=1e-6)
    np.testing.assert_allclose(turn(weights, times, omega=0.0), np.tile(weights, (3, 1)))
    switched = jax.jit(populations.switched_weights)(weights, -weights, times, switch=1.0)
    np.testing.assert_array_equal(switched, [weights, -weights, -weights])


def test_two_blind_flips_are_one():
    """A label is turned in the end if exactly one of the two stages turned it."""
    for mistake, attack in ((0.1, 0.3), (0.2, 0.0), (1.0, 1.0)):
        rate = populations.total_flip_rate(mistake, attack)
        assert rate == pytest.approx(mistake * (1 - attack) + attack * (1 - mistake))


def test_a_targeted_attack_takes_the_largest_scores():
    """29 of 100 labels, though 0.29 * 100 is a little below 29."""
    labels, scores = np.zeros(100, int), np.zeros(100, np.float32)
    labels[:5], scores[:5] = [0, 1, 1, EQUAL, 0], [0.1, 5.0, 2.0, 9.0, 3.0]
    scores[5:31] = 1.0
    attack = jax.jit(populations.targeted_flips, static_argnames="share")
    few = np.asarray(attack(labels, scores, share=0.03))
    assert few[:5].tolist() == [0, 0, 1, EQUAL, 1]
    np.testing.assert_array_equal(few[5:], 0)
    many = np.asarray(attack(labels, scores, share=0.29))
    assert many[:5].tolist() == [0, 0, 0, EQUAL, 1]
    assert many[5:].tolist() == [1] * 25 + [0] * 70
    with pytest.raises(ValueError, match=r"share must be in \[0, 1\], got 1.5"):
        attack(labels, scores, share=1.5)


def test_stuffing_speaks_under_the_minoritys_name_only():
    said = np.zeros(20_000, int)
    minority = np.arange(20_000) % 4 == 0
    stuff = jax.jit(populations.stuffed_labels)
    stuffed = np.asarray(stuff(KEY, said, said + 1, minority, rate=0.4))
    assert not stuffed[~minority].any()
    assert stuffed[minority].mean() == pytest.approx(0.4, abs=0.02)
    assert np.asarray(stuff(KEY, said, said + 1, minority, rate=1.0))[minority].all()


def test_a_group_lies_where_it_pays():
    """Two groups' reports are added, and the answer of most wins is played. Group 0 likes answer 0
    best and is overruled unless it exaggerates; where reports are ignored, it tells the truth."""

    @jax.jit
    def run(mine, theirs, heard):
        truth, others = bradley_terry_game(mine), bradley_terry_game(theirs)

        def utility(report):
            return mine[jnp.argmax(jnp.sum(heard * report + others, axis=-1))]

        candidates = jnp.stack([truth, populations.always_wins(truth, 0)])
        return truth, *populations.strategic_report(candidates, utility)

    tastes = jnp.array([1.0, 0.6, 0.0]), jnp.array([0.0, 0.8, 0.6])
    truth, said, index = map(np.asarray, run(*tastes, 1.0))
    assert index == 1
    check_prefs(said)
    assert said[0].tolist() == [0.5, 1.0, 1.0]
    np.testing.assert_array_equal(said[1:, 1:], truth[1:, 1:])
    _, honest, index = run(*tastes, 0.0)
    assert int(index) == 0
    np.testing.assert_array_equal(honest, truth)


def test_users_and_items_out_of_their_table_are_nan():
    weights, features = jnp.array([[1.0], [2.0]]), jnp.ones((3, 2, 1))
    values = populations.user_values(features, weights, jnp.array([1, -1, 2]))
    np.testing.assert_array_equal(values, [[2.0, 2.0], [jnp.nan] * 2, [jnp.nan] * 2])
    prefs, items = jnp.array([[0.5, 0.9], [0.1, 0.5]]), jnp.array([[0, 1], [0, 2], [-1, 1]])
    np.testing.assert_allclose(populations.matrix_prefs(prefs, items), [0.1, jnp.nan, jnp.nan])
