"""A bandit in which reward and cost conflict: prompts x ~ N(0, I), four answers, linear in x.

r(x, a) = b_a + 0.6 w_a . x,   c(x, a) = u_a + 0.6 v_a . x,   w, v ~ N(0, I), drawn once a world.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from experiments.hc_rlhf.config import Config

SLOPE = 0.6
REWARDS, COSTS = (2.0, 1.0, 0.5, 0.0), (1.5, 0.3, -0.8, -2.0)  # b and u


class World(NamedTuple):
    """rewards, costs: w and v, [d, A]. rare: a cost is 1 where it is above 0, and 0 elsewhere."""

    rewards: Float[Array, "d A"]
    costs: Float[Array, "d A"]
    rare: bool = False


class Prompts(NamedTuple):
    """features: [N, d + 1], the last one 1. rewards, costs: [N, A] of every answer."""

    features: Float[Array, "N e"]
    rewards: Float[Array, "N A"]
    costs: Float[Array, "N A"]


def draw_world(key: Key[Array, ""], config: Config) -> World:
    """One draw of w and v."""
    shape = (2, config.features, len(REWARDS))
    return World(*jax.random.normal(key, shape))


def draw_prompts(key: Key[Array, ""], world: World, count: int) -> Prompts:
    """Prompts with what each answer to them is worth."""
    x = jax.random.normal(key, (count, len(world.rewards)))
    rewards = jnp.array(REWARDS) + SLOPE * x @ world.rewards
    costs = jnp.array(COSTS) + SLOPE * x @ world.costs
    costs = (costs > 0).astype(costs.dtype) if world.rare else costs
    return Prompts(jnp.pad(x, ((0, 0), (0, 1)), constant_values=1.0), rewards, costs)


def means(weights: Float[Array, "e A"], prompts: Prompts) -> Float[Array, "2"]:
    """Mean reward and cost of a softmax policy, exactly over its answers."""
    probs = jax.nn.softmax(prompts.features @ weights)
    return jnp.stack([jnp.mean(jnp.sum(probs * x, -1)) for x in (prompts.rewards, prompts.costs)])


def answer_costs(
    key: Key[Array, ""], weights: Float[Array, "e A"], prompts: Prompts
) -> Float[Array, "N"]:
    """The cost of one sampled answer to each prompt."""
    actions = jax.random.categorical(key, prompts.features @ weights)
    return jnp.take_along_axis(prompts.costs, actions[:, None], axis=-1)[:, 0]
