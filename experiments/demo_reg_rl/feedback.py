"""Planning with rewards fitted to comparisons of the clone's own episodes, without pessimism."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.demo_reg_rl.cloning import clone, play, seeds, uniform
from experiments.demo_reg_rl.config import Config
from rlhf_jax.algos.planning.reward_newton import fit_rewards
from rlhf_jax.envs.tabular_mdp import FiniteMDP
from rlhf_jax.exact.finite_mdp import optimal, regret, soft_optimal
from rlhf_jax.feedback.pairs import labels_to_pairs
from rlhf_jax.feedback.teachers import bt_labels
from rlhf_jax.types import Trajectory

DEMOS = 200
EXPERT = 0.05  # KL weight of the expert, to the uniform policy
SHARPNESS = 5.0  # of the teacher, on returns
RIDGE = 1e-2


def feedback_gaps(config: Config) -> dict[str, np.ndarray]:
    """V* - V of policies that are optimal in r_hat - beta KL to the clone.

    Returns:
      "gap" [seeds, pairs, betas]; "gap, uniform": the same with KL to the uniform policy; "clone",
      "expert" and "true" [seeds]: of the clone, the expert, and of planning with the true rewards
      at beta = 0.5; "residual" [seeds, pairs] of the fits.
    """

    counts = jnp.asarray(config.pairs)

    def one(key, mdp):
        demo_key, *pair_keys, label_key = jax.random.split(key, 4)
        expert = soft_optimal(mdp, uniform(mdp), beta=EXPERT).logps
        ref = clone(play(demo_key, mdp, expert, DEMOS), mdp, jnp.asarray(DEMOS))
        both = [visits(mdp, play(key, mdp, ref, config.pairs[-1])) for key in pair_keys]
        seen = jnp.stack(both, axis=1)
        labels = bt_labels(label_key, seen @ mdp.rewards.ravel(), beta=SHARPNESS)
        visited = Trajectory(seen, None, None)  # ty: ignore[invalid-argument-type]
        pairs = labels_to_pairs(visited, labels)

        def gaps(count):
            there = jnp.where(jnp.arange(labels.size) < count, 1.0, 0.0)
            compared = pairs.chosen.inputs, pairs.rejected.inputs
            fit = fit_rewards(*compared, there, beta=SHARPNESS, ridge=RIDGE)
            rewards = fit.params.reshape(mdp.rewards.shape)
            learned = FiniteMDP(mdp.transitions, rewards, mdp.initial)
            near = [
                jax.vmap(partial(gap, mdp, learned, each))(penalties)
                for each in (ref, uniform(mdp))
            ]
            return *near, fit.residual

        gap_of, anywhere, residual = jax.vmap(gaps)(counts)
        return {
            "gap": gap_of,
            "gap, uniform": anywhere,
            "residual": residual,
            "clone": regret(mdp, ref),
            "expert": regret(mdp, expert),
            "true": gap(mdp, mdp, ref, jnp.asarray(0.5)),
        }

    with jax.enable_x64(True):
        penalties = jnp.asarray(config.penalties)
        given = seeds(config, 4, config.feedback_seeds)
        # In parts: the visits of 100 MDPs at once are gigabytes.
        runs = jax.jit(lambda given: jax.lax.map(lambda x: one(*x), given, batch_size=20))(given)
        return jax.tree.map(np.asarray, runs)


def gap(mdp: FiniteMDP, learned: FiniteMDP, ref: jax.Array, beta: jax.Array) -> jax.Array:
    """V* - V in the true MDP of the policy that is optimal in the learned one at beta >= 0."""
    soft = soft_optimal(learned, ref, beta=jnp.where(beta > 0, beta, 1.0)).logps
    return regret(mdp, jnp.where(beta > 0, soft, optimal(learned).logps))


def visits(mdp: FiniteMDP, episodes: Trajectory) -> jax.Array:
    """[B, H S A] how often each (h, s, a) was visited: what a tabular return is linear in."""
    num_actions = mdp.rewards.shape[-1]
    cells = episodes.inputs * num_actions + episodes.actions
    return jnp.sum(jax.nn.one_hot(cells, mdp.rewards.size), axis=-2)
