"""The four studies: stability of the grid, optimism, players of one game, players of their own.

All are exact: no sampling, float64. Leading axis of every result: seeds.
"""

from collections.abc import Callable, Mapping
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from experiments.mnpo.config import Config
from rlhf_jax.algos import games
from rlhf_jax.algos.games.opponents import GameState
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.algos.games.runs import log_spaced_times, run_updates
from rlhf_jax.envs.games import (
    bradley_terry_game,
    random_reference,
    rock_paper_scissors,
    tilted_reference,
)
from rlhf_jax.ops.games import exploitability, regularised_gap, win_rates
from rlhf_jax.ops.kl import exact_kl

# Shares of the last policies in the point that a step of TD-MNPO starts from, newest first.
ONPO = "ONPO, no KL"
HISTORIES: Mapping[str, tuple[float, ...]] = {
    "INPO = (1)": (1.0,),
    "(1/2, 1/2)": (0.5, 0.5),
    "(1/4, 3/4)": (0.25, 0.75),
    "(1/3, 1/3, 1/3)": (1 / 3, 1 / 3, 1 / 3),
}
METHODS = (*HISTORIES, "EGPO", ONPO)
FREQUENCY = np.sqrt(3.0) / 6.0  # of rock-paper-scissors: eigenvalues +-i omega at its Nash policy
TUNED = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # steps of Hedge, over the step of its bound
ORACLES, ANSWERS = 3, 6  # of the players with an oracle each
ORACLE_WEIGHTS = (0.1, 0.5)  # their rho
UNREAD = 0  # seed of keys that exact oracles do not read


def stable_until(history: tuple[float, ...], rho: float) -> float:
    """Largest stable step, from the update linearised at the Nash policy; by bisection.

    z^K = (1 - rho) sum_j w_j z^(K-1-j) + i eta omega z^(K-1) must have all roots within the circle.
    """
    low, high = 0.0, 16.0
    kept = -(1.0 - rho) * np.array(history)
    for _ in range(50):
        eta = 0.5 * (low + high)
        turned = np.array([1.0, kept[0] - 1j * eta * FREQUENCY, *kept[1:]])
        low, high = (eta, high) if np.abs(np.roots(turned)).max() < 1.0 else (low, eta)
    return low


def cells(config: Config) -> np.ndarray:
    """[C, 2] (rho, eta) of the grid."""
    return np.array(list(product(config.ref_weights, config.etas)))


