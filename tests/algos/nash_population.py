"""Small preference games for the update rules: matrices, regularised Nash, runs; in float64."""

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.algos import games
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.algos.games.runs import run_updates
from rlhf_jax.ops import games as game_ops

RPS = np.array([[0.5, 1.0, 0.0], [0.0, 0.5, 1.0], [1.0, 0.0, 0.5]])
REF = np.array([0.7, 0.0, -0.7]) - np.log(np.exp([0.7, 0.0, -0.7]).sum())
POLICY = np.array([0.3, -0.2, 0.1]) - np.log(np.exp([0.3, -0.2, 0.1]).sum())
KEY = jax.random.key(0)


def random_games(seed, count, size):
    """P [count, size, size] with uniform entries, reference log-probs [count, size]."""
    rng = np.random.default_rng(seed)
    lower = np.tril(rng.uniform(size=(count, size, size)), -1)
    prefs = lower + np.triu(1.0 - np.swapaxes(lower, 1, 2), 1) + 0.5 * np.eye(size)
    return prefs, np.asarray(jax.nn.log_softmax(jnp.asarray(rng.standard_normal((count, size)))))


def gap(prefs, probs):
    """Exploitability, both sides."""
    return game_ops.exploitability(jnp.asarray(prefs), probs)


def regularised_gap(prefs, logps, ref, beta):
    """Duality gap of the regularised game."""
    return game_ops.regularised_gap(jnp.asarray(prefs), logps, ref, beta=beta)


def regularised_nash(prefs, ref, beta, sweeps=200):
    """Root of l = log mu + P exp(l) / beta - normaliser: Newton in numpy, no update rule.

    beta is lowered to its value in stages, each started from the last one's root.
    """
    logps, size = np.array(ref), len(ref)
    for weight in np.geomspace(max(10.0, beta), beta, sweeps):
        for _ in range(20):
            probs = np.exp(logps)
            raw = ref + prefs @ probs / weight
            residual = logps - (raw - np.logaddexp.reduce(raw))
            best = np.exp(raw - np.logaddexp.reduce(raw))
            slope = np.eye(size) - (prefs - best @ prefs) * probs / weight
            logps = logps - np.linalg.solve(slope, residual)
            if np.abs(residual).max() < 1e-13:
                break
    assert np.abs(residual).max() < 1e-9
    return logps


def trajectory(method, start, prefs, times, record, key=KEY):
    """Records of a run against the matrix, jitted."""
    oracle = exact_oracle(jnp.asarray(prefs))
    run = jax.jit(
        lambda start: run_updates(
            method.update, method.init(start), oracle, key, times=times, record=record
        )[1]
    )
    return run(jnp.asarray(start))


def one_update(method, logps, prefs, start=None):
    """The next policy from these log-probs, whatever was remembered being from `start`."""
    logps = jnp.asarray(logps)
    state = method.init(logps if start is None else jnp.asarray(start))._replace(logps=logps)
    return method.update(state, exact_oracle(jnp.asarray(prefs)), KEY)[0].logps


METHODS = {
    "mirror descent": games.mirror_descent,
    "Nash-MD": games.nash_md,
    "Nash-MP": games.nash_mp,
    "OMWU": games.omwu,
    "TD-MNPO": lambda ref, *, eta, beta: games.td_mnpo(
        ref, eta=eta, beta=beta, history_weights=(0.5, 0.25, 0.25)
    ),
    "policy gradient": games.policy_gradient,
}
