"""Condorcet winners, top cycles and cycle statistics, against plain loops."""

from itertools import combinations, permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_jax.envs.games import asymmetric_cycle, bradley_terry_game, condorcet_game, random_game
from rlhf_jax.exact.nash import maximal_lotteries
from rlhf_jax.exact.tournaments import condorcet_winner, has_cycle, intransitive_share, smith_set

N = 5
STATISTICS = condorcet_winner, intransitive_share, has_cycle, smith_set
statistics = jax.jit(lambda prefs: tuple(function(prefs) for function in STATISTICS))


def tournament(seed, tie):
    """A game of wins, losses and ties [N, N]."""
    rng = np.random.default_rng(seed)
    signs = np.tril(rng.choice([-1, 0, 1], size=(N, N), p=[(1 - tie) / 2, tie, (1 - tie) / 2]), -1)
    return (0.5 + 0.3 * (signs - signs.T)).astype(np.float32)


def by_loops(prefs):
    """The same four, from their definitions."""
    beats = prefs > 0.5
    members = range(N)
    winners = [i for i in members if all(beats[i, j] for j in members if j != i)]
    triples = list(combinations(members, 3))
    circles = sum(
        any(beats[i, j] and beats[j, k] and beats[k, i] for i, j, k in permutations(triple))
        for triple in triples
    )
    cycle = any(
        all(beats[walk[i], walk[(i + 1) % size]] for i in range(size))
        for size in range(3, N + 1)
        for walk in permutations(members, size)
    )
    for size in range(1, N + 1):
        for group in combinations(members, size):
            others = [j for j in members if j not in group]
            if all(beats[i, j] for i in group for j in others):
                smith = [i in group for i in members]
                return winners[0] if winners else -1, circles / len(triples), cycle, smith
    raise AssertionError("everybody together beats nobody else")


@settings(derandomize=True, deadline=None, max_examples=60)
@given(seed=st.integers(0, 10**6), tie=st.sampled_from([0.0, 0.2, 0.6, 1.0]))
def test_statistics_against_loops(seed, tie):
    prefs = tournament(seed, tie)
    for found, expected in zip(statistics(prefs), by_loops(prefs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_circle_of_four_with_ties_across_has_no_circle_of_three():
    prefs = 0.5 + 0.25 * (np.roll(np.eye(4), 1, axis=1) - np.roll(np.eye(4), -1, axis=1))
    prefs = jnp.asarray(prefs)
    assert bool(has_cycle(prefs))
    assert float(intransitive_share(prefs)) == 0.0
    assert bool(jnp.all(smith_set(prefs)))
    assert int(condorcet_winner(prefs)) == -1


@pytest.mark.long
def test_known_games():
    winner, share, cycle, smith = statistics(asymmetric_cycle())
    assert (int(winner), float(share), bool(cycle), smith.tolist()) == (-1, 1.0, True, [True] * 3)
    scores = jnp.array([0.1, 2.0, -1.0, 0.5])
    winner, share, cycle, smith = statistics(bradley_terry_game(scores))
    assert (int(winner), float(share), bool(cycle)) == (1, 0.0, False)
    assert smith.tolist() == [False, True, False, False]
    winner, *_, smith = statistics(condorcet_game(jax.random.key(0), 8, gap=0.01))
    assert int(winner) == 0
    assert smith.tolist() == [True] + [False] * 7


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_answers(n):
    prefs = jnp.array([[0.5, 0.75], [0.25, 0.5]])[:n, :n]
    winner, share, cycle, smith = statistics(prefs)
    assert (int(winner), float(share), bool(cycle)) == (0, 0.0, False)
    assert smith.tolist() == [True, False][:n]


def test_a_quarter_of_random_triples_are_circles():
    games = random_game(jax.random.split(jax.random.key(1), 200), 12)
    assert abs(float(jnp.mean(intransitive_share(games))) - 0.25) < 0.01


def test_maximal_lotteries_lie_in_the_smith_set():
    games = np.stack([tournament(seed, 0.2) for seed in range(20)])
    _, lotteries = maximal_lotteries(games)
    smith = np.asarray(smith_set(jnp.asarray(games)))
    assert not np.any(lotteries.support & ~smith)
    assert np.any(~smith)


@pytest.mark.long
def test_a_batch_is_a_loop():
    games = jnp.asarray(np.stack([tournament(seed, 0.2) for seed in range(6)]))
    alone = [statistics(game) for game in games]
    batch = statistics(games.reshape(2, 3, N, N))
    for field, of_ones in zip(batch, zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(field.reshape(6, -1), np.stack(of_ones).reshape(6, -1))
