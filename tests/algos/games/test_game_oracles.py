"""Oracles of preference games: unbiased, of the right spread, in any shape; float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nash_population import KEY, REF, RPS, one_update, random_games, regularised_gap

from rlhf_jax.algos import games
from rlhf_jax.algos.games.oracles import (
    exact_oracle,
    labelled_oracle,
    named_oracle,
    players_oracle,
    sampled_oracle,
)
from rlhf_jax.algos.games.runs import run_updates
from rlhf_jax.ops.multiplayer import one_vs_many_win_rates, plackett_luce_prefs

SAMPLED = pytest.mark.parametrize("make", [sampled_oracle, labelled_oracle])


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def game():
    (prefs,), (logps,) = random_games(0, 1, 4)
    return jnp.asarray(prefs), jnp.asarray(logps)


def test_exact_oracle_golden_numbers():
    """P q by hand, q = (1/2, 1/3, 1/6): rock gets 1/4 + 1/3, paper 1/6 + 1/6, scissors the rest."""
    oracle = exact_oracle(jnp.asarray(RPS))
    got = oracle(jnp.log(jnp.array([1 / 2, 1 / 3, 1 / 6])), KEY)
    np.testing.assert_allclose(got, [7 / 12, 1 / 3, 7 / 12], atol=1e-15)


@SAMPLED
def test_sampled_oracles_have_the_right_mean_and_spread(make, game):
    """20,000 calls of m = 3; the chance of a false alarm at 5 standard errors is below 1e-5."""
    prefs, logps = game
    calls, samples = 20_000, 3
    oracle = make(prefs, samples=samples)
    got = np.asarray(
        jax.jit(jax.vmap(lambda key: oracle(logps, key)))(jax.random.split(KEY, calls))
    )
    probs = np.exp(logps)
    mean = np.asarray(prefs) @ probs
    second = {
        sampled_oracle: np.asarray(prefs) ** 2 @ probs,
        labelled_oracle: mean,  # a bit is its own square
    }[make]
    variance = (second - mean**2) / samples
    assert np.all(np.abs(got.mean(0) - mean) < 5 * np.sqrt(variance / calls))
    np.testing.assert_allclose(got.var(0), variance, rtol=0.06)


@pytest.mark.long
def test_labels_are_shares_of_wins_and_probabilities_are_not(game):
    prefs, logps = game
    keys = jax.random.split(KEY, 50)
    bits = jax.vmap(lambda key: labelled_oracle(prefs, samples=4)(logps, key))(keys)
    np.testing.assert_array_equal(4 * bits, jnp.round(4 * bits))
    rates = jax.vmap(lambda key: sampled_oracle(prefs, samples=1)(logps, key))(keys)
    # One answer of the opponent: a column of P, the same answer for every row.
    columns = np.asarray(prefs).T
    assert all(np.any(np.all(np.isclose(columns, row), axis=1)) for row in rates)


@SAMPLED
def test_an_answer_of_no_chance_is_never_drawn(make):
    prefs = jnp.array([[0.5, 1.0], [0.0, 0.5]])
    oracle = make(prefs, samples=50)
    np.testing.assert_array_equal(oracle(jnp.array([-jnp.inf, 0.0]), KEY)[0], 1.0)


@pytest.mark.parametrize("make", [exact_oracle, sampled_oracle, labelled_oracle])
def test_leading_axes_broadcast(make, game):
    """Games [2], players [2, 3]: shapes, and for the exact one the values of each apart."""
    prefs, refs = (jnp.asarray(x) for x in random_games(1, 2, 4))
    settings = {} if make is exact_oracle else {"samples": 5}
    players = jax.random.normal(KEY, (2, 3, 4))
    players = jax.nn.log_softmax(players.astype(refs.dtype))
    assert make(prefs, **settings)(refs, KEY).shape == (2, 4)
    got = make(prefs[:, None], **settings)(players, KEY)
    assert got.shape == (2, 3, 4)
    assert make(prefs[0], **settings)(players, KEY).shape == (2, 3, 4)
    if make is exact_oracle:
        for at in np.ndindex(2, 3):
            np.testing.assert_allclose(got[at], prefs[at[0]] @ jnp.exp(players[at]), atol=1e-15)


@SAMPLED
def test_batched_draws_are_independent(make, game):
    """The same game twice in a batch is not drawn twice alike."""
    prefs, logps = game
    both = make(prefs, samples=7)(jnp.stack([logps, logps]), KEY)
    assert not np.array_equal(both[0], both[1])


def test_a_learned_model_is_an_oracle(game):
    """A bilinear model of intransitive scores, through the same update as its matrix."""
    _, ref = game
    rng = np.random.default_rng(0)
    features = jnp.asarray(rng.standard_normal((4, 3)))
    weights = jnp.asarray(rng.standard_normal((3, 3)))
    weights = weights - weights.T

    def learned(opponent_logps, key):
        scores = features @ weights @ features.T
        return jax.nn.sigmoid(scores) @ jnp.exp(opponent_logps)

    matrix = jax.nn.sigmoid(features @ weights @ features.T)
    method = games.nash_mp(ref, eta=0.9, beta=0.4)
    got = method.update(method.init(ref), learned, KEY)[0].logps
    np.testing.assert_allclose(got, one_update(method, ref, matrix), atol=1e-14)


@pytest.mark.parametrize("make", [games.mirror_descent, games.nash_mp])
def test_one_sampled_update_is_unbiased(make, game):
    """Logits of one step are linear in the last win rates: their mean is the exact update's.

    That of mirror prox only if the half step is exact, as the first answer of the oracle is here.
    """
    prefs, ref = game
    method = make(ref, eta=0.9, beta=0.4)
    state = method.init(jnp.zeros(4))

    def spread(key):
        calls = [exact_oracle(prefs)] * (make is games.nash_mp)
        calls.append(sampled_oracle(prefs, samples=2))

        def oracle(opponent_logps, key):
            return calls.pop(0)(opponent_logps, key)

        logps = method.update(state, oracle, key)[0].logps
        return logps - jnp.mean(logps)

    got = np.asarray(jax.jit(jax.vmap(spread))(jax.random.split(KEY, 20_000)))
    want = np.asarray(one_update(method, state.logps, prefs))
    errors = got.std(0) / np.sqrt(len(got))
    assert np.all(np.abs(got.mean(0) - (want - want.mean())) < 5 * errors)


@pytest.mark.long
def test_the_noise_floor_falls_as_the_samples_grow():
    """Ten random games of ten answers, beta = 0.1, eta = 1: the median floor is near 0.035 / m."""
    prefs, refs = (jnp.asarray(x) for x in random_games(0, 10, 10))
    floors = []
    for samples in (1, 10, 100):

        def run(prefs, ref, key, samples=samples):
            method = games.nash_mp(ref, eta=1.0, beta=0.1)
            return run_updates(
                method.update,
                method.init(ref),
                sampled_oracle(prefs, samples=samples),
                key,
                times=range(100, 401, 10),
                record=lambda state, _: regularised_gap(prefs, state.logps, ref, 0.1),
            )[1]

        gaps = jax.jit(jax.vmap(run))(prefs, refs, jax.random.split(KEY, 10))
        floors.append(float(jnp.median(jnp.mean(gaps, axis=-1))))
    ratios = np.array(floors[:-1]) / floors[1:]
    assert np.all((ratios > 6) & (ratios < 15)), floors
    assert 0.015 < floors[0] < 0.08, floors


def test_no_samples_are_refused():
    for make in (sampled_oracle, labelled_oracle):
        with pytest.raises(ValueError, match=r"samples must be in .*, got 0"):
            make(jnp.asarray(RPS), samples=0)


def test_single_precision_stays_single_in_oracles():
    for oracle in (
        exact_oracle(jnp.asarray(RPS, jnp.float32)),
        sampled_oracle(jnp.asarray(RPS, jnp.float32), samples=3),
        labelled_oracle(jnp.asarray(RPS, jnp.float32), samples=3),
    ):
        got = oracle(jnp.asarray(REF, jnp.float32), KEY)
        assert got.dtype == jnp.float32
        assert bool(jnp.all((got >= 0) & (got <= 1)))


def test_players_of_one_pairwise_game_meet_each_other(game):
    """u_1 = P pi_2 and u_2 = P pi_1."""
    prefs, logps = game
    both = jnp.stack([logps, jnp.flip(logps)])
    found = players_oracle(prefs[None])(both, KEY)
    want = [exact_oracle(prefs)(each, KEY) for each in both[::-1]]
    np.testing.assert_allclose(found, jnp.stack(want), atol=1e-15)


@pytest.mark.parametrize("players", [2, 3])
def test_answers_are_named_as_often_as_they_win(game, players):
    """One call: the share of its copies that were named, given that an answer was drawn, has the
    mean P(y > the others) up to the copies that meet each other; 1 / n where it was not drawn.

    Over many calls at once the shares are those chances: 5 standard errors of 40,000 seats."""
    logps = game[1]
    prefs = plackett_luce_prefs(jnp.array([0.0, 1.0, -1.0, 0.5]), players)
    found = np.asarray(named_oracle(prefs, samples=40_000 // players)(logps, KEY))
    probs = np.exp(np.asarray(logps))
    want = one_vs_many_win_rates(prefs, jnp.stack([jnp.exp(logps)] * (players - 1)))
    assert np.all(np.abs(found - want) < 5 * 0.5 / np.sqrt(40_000 * probs))
    sure = jnp.array([0.0, -jnp.inf, -jnp.inf, -jnp.inf])
    alone = named_oracle(prefs, samples=3)(sure, KEY)
    np.testing.assert_allclose(alone, 1 / players)  # one of its n copies is named in every call


def test_named_answers_of_many_policies_are_drawn_apart(game):
    prefs = plackett_luce_prefs(jnp.array([0.0, 1.0, -1.0, 0.5]), 3)
    oracle = named_oracle(prefs, samples=50)
    wins = oracle(jnp.stack([game[1], game[1]]), KEY)
    assert wins.shape == (2, 4)
    assert not np.array_equal(wins[0], wins[1])
    with pytest.raises(ValueError, match=r"samples must be in \[1, inf\)"):
        named_oracle(prefs, samples=0)
