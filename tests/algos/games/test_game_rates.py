"""How fast the updates of preference games converge: bounds, floors, cycles, stability; float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from nash_population import (
    KEY,
    METHODS,
    REF,
    RPS,
    gap,
    random_games,
    regularised_gap,
    regularised_nash,
    trajectory,
)

from rlhf_jax.algos import games
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.algos.games.runs import run_updates
from rlhf_jax.algos.games.steps import decaying_steps
from rlhf_jax.ops.kl import exact_kl as kl

DICE = np.where(RPS == 0.5, 0.5, np.where(RPS == 1.0, 5 / 9, 4 / 9))
# Rock-paper-scissors from here cycles; from the middle it would stand still.
OFF_CENTRE = np.array([0.5, -0.5, 0.0])


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def sweep(make, starts, prefs, times, record):
    """Records [runs, times] of `make(one of the settings)`, settings a pytree of leading axis."""

    def run(setting):
        method = make(setting)
        state, oracle = method.init(starts(setting)), exact_oracle(prefs(setting))
        return run_updates(
            method.update, state, oracle, KEY, times=times, record=lambda s, _: record(setting, s)
        )[1]

    return jax.jit(jax.vmap(run))


def test_the_root_that_the_tests_hold_against_is_one():
    """QREs of the specs, and the identity J(pi*, pi) = 1/2 + beta KL(pi || pi*)."""
    for beta, probs in (
        (1.0, [0.59654127, 0.23227535, 0.17118338]),
        (0.1, [0.40219137, 0.24961041, 0.34819822]),
        (0.01, [0.33827612, 0.32401111, 0.33771277]),
    ):
        np.testing.assert_allclose(np.exp(regularised_nash(RPS, REF, beta)), probs, atol=1e-8)
    star = regularised_nash(RPS, REF, 0.1)
    value = np.exp(star) @ RPS @ np.exp(REF) - 0.1 * kl(jnp.asarray(star), jnp.asarray(REF))
    np.testing.assert_allclose(value, 0.5 + 0.1 * kl(jnp.asarray(REF), jnp.asarray(star)))


# ---- Nash-MP and EGPO.


@pytest.mark.long
def test_mirror_prox_contracts_in_every_game_at_every_step():
    """KL(pi* || pi_{t+1}) <= (1 - eta beta) KL(pi* || pi_t), up to eta = 2 / (1 + 2 beta)."""
    prefs, refs = random_games(5, 24, 6)
    betas = np.geomspace(0.02, 3.0, 24)
    shares = np.tile([1.0, 0.5, 0.2], 8)  # of the largest step
    stars = [regularised_nash(*each) for each in zip(prefs, refs, betas, strict=True)]
    settings = tuple(jnp.asarray(x) for x in (prefs, refs, betas, shares, np.stack(stars)))

    def eta(setting):
        return setting[3] * 2.0 / (1.0 + 2.0 * setting[2])

    run = sweep(
        lambda s: games.nash_mp(s[1], eta=eta(s), beta=s[2]),
        lambda s: s[1],
        lambda s: s[0],
        range(1, 201),
        lambda s, state: kl(s[4], state.logps),
    )
    distances = np.concatenate([jax.vmap(kl)(settings[4], settings[1])[:, None], run(settings)], 1)
    factors = np.asarray(1.0 - jax.vmap(eta)(settings) * settings[2])
    clear = distances[:, 1:] > 1e-10  # below lies rounding
    ratios = np.where(clear, distances[:, 1:] / np.maximum(distances[:, :-1], 1e-10), 0.0)
    assert clear[:, 0].all()
    assert float(np.max(ratios / factors[:, None])) <= 1.0
    assert float(np.max(ratios / factors[:, None])) > 0.9  # and it is nearly reached


@pytest.mark.parametrize(("beta", "updates"), [(0.1, 20), (0.05, 30), (0.02, 43), (0.005, 58)])
def test_updates_of_mirror_prox_to_a_millionth(beta, updates):
    method = games.nash_mp(jnp.asarray(REF), eta=2 / (1 + 2 * beta), beta=beta)
    gaps = trajectory(
        method,
        REF,
        RPS,
        range(1, 61),
        lambda state, _: regularised_gap(RPS, state.logps, jnp.asarray(REF), beta),
    )
    assert 1 + int(np.argmax(np.asarray(gaps) < 1e-6)) == updates


def test_updates_of_mirror_descent_grow_as_one_over_beta_squared():
    """Its best fixed step needs 104 at beta = 0.1 and 446 at 0.05, where mirror prox needs 30."""
    ref = jnp.asarray(REF)
    needed = {}
    for beta in (0.1, 0.05):
        run = sweep(
            lambda eta, beta=beta: games.mirror_descent(ref, eta=eta, beta=beta),
            lambda eta: ref,
            lambda eta: jnp.asarray(RPS),
            range(1, 501),
            lambda eta, state, beta=beta: regularised_gap(RPS, state.logps, ref, beta),
        )
        reached = np.asarray(run(jnp.linspace(beta, 25 * beta, 200))) < 1e-6
        needed[beta] = 1 + int(np.argmax(np.any(reached, axis=0)))
    assert 98 <= needed[0.1] <= 104
    assert 425 <= needed[0.05] <= 446


def test_mirror_prox_is_stable_to_twice_its_guaranteed_step():
    """beta = 0.01: eta = 3 converges and eta = 4 does not (its gap is 0.29)."""
    ref = jnp.asarray(REF)
    run = sweep(
        lambda eta: games.nash_mp(ref, eta=eta, beta=0.01),
        lambda eta: ref,
        lambda eta: jnp.asarray(RPS),
        (3000,),
        lambda eta, state: regularised_gap(RPS, state.logps, ref, 0.01),
    )
    small, large = run(jnp.array([3.0, 4.0]))[:, 0]
    assert float(small) < 1e-9
    np.testing.assert_allclose(large, 0.29, atol=0.01)


# ---- Hedge cycles; optimism does not.


def test_hedge_cycles_while_its_average_converges():
    """eta = sqrt(8 log 3 / T); exploitability of the average <= 2 regret / T."""
    want = {100: 0.050, 400: 0.0405, 1600: 0.0051, 6400: 0.0045}
    for steps, value in want.items():
        eta = float(np.sqrt(8 * np.log(3) / steps))
        method = games.mirror_descent(jnp.asarray(REF), eta=eta, beta=0.0)
        average, last = trajectory(
            method,
            OFF_CENTRE,
            RPS,
            (steps,),
            lambda state, _: (gap(RPS, state.average), gap(RPS, jnp.exp(state.logps))),
        )
        np.testing.assert_allclose(average[0], value, rtol=0.02)
        assert 0.25 < float(last[0]) < 0.42
        # Two regrets: log(1 / min pi_0) / eta + eta T / 8 each.
        spread = np.log(np.sum(np.exp(OFF_CENTRE))) - OFF_CENTRE.min()
        assert float(average[0]) <= 2 * (spread / eta / steps + eta / 8)


def test_optimism_converges_as_one_over_t_and_in_the_last_iterate():
    times = (100, 400, 1600, 6400)
    ref = jnp.asarray(REF)

    def record(state, _):
        return gap(RPS, state.average), gap(RPS, jnp.exp(state.logps))

    average, last = trajectory(games.omwu(ref, eta=0.5), OFF_CENTRE, RPS, times, record)
    np.testing.assert_allclose(average, [0.0166, 0.0050, 0.00125, 0.00031], rtol=0.02)
    assert float(last[-1]) < 1e-14
    # Mirror prox, whose average is of the half steps, does the same with twice the calls.
    average, last = trajectory(
        games.nash_mp(ref, eta=0.5, beta=0.0), OFF_CENTRE, RPS, times, record
    )
    np.testing.assert_allclose(average[2:] * np.array(times[2:]), 2.0, rtol=1e-3)
    assert float(last[-1]) < 1e-14


def test_fictitious_play_converges_on_average_and_best_responses_do_not():
    """Smooth, beta = 0.1, on rock-paper-scissors."""
    ref, beta = jnp.asarray(REF), 0.1

    def record(state, _):
        return regularised_gap(RPS, jnp.log(state.average), ref, beta), regularised_gap(
            RPS, state.logps, ref, beta
        )

    played = trajectory(games.fictitious_play(ref, beta=beta), REF, RPS, (4000,), record)
    jumped = trajectory(games.best_response(ref, beta=beta), REF, RPS, (4000,), record)
    assert float(played[0][0]) < 1e-3
    assert float(jumped[1][0]) > 0.5


@pytest.mark.parametrize("players", [2, 3, 5])
def test_players_of_mnpo_converge_on_average(players):
    """Of different starts, eta = sqrt(8 log 3 / T), T = 6400: gap of each player's average."""
    starts = np.random.default_rng(players).standard_normal((players, 3))
    refs = jnp.broadcast_to(jnp.asarray(REF), (players, 3))
    method = games.mnpo(refs, eta=float(np.sqrt(8 * np.log(3) / 6400)), beta=0.0)
    average, last = trajectory(
        method,
        starts,
        RPS,
        (6400,),
        lambda state, _: (gap(RPS, state.average), gap(RPS, jnp.exp(state.logps))),
    )
    assert float(jnp.max(average)) <= 0.005
    assert float(jnp.max(jnp.min(last, axis=-1))) > 0.05


