"""PPO on filtered answers, for any policy whose answers can be enumerated."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from rlhf_jax.algos.gradient import gradient_step, init_state
from rlhf_jax.losses.policy_gradient import ppo_clip_loss
from rlhf_jax.ops.filtration import (
    best_random_weights,
    best_weights,
    best_worst_weights,
    filter_r2,
    power_weights,
    resampled,
    uniform_weights,
)
from rlhf_jax.ops.groups import informative_groups
from rlhf_jax.ops.masking import weighted_mean, whiten
from rlhf_jax.types import Params, TrainState

FIRST = 5  # iterations of which R^2 is read


def middle_weights(scores: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    """All but the best and the worst, which must not help."""
    others = (best_worst_weights(scores) == 0).astype(scores.dtype)
    count = jnp.sum(others, axis=-1, keepdims=True)
    return jnp.where(count > 0, others / jnp.maximum(count, 1), uniform_weights(scores))


FILTERS = {
    "none": uniform_weights,
    "best": best_weights,
    "best and random": best_random_weights,
    "best and worst": best_worst_weights,
    "middle": middle_weights,
    "power": power_weights,
}
NAMES = tuple(FILTERS)


class Rules(NamedTuple):
    """Numbers of PPO, and how it filters: kind is a place in NAMES, whiten_first the order."""

    beta: Array | float
    clip_eps: float
    epochs: int
    baseline_rate: float
    kind: Array | int
    whiten_first: Array | bool


class Carried(NamedTuple):
    """train: of the policy. baseline: [S] moving mean of each prompt's rewards."""

    train: TrainState
    baseline: Array


def train_filtered(
    rules: Rules,
    start: Params,
    logits_of: Callable[[Params], Array],
    optimizer: optax.GradientTransformation,
    scores: Float[Array, "S A"],
    gold: Float[Array, "S A"],
    noise: Float[Array, "I S N A"],
    key: Key[Array, ""],
) -> dict[str, Array]:
    """gold: [I + 1] exact mean. r2: mean of the first iterations, 0 where
    none of them has different verdicts. informative: share of groups.

    The starting policy is the reference. Answers are drawn by the Gumbel noise.
    """
    ref_logps = jax.nn.log_softmax(logits_of(start))
    states = jnp.broadcast_to(jnp.arange(len(scores))[:, None], noise.shape[1:3])

    def iteration(carried: Carried, drawn: tuple[Array, Array]) -> tuple[Carried, dict[str, Array]]:
        own_noise, number = drawn
        logits = logits_of(carried.train.params)
        logps = jax.nn.log_softmax(logits)
        actions = jnp.argmax(logits[:, None] + own_noise, axis=-1)
        found = scores[states, actions]
        paid = found - rules.beta * (logps - ref_logps)[states, actions]
        weights = jnp.stack([each(found) for each in FILTERS.values()])[rules.kind]
        kept, _ = resampled(weights, jax.random.fold_in(key, number), size=found.shape[-1])
        advantages = kept_advantages(paid - carried.baseline[:, None], kept, rules.whiten_first)
        kept_actions = jnp.take_along_axis(actions, kept, axis=-1)

        def objective(params: Params):
            new, old = (
                x[states, kept_actions] for x in (jax.nn.log_softmax(logits_of(params)), logps)
            )
            return weighted_mean(ppo_clip_loss(new, old, advantages, clip_eps=rules.clip_eps)), {}

        def epoch(_, state: TrainState) -> TrainState:
            return gradient_step(state, objective, optimizer)[0]

        state = jax.lax.fori_loop(0, rules.epochs, epoch, carried.train)
        means = jnp.take_along_axis(paid, kept, axis=-1).mean(-1)
        baseline = carried.baseline + rules.baseline_rate * (means - carried.baseline)
        return Carried(state, baseline), {
            "gold": mean_gold(logits, gold),
            "r2": filter_r2(found, gold[states, actions], weights),
            "informative": jnp.mean(informative_groups(found)),
        }

    first = jnp.sum(jax.nn.softmax(logits_of(start)) * scores, axis=-1)
    carried = Carried(init_state(start, optimizer), first)
    carried, curves = jax.lax.scan(iteration, carried, (noise, jnp.arange(len(noise))))
    last = mean_gold(logits_of(carried.train.params), gold)
    return {
        "gold": jnp.append(curves["gold"], last),
        "r2": jnp.nan_to_num(jnp.nanmean(curves["r2"][:FIRST])),
        "informative": jnp.mean(curves["informative"]),
    }


def kept_advantages(
    advantages: Float[Array, "S N"], kept: Int[Array, "S M"], whiten_first: Array | bool
) -> Float[Array, "S M"]:
    """Whitened over the batch before answers are kept, or over those that are kept."""

    def white(x: Array) -> Array:
        return whiten(x, jnp.ones(x.shape, bool))

    before = jnp.take_along_axis(white(advantages), kept, axis=-1)
    return jnp.where(whiten_first, before, white(jnp.take_along_axis(advantages, kept, axis=-1)))


def mean_gold(logits: Float[Array, "S A"], gold: Float[Array, "S A"]) -> Float[Array, ""]:
    """Exact mean of gold under the policy."""
    return jnp.mean(jnp.sum(jax.nn.softmax(logits) * gold, axis=-1))
