"""Updates of preference games: golden steps, and which is which in a limit; float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nash_population import (
    KEY,
    POLICY,
    REF,
    RPS,
    one_update,
    random_games,
    trajectory,
)

from rlhf_jax.algos import games
from rlhf_jax.algos.games.opponents import (
    averaged,
    mixture,
    moving_average,
    past_average,
    self_play,
)
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.algos.games.steps import decaying_steps, mirror_step, softmax_gradient_step


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def logps_of(state, metrics):
    return state.logps


def close(got, want, atol=1e-12):
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)


# ---- One step from softmax(.3, -.2, .1), eta = 1/2 and beta = 0.1, rock-paper-scissors.

GOLDEN = {
    "mirror descent": (games.mirror_descent, 0.1, [0.41268788, 0.24860865, 0.33870347]),
    "Nash-MD": (games.nash_md, 0.1, [0.41397273, 0.2470633, 0.33896397]),
    "EGPO": (games.nash_mp, 0.1, [0.41244663, 0.24867192, 0.33888145]),
    "Hedge": (games.mirror_descent, 0.0, [0.40323492, 0.24535539, 0.35140969]),
    "TD-MNPO": (
        partial(games.td_mnpo, history_weights=(0.5, 0.5)),
        0.1,
        [0.49702791, 0.27228099, 0.2306911],
    ),
}


@pytest.mark.parametrize(("make", "beta", "probs"), GOLDEN.values(), ids=GOLDEN.keys())
def test_one_step_golden_vectors(make, beta, probs):
    """The policy before was mu, which only TD-MNPO remembers."""
    got = one_update(make(jnp.asarray(REF), eta=0.5, beta=beta), POLICY, RPS, start=REF)
    close(jnp.exp(got), probs, atol=1e-8)


def test_softmax_gradient_step_by_hand():
    """pi = (1/2, 1/2), u = (1, 0), mu = pi: a - pi a = (1/2, -1/2), l+ - l = eta (1/4, -1/4)."""
    half = jnp.log(jnp.array([0.5, 0.5]))
    got = softmax_gradient_step(half, half, jnp.array([1.0, 0.0]), eta=2.0, beta=0.3)
    close(got[0] - got[1], 1.0)
    # With log-ratios (2, 0) and beta = 1/2, a = (0, 0): nothing moves.
    ref = half - jnp.array([2.0, 0.0])
    still = softmax_gradient_step(half, ref, jnp.array([1.0, 0.0]), eta=2.0, beta=0.5)
    close(still, half)


def test_omwu_by_hand():
    """Two updates of l + 2 eta u_t - eta u_{t-1}, the first with u_{-1} = 0."""
    state = games.omwu(jnp.asarray(REF), eta=0.5).init(jnp.asarray(POLICY))
    update, oracle = games.omwu(jnp.asarray(REF), eta=0.5).update, exact_oracle(jnp.asarray(RPS))
    first = RPS @ np.exp(POLICY)
    one = np.asarray(jax.nn.log_softmax(jnp.asarray(POLICY + first)))
    two = jax.nn.log_softmax(jnp.asarray(one + RPS @ np.exp(one) - 0.5 * first))
    state = update(state, oracle, KEY)[0]
    close(state.logps, one)
    state = update(state, oracle, KEY)[0]
    close(state.logps, two)
    close(state.average, (np.exp(POLICY) + np.exp(one)) / 2)


def test_an_update_reports_what_it_says():
    method = games.mirror_descent(jnp.asarray(REF), eta=0.5, beta=0.1)
    state = method.init(jnp.asarray(POLICY))
    after, metrics = method.update(state, exact_oracle(jnp.asarray(RPS)), KEY)
    new, old = np.asarray(after.logps), np.asarray(state.logps)
    close(metrics["kl/step"], np.sum(np.exp(new) * (new - old)))
    close(2 * metrics["win_rate/best"] - 1, 0.16223791, atol=1e-8)  # the gap of this policy
    assert int(after.step) == 1


# ---- Which is which in a limit: whole runs agree, on a random game of 5 answers.


def steps_of(method, start, prefs, count=6):
    return trajectory(method, start, prefs, range(1, count + 1), logps_of)


@pytest.fixture
def game():
    prefs, ref = random_games(0, 1, 5)
    return jnp.asarray(prefs[0]), jnp.asarray(ref[0])


def test_mirror_descent_without_a_penalty_is_hedge(game):
    """l_t = l_0 + eta sum of the win rates, whatever the reference is."""
    prefs, ref = game
    runs = [
        steps_of(games.mirror_descent(mu, eta=0.7, beta=0.0), ref, prefs)
        for mu in (ref, jnp.full(5, -jnp.inf))
    ]
    played = np.concatenate([np.asarray(ref)[None], runs[0][:-1]])
    wins = np.cumsum(np.exp(played) @ np.asarray(prefs).T, axis=0)
    want = jax.nn.log_softmax(jnp.asarray(np.asarray(ref) + 0.7 * wins))
    close(runs[0], want)
    close(runs[1], want)


@pytest.mark.long
def test_limits_that_are_mirror_descent(game):
    prefs, ref = game
    want = steps_of(games.mirror_descent(ref, eta=0.7, beta=0.3), jnp.zeros(5), prefs)
    one = games.td_mnpo(ref, eta=0.7, beta=0.3, history_weights=(1.0,))
    longer = games.td_mnpo(ref, eta=0.7, beta=0.3, history_weights=(1.0, 0.0, 0.0))
    same = games.mirror_descent(ref, eta=0.7, beta=0.3, opponent=mixture(ref, weight=0.0))
    frozen = games.mirror_descent(ref, eta=0.7, beta=0.3, opponent=moving_average(decay=0.0))
    scheduled = games.mirror_descent(ref, eta=lambda t: 0.7 + 0.0 * t, beta=0.3)
    for method in (one, longer, same, frozen, scheduled):
        close(steps_of(method, jnp.zeros(5), prefs), want)


def test_mirror_prox_with_the_second_opponent_frozen_is_mirror_descent(game):
    """An oracle that answers for pi_t both times, whatever it is asked."""
    prefs, ref = game
    method = games.nash_mp(ref, eta=0.7, beta=0.3)
    state = method.init(jnp.zeros(5))
    frozen = prefs @ jnp.exp(state.logps)
    got = method.update(state, lambda opponent, key: frozen, KEY)[0].logps
    descent = games.mirror_descent(ref, eta=0.7, beta=0.3)
    close(got, one_update(descent, state.logps, prefs))
    assert float(jnp.max(jnp.abs(got - one_update(method, state.logps, prefs)))) > 1e-3


@pytest.mark.long
def test_a_full_step_is_the_best_response(game):
    """log mu + P pi / beta: of where it started only the opponent is left."""
    prefs, ref = game
    beta = 0.4
    for start in (jnp.zeros(5), 2.0 * ref):
        opponent = jax.nn.softmax(start)
        want = jax.nn.log_softmax(ref + prefs @ opponent / beta)
        best = games.best_response(ref, beta=beta)
        close(one_update(best, jax.nn.log_softmax(start), prefs), want)
        descent = games.mirror_descent(ref, eta=1 / beta, beta=beta)
        close(steps_of(descent, start, prefs), steps_of(best, start, prefs))
    # Against the reference: Nash-MD's mixture at its end.
    reference = games.mirror_descent(
        ref, eta=1 / beta, beta=beta, opponent=mixture(ref, weight=1.0)
    )
    want = jax.nn.log_softmax(ref + prefs @ jnp.exp(ref) / beta)
    close(steps_of(reference, jnp.zeros(5), prefs)[-1], want)


def test_fictitious_play_answers_the_mean_of_the_past(game):
    prefs, ref = game
    past, logps = [], jax.nn.log_softmax(jnp.zeros(5))
    for got in steps_of(games.fictitious_play(ref, beta=0.4), logps, prefs):
        past.append(jnp.exp(logps))
        logps = jax.nn.log_softmax(ref + prefs @ jnp.mean(jnp.stack(past), axis=0) / 0.4)
        close(got, logps)


def test_nash_md_is_mirror_descent_from_and_against_the_mixture(game):
    """At beta = 0 it is Hedge; otherwise the mixture takes the place of pi on both sides."""
    prefs, ref = game
    hedge = steps_of(games.mirror_descent(ref, eta=0.7, beta=0.0), jnp.zeros(5), prefs)
    close(steps_of(games.nash_md(ref, eta=0.7, beta=0.0), jnp.zeros(5), prefs), hedge)
    schedule = decaying_steps(0.3)
    logps = jax.nn.log_softmax(jnp.zeros(5))
    moved = steps_of(games.nash_md(ref, eta=schedule, beta=0.3), logps, prefs)
    for t, got in enumerate(moved):
        eta = 2.0 / (0.3 * (t + 2))
        mixed = jax.nn.log_softmax((1 - eta * 0.3) * logps + eta * 0.3 * ref)
        logps = jax.nn.log_softmax(mixed + eta * prefs @ jnp.exp(mixed))
        close(got, logps)


def test_nash_mp_and_egpo_are_one_map(game):
    """Proximal form, with Nash-MP's own step e: [e log mu + l + (e / beta) u] / (1 + e)."""
    prefs, ref = game
    beta, own = 0.3, 0.6
    logps = half = jax.nn.log_softmax(jnp.zeros(5))
    runs = steps_of(games.nash_mp(ref, eta=own / (beta * (1 + own)), beta=beta), logps, prefs)
    for got in runs:
        for opponent in (logps, None):
            wins = prefs @ jnp.exp(half if opponent is None else opponent)
            half = jax.nn.log_softmax((own * ref + logps + own / beta * wins) / (1 + own))
        logps = half
        close(got, logps)