# ---- Nash-MD.


@pytest.mark.parametrize("beta", [0.1, 0.01])
def test_nash_md_keeps_its_bound_at_every_update(beta):
    """KL(pi* || pi_t) <= 8 / (beta^2 (t + 1)) with eta_t = 2 / (beta (t + 2))."""
    many, refs = random_games(7, 2, 3)
    prefs = np.stack([RPS, DICE, *many])
    refs = np.stack([REF, REF, *refs])
    stars = np.stack([regularised_nash(*each, beta) for each in zip(prefs, refs, strict=True)])
    settings = jnp.asarray(prefs), jnp.asarray(refs), jnp.asarray(stars)
    times = 4000
    run = sweep(
        lambda s: games.nash_md(s[1], eta=decaying_steps(beta), beta=beta),
        lambda s: s[1],
        lambda s: s[0],
        range(1, times + 1),
        lambda s, state: kl(s[2], state.logps),
    )
    distances = np.asarray(run(settings))
    t = np.arange(1, times + 1)
    assert np.all(distances <= 8 / (beta**2 * (t + 1)))
    if beta == 0.1:  # faster than the theorem, 1 / T^2, once it has settled
        late = slice(999, times)
        for each in distances[distances[:, -1] > 1e-12]:
            assert np.polyfit(np.log(t[late]), np.log(each[late]), 1)[0] < -1.0


