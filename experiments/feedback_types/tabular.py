"""Questions about the trajectories of a tabular world, in which the learner then plans."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.feedback_types.config import Config
from experiments.feedback_types.learner import (
    Question,
    Rationality,
    Rule,
    ask,
    draw_theta,
    estimate,
)
from experiments.feedback_types.rules import RANDOM, RULES
from experiments.feedback_types.stages import over_cases
from rlhf_jax.envs.tabular_mdp import FiniteMDP, finite_env, random_mdp
from rlhf_jax.exact import finite_mdp
from rlhf_jax.feedback import posteriors, queries
from rlhf_jax.feedback.posteriors import Particles
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.sampling.episodes import policy_act, sample_episode

LOOP_RULES = (RANDOM, "mutual information", "policy gain")
DEAF = "mutual information, answers at random"
LOOPS = (*LOOP_RULES, DEAF)


class World(NamedTuple):
    """Dynamics (whose own rewards nobody reads), features [S, A, d], and the hidden reward [d]."""

    mdp: FiniteMDP
    features: jax.Array
    theta: jax.Array


def draw_world(config: Config, keys: jax.Array) -> World:
    """Random moves, normal features (of variance 1 when summed over an episode), a reward."""
    shape = (config.states, config.actions, config.num_features)
    sizes = {"num_states": config.states, "num_actions": config.actions}
    mdp = random_mdp(keys[0], horizon=config.horizon, **sizes)
    features = jax.random.normal(keys[1], shape) / config.horizon**0.5
    return World(mdp, features, draw_theta(config, keys[2]))


def paid(world: World, weights: jax.Array) -> FiniteMDP:
    """The world with the rewards features @ weights."""
    rewards = jnp.broadcast_to(world.features @ weights, world.mdp.rewards.shape)
    return FiniteMDP(world.mdp.transitions, rewards, world.mdp.initial)


def plan(config: Config, world: World, weights: jax.Array) -> finite_mdp.Solution:
    """The best policy for these weights, with a bonus for its entropy."""
    flat = jnp.zeros_like(world.mdp.rewards)
    return finite_mdp.soft_optimal(paid(world, weights), flat, beta=config.temperature)


def regret(config: Config, world: World, particles: Particles) -> jax.Array:
    """Soft value lost by planning with the estimate."""
    flat, logps = jnp.zeros_like(world.mdp.rewards), plan(config, world, estimate(particles)).logps
    truth = paid(world, world.theta)
    found = finite_mdp.evaluate(truth, logps, ref_logps=flat, beta=config.temperature)
    return world.mdp.initial @ (plan(config, world, world.theta).values[0] - found.values[0])


def visits(config: Config, world: World, weights: jax.Array) -> jax.Array:
    """[d] expected features of an episode of the plan for these weights."""
    logps = plan(config, world, weights).logps
    rates = finite_mdp.occupancy(world.mdp, logps)[..., None] * jnp.exp(logps)
    return jnp.einsum("hsa,sad->d", rates, world.features)


def policy_gain_rule(world: World) -> Rule:
    """Value of the answer for the choice between the plans of a few posterior draws."""

    def rule(config: Config, key: jax.Array, question: Question) -> jax.Array:
        draws = posteriors.draw_particles(key, question.particles, config.plans)
        thetas, log_weights = question.particles
        probs = queries.member_probs(question.options, thetas, beta=question.beta)
        mu = jax.vmap(lambda weights: visits(config, world, weights))(draws)
        return queries.policy_gain(probs, jnp.exp(log_weights), thetas, mu)

    return rule


def episode_pairs(config: Config, key: jax.Array, world: World, particles: Particles) -> jax.Array:
    """Summed features [pool, 2, d] of pairs of episodes: the first half of the pairs by the uniform
    policy, the others by the present plan."""
    policy = tabular_policy(config.horizon * config.states, config.actions)
    env = finite_env(world.mdp)
    present = plan(config, world, estimate(particles)).logps
    logits = jnp.stack([jnp.zeros_like(present), present])

    def episode(key, logits):
        act = policy_act(policy, logits.reshape(-1, config.actions))
        seen = sample_episode(env, act, key, steps=config.horizon).trajectory
        return world.features[seen.inputs % config.states, seen.actions].sum(0)

    keys = jax.random.split(key, (2, config.pool // 2, 2))
    each = jax.vmap(jax.vmap(jax.vmap(episode, (0, None)), (0, None)))(keys, logits)
    return each.reshape(config.pool, 2, config.num_features)


def tabular_loop(config: Config) -> dict[str, np.ndarray]:
    """ "regret" [LOOPS, seeds, queries + 1] of planning with the estimate."""

    def run(key, rule, actual):
        *keys, key = jax.random.split(key, 4)
        world = draw_world(config, jnp.stack(keys))
        rules = {name: RULES[name] for name in LOOP_RULES[:2]}
        return ask(
            config,
            key,
            world.theta,
            rule,
            rules | {LOOP_RULES[2]: policy_gain_rule(world)},
            minds=Rationality(actual, config.beta),
            count=config.queries,
            pool=lambda key, particles: episode_pairs(config, key, world, particles),
            measure=lambda particles: regret(config, world, particles),
        )[0]

    return {"regret": over_cases(config, run, [0, 1, 2, 1], [*[config.beta] * 3, 0.0])}
