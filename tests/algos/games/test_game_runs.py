"""Runs of preference games: vmap, resumption, keys, precision, padding, bad input; float64."""

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
from rlhf_jax.algos.games.oracles import exact_oracle, sampled_oracle
from rlhf_jax.algos.games.runs import log_spaced_times, run_updates
from rlhf_jax.algos.games.steps import decaying_steps, mirror_step

SHAPES = (AssertionError, jaxtyping.TypeCheckError)  # the latter comes first under the checker


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def logps_of(state, metrics):
    return state.logps


def close(got, want, atol=1e-12):
    np.testing.assert_allclose(got, want, rtol=0, atol=atol)


@pytest.fixture
def game():
    prefs, ref = random_games(0, 1, 5)
    return jnp.asarray(prefs[0]), jnp.asarray(ref[0])


@pytest.mark.long
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


@pytest.mark.long
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
    every = trajectory(method, ref, prefs, range(1, 6), logps_of)
    played = jnp.stack([ref, every[0], every[3]])
    close(2 * records[1]["win_rate/best"] - 1, gap(prefs, jnp.exp(played)))


@pytest.mark.long
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


@pytest.mark.long
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


@pytest.mark.long
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
    with pytest.raises(ValueError, match=r"eta \* beta must be in .*, got 2\.0"):
        METHODS[name](ref, eta=4.0, beta=0.5)
    with pytest.raises(ValueError, match=r"eta must be in \[0, inf\), got -1\.0"):
        METHODS[name](ref, eta=-1.0, beta=0.5)
    with pytest.raises(ValueError, match=r"eta \* beta must be in .*, got 2\.0"):
        METHODS[name](ref, eta=lambda t: 4.0 / (t + 1), beta=0.5)
    with pytest.raises(ValueError, match=r"eta must be in \[0, inf\), got nan"):
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
    with pytest.raises(ValueError, match="at least two players, got 1"):
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
