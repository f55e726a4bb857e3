"""The regret of UCBVI for many seeds: one jitted call, against Python loops over the seeds."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.mdp.library import on_all_devices
from benchmarks.mdp.table import print_table
from benchmarks.measure import Goal, in_turns, ratio
from rlhf_jax.algos.planning import ucbvi
from rlhf_jax.envs.tabular_mdp import FiniteMDP, finite_env, random_mdp
from rlhf_jax.exact import finite_mdp
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.sampling.episodes import policy_act, sample_episode

LOOP_GOAL = 10.0  # times as fast as each loop
SIZE = 0.3  # of both parts of the bonus
ONE_JIT, JITTED, NUMPY = "library, one jit", "jitted, a loop over seeds", "NumPy, a loop over seeds"


@dataclass(frozen=True, kw_only=True)
class Seeds:
    """Sizes. NumPy runs fewer seeds and is scaled up."""

    seeds: int = 1000
    episodes: int = 100
    numpy_seeds: int = 4


def many_seeds(sizes: Seeds, turns: int) -> list[Goal]:
    """Prints the table; its goals."""
    mdp = random_mdp(jax.random.key(0), horizon=5, num_states=5, num_actions=4)
    curve = jax.jit(lambda key: regret(mdp, key, sizes.episodes))
    keys = jax.random.key_data(jax.random.split(jax.random.key(1), sizes.seeds))
    raw = jax.vmap(lambda data: regret(mdp, jax.random.wrap_key_data(data), sizes.episodes))
    one_jit = on_all_devices(raw, np.asarray(keys))
    tables = jax.tree.map(np.asarray, mdp)
    few = min(sizes.numpy_seeds, sizes.seeds)

    def jitted() -> np.ndarray:
        split = jax.random.split(jax.random.key(1), sizes.seeds)
        return np.stack([np.asarray(curve(key)) for key in split])

    def numpy() -> np.ndarray:
        return np.stack([numpy_regret(tables, seed, sizes.episodes) for seed in range(few)])

    runs: dict[str, Callable[[], np.ndarray]] = {ONE_JIT: one_jit, JITTED: jitted, NUMPY: numpy}
    totals = {name: run().sum(1) for name, run in runs.items()}
    apart = float(np.abs(totals[JITTED] - totals[ONE_JIT]).max())
    seconds = in_turns(runs, turns)
    seconds[NUMPY] = [t * sizes.seeds / few for t in seconds[NUMPY]]
    print(f"\nUCBVI: {sizes.seeds} seeds, H=5, S=5, A=4, {sizes.episodes} episodes", end="; ")
    print(f"NumPy: {few} seeds, scaled up")
    for name, total in totals.items():
        error = statistics.stdev(total) / len(total) ** 0.5
        print(f"{name}: mean regret {total.mean():.3f}, standard error {error:.3f}")
    print_table("s", seconds)
    # A rounding error may break a tie another way, after which a seed draws other episodes.
    goals = [Goal(name="regret of every seed: deviation", value=apart, bound=1e-3)]
    for name in (JITTED, NUMPY):
        value = ratio(seconds, name, ONE_JIT)
        goals.append(Goal(name=f"{name} / one jit", value=value, bound=LOOP_GOAL, at_least=True))
    return goals


def regret(mdp: FiniteMDP, key: jax.Array, episodes: int) -> jax.Array:
    """[T] J(pi*) - J(pi_t) of one seed of UCBVI, exactly evaluated."""
    horizon, num_states, num_actions = mdp.rewards.shape
    env, policy = finite_env(mdp), tabular_policy(horizon * num_states, num_actions)
    ref = jnp.full_like(mdp.rewards, -jnp.log(num_actions))
    bonus = ucbvi.Bonus(variance=SIZE, visits=SIZE)

    def step(state, key):
        logps = ucbvi.confidence_plan(state, mdp.rewards, ref, beta=0.0, bonus=bonus).logps
        act = policy_act(policy, logps.reshape(-1, num_actions))
        played = sample_episode(env, act, key, steps=horizon)
        state = ucbvi.update_counts(state, played.states[1], played.trajectory.actions)
        return state, finite_mdp.policy_return(mdp, logps)

    start = ucbvi.init_ucbvi(horizon=horizon, num_states=num_states, num_actions=num_actions)
    _, returns = jax.lax.scan(step, start, jax.random.split(key, episodes))
    return finite_mdp.policy_return(mdp, finite_mdp.optimal(mdp).logps) - returns


def numpy_regret(mdp: FiniteMDP, seed: int, episodes: int) -> np.ndarray:
    """The same algorithm in NumPy, with draws of its own."""
    rng = np.random.default_rng(seed)
    horizon, num_states, num_actions = mdp.rewards.shape
    counts = np.zeros(mdp.transitions.shape)
    best = _return(mdp, np.stack([q == q.max(-1, keepdims=True) for q in _optimal(mdp)]))
    found = []
    for _ in range(episodes):
        greedy = _plan(np.asarray(mdp.rewards), counts)
        found.append(best - _return(mdp, greedy))
        state = 0
        for h in range(horizon):
            shares = greedy[h, state] / greedy[h, state].sum()
            action = rng.choice(num_actions, p=shares)
            law = mdp.transitions[h, state, action].astype(float)
            new = rng.choice(num_states, p=law / law.sum())
            counts[h, state, action, new] += 1
            state = new
    return np.array(found)


def _optimal(mdp: FiniteMDP) -> np.ndarray:
    values, found = np.zeros(mdp.rewards.shape[1]), []
    for transitions, rewards in zip(mdp.transitions[::-1], mdp.rewards[::-1], strict=True):
        found.append(rewards + transitions @ values)
        values = found[-1].max(-1)
    return np.stack(found[::-1])


def _return(mdp: FiniteMDP, chosen: np.ndarray) -> float:
    """J of the policy that is uniform over the chosen actions, [H, S, A]."""
    probs, values = chosen / chosen.sum(-1, keepdims=True), np.zeros(chosen.shape[1])
    tables = (mdp.transitions[::-1], mdp.rewards[::-1], probs[::-1])
    for transitions, rewards, shares in zip(*tables, strict=True):
        values = (shares * (rewards + transitions @ values)).sum(-1)
    return float(values @ mdp.initial)


def _plan(rewards: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The greedy actions of upper bounds, [H, S, A] bool."""
    horizon, over = len(rewards), np.zeros(rewards.shape[1])
    greedy = np.empty(rewards.shape, bool)
    for h in reversed(range(horizon)):
        visits = counts[h].sum(-1)
        n = np.maximum(visits, 1.0)
        law = counts[h] / n[..., None]
        mean = law @ over
        spread = np.sqrt(np.maximum(law @ over**2 - mean**2, 0.0))
        upper = np.clip(rewards[h] + mean + SIZE * spread / np.sqrt(n) + SIZE / n, 0, horizon)
        upper = np.where(visits > 0, upper, horizon)
        over = upper.max(-1)
        greedy[h] = upper == over[:, None]
    return greedy
