"""Active queries, kinds of feedback, and queries about the trajectories of a tabular world."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.feedback_types.config import Config
from experiments.feedback_types.kinds import (
    MIXED,
    PARTS,
    demonstrations,
    part_records,
    rankings,
)
from experiments.feedback_types.learner import (
    RANDOM,
    RULES,
    Question,
    Rule,
    ask,
    believe,
    draw_theta,
    estimate,
)
from rlhf_jax.envs.tabular_mdp import FiniteMDP, finite_env, random_mdp
from rlhf_jax.exact import finite_mdp
from rlhf_jax.feedback import posteriors, queries
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.sampling.episodes import policy_act, sample_episode

COPIES, OTHERS = 0.05, 0.7  # spread of feature differences: near-copies, and the other half


def for_all(run: Callable, *inputs: jax.Array) -> Any:
    """run over the leading axis of the inputs, one after another in one program: alone, a run skips
    the Metropolis steps wherever its posterior does not need them."""
    found = jax.jit(lambda *each: jax.lax.map(lambda one: run(*one), each))(*inputs)
    return jax.tree.map(np.asarray, found)


def run_rules(config: Config, rules: dict[str, Rule], run: Callable) -> dict[str, np.ndarray]:
    """run(key, rule) for every rule and seed, [rules, seeds, ...] each."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    which = jnp.repeat(jnp.arange(len(rules)), config.num_seeds)
    found = for_all(run, jnp.tile(keys, len(rules)), which)
    return {name: x.reshape(len(rules), config.num_seeds, -1) for name, x in found.items()}


def active_queries(config: Config) -> dict[str, np.ndarray]:
    """ "cosine" to the hidden reward [rules, seeds, queries + 1], and "copies" [rules, seeds,
    queries]: 1 where a near-copy was asked about."""
    half = config.pool // 2
    spread = jnp.where(jnp.arange(config.pool) < half, COPIES, OTHERS)[:, None]

    def pool(key, _):
        x = spread * jax.random.normal(key, (config.pool, config.num_features))
        return jnp.stack([jnp.zeros_like(x), x], axis=1)

    def run(key, rule):
        theta_key, key = jax.random.split(key)
        theta = draw_theta(config, theta_key)

        def cosine(particles):
            return estimate(particles) @ theta

        cosines, asked = ask(config, key, theta, rule, RULES, pool=pool, measure=cosine)
        return {"cosine": cosines, "copies": (asked < half).astype(jnp.float32)}

    return run_rules(config, RULES, run)


def identical_items(config: Config) -> dict[str, np.ndarray]:
    """Scores of comparisons of an item with itself, under the uniform posterior."""
    names = ("mutual information", "volume removal")

    @jax.jit
    def scores(key):
        shape = (config.pool, 1, config.num_features)
        same = jnp.repeat(jax.random.normal(key, shape), 2, axis=1)
        particles = posteriors.uniform_particles(key, config.particles, config.num_features)
        question = Question(same, particles, jnp.eye(config.num_features))
        return {name: RULES[name](config, key, question) for name in names}

    return jax.tree.map(np.asarray, scores(jax.random.key(config.seed)))


def feedback_types(config: Config) -> dict[str, np.ndarray]:
    """Cosine after each record [seeds, records], for each type and for the mixture of some."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)

    def learner(make):
        def run(key, *which):
            theta_key, record_key, start_key, key = jax.random.split(key, 4)
            theta = draw_theta(config, theta_key)
            records = make(config, record_key, theta, *which)
            size, d = config.particles, config.num_features
            particles = posteriors.uniform_particles(start_key, size, d)

            def step(particles, t):
                moved = believe(config, jax.random.fold_in(key, t), particles, records, t)
                return moved, estimate(moved) @ theta

            return jax.lax.scan(step, particles, jnp.arange(config.records))[1]

        return run

    found = {
        "ranking": for_all(learner(rankings), keys),
        "demonstration": for_all(learner(demonstrations), keys),
    }
    names = (*PARTS, MIXED)
    which = jnp.repeat(jnp.arange(len(names)), config.num_seeds)
    parts = for_all(learner(part_records), jnp.tile(keys, len(names)), which)
    return found | dict(zip(names, np.split(parts, len(names)), strict=True))


def tabular_loop(config: Config) -> dict[str, np.ndarray]:
    """ "regret" [rules, seeds, queries + 1] of planning with the estimate, in a world whose
    trajectories are what the questions are about."""
    flat = jnp.zeros((config.horizon, config.states, config.actions))
    names = (RANDOM, "mutual information", "policy gain")

    def run(key, rule):
        world_key, feature_key, theta_key, key = jax.random.split(key, 4)
        shape = (config.states, config.actions, config.num_features)
        features = jax.random.normal(feature_key, shape) / config.horizon**0.5
        theta = draw_theta(config, theta_key)
        world = random_mdp(
            world_key,
            horizon=config.horizon,
            num_states=config.states,
            num_actions=config.actions,
        )

        def paid(weights):
            rewards = jnp.broadcast_to(features @ weights, flat.shape)
            return FiniteMDP(world.transitions, rewards, world.initial)

        def plan(weights):
            return finite_mdp.soft_optimal(paid(weights), flat, beta=config.temperature)

        def value(solution):
            return world.initial @ solution.values[0]

        best = value(plan(theta))

        def regret(particles):
            logps = plan(estimate(particles)).logps
            kept = {"ref_logps": flat, "beta": config.temperature}
            return best - value(finite_mdp.evaluate(paid(theta), logps, **kept))

        def visits(weights):
            logps = plan(weights).logps
            rates = finite_mdp.occupancy(world, logps)[..., None] * jnp.exp(logps)
            return jnp.einsum("hsa,sad->d", rates, features)

        def policy_gain(config, key, question):
            draws = posteriors.draw(key, question.particles, config.plans)
            thetas, log_weights = question.particles
            probs = queries.member_probs(question.options, thetas, beta=config.beta)
            mu = jax.vmap(visits)(draws)
            return queries.policy_gain(probs, jnp.exp(log_weights), thetas, mu)

        rules = {name: RULES[name] for name in names[:2]} | {names[2]: policy_gain}

        def pool(key, particles):
            logps = plan(estimate(particles)).logps
            return episode_pairs(config, key, world, features, jnp.stack([flat, logps]))

        regrets, _ = ask(config, key, theta, rule, rules, pool=pool, measure=regret)
        return {"regret": regrets}

    return run_rules(config, dict.fromkeys(names, RULES[RANDOM]), run)


def episode_pairs(
    config: Config, key: jax.Array, world: FiniteMDP, features: jax.Array, logits: jax.Array
) -> jax.Array:
    """Summed features [pool, 2, d] of pairs of episodes: the first half of the pairs by the first
    policy of logits [2, H, S, A], the others by the second."""
    policy = tabular_policy(config.horizon * config.states, config.actions)
    env = finite_env(world)

    def episode(key, logits):
        act = policy_act(policy, logits.reshape(-1, config.actions))
        seen = sample_episode(env, act, key, steps=config.horizon).trajectory
        return features[seen.inputs % config.states, seen.actions].sum(0)

    keys = jax.random.split(key, (2, config.pool // 2, 2))
    each = jax.vmap(jax.vmap(jax.vmap(episode, (0, None)), (0, None)))(keys, logits)
    return each.reshape(config.pool, 2, config.num_features)
