"""Two groups of users who agree on one feature of an answer and disagree on another."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from experiments.maxmin_rlhf.config import Config
from rlhf_jax.algos.mixture_reward import UserComparisons


class World(NamedTuple):
    """features [S, A, d]; weights [2, d] of the majority's and the minority's reward."""

    features: Float[Array, "S A d"]
    weights: Float[Array, "2 d"]

    def rewards(self) -> Float[Array, "S A 2"]:
        """Of every answer to both groups."""
        return self.features @ self.weights.T


class Asked(NamedTuple):
    """Comparisons of all users that are fitted, others that are held out, and the group [H]."""

    fitted: UserComparisons
    held: UserComparisons
    groups: Int[Array, " H"]


def draw_world(config: Config, key: Key[Array, ""]) -> World:
    """Features N(0, I), rewards scale (shared b +- conflict o) . phi."""
    feature_key, direction_key = jax.random.split(key)
    shape = (config.contexts, config.answers, config.features)
    directions = jax.random.normal(direction_key, (config.features, 2))
    shared, conflict = jnp.linalg.qr(directions)[0].T
    weights = jnp.stack(
        [config.shared * shared + sign * config.conflict * conflict for sign in (1.0, -1.0)]
    )
    return World(jax.random.normal(feature_key, shape), config.scale * weights)


def ask(config: Config, world: World, key: Key[Array, ""], groups: Int[Array, " H"]) -> Asked:
    """Each user about random pairs of different answers; the noise is Bradley-Terry's."""
    state_key, first_key, second_key, label_key = jax.random.split(key, 4)
    shape = (config.users, 2 * config.comparisons)
    states = jax.random.randint(state_key, shape, 0, config.contexts)
    first = jax.random.randint(first_key, shape, 0, config.answers)
    # 1 to A - 1 places further on, around the end: never the same answer.
    step = jax.random.randint(second_key, shape, 1, config.answers)
    second = (first + step) % config.answers
    differences = world.features[states, first] - world.features[states, second]
    margins = jnp.einsum("hnd,hd->hn", differences, world.weights[groups])
    wins = jax.random.uniform(label_key, shape) < jax.nn.sigmoid(margins)
    differences = jnp.where(wins[..., None], differences, -differences)
    mask = jnp.ones((config.users, config.comparisons), bool)
    fitted, held = jnp.split(differences, 2, axis=1)
    return Asked(UserComparisons(fitted, mask), UserComparisons(held, mask), groups)


def win_rates(
    logps: Float[Array, "S A"], world: World, ref_logps: Float[Array, "S A"]
) -> Float[Array, "2"]:
    """P(an answer of the policy beats one of the reference), by each group's own reward."""
    rewards = world.rewards()
    beats = jax.nn.sigmoid(rewards[:, :, None] - rewards[:, None, :])
    found = jnp.einsum("sa,sabk,sb->k", jnp.exp(logps), beats, jnp.exp(ref_logps))
    return found / logps.shape[0]


def group_recall(
    chosen: Int[Array, " H"], groups: Int[Array, " H"]
) -> tuple[Float[Array, "2"], Bool[Array, ""]]:
    """Share of each group's users that are put together, and whether the names are swapped.

    Fitted groups have no names: the better of the two ways to name them counts.
    """
    members = jax.nn.one_hot(groups, 2)
    recall = members.T @ jax.nn.one_hot(chosen, 2) / jnp.sum(members, axis=0)[:, None]
    straight, swapped = jnp.diagonal(recall), jnp.diagonal(recall[:, ::-1])
    swap = swapped.sum() > straight.sum()
    return jnp.where(swap, swapped, straight), swap


def pooled_margins(
    shares: Float[Array, "*B 2"], margins: Float[Array, "*B 2"]
) -> Float[Array, "*B"]:
    """The margin of one saturated reward on pooled data: sigmoid(D_s) = sum_u share_u sigmoid(D_u).

    |D_s - D_u| >= 4 (1 - share_u) |p_u - p_-u|, since the slope of the sigmoid is at most 1/4.
    """
    return jax.scipy.special.logit(jnp.sum(shares * jax.nn.sigmoid(margins), axis=-1))
