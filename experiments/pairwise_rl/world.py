"""A contextual bandit with an anchor for each prompt, and what rewards can be made of it."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from experiments.pairwise_rl.config import Config
from rlhf_jax.losses import (
    binary_pairwise_rewards,
    pairwise_rewards,
    verdict_margins,
)

SOURCES = (
    "two orders",
    "one order",
    "two orders, margin",
    "two orders, verdict alone",
    "calibrated score",
    "shifted score",
    "shifted and scaled score",
)


class World(NamedTuple):
    """scores, ref_logits: [X, A] of all answers. anchors: [X] an answer to each prompt. bias,
    shift, scale: [X] of the judge, and of pointwise rewards."""

    scores: Array
    ref_logits: Array
    anchors: Array
    bias: Array
    shift: Array
    scale: Array


def draw_world(key: Key[Array, ""], config: Config) -> World:
    """Scores, reference, anchors and what is wrong with each reward, all independent."""
    keys = jax.random.split(key, 6)
    shape = (config.prompts, config.answers)
    normal = [jax.random.normal(keys[i], shape) for i in range(2)]
    by_prompt = [jax.random.normal(keys[i], shape[:1]) for i in range(2, 5)]
    return World(
        scores=config.spread * normal[0],
        ref_logits=config.ref_spread * normal[1],
        anchors=jax.random.randint(keys[5], shape[:1], 0, config.answers),
        bias=config.bias * by_prompt[0],
        shift=config.shift * by_prompt[1],
        scale=jnp.exp(config.log_scale * by_prompt[2]),
    )


def verdict_logits(
    first: Float[Array, "*B"], second: Float[Array, "*B"], bias: Float[Array, "*B"]
) -> Float[Array, "*B 2 2"]:
    """Of a judge who knows both scores and likes what it reads first: g = s - s' + bias."""
    margins = jnp.stack([first - second + bias, second - first + bias], axis=-1)
    return jnp.stack([margins, jnp.zeros_like(margins)], axis=-1)


def anchor_scores(world: World) -> Float[Array, "X 1"]:
    """True scores of the anchors."""
    return jnp.take_along_axis(world.scores, world.anchors[:, None], axis=1)


def anchor_verdicts(world: World) -> Float[Array, "X A 2 2"]:
    """The biased judge, asked about every answer and its anchor in both orders."""
    anchors, bias = (
        jnp.broadcast_to(x, world.scores.shape) for x in (anchor_scores(world), world.bias[:, None])
    )
    return verdict_logits(world.scores, anchors, bias)


def true_wins(world: World) -> Float[Array, "X A"]:
    """P(answer beats the anchor)."""
    return jax.nn.sigmoid(world.scores - anchor_scores(world))


def all_rewards(world: World) -> Float[Array, "R X A"]:
    """The reward of every answer by each of SOURCES."""
    asked = anchor_verdicts(world)
    margins, scores = verdict_margins(asked), world.scores
    shift, scale = world.shift[:, None], world.scale[:, None]
    return jnp.stack(
        [
            pairwise_rewards(margins),
            pairwise_rewards(asked[..., 0, 0] - asked[..., 0, 1]),
            margins,
            binary_pairwise_rewards(margins),
            scores,
            scores + shift,
            scale * scores + shift,
        ]
    )


def spread_within(rewards: Float[Array, "X A"], ref_logits: Float[Array, "X A"]) -> Array:
    """Standard deviation of rewards within prompts, under the reference."""
    probs = jax.nn.softmax(ref_logits)
    means = jnp.sum(probs * rewards, axis=-1, keepdims=True)
    return jnp.sqrt(jnp.mean(jnp.sum(probs * (rewards - means) ** 2, axis=-1)))


def share_of_prompts(rewards: Float[Array, "X A"], ref_logits: Float[Array, "X A"]) -> Array:
    """Share of the variance of rewards that the prompt explains, under the reference."""
    means = jnp.sum(jax.nn.softmax(ref_logits) * rewards, axis=-1)
    between = jnp.var(means)
    return between / (between + spread_within(rewards, ref_logits) ** 2)