@pytest.mark.long
def test_a_fixed_step_of_nash_md_ends_eta_squared_away():
    """At log mu + P mixture / beta; mirror descent, with the same step, ends at the solution."""
    ref, star = jnp.asarray(REF), jnp.asarray(regularised_nash(RPS, REF, 0.1))
    etas, ends = jnp.array([0.1, 0.5]), {}
    for make in (games.nash_md, games.mirror_descent):
        run = sweep(
            lambda eta, make=make: make(ref, eta=eta, beta=0.1),
            lambda eta: ref,
            lambda eta: jnp.asarray(RPS),
            (6000,),
            lambda eta, state: state.logps,
        )
        ends[make] = run(etas)[:, 0]
    assert float(jnp.max(jnp.abs(ends[games.mirror_descent] - star))) < 1e-9
    small, large = (float(kl(star, end)) for end in ends[games.nash_md])
    assert 1e-6 < small < 1e-4
    assert 20 < large / small < 30
    for eta, end in zip(etas, ends[games.nash_md], strict=True):
        mixed = jax.nn.softmax((1 - eta * 0.1) * end + eta * 0.1 * ref)
        want = jax.nn.log_softmax(ref + jnp.asarray(RPS) @ mixed / 0.1)
        np.testing.assert_allclose(end, want, atol=1e-9)


@pytest.mark.long
def test_only_self_play_has_the_solution_as_a_fixed_point():
    """One update from pi* moves nothing, unless the opponent is a mixture."""
    (prefs,), (ref,) = random_games(8, 1, 6)
    star = jnp.asarray(regularised_nash(prefs, ref, 0.3))
    for name, make in METHODS.items():
        method = make(jnp.asarray(ref), eta=0.8, beta=0.3)
        moved = trajectory(method, star, prefs, (1,), lambda state, _: state.logps)[0]
        distance = float(jnp.max(jnp.abs(moved - star)))
        assert distance < 1e-12 if name != "Nash-MD" else distance > 1e-3, name


# ---- TD-MNPO: history widens the range of stable steps.

LIMITS = {
    ((1.0,), 0.02): 0.69,
    ((0.5, 0.5), 0.02): 1.43,
    ((0.25, 0.75), 0.02): 2.29,
    ((1 / 3, 1 / 3, 1 / 3), 0.02): 4.59,
    ((1.0,), 0.1): 1.51,
    ((0.5, 0.5), 0.1): 2.88,
    ((0.25, 0.75), 0.1): 4.18,
    ((1 / 3, 1 / 3, 1 / 3), 0.1): 4.50,
}


