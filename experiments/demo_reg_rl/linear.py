"""The fast rate in linear MDPs: least squares with elliptical bonuses, LSVI-UCB-Ent."""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.demo_reg_rl.config import Config
from experiments.demo_reg_rl.online import BLOCKS
from rlhf_jax.algos.planning import lsvi, ucbvi
from rlhf_jax.envs.linear_mdp import LinearMDP, random_linear_mdp, to_finite_mdp
from rlhf_jax.envs.tabular_mdp import finite_env
from rlhf_jax.exact.finite_mdp import evaluate, soft_optimal
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.sampling.episodes import policy_act, sample_episode

SHAPE = (5, 20, 4)  # steps, states, actions
FEATURES = 5
SHARE = 4  # of the episodes of the tabular runs, one in so many


def linear_runs(config: Config) -> dict[str, np.ndarray]:
    """Runs on random linear MDPs with the uniform reference.

    Returns:
      "soft optimistic" [betas, seeds, T], V*_beta - V^pi_beta of the policy that is soft greedy in
      the upper bound; "episodes" [T].
    """
    every = max(1, config.episodes // BLOCKS // SHARE)

    def one(key, beta):
        mdp_key, run_key = jax.random.split(key)
        sizes = dict(zip(("horizon", "num_states", "num_actions"), SHAPE, strict=True))
        mdp = random_linear_mdp(mdp_key, **sizes, num_features=FEATURES)
        return learn(run_key, mdp, beta, every=every, bonus=config.bonus)

    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(config.seed + 1), config.num_seeds)
        runs = jax.jit(jax.vmap(jax.vmap(one, (0, None)), (None, 0)))
        gaps = np.asarray(runs(keys, jnp.asarray(config.betas)))
    return {"soft optimistic": gaps, "episodes": every * np.arange(1, BLOCKS + 1)}


def learn(key: jax.Array, mdp: LinearMDP, beta: jax.Array, *, every: int, bonus: float):
    """[T] gaps after each block of episodes."""
    tables = to_finite_mdp(mdp)
    ref = jnp.full(SHAPE, -jnp.log(SHAPE[2]))
    best = soft_optimal(tables, ref, beta=beta).values[0]

    def planned(state, bonus):
        return lsvi.soft_plan(state, mdp.features, tables.rewards, ref, beta=beta, bonus=bonus)

    def episode(state, key):
        explore_key, play_key = jax.random.split(key)
        both = jax.vmap(planned, (None, 0))(state, jnp.array([bonus, -bonus]))
        widths = both.action_values[0] - both.action_values[1]
        logps = ucbvi.exploring_policy(both.logps[0], widths, explore_key).reshape(-1, SHAPE[2])
        act = policy_act(tabular_policy(*logps.shape), logps)
        played = sample_episode(finite_env(tables), act, play_key, steps=SHAPE[0])
        states = played.states[1]
        seen = mdp.features[states[:-1], played.trajectory.actions]
        return lsvi.update_lsvi(state, seen[None], states[None, 1:]), None

    def block(state, key):
        state, _ = jax.lax.scan(episode, state, jax.random.split(key, every))
        logps = planned(state, bonus).logps
        value = evaluate(tables, logps, ref_logps=ref, beta=beta).values[0]
        return state, mdp.initial @ (best - value)

    start = lsvi.init_lsvi(horizon=SHAPE[0], num_features=FEATURES, num_states=SHAPE[1])
    return jax.lax.scan(block, start, jax.random.split(key, BLOCKS))[1]
