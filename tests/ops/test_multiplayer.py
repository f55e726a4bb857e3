"""One answer against many: hand numbers, two players, brute force, equilibria."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs.games import bradley_terry_game
from rlhf_jax.ops.games import exploitability, regularised_gap, win_rates
from rlhf_jax.ops.multiplayer import (
    one_vs_many_win_rates,
    plackett_luce_prefs,
    players_exploitability,
    players_gap,
    players_win_rates,
)


@pytest.fixture(autouse=True, scope="module")
def double():
    with jax.enable_x64(True):
        yield


def draw(seed: int, *shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def test_plackett_luce_by_hand():
    """Of log 1 and log 3: 3 against {1, 1} is 3/5, against {1, 3} 3/7; 1 against {3, 3} 1/7."""
    prefs = plackett_luce_prefs(jnp.log(jnp.array([1.0, 3.0])), 3)
    assert prefs.shape == (2, 2, 2)
    found = [prefs[1, 0, 0], prefs[1, 0, 1], prefs[1, 1, 0], prefs[0, 1, 1], prefs[0, 0, 0]]
    np.testing.assert_allclose(found, [3 / 5, 3 / 7, 3 / 7, 1 / 7, 1 / 3])


def test_win_rates_by_hand():
    """Others (1/2, 1/2) and (1, 0): 3 meets {1, 1} or {3, 1}: (3/5 + 3/7) / 2 = 18/35;
    1 meets {1, 1} or {3, 1}: (1/3 + 1/5) / 2 = 4/15."""
    prefs = plackett_luce_prefs(jnp.log(jnp.array([1.0, 3.0])), 3)
    others = jnp.array([[0.5, 0.5], [1.0, 0.0]])
    np.testing.assert_allclose(one_vs_many_win_rates(prefs, others), [4 / 15, 18 / 35])


def test_the_gap_by_hand():
    """Scores log 1, log 3, two players at (1/2, 1/2), the reference: u = (3/8, 5/8), so at beta 1/4
    the gap is (1/4) log((e^{3/2} + e^{5/2}) / 2) - 1/2 = 0.03003, without KL 1/8."""
    prefs = plackett_luce_prefs(jnp.log(jnp.array([1.0, 3.0])), 2)[None]
    half = jnp.log(jnp.full((2, 2), 0.5))
    want = 0.25 * np.log((np.exp(1.5) + np.exp(2.5)) / 2) - 0.5
    np.testing.assert_allclose(players_gap(prefs, half, half[0], beta=0.25), [want, want])
    assert want == pytest.approx(0.03003, abs=1e-5)
    np.testing.assert_allclose(players_exploitability(prefs, jnp.exp(half)), [1 / 8, 1 / 8])


@pytest.mark.parametrize("players", [2, 3, 5])
def test_the_chances_of_all_seats_sum_to_one_and_the_others_may_be_swapped(players):
    prefs = np.asarray(plackett_luce_prefs(draw(0, 4), players))
    seats = [np.moveaxis(prefs, 0, seat) for seat in range(players)]
    np.testing.assert_allclose(sum(seats), 1.0)
    np.testing.assert_allclose(prefs, np.swapaxes(prefs, 1, players - 1))


def test_two_players_are_the_pairwise_game():
    scores, logps = draw(1, 6), jax.nn.log_softmax(draw(2, 6))
    ref = jax.nn.log_softmax(draw(3, 6))
    prefs = plackett_luce_prefs(scores, 2)
    game = bradley_terry_game(scores)
    np.testing.assert_allclose(prefs, game)
    other = jnp.exp(ref)
    np.testing.assert_allclose(one_vs_many_win_rates(prefs, other[None]), win_rates(game, other))
    both = jnp.stack([logps, logps])
    gap = players_gap(prefs[None], both, ref, beta=0.3)
    np.testing.assert_allclose(gap, 0.5 * regularised_gap(game, logps, ref, beta=0.3))
    free = players_exploitability(prefs[None], jnp.exp(both))
    np.testing.assert_allclose(free, 0.5 * exploitability(game, jnp.exp(logps)))


def test_players_with_games_of_their_own_are_summed_by_brute_force():
    """Three players, four answers, a batch of two."""
    scores, probs = draw(4, 2, 3, 4), jax.nn.softmax(draw(5, 2, 3, 4))
    prefs = plackett_luce_prefs(scores, 3)
    found = np.asarray(players_win_rates(prefs, probs))
    assert found.shape == (2, 3, 4)
    want = np.zeros((2, 3, 4))
    for batch, player in itertools.product(range(2), range(3)):
        rest = [other for other in range(3) if other != player]
        for y, a, b in itertools.product(range(4), repeat=3):
            weight = probs[batch, rest[0], a] * probs[batch, rest[1], b]
            want[batch, player, y] += float(weight * prefs[batch, player, y, a, b])
    np.testing.assert_allclose(found, want, rtol=1e-12)
    shared = players_win_rates(prefs[:, :1], probs)
    np.testing.assert_allclose(shared[:, 0], found[:, 0])
    assert np.abs(shared[:, 1] - found[:, 1]).max() > 0.01


def test_the_gap_is_what_the_best_of_many_policies_gains():
    """A grid over the simplex of three answers never gains more, and comes near."""
    prefs = plackett_luce_prefs(2.0 * draw(6, 3, 3), 3)
    logps, ref, beta = jax.nn.log_softmax(draw(7, 3, 3)), jax.nn.log_softmax(draw(8, 3)), 0.2
    gaps = np.asarray(players_gap(prefs, logps, ref, beta=beta))
    rates = np.asarray(players_win_rates(prefs, jnp.exp(logps)))

    def payoff(probs, rates):
        return probs @ rates - beta * np.sum(probs * (np.log(probs) - np.asarray(ref)))

    grid = np.array([(a, b, 200 - a - b) for a in range(1, 199) for b in range(1, 200 - a)]) / 200
    for own, rate, gap in zip(np.exp(np.asarray(logps)), rates, gaps, strict=True):
        gain = max(payoff(probs, rate) for probs in grid) - payoff(own, rate)
        assert gap - 1e-3 < gain <= gap + 1e-12


def test_prefs_of_another_shape_are_named():
    with pytest.raises(
        ValueError, match=r"2 players with 3 answers need prefs \[\.\.\., 2 or 1, 3, 3\]"
    ):
        players_win_rates(jnp.full((3, 3), 0.5), jnp.full((2, 3), 1 / 3))
    with pytest.raises(ValueError, match=r"players must be in \[2, inf\)"):
        plackett_luce_prefs(jnp.zeros(3), 1)