def test_optimism_is_mirror_prox_with_the_last_gradient(game):
    """base = S(base; P pi), pi = S(base; P pi): beta = 0 gives the by-hand form above."""
    prefs, ref = game
    base = logps = jax.nn.log_softmax(jnp.zeros(5))
    for got in steps_of(games.omwu(ref, eta=0.7, beta=0.3), logps, prefs):
        wins = prefs @ jnp.exp(logps)
        base = mirror_step(base, ref, wins, eta=0.7, beta=0.3)
        logps = mirror_step(base, ref, wins, eta=0.7, beta=0.3)
        close(got, logps)


def test_td_mnpo_by_hand(game):
    """Three weights; before the start lies the first policy."""
    prefs, ref = game
    start = jax.nn.log_softmax(jnp.zeros(5))
    past = [start, start, start]
    method = games.td_mnpo(ref, eta=0.7, beta=0.3, history_weights=(0.2, 0.5, 0.3))
    for got in steps_of(method, start, prefs):
        mean = 0.2 * past[-1] + 0.5 * past[-2] + 0.3 * past[-3]
        kept = 0.21 * ref + 0.79 * mean
        past.append(jax.nn.log_softmax(kept + 0.7 * prefs @ jnp.exp(past[-1])))
        close(got, past[-1])