def references(config: Config) -> jax.Array:
    """[S, 3] log mu: logits 0.7, 0, -0.7 first, then standard normals."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds - 1)
    return jnp.concatenate([tilted_reference()[None], random_reference(keys, 3)])


def grid_times(config: Config) -> tuple[int, ...]:
    """Rounds that are recorded: evenly in their logarithm, and the whole tail."""
    early = log_spaced_times(config.rounds - config.tail, 80)
    return *early, *range(early[-1] + 1, config.rounds + 1)


def grid(config: Config) -> dict[str, dict[str, np.ndarray]]:
    """Every method from the reference: method -> gaps [S, C, N], last log-probs [S, C, 3].

    The gap is that of the game regularised with beta = rho / eta. ONPO has no regularisation: its
    gap is the exploitability.
    """
    refs, (rhos, etas) = references(config), jnp.asarray(cells(config)).T
    # All of one length: an old policy of weight 0 never matters.
    length = max(map(len, HISTORIES.values()))
    weights = jnp.array([(*each, *(length - len(each)) * (0.0,)) for each in HISTORIES.values()])

    def td_mnpo(ref, rho, eta, weights):
        method = games.td_mnpo(ref, eta=eta, beta=rho / eta, history_weights=weights)
        return _rounds(config, method, ref, beta=rho / eta)

    def egpo(ref, rho, eta):
        return _rounds(config, games.nash_mp(ref, eta=eta, beta=rho / eta), ref, beta=rho / eta)

    def onpo(ref, eta):
        return _rounds(config, games.omwu(ref, eta=eta), ref, beta=None)

    repeats = len(weights), len(rhos)
    settings = jnp.tile(rhos, repeats[0]), jnp.tile(etas, repeats[0]), weights.repeat(repeats[1], 0)
    runs = _sweep(td_mnpo, (refs,), settings)
    by_history = {part: x.reshape(len(refs), *repeats, -1) for part, x in runs.items()}
    found = {
        name: {part: x[:, i] for part, x in by_history.items()} for i, name in enumerate(HISTORIES)
    }
    found["EGPO"] = _sweep(egpo, (refs,), (rhos, etas))
    found[ONPO] = _sweep(onpo, (refs,), (etas,))
    return found


def _rounds(
    config: Config, method: games.Method, ref: jax.Array, *, beta: jax.Array | None
) -> dict[str, jax.Array]:
    """A run from the reference: gaps [N], last log-probs [3]."""
    prefs = rock_paper_scissors()

    def gap(state: GameState, _) -> jax.Array:
        if beta is None:
            return exploitability(prefs, jnp.exp(state.logps))
        return regularised_gap(prefs, state.logps, ref, beta=beta)

    state, gaps = run_updates(
        method.update,
        method.init(ref),
        exact_oracle(prefs),
        jax.random.key(UNREAD),
        times=grid_times(config),
        record=gap,
    )
    return {"gaps": gaps, "logps": state.logps}


def optimism(config: Config) -> dict[str, np.ndarray]:
    """ONPO at step 1/2 and Hedge at sqrt(8 log 3 / T), no KL: exploitability of the average [S, N].

    "Hedge, last": of the last policy. "Hedge, steps" [S, steps]: at the last T, with other steps.
    "bound": what the regret of Hedge guarantees,
    2 (log(1 / min pi_1) / (eta T) + eta / 8).
    """
    prefs = rock_paper_scissors()
    keys = jax.random.split(jax.random.key(config.seed + 1), config.num_seeds - 1)
    # From the middle nothing would move.
    first = jnp.array([[0.5, -0.5, 0.0]])
    starts = jax.nn.log_softmax(jnp.concatenate([first, _each_normal(keys, (3,))]))
    etas = _hedge_steps(config)

    def hedge(start, eta):
        return _averages(config, games.hedge(start, eta=eta), start, prefs)

    def onpo(start):
        return _averages(config, games.omwu(start, eta=0.5), start, prefs)

    hedges = _own_horizon(_sweep(hedge, (starts,), (etas,)))
    tuned = _sweep(hedge, (starts,), (etas[-1] * jnp.array(TUNED),))["average"][..., -1]
    return {
        "ONPO": _sweep(onpo, (starts,))["average"],
        "Hedge": hedges["average"],
        "Hedge, last": hedges["last"],
        "Hedge, steps": tuned,
        "bound": _regret_bounds(config, starts),
    }


def players(config: Config) -> dict[str, dict[str, np.ndarray]]:
    """Eq. 10 at eta = sqrt(8 log 3 / T): players -> exploitability of the worst average [S, N].

    "last": of the worst last policy. "bound": of Hedge from the start of the player with the
    smallest probability.
    """
    prefs, found = rock_paper_scissors(), {}
    for count in config.players:
        keys = jax.random.split(jax.random.key(config.seed + count), config.num_seeds)
        starts = jax.nn.log_softmax(_each_normal(keys, (count, 3)))

        def run(start, eta):
            method = games.mnpo(start, eta=eta, beta=0.0)
            return _averages(config, method, start, prefs)

        gaps = _own_horizon(_sweep(run, (starts,), (_hedge_steps(config),)))
        worst = {part: each.max(axis=-1) for part, each in gaps.items()}
        found[str(count)] = worst | {"bound": _regret_bounds(config, starts).max(axis=1)}
    return found


def own_oracles(config: Config) -> dict[str, dict[str, np.ndarray]]:
    """HT-MNPO, eta = 1, uniform mu: "gaps" [S, rho, N, player], "increments" [S, rho, N].

    The gap is the paper's Eq. 9, one-sided, regularised with beta = rho: what a player gains by its
    best response to the others, judged by its own oracle. "shared": all have the first one's.
    """
    keys = jax.random.split(jax.random.key(config.seed + 100), config.num_seeds)
    own = _each_normal(keys, (ORACLES, ANSWERS))
    scores = jnp.concatenate([own, jnp.broadcast_to(own[:, :1], own.shape)])
    uniform = jnp.full((ORACLES, ANSWERS), -jnp.log(float(ANSWERS)))
    key = jax.random.key(UNREAD)

    def run(scores, rho):
        prefs = bradley_terry_game(scores)
        method, oracle = games.ht_mnpo(uniform, eta=1.0, beta=rho), exact_oracle(prefs)

        def record(state: GameState, _) -> dict[str, jax.Array]:
            moved = method.update(state, oracle, key)[0].logps
            increment = jnp.max(jnp.abs(moved - state.logps))
            return {"gaps": gain(prefs, state.logps, uniform, rho), "increments": increment}

        times, state = oracle_times(config), method.init(uniform)
        return run_updates(method.update, state, oracle, key, times=times, record=record)[1]

    runs = _sweep(run, (scores,), (jnp.asarray(ORACLE_WEIGHTS),))
    halves = {"own": slice(None, len(keys)), "shared": slice(len(keys), None)}
    return {name: {part: x[half] for part, x in runs.items()} for name, half in halves.items()}


def oracle_times(config: Config) -> tuple[int, ...]:
    """Rounds of `own_oracles` that are recorded."""
    return log_spaced_times(config.oracle_rounds, 40)


def gain(prefs: jax.Array, logps: jax.Array, ref_logps: jax.Array, beta: jax.Array) -> jax.Array:
    """[N] what each player's best response to the others gains, by its own P_i [N, n, n].

    max_q J_i(q) - J_i(pi_i) = beta KL(pi_i || best response), J_i(q) = P_i(q > others) - beta KL.
    """
    count = logps.shape[0]
    probs = jnp.exp(logps)
    others = (jnp.sum(probs, axis=0) - probs) / (count - 1)
    best = jax.nn.log_softmax(ref_logps + win_rates(prefs, others) / beta, axis=-1)
    return beta * exact_kl(logps, best)


def _each_normal(keys: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """[S, *shape] standard normals, one draw for each key."""
    return jax.vmap(lambda key: jax.random.normal(key, shape))(keys)


def _hedge_steps(config: Config) -> jax.Array:
    """[N] the step that suits each horizon."""
    return games.hedge_step(3.0, jnp.asarray(config.horizons, float))


def _averages(
    config: Config, method: games.Method, start: jax.Array, prefs: jax.Array
) -> dict[str, jax.Array]:
    """Exploitability of the average and of the last policy at every horizon [N, ...]."""

    def record(state: GameState, _) -> dict[str, jax.Array]:
        policies = {"average": state.average, "last": jnp.exp(state.logps)}
        return {part: exploitability(prefs, probs) for part, probs in policies.items()}

    key, oracle = jax.random.key(UNREAD), exact_oracle(prefs)
    state = method.init(start)
    return run_updates(method.update, state, oracle, key, times=config.horizons, record=record)[1]


def _own_horizon(gaps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """[S, N, ...] from [S, steps N, horizons N, ...]: the run whose step suits the horizon."""
    each = np.arange(gaps["average"].shape[1])
    return {part: x[:, each, each] for part, x in gaps.items()}


def _regret_bounds(config: Config, starts: jax.Array) -> np.ndarray:
    """[*B, N] twice the regret of Hedge over T, from starts [*B, 3]."""
    etas, horizons = np.asarray(_hedge_steps(config)), np.array(config.horizons)
    rarest = np.asarray(starts).min(axis=-1)[..., None]
    return np.asarray(games.hedge_bound(rarest, eta=etas, updates=horizons))


def _sweep(run: Callable, over_seeds: tuple, over_settings: tuple = ()):
    """run(a seed's, a setting's) for all of them in one jit: NumPy [seeds, settings, ...]."""
    seeds, settings = len(over_seeds), len(over_settings)
    if settings:
        run = jax.vmap(run, in_axes=(None,) * seeds + (0,) * settings)
    run = jax.vmap(run, in_axes=(0,) * seeds + (None,) * settings)
    return jax.tree.map(np.asarray, jax.jit(run)(*over_seeds, *over_settings))
