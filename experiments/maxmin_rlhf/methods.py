"""From comparisons to policies: one reward, a mixture by EM, and what is made of two rewards."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from experiments.maxmin_rlhf.config import Config, minority
from experiments.maxmin_rlhf.world import (
    Asked,
    World,
    ask,
    draw_world,
    group_recall,
    pooled_margins,
    win_rates,
)
from rlhf_jax.algos.mixture_reward import fit_mixture, linear_logliks
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.exact.maxmin import MaxMin, group_objectives, maxmin_optimum
from rlhf_jax.ops.aggregate import (
    exponentiated_weights,
    minimum_rewards,
    weighted_rewards,
    worst_group_weights,
)

POLICIES = (
    "one reward",
    "MaxMin",
    "MaxMin, soft EM",
    "worst of each answer",
    "equal weights",
    "MaxMin, true rewards",
)
MOVED = ("worst group", "exponentiated weights", "the majority's reward alone")
MARGINS = (1.5, -2.0)  # of one pair, to the majority and the minority


def fit_groups(config: Config) -> dict[str, np.ndarray]:
    """Of each ratio and seed, [R, N]: the world (features, weights), one reward fitted to all
    comparisons (pooled), two by EM (hard, soft), and their recall [R, N, 2, 2] (hard, soft)."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    one = jax.jit(partial(fit_world, config))
    found = []
    for ratio in config.ratios:
        groups = jnp.arange(config.users) >= config.users - minority(config, ratio)
        runs = [one(key, groups.astype(int)) for key in keys]
        found.append(jax.tree.map(lambda *x: np.stack(x), *runs))
    return jax.tree.map(lambda *x: np.stack(x), *found)


def fit_world(config: Config, key: Key[Array, ""], groups: Int[Array, " H"]) -> dict[str, Array]:
    """One world and its users."""
    world_key, ask_key, *fit_keys = jax.random.split(key, 5)
    world = draw_world(config, world_key)
    asked = ask(config, world, ask_key, groups)
    fit = partial(fit_mixture, comparisons=asked.fitted, precision=config.precision)
    sizes: dict[str, Any] = {"groups": 2, "rounds": config.rounds, "restarts": config.restarts}
    pooled = fit(fit_keys[0], groups=1, rounds=1, restarts=1).mixture.weights
    hard, soft = (fit(fit_keys[1], hard=each, **sizes).mixture.weights for each in (True, False))
    (recall, swapped), (other, other_swapped) = (recognised(asked, x) for x in (hard, soft))
    return {
        **world._asdict(),
        "pooled": pooled,
        "hard": jnp.where(swapped, hard[::-1], hard),
        "soft": jnp.where(other_swapped, soft[::-1], soft),
        "recall": jnp.stack([recall, other]),
    }