@pytest.mark.long
def test_two_players_of_mnpo_are_two_interleaved_hedges(game):
    """Each moves from, and against, the other; equal players are Hedge in self-play."""
    prefs, ref = game
    starts = jnp.stack([jnp.zeros(5), 2.0 * ref])
    refs = jnp.stack([ref, ref])
    got = steps_of(games.mnpo(refs, eta=0.7, beta=0.0), starts, prefs)
    apart = [
        steps_of(games.mirror_descent(ref, eta=0.7, beta=0.0), start, prefs) for start in starts
    ]
    for t in range(6):
        same, other = (0, 1) if t % 2 == 1 else (1, 0)
        close(got[t], jnp.stack([apart[same][t], apart[other][t]]))


@pytest.mark.parametrize("players", [2, 3, 5])
def test_players_of_mnpo_by_hand(game, players):
    prefs, ref = game
    logps = jax.nn.log_softmax(jnp.asarray(np.random.default_rng(1).standard_normal((players, 5))))
    refs = jnp.broadcast_to(ref, (players, 5))
    own_games = jnp.asarray(random_games(2, players, 5)[0])
    shared = one_update(games.mnpo(refs, eta=0.7, beta=0.3), logps, prefs)
    apart = one_update(games.ht_mnpo(refs, eta=0.7, beta=0.3), logps, own_games)
    for i in range(players):
        others = np.delete(np.asarray(logps), i, axis=0)
        start = 0.79 * others.mean(0) + 0.21 * ref
        wins = (np.exp(others) @ np.asarray(prefs).T).mean(0)
        close(shared[i], jax.nn.log_softmax(start + 0.7 * wins))
        own = own_games[i] @ jnp.exp(logps[i])
        close(apart[i], jax.nn.log_softmax(start + 0.7 * own))


def test_the_moving_average_follows_and_the_mean_counts_what_was_played(game):
    prefs, ref = game
    method = games.policy_gradient(ref, eta=0.7, beta=0.3, opponent=moving_average(decay=0.9))
    state, oracle = method.init(jnp.zeros(5)), exact_oracle(prefs)
    mean, played = state.logps, []
    for _ in range(4):
        before = state
        state = method.update(state, oracle, KEY)[0]
        want = softmax_gradient_step(before.logps, ref, prefs @ jnp.exp(mean), eta=0.7, beta=0.3)
        close(state.logps, want)
        mean = jax.nn.log_softmax(0.9 * mean + 0.1 * state.logps)
        close(state.memory, mean)
        played.append(jnp.exp(before.logps))
        close(state.average, jnp.mean(jnp.stack(played), axis=0))


def test_opponents_play_what_they_say(game):
    _, ref = game
    state = games.mirror_descent(ref, eta=0.1, beta=0.1).init(jnp.zeros(5))
    close(self_play().play(state), state.logps)
    close(jnp.exp(past_average().play(state)), averaged(state, state.logps))
    close(mixture(ref, weight=1.0).play(state), ref)
    close(mixture(ref, weight=lambda t: t + 1.0).play(state), ref)
    kept = moving_average(decay=1.0)
    close(kept.track(kept.init(state.logps), ref), state.logps)
