"""Linear preference bandits whose reference hardly plays what is best, and who labels in them."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from experiments.rlhf_workflow.config import Config
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.feedback.teachers import bt_labels
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.ops.newton import newton_minimum
from rlhf_jax.types import Scalar

BLOCK = 5  # coordinates of a kind of answer


class World(NamedTuple):
    """features: [S, A, 10]; weights: [10] of the reward; ref_logps: [A] of every prompt."""

    features: Float[Array, "S A d"]
    weights: Float[Array, " d"]
    ref_logps: Float[Array, " A"]


class Pairs(NamedTuple):
    """Labelled pairs: features [*N, 2, d] of both answers, the better one first by the label."""

    chosen: Float[Array, "*N d"]
    rejected: Float[Array, "*N d"]


def draw_world(config: Config, key: Key[Array, ""]) -> World:
    """Common answers have features in the first five coordinates, rare ones in the last five."""
    x_key, common_key, rare_key = jax.random.split(key, 3)
    kinds = jnp.repeat(
        jnp.arange(2),
        jnp.array([config.common, config.rare]),
        total_repeat_length=(config.common + config.rare),
    )
    rows = jax.random.normal(x_key, (config.prompts, kinds.size, BLOCK)) / jnp.sqrt(BLOCK)
    blocks = jax.nn.one_hot(kinds, 2, dtype=rows.dtype)
    features = (blocks[:, :, None] * rows[:, :, None, :]).reshape(*rows.shape[:2], 2 * BLOCK)
    norms = (config.common_norm, config.rare_norm)
    directions = [jax.random.normal(k, (BLOCK,)) for k in (common_key, rare_key)]
    weights = [n * d / jnp.linalg.norm(d) for n, d in zip(norms, directions, strict=True)]
    mass = jnp.array([1 - config.rare_mass, config.rare_mass])
    ref = jnp.log(mass / jnp.array([config.common, config.rare]))[kinds]
    return World(features, jnp.concatenate(weights), ref)


def policy_logps(world: World, params: Float[Array, " d"], *, eta: Scalar) -> Float[Array, "S A"]:
    """log pi of pi_ref exp(params . x / eta) / Z: a reward's regularised optimum."""
    rewards = world.features @ params
    return regularised_optimum(rewards, jnp.broadcast_to(world.ref_logps, rewards.shape), beta=eta)


def objective(world: World, logps: Float[Array, "S A"], *, eta: Scalar) -> Float[Array, ""]:
    """J = E[r] - eta KL(pi || pi_ref), the mean over prompts."""
    ref = jnp.broadcast_to(world.ref_logps, logps.shape)
    gained = jnp.sum(jnp.exp(logps) * (world.features @ world.weights), axis=-1)
    return jnp.mean(gained - eta * exact_kl(logps, ref))


def label(
    key: Key[Array, ""], world: World, first: Array, second: Array, *, sure: Bool[Array, ""] | bool
) -> Pairs:
    """Bradley-Terry labels of features [*N, d]; where `sure`, the better answer always wins."""
    values = jnp.stack([first @ world.weights, second @ world.weights], axis=-1)
    second_wins = bt_labels(key, values, beta=jnp.where(sure, jnp.inf, 1.0))[..., None] == 1
    return Pairs(jnp.where(second_wins, second, first), jnp.where(second_wins, first, second))


def fit(
    pairs: Pairs,
    counted: Float[Array, "N"],
    start: Float[Array, " d"],
    *,
    eta: Scalar,
    ridge: float,
) -> Float[Array, " d"]:
    """DPO of log-linear policies pi_ref exp(w . x / eta) / Z on the counted pairs, to its minimum.

    The normaliser and pi_ref drop out of a pair's log-ratios, so that eta does too.
    """
    zero = jnp.zeros_like(counted)

    def loss(params):
        logps = (rows @ params / eta for rows in pairs)
        return counted @ dpo_loss(*logps, zero, zero, beta=eta) + ridge * params @ params / 2

    return newton_minimum(loss, start).params


def draw_answers(
    key: Key[Array, ""], logps: Float[Array, "S A"], prompts: Int[Array, "N"], *, answers: int
) -> Int[Array, "N K"]:
    """Answers to each of the prompts."""
    draw = partial(jax.random.categorical, shape=(answers,))
    return jax.vmap(draw)(jax.random.split(key, prompts.size), logps[prompts])
