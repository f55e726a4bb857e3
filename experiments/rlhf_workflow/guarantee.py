"""What pairs of the reference promise about a pessimistic policy, and what it loses in fact."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from experiments.rlhf_workflow.bandits import (
    draw_answers,
    draw_world,
    fit,
    label,
    objective,
    policy_logps,
)
from experiments.rlhf_workflow.config import Config
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.ops.coverage import (
    concentrability,
    design_matrix,
    effective_dimension,
    logistic_radius,
    lower_rewards,
    offline_guarantee,
)
from rlhf_jax.ops.elliptical import elliptical_norms
from rlhf_jax.ops.linear_systems import invert


def promise(config: Config) -> dict[str, Array]:
    """Bound, loss in fact, range of rewards [sizes, seeds] and the like for growing data."""
    keys = jax.random.split(jax.random.key(config.seed), config.guarantee_seeds)
    found = [
        jax.jit(partial(jax.lax.map, partial(promise_one, config, size)))(keys)
        for size in config.sizes
    ]
    return jax.tree.map(lambda *x: jnp.stack(x), *found)


def promise_one(config: Config, size: int, key: Key[Array, ""]) -> dict[str, Array]:
    """One bandit, `size` labelled pairs of the reference policy."""
    world_key, x_key, a_key, y_key = jax.random.split(key, 4)
    scale = config.guarantee_scale
    gentle = replace(
        config, common_norm=scale * config.common_norm, rare_norm=scale * config.rare_norm
    )
    world, eta = draw_world(gentle, world_key), config.eta
    prompts = jax.random.randint(x_key, (size,), 0, config.prompts)
    ref = policy_logps(world, jnp.zeros_like(world.weights), eta=eta)
    answers = draw_answers(a_key, ref, prompts, answers=2)
    pairs = label(y_key, world, *(world.features[prompts, a] for a in answers.T), sure=False)
    start = jnp.zeros_like(world.weights)
    params = fit(pairs, jnp.ones(size), start, eta=eta, ridge=config.ridge)

    differences = pairs.chosen - pairs.rejected
    bound = jnp.linalg.norm(world.weights)
    margin = jnp.max(jnp.stack([jnp.abs(differences @ w) for w in (params, world.weights)]))
    slope = jax.nn.sigmoid(margin) * jax.nn.sigmoid(-margin)
    design = design_matrix(differences)
    radius = logistic_radius(design, ridge=config.ridge, slope=slope, bound=bound)
    inverse = invert(design + config.ridge / slope * jnp.eye(start.size))

    origin = jnp.einsum("sa,sad->d", jnp.exp(ref), world.features) / config.prompts
    lower = lower_rewards(world.features, params, inverse, radius=radius, origin=origin)
    careful = regularised_optimum(lower, ref, beta=eta)
    best = policy_logps(world, world.weights, eta=eta)
    norms = elliptical_norms(world.features - origin, inverse)
    rewards = world.features @ world.weights
    spread = jnp.mean(rewards.max(-1) - rewards.min(-1))
    found = offline_guarantee(
        jnp.sum(jnp.exp(best) * norms, -1).mean(), radius=radius, reward_range=spread
    )
    error = params - world.weights
    top = objective(world, best, eta=eta)
    return {
        "bound": found.bound,
        "vacuous": found.vacuous,
        "range": spread,
        "loss": top - objective(world, careful, eta=eta),
        "plain": top - objective(world, policy_logps(world, params, eta=eta), eta=eta),
        "inside": error @ (design + config.ridge / slope * jnp.eye(start.size)) @ error
        <= radius**2,
        "dimension": effective_dimension(design, ridge=config.ridge),
        "concentrability": concentrability(best, ref).mean(),
    }