def serve_groups(config: Config, fits: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Of each ratio and seed: win rates [R, N, policy, 2], gaps of the dual [R, N, dual_steps + 1],
    and weights on the majority [R, N]."""
    names = ("features", "weights", "pooled", "hard", "soft")
    serve = jax.jit(jax.vmap(jax.vmap(partial(serve_world, config))))
    found = serve(*(jnp.asarray(fits[name], float) for name in names))
    return {name: np.asarray(x) for name, x in found.items()}


def serve_world(
    config: Config,
    features: Float[Array, "S A d"],
    weights: Float[Array, "2 d"],
    pooled: Float[Array, "1 d"],
    hard: Float[Array, "2 d"],
    soft: Float[Array, "2 d"],
) -> dict[str, Array]:
    """The policies of one world."""
    world, flat = World(features, weights), reference(config)
    optimum = partial(regularised_optimum, ref_logits=flat, beta=config.beta)
    best, found = best_for_all(config, world, hard), learned(world, hard)
    policies = {
        "one reward": optimum(learned(world, pooled)[..., 0]),
        "MaxMin": best.logps,
        "MaxMin, soft EM": best_for_all(config, world, soft).logps,
        "worst of each answer": optimum(minimum_rewards(found)),
        "equal weights": optimum(found.mean(-1)),
        "MaxMin, true rewards": best_for_all(config, world, weights).logps,
    }
    rates = [win_rates(policies[name], world, flat) for name in POLICIES]
    return {"win rates": jnp.stack(rates), "gaps": best.gaps, "weight": best.weights[0]}


def reference(config: Config) -> Float[Array, "S A"]:
    """log-probs of the uniform policy."""
    return jnp.full((config.contexts, config.answers), -jnp.log(config.answers))


def learned(world: World, weights: Float[Array, "U d"]) -> Float[Array, "S A U"]:
    """Rewards of all answers, each with mean 0 over the reference's answers to a prompt: a
    Bradley-Terry model does not know its zero there, and a minimum over groups needs one."""
    rewards = world.features @ weights.T
    return rewards - rewards.mean(1, keepdims=True)


def best_for_all(config: Config, world: World, weights: Float[Array, "U d"]) -> MaxMin:
    """The max-min policy of linear rewards."""
    return maxmin_optimum(
        learned(world, weights),
        reference(config),
        beta=config.beta,
        eta=config.eta,
        steps=config.dual_steps,
    )


def recognised(asked: Asked, weights: Float[Array, "U d"]) -> tuple[Array, Array]:
    """`group_recall` of users by their held-out comparisons, which no reward was fitted to."""
    return group_recall(jnp.argmax(linear_logliks(weights, asked.held), -1), asked.groups)


def move_together(config: Config) -> dict[str, np.ndarray]:
    """Policy and weights in turns, on true rewards: [N, policy_steps + 1] below the best value."""
    keys = jax.random.split(jax.random.key(config.seed + 1), config.num_seeds)
    run = jax.jit(jax.vmap(partial(move_world, config)))
    return {name: np.asarray(x) for name, x in run(keys).items()}


def move_world(config: Config, key: Key[Array, ""]) -> dict[str, Array]:
    """Mirror ascent of the policy on w . r - beta KL; w of the worst group (the paper's
    Algorithm 1), moved by exponentiated gradient, or all on the majority. From the reference."""
    world = draw_world(config, key)
    rewards, flat = learned(world, world.weights), reference(config)
    objective = partial(group_objectives, rewards=rewards, ref_logits=flat, beta=config.beta)
    best = best_for_all(config, world, world.weights).values.min()
    moves = {
        "worst group": lambda weights, values: worst_group_weights(values),
        "exponentiated weights": partial(exponentiated_weights, eta=config.policy_eta),
        "the majority's reward alone": lambda weights, values: jnp.array([1.0, 0.0]),
    }

    def follow(move) -> Array:
        def step(state, _):
            logps, weights = state
            values = objective(logps)
            weights = move(weights, values)
            ascent = weighted_rewards(rewards, weights) - config.beta * (logps - flat)
            logps = jax.nn.log_softmax(logps + config.policy_rate * ascent)
            return (logps, weights), best - values.min()

        start = flat, jnp.full(2, 0.5, flat.dtype)
        return jax.lax.scan(step, start, None, length=config.policy_steps + 1)[1]

    return {name: follow(moves[name]) for name in MOVED}


def pooled_errors() -> dict[str, np.ndarray]:
    """|D_s - D_u| of the minority for one pair, by its share, and the bound 4 (1 - share) TV."""
    rare = np.linspace(0.01, 0.99, 99)
    shares = np.stack([1.0 - rare, rare], axis=-1)
    margins = np.broadcast_to(np.array(MARGINS), shares.shape)
    pooled = np.asarray(pooled_margins(jnp.asarray(shares), jnp.asarray(margins)))
    apart = np.abs(np.diff(1.0 / (1.0 + np.exp(-np.array(MARGINS))))).item()
    bound = 4.0 * (1.0 - rare) * apart
    return {"share": rare, "error": np.abs(pooled - MARGINS[1]), "bound": bound}
