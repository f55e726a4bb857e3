"""Updates of preference games: golden steps, which is which in a limit, and runs; float64."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from nash_population import (
    KEY,
    METHODS,
    POLICY,
    REF,
    RPS,
    gap,
    one_update,
    random_games,
    trajectory,
)

from rlhf_jax.algos import games
from rlhf_jax.algos.game_opponents import (
    averaged,
    mixture,
    moving_average,
    past_average,
    self_play,
)
from rlhf_jax.algos.game_oracles import exact_oracle, sampled_oracle
from rlhf_jax.algos.game_runs import log_spaced_times, run_updates
from rlhf_jax.algos.game_steps import decaying_steps, mirror_step, softmax_gradient_step

SHAPES = (AssertionError, jaxtyping.TypeCheckError)  # the latter comes first under the checker


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


# ---- Runs.


@pytest.mark.parametrize("make", METHODS.values(), ids=METHODS.keys())
def test_games_seeds_steps_and_temperatures_in_one_jit(make):
    """vmap over everything is the loop; jit is eager; leading axes are the loop over games."""
    prefs, refs = (jnp.asarray(x) for x in random_games(3, 2, 4))
    etas, betas = jnp.array([0.2, 0.9]), jnp.array([0.0, 0.4])
    keys = jax.random.split(KEY, 2)

    def run(prefs, ref, key, eta, beta):
        method = make(ref, eta=eta, beta=beta)
        oracle = sampled_oracle(prefs, samples=3)
        state = method.init(ref)
        return run_updates(method.update, state, oracle, key, times=(2, 3), record=logps_of)[1]

    swept = run
    for axis in reversed(range(4)):
        # The first axis is of games and their references together.
        mapped = [None if at != axis else 0 for at in (0, 0, 1, 2, 3)]
        swept = jax.vmap(swept, in_axes=mapped)
    got = jax.jit(swept)(prefs, refs, keys, etas, betas)
    assert got.shape == (2, 2, 2, 2, 2, 4)
    once = jax.jit(run)
    for at in np.ndindex(2, 2, 2, 2):
        g, k, e, b = at
        close(got[at], once(prefs[g], refs[g], keys[k], etas[e], betas[b]), atol=1e-13)
    with jax.disable_jit():
        close(got[1, 0, 1, 1], run(prefs[1], refs[1], keys[0], etas[1], betas[1]), atol=1e-13)
    method = make(refs, eta=0.9, beta=0.4)
    together = method.update(method.init(refs), exact_oracle(prefs), KEY)[0].logps
    for each in range(2):
        alone = one_update(make(refs[each], eta=0.9, beta=0.4), refs[each], prefs[each])
        close(together[each], alone, atol=1e-13)


def test_a_run_does_not_depend_on_what_is_recorded_nor_on_stopping(game):
    prefs, ref = game
    method = games.nash_mp(ref, eta=0.9, beta=0.4)
    oracle = sampled_oracle(prefs, samples=2)

    def run(state, times):
        return run_updates(method.update, state, oracle, KEY, times=times, record=logps_of)

    state = method.init(ref)
    last, every = run(state, range(1, 8))
    np.testing.assert_array_equal(last.logps, every[-1])
    some = run(state, (1, 4, 7))[1]
    close(some, every[jnp.array([0, 3, 6])])
    halfway = run(state, (4,))[0]
    assert int(halfway.step) == 4
    resumed = run(halfway, (3,))[0]
    close(resumed.logps, last.logps)
    close(resumed.average, last.average)


def test_records_see_the_metrics_of_their_own_update(game):
    prefs, ref = game
    method = games.mirror_descent(ref, eta=0.9, beta=0.4)
    records = trajectory(method, ref, prefs, (1, 2, 5), lambda state, metrics: (state, metrics))
    every = steps_of(method, ref, prefs, 5)
    played = jnp.stack([ref, every[0], every[3]])
    close(2 * records[1]["win_rate/best"] - 1, gap(prefs, jnp.exp(played)))


def test_every_call_of_the_oracle_has_a_key_of_its_own(game):
    _, ref = game
    seen = []

    def oracle(opponent_logps, key):
        seen.append(tuple(jax.random.key_data(key).tolist()))
        return jax.random.uniform(key, opponent_logps.shape)

    method = games.nash_mp(ref, eta=0.9, beta=0.4)
    method.update(method.init(ref), oracle, KEY)
    assert len(set(seen)) == 2

    def noise(opponent_logps, key):
        return jax.random.uniform(key, opponent_logps.shape)

    best = run_updates(
        method.update,
        method.init(ref),
        noise,
        KEY,
        times=range(1, 6),
        record=lambda state, metrics: metrics["win_rate/best"],
    )[1]
    assert len(set(np.asarray(best).tolist())) == 5


def test_log_spaced_times():
    assert log_spaced_times(1000, 4) == (1, 10, 100, 1000)
    times = log_spaced_times(50, 40)
    assert times[0] == 1
    assert times[-1] == 50
    assert sorted(set(times)) == list(times)


def test_an_answer_of_no_chance_stays_out(game):
    """A game of 3 answers padded to 5 is the game of 3, whatever stands in the padding."""
    prefs, ref = game
    inside = jnp.arange(5) < 3
    padded = jnp.where(inside, ref, -jnp.inf)
    junk = jnp.where(inside[:, None] & inside[None, :], prefs, 0.9)
    for make in METHODS.values():
        got = one_update(make(padded, eta=0.9, beta=0.4), jax.nn.log_softmax(padded), junk)
        small = jax.nn.log_softmax(ref[:3])
        close(got[:3], one_update(make(ref[:3], eta=0.9, beta=0.4), small, prefs[:3, :3]))
        assert bool(jnp.all(got[3:] == -jnp.inf))


def test_single_precision_stays_single(game):
    prefs, ref = (x.astype(jnp.float32) for x in game)
    for make in METHODS.values():
        method = make(ref, eta=decaying_steps(0.4), beta=0.4)
        state = trajectory(method, ref, prefs, (3,), lambda state, metrics: state)
        assert state.logps.dtype == state.average.dtype == jnp.float32


# ---- Bad input.


@pytest.mark.parametrize("name", [name for name in METHODS if name != "policy gradient"])
def test_a_step_beyond_the_reference_is_refused(name):
    ref = jnp.asarray(REF)
    with pytest.raises(ValueError, match=r"eta = 4\.0 and beta = 0\.5"):
        METHODS[name](ref, eta=4.0, beta=0.5)
    with pytest.raises(ValueError, match=r"eta = -1\.0 and beta = 0\.5"):
        METHODS[name](ref, eta=-1.0, beta=0.5)
    with pytest.raises(ValueError, match=r"eta = 4\.0 and beta = 0\.5"):
        METHODS[name](ref, eta=lambda t: 4.0 / (t + 1), beta=0.5)
    with pytest.raises(ValueError, match="eta = nan"):
        METHODS[name](ref, eta=float("nan"), beta=0.5)
    METHODS[name](ref, eta=2.0, beta=0.5)
    METHODS[name](ref, eta=decaying_steps(0.7), beta=0.7)


def test_single_precision_of_a_full_step_is_not_refused():
    eta = jnp.float32(1.0 / 0.7)  # times 0.7 it is 1 + 2e-8
    assert float(eta) * 0.7 > 1.0
    ref = jnp.asarray(REF)
    mirror_step(ref, ref, ref, eta=eta, beta=0.7)


def test_other_bad_arguments_are_refused():
    ref, prefs = jnp.asarray(REF), jnp.asarray(RPS)
    for weights in ((0.5, 0.4), (1.5, -0.5), ()):
        with pytest.raises(ValueError, match="history_weights"):
            games.td_mnpo(ref, eta=0.5, beta=0.1, history_weights=weights)
    with pytest.raises(ValueError, match="two at least, got 1"):
        games.mnpo(ref[None], eta=0.5, beta=0.1)
    with pytest.raises(SHAPES):
        one_update(games.mirror_descent(ref[:2], eta=0.5, beta=0.1), POLICY, RPS)
    method = games.mirror_descent(ref, eta=0.5, beta=0.1)
    with pytest.raises(SHAPES):
        method.update(method.init(ref), lambda opponent, key: jnp.zeros(2), KEY)
    for times in ((), (0, 1), (3, 3), (2, 1)):
        with pytest.raises(ValueError, match="times must be ascending"):
            run_updates(
                method.update,
                method.init(ref),
                exact_oracle(prefs),
                KEY,
                times=times,
                record=logps_of,
            )
