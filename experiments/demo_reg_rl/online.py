"""Online learning with a KL penalty: the fast rate, and what demonstrations save on a lock."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.demo_reg_rl.cloning import clone, play, seeds, uniform
from experiments.demo_reg_rl.config import Config
from rlhf_jax.algos.planning import ucbvi
from rlhf_jax.envs.chains import combination_lock
from rlhf_jax.envs.tabular_mdp import FiniteMDP, finite_env
from rlhf_jax.exact.finite_mdp import (
    evaluate,
    optimal,
    regret,
    soft_optimal,
    trajectory_kl,
)
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.sampling.episodes import policy_act, sample_episode

BLOCKS = 32  # records of a run of the fast rate
LOCK_STEPS, LOCK_ACTIONS = 10, 10
LOCK_EXPERT = 0.002  # KL weight of the lock's expert, to the uniform policy


def learn(
    key: jax.Array,
    mdp: FiniteMDP,
    ref: jax.Array,
    beta: jax.Array,
    *,
    aimless: bool,
    **sizes,
) -> dict:
    """`records` times `every` episodes of UCBVI-Ent+, beta >= 0, with what is known after each.

    aimless: episodes are those of the uniform policy, whatever was planned.

    Returns:
      [records] each. "regret": V* - V of the empirical model's policy; "optimistic": of the plan's
      own; "soft regret" and "soft optimistic": the same with the KL penalty, at the optimum too;
      "stop": the bound that the plan gives for the last.
    """
    shape = mdp.rewards.shape
    bonus = ucbvi.Bonus(variance=sizes["bonus"], visits=sizes["bonus"])
    planned = partial(
        ucbvi.confidence_plan, rewards=mdp.rewards, ref_logps=ref, beta=beta, bonus=bonus
    )
    rows = (shape[0] * shape[1], shape[2])
    safe = jnp.where(beta > 0, beta, 1.0)
    best = jnp.where(beta > 0, soft_optimal(mdp, ref, beta=safe).values[0], optimal(mdp).values[0])

    def episode(state, key):
        explore_key, play_key = jax.random.split(key)
        now = planned(state)
        logps = ucbvi.exploring_policy(now.logps, now.upper - now.lower, explore_key)
        if aimless:
            logps = uniform(mdp)
        act = policy_act(tabular_policy(*rows), logps.reshape(rows))
        played = sample_episode(finite_env(mdp), act, play_key, steps=shape[0])
        return ucbvi.update_counts(state, played.states[1], played.trajectory.actions), None

    def block(state, key):
        state, _ = jax.lax.scan(episode, state, jax.random.split(key, sizes["every"]))
        now = planned(state)
        soft = {
            name: mdp.initial @ (best - evaluate(mdp, logps, ref_logps=ref, beta=beta).values[0])
            for name, logps in (("regret", now.model_logps), ("optimistic", now.logps))
        }
        return state, {
            "regret": regret(mdp, now.model_logps),
            "optimistic": regret(mdp, now.logps),
            "soft regret": soft["regret"],
            "soft optimistic": soft["optimistic"],
            "stop": mdp.initial @ now.gaps[0],
        }

    start = ucbvi.init_ucbvi(horizon=shape[0], num_states=shape[1], num_actions=shape[2])
    return jax.lax.scan(block, start, jax.random.split(key, sizes["records"]))[1]


def fast_rate(config: Config) -> dict[str, np.ndarray]:
    """Runs on Garnet MDPs with the uniform reference: the records of `learn`, [betas, seeds, T],
    "episodes" [T], and "aimless" [betas, seeds, T], the soft optimistic gap after as many episodes
    of the uniform policy."""
    every = config.episodes // BLOCKS

    def one(key, mdp, beta):
        def run(aimless: bool):
            sizes = {"every": every, "records": BLOCKS, "bonus": config.bonus}
            return learn(key, mdp, uniform(mdp), beta, aimless=aimless, **sizes)

        return run(False) | {"aimless": run(True)["soft optimistic"]}

    with jax.enable_x64(True):
        runs = jax.jit(jax.vmap(jax.vmap(one, (0, 0, None)), (None, None, 0)))
        given = seeds(config, 2, config.num_seeds)
        found = jax.tree.map(np.asarray, runs(*given, jnp.asarray(config.betas)))
    return found | {"episodes": every * np.arange(1, BLOCKS + 1)}


def references(config: Config) -> tuple[str, ...]:
    """What the runs on the lock are called, in their order."""
    return ("no demonstrations", "uniform reference", *(f"N = {n}" for n in config.lock_demos))


def lock_runs(config: Config) -> dict[str, np.ndarray]:
    """Combination locks, every reference at once: the records of `learn`, [seeds, references, T].

    Returns:
      Also "beta", "kl" (from the expert), "clone" (V* - V of the reference itself), [seeds,
      references], and "expert" [seeds], V* - V of the expert.
    """

    def one(key):
        lock_key, demo_key, run_key = jax.random.split(key, 3)
        mdp = combination_lock(lock_key, horizon=LOCK_STEPS, num_actions=LOCK_ACTIONS)
        expert = soft_optimal(mdp, uniform(mdp), beta=LOCK_EXPERT).logps
        demos = play(demo_key, mdp, expert, config.lock_demos[-1])
        clones = jax.vmap(lambda count: clone(demos, mdp, count))(jnp.asarray(config.lock_demos))
        none = uniform(mdp)[None]
        refs = jnp.concatenate([none, none, clones])
        kl = jax.vmap(lambda ref: trajectory_kl(mdp, expert, ref))(refs)
        beta = (config.epsilon / kl).at[0].set(0.0)
        sizes = {"every": 1, "records": config.lock_times[-1], "bonus": config.bonus}
        runs = jax.vmap(partial(learn, aimless=False, **sizes), (0, None, 0, 0))
        found = runs(jax.random.split(run_key, len(refs)), mdp, refs, beta)
        alone = jax.vmap(lambda ref: regret(mdp, ref))(refs)
        known = {"beta": beta, "kl": kl, "clone": alone, "expert": regret(mdp, expert)}
        return found | known

    with jax.enable_x64(True):
        key = jax.random.fold_in(jax.random.key(config.seed), 3)
        keys = jax.random.split(key, config.num_seeds)
        return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys))