@pytest.mark.parametrize("weights", [(1.0,), (0.5, 0.5), (0.25, 0.75), (1 / 3, 1 / 3, 1 / 3)])
def test_history_widens_the_stable_steps(weights):
    """h_max from the linearised map at the middle, omega = sqrt(3) / 6, against runs around it."""
    ref = jnp.asarray(REF)
    cells = [(rho, h) for rho in (0.02, 0.1) for h in (0.25, 0.5, 1.0, 2.0, 4.0)]
    settings = tuple(jnp.asarray(x) for x in zip(*cells, strict=True))
    run = sweep(
        lambda s: games.td_mnpo(ref, eta=s[1], beta=s[0] / s[1], history_weights=weights),
        lambda s: ref,
        lambda s: jnp.asarray(RPS),
        (3000,),
        lambda s, state: regularised_gap(RPS, state.logps, ref, s[0] / s[1]),
    )
    for (rho, h), final in zip(cells, np.asarray(run(settings))[:, 0], strict=True):
        assert final < 1e-6 if h < LIMITS[weights, rho] else final > 0.3, (rho, h, final)
    for rho in (0.02, 0.1):
        np.testing.assert_allclose(stable_until(weights, rho), LIMITS[weights, rho], atol=0.01)


def stable_until(weights, rho):
    """Largest stable h of the linearised map, by bisection.

    Inside the unit circle must lie z^k = (1 - rho) sum_j w_j z^(k-1-j) + i h omega z^(k-1).
    """
    low, high = 0.0, 8.0
    lead = np.array([1.0, *(-(1 - rho) * np.array(weights))], complex)
    for _ in range(40):
        h = (low + high) / 2
        lead[1] = -(1 - rho) * weights[0] - 1j * h * np.sqrt(3) / 6
        low, high = (h, high) if np.abs(np.roots(lead)).max() < 1 else (low, h)
    return low


@pytest.mark.long
def test_history_does_not_move_the_fixed_point():
    """rho = 0.1, eta = 1: every weighting ends at the regularised Nash policy of beta = 0.1."""
    star = regularised_nash(RPS, REF, 0.1)
    for weights in ((1.0,), (0.5, 0.5), (0.25, 0.75), (1 / 3, 1 / 3, 1 / 3)):
        method = games.td_mnpo(jnp.asarray(REF), eta=1.0, beta=0.1, history_weights=weights)
        last = trajectory(method, REF, RPS, (3000,), lambda state, _: state.logps)[0]
        np.testing.assert_allclose(last, star, atol=1e-8)


# ---- The suite of EGPO: ten random games of ten answers.


@pytest.mark.long
def test_suite_of_random_games():
    """beta = 0.1, SGD rate 0.1: eta = 4 lr / (beta n) = 0.4 and, for the second form, 4 lr / beta.

    To a gap of 1e-6 EGPO takes 130 to 160 updates and OMD 140 to 180 in the spec's games; Nash-MD
    stays above.
    """
    prefs, refs = (jnp.asarray(x) for x in random_games(0, 10, 10))
    needed = {}
    for name in ("Nash-MP", "mirror descent", "Nash-MD"):
        run = sweep(
            lambda s, name=name: METHODS[name](s[1], eta=0.4, beta=0.1),
            lambda s: s[1],
            lambda s: s[0],
            range(1, 401),
            lambda s, state: regularised_gap(s[0], state.logps, s[1], 0.1),
        )
        reached = np.asarray(run((prefs, refs))) < 1e-6
        needed[name] = np.where(reached.any(1), 1 + reached.argmax(1), 10**6)
    assert np.all((needed["Nash-MP"] >= 110) & (needed["Nash-MP"] <= 180))
    assert np.all((needed["mirror descent"] >= 110) & (needed["mirror descent"] <= 230))
    assert np.median(needed["Nash-MD"]) == 10**6


def test_a_condorcet_winner_makes_hedge_fast():
    """n = 20, the first answer beats each other with chance 0.6, eta = 1: T gap is constant."""
    (prefs,), _ = random_games(4, 1, 20)
    prefs[0, 1:], prefs[1:, 0] = 0.6, 0.4
    method = games.mirror_descent(jnp.zeros(20), eta=1.0, beta=0.0)
    gaps = trajectory(
        method, jnp.zeros(20), prefs, (100, 400, 1600, 6400), lambda s, _: gap(prefs, s.average)
    )
    scaled = np.asarray(gaps) * np.array([100, 400, 1600, 6400])
    np.testing.assert_allclose(scaled[1:], scaled[-1], rtol=0.03)
