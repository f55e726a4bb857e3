"""Which prompt for which query, learnt from logged outcomes alone."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.rl_perspective.config import Prompts
from rlhf_jax.losses.feedback import binary_loss


class World(NamedTuple):
    """P(correct) = sigmoid(x W e + b): weights W [d, d], prompts e [K, d], biases b [K]."""

    weights: jax.Array
    prompts: jax.Array
    biases: jax.Array


class Bilinear(NamedTuple):
    """The reward model, logit x W e + v e + c: W [d, d], v [d], c []."""

    weights: jax.Array
    offsets: jax.Array
    bias: jax.Array


def draw_world(key: jax.Array, config: Prompts) -> World:
    """W ~ 2 N(0, 1) / sqrt(d), unit prompts, b ~ 0.3 N(0, 1)."""
    keys = jax.random.split(key, 3)
    d, count = config.dims, config.logged + config.unseen
    prompts = jax.random.normal(keys[1], (count, d))
    return World(
        2.0 * jax.random.normal(keys[0], (d, d)) / np.sqrt(d),
        prompts / jnp.linalg.norm(prompts, axis=-1, keepdims=True),
        0.3 * jax.random.normal(keys[2], (count,)),
    )


def successes(world: World, queries: jax.Array) -> jax.Array:
    """P(correct) [N, K] of queries [N, d] under every prompt."""
    return jax.nn.sigmoid(queries @ world.weights @ world.prompts.T + world.biases)


def predicted_scores(model: Bilinear, queries: jax.Array, prompts: jax.Array) -> jax.Array:
    """Logits [N, K] of the reward model."""
    return (queries @ model.weights + model.offsets) @ prompts.T + model.bias


def fit(config: Prompts, queries, prompts, outcomes, used) -> Bilinear:
    """Logistic regression on the first `used` queries [N, d], outcomes [N, K], by Adam."""
    d = queries.shape[-1]
    start = Bilinear(jnp.zeros((d, d)), jnp.zeros(d), jnp.zeros(()))
    weights = (jnp.arange(len(queries)) < used) / (used * len(prompts))
    optimizer = optax.adam(config.rate)

    def objective(model):
        losses = binary_loss(predicted_scores(model, queries, prompts), outcomes)
        penalty = 0.5 * config.decay * sum(jnp.sum(leaf**2) for leaf in model)
        return jnp.sum(weights[:, None] * losses) + penalty

    def step(carry, _):
        model, opt_state = carry
        updates, opt_state = optimizer.update(jax.grad(objective)(model), opt_state)
        return (optax.apply_updates(model, updates), opt_state), None

    return jax.lax.scan(step, (start, optimizer.init(start)), None, length=config.updates)[0][0]


def chosen_successes(key: jax.Array, config: Prompts) -> dict[str, jax.Array]:
    """Success on new queries of every way to choose, [numbers of logged queries] or []."""
    world_key, query_key, outcome_key, test_key = jax.random.split(key, 4)
    world = draw_world(world_key, config)
    tried = world.prompts[: config.logged]
    queries = jax.random.normal(query_key, (config.queries[-1], config.dims))
    chances = successes(world, queries)[:, : config.logged]
    outcomes = jax.random.uniform(outcome_key, chances.shape) < chances
    fresh = jax.random.normal(test_key, (config.test, config.dims))
    truth = successes(world, fresh)

    def choose(used):
        model = fit(config, queries, tried, outcomes, used)
        scores = predicted_scores(model, fresh, world.prompts)
        counted = jnp.arange(len(queries))[:, None] < used
        single = jnp.argmax(jnp.sum(outcomes & counted, axis=0))
        return {
            "best single prompt": jnp.mean(truth[:, single]),
            "OIRL, logged prompts": mean_at(truth, jnp.argmax(scores[:, : config.logged], -1)),
            "OIRL, all prompts": mean_at(truth, jnp.argmax(scores, -1)),
        }

    return jax.vmap(choose)(jnp.array(config.queries)) | {
        "mean prompt": jnp.mean(truth[:, : config.logged]),
        "oracle, logged prompts": jnp.mean(jnp.max(truth[:, : config.logged], -1)),
        "oracle, all prompts": jnp.mean(jnp.max(truth, -1)),
    }


def mean_at(truth: jax.Array, chosen: jax.Array) -> jax.Array:
    """Mean success of the chosen prompts [N]."""
    return jnp.mean(jnp.take_along_axis(truth, chosen[:, None], axis=-1))


def prompt_successes(config: Prompts, key: jax.Array, seeds: int) -> dict[str, np.ndarray]:
    """`chosen_successes` over seeds: [seeds, numbers of logged queries] or [seeds]."""
    run = jax.jit(jax.vmap(lambda key: chosen_successes(key, config)))
    return jax.tree.map(np.asarray, run(jax.random.split(key, seeds)))


def gap_closed(found: Mapping[str, np.ndarray], which: str) -> np.ndarray:
    """Share of the way from the best single prompt to the oracle, [seeds, numbers of queries].

    Args:
      which: "logged prompts" or "all prompts". The single prompt is that of the most queries.
    """
    single, oracle = found["best single prompt"][:, -1:], found[f"oracle, {which}"][:, None]
    return (found[f"OIRL, {which}"] - single) / (oracle - single)
