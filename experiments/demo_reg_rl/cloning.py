"""How fast a clone comes to its expert in KL, over whole episodes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.demo_reg_rl.config import Config
from rlhf_jax.algos.control.behaviour_cloning import action_counts, clone_counts, fit, mixed_policy
from rlhf_jax.envs.tabular_mdp import FiniteMDP, finite_env, random_mdp
from rlhf_jax.exact.finite_mdp import occupancy, soft_optimal, trajectory_kl
from rlhf_jax.policies.linear import linear_policy
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.sampling.episodes import policy_act, sample_episode
from rlhf_jax.types import Trajectory

STEPS, STATES, ACTIONS = 5, 5, 4
EXPERT = 0.1  # KL weight of the expert, to the uniform policy
FEATURES = 2  # of the log-linear class, for each step
CONSTANT = 0.1  # share of the uniform policy in a clone that does not sharpen with N


def garnets(config: Config) -> FiniteMDP:
    """As many as any stage has seeds: P_h(. | s, a) ~ Dirichlet(0.15), 3 in 10 (h, s, a) pay."""
    count = max(config.clone_seeds, config.num_seeds, config.feedback_seeds)
    return _garnets(jax.random.split(jax.random.key(config.seed), count))


@jax.jit
def _garnets(keys: jax.Array) -> FiniteMDP:
    """One for each key."""
    draw = partial(random_mdp, horizon=STEPS, num_states=STATES, num_actions=ACTIONS)
    return jax.vmap(draw)(keys)


def seeds(config: Config, stage: int, count: int) -> tuple[jax.Array, FiniteMDP]:
    """Keys [count] of a stage, and the first MDPs."""
    key = jax.random.fold_in(jax.random.key(config.seed), stage)
    return jax.random.split(key, count), jax.tree.map(lambda x: x[:count], garnets(config))


def uniform(mdp: FiniteMDP) -> jax.Array:
    """Its log-probs [H, S, A]."""
    return jnp.full_like(mdp.rewards, -jnp.log(mdp.rewards.shape[-1]))


def play(key: jax.Array, mdp: FiniteMDP, logps: jax.Array, count: int) -> Trajectory:
    """`count` episodes [count, H] of a policy [H, S, A]; observations are h * S + s."""
    rows = logps.reshape(-1, logps.shape[-1])
    act = policy_act(tabular_policy(*rows.shape), rows)

    def one(key):
        return sample_episode(finite_env(mdp), act, key, steps=logps.shape[0]).trajectory

    return jax.vmap(one)(jax.random.split(key, count))


def first(episodes: Trajectory, count: jax.Array) -> Trajectory:
    """The first `count` of them count."""
    there = jnp.arange(episodes.actions.shape[0]) < count
    return Trajectory(episodes.inputs, episodes.actions, episodes.mask & there[:, None])


def clone(demos: Trajectory, mdp: FiniteMDP, count: jax.Array) -> jax.Array:
    """The clone [H, S, A] of the first `count` demonstrations."""
    steps, states, actions = mdp.rewards.shape
    sizes = {"num_observations": steps * states, "num_actions": actions}
    return clone_counts(action_counts(first(demos, count), **sizes)).reshape(mdp.rewards.shape)


def clone_kls(config: Config) -> dict[str, np.ndarray]:
    """Tables: KL(expert || clone) of an episode against demonstrations, a set growing into the
    next.

    Returns:
      "kl" [seeds, sizes], means over data sets; "limit" [seeds], what N times it goes to;
      "kl, constant share" [seeds, sizes], of the clone with a tenth of the uniform policy.
    """

    sizes = jnp.asarray(config.demos)

    def one(key, mdp):
        expert = soft_optimal(mdp, uniform(mdp), beta=EXPERT).logps

        def kls(key):
            demos = play(key, mdp, expert, config.demos[-1])
            clones = jax.vmap(lambda count: clone(demos, mdp, count))(sizes)
            mixed = jnp.logaddexp(clones + jnp.log1p(-CONSTANT), jnp.log(CONSTANT / ACTIONS))
            both = jnp.stack([clones, mixed])
            return jax.vmap(jax.vmap(lambda logps: trajectory_kl(mdp, expert, logps)))(both)

        reached = jnp.sum(occupancy(mdp, expert) > 0)
        kl, constant = jnp.mean(jax.vmap(kls)(jax.random.split(key, config.clone_sets)), 0)
        limit = 0.5 * (ACTIONS - 1) * reached
        return {"kl": kl, "kl, constant share": constant, "limit": limit}

    with jax.enable_x64(True):
        runs = jax.jit(jax.vmap(one))(*seeds(config, 0, config.clone_seeds))
        return jax.tree.map(np.asarray, runs)


def linear_kls(config: Config) -> dict[str, np.ndarray]:
    """The log-linear class, mixed with 1 / N of the uniform policy; the expert is one of them.

    Returns:
      "kl" [seeds, sizes]; "limit" [], d H / 2 for d features a step.
    """

    sizes = jnp.asarray(config.log_linear)
    shape = (STEPS, STATES, ACTIONS)

    def one(key, mdp):
        feature_key, expert_key, data_key = jax.random.split(key, 3)
        drawn = jax.random.normal(feature_key, (*shape, FEATURES))
        # Weights of their own for each step: a block of the features for each.
        blocks = jnp.einsum("hsad,hk->hsakd", drawn, jnp.eye(STEPS))
        policy = linear_policy(blocks.reshape(STEPS * STATES, ACTIONS, -1))
        truth = jax.random.normal(expert_key, (STEPS * FEATURES,))

        def logps(policy, params):
            logits = policy.logits(params, jnp.arange(STEPS * STATES))
            return jax.nn.log_softmax(logits).reshape(shape)

        expert = logps(policy, truth)
        demos = play(data_key, mdp, expert, config.log_linear[-1])

        def kl(count):
            mixed, data = mixed_policy(policy, kappa=1.0 / count), first(demos, count)
            fitted = {"optimizer": optax.adam(0.1), "steps": config.fit_steps}
            params, _ = fit(mixed, jnp.zeros_like(truth), data, **fitted)
            return trajectory_kl(mdp, expert, logps(mixed, params))

        return jax.vmap(kl)(sizes)

    with jax.enable_x64(True):
        kl = np.asarray(jax.jit(jax.vmap(one))(*seeds(config, 1, config.num_seeds)))
    return {"kl": kl, "limit": np.asarray(0.5 * STEPS * FEATURES)}
