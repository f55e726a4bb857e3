"""Four learners of whose answer is preferred where, from counts of group-labelled comparisons.

    counts = count_labels(groups, contexts, labels, num_groups=4, num_contexts=256)    # [4, 256, 2]
    vote_scores(counts)                                       # a table for each group
    vote_scores(pool_groups(counts))                          # one table for all
    linear_scores(counts, features, precision=0.01)           # a linear reward for each group
    linear_scores(pool_groups(counts), features, precision=0.01)

The two answers of a context are answer 0 and answer 1. Scores [*B, S] are margins of a reward,
answer 1 over answer 0: their sign decides, and 0 is a tie. Tables assume nothing of contexts, and
linear rewards that features tell all. What is at stake in wrong decisions: `ops.stakes`.

Reference: the systems that Sahoo et al. 2025, arXiv:2511.19504, argue about; derived.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlhf_jax.checks import check_entries, check_ids, check_range, decided
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.newton import newton_minimum
from rlhf_jax.types import Scalar


def count_labels(
    groups: Int[Array, " N"],
    contexts: Int[Array, " N"],
    labels: Int[Array, " N"],
    *,
    num_groups: int,
    num_contexts: int,
) -> Float[Array, "G S 2"]:
    """How often each group preferred answer 0 and answer 1 in each context.

    Args:
      groups, contexts: [N]; an id out of range is not counted.
      labels: [N] index of the winner; any other label is not counted.
    """
    check_ids(groups=groups, contexts=contexts)
    check_range("[1, inf)", num_groups=num_groups, num_contexts=num_contexts)
    chex.assert_equal_shape([groups, contexts, labels])
    known = decided(labels) & (groups >= 0) & (contexts >= 0)
    # mode="drop" takes a negative index for one from the end, hence `known`.
    empty = jnp.zeros((num_groups, num_contexts, 2))
    return empty.at[groups, contexts, labels].add(jnp.where(known, 1.0, 0.0), mode="drop")


def pool_groups(counts: Float[Array, "*B G S 2"]) -> Float[Array, "*B G S 2"]:
    """The counts of all groups together, for each group: what a learner sees without group ids."""
    return jnp.broadcast_to(jnp.sum(counts, axis=-3, keepdims=True), counts.shape)


def vote_scores(counts: Float[Array, "*B S 2"]) -> Float[Array, "*B S"]:
    """Votes for answer 1 minus votes for answer 0: the sign of a tabular Bradley-Terry fit.

    A context without labels is a tie.
    """
    check_entries("[0, inf)", counts=counts)
    return counts[..., 1] - counts[..., 0]


def linear_scores(
    counts: Float[Array, "*B S 2"], features: Float[Array, "S d"], *, precision: Scalar
) -> Float[Array, "*B S"]:
    """Margins of a linear Bradley-Terry reward, fitted to the end: theta . phi(s).

    theta = argmin sum_s n_1(s) l(theta . phi(s)) + n_0(s) l(-theta . phi(s)) + lambda/2 |theta|^2,
    l(z) = -log sigmoid(z).

    Least squares on +-1 labels would not have the signs of the truth under such noise.

    Args:
      features: phi [S, d], of answer 1 minus answer 0.
      precision: lambda > 0 of the prior N(0, I / lambda): separable labels have no other fit.
    """
    check_range("(0, inf)", precision=precision)
    check_entries("[0, inf)", counts=counts)
    chex.assert_equal(counts.shape[-2], features.shape[0])

    def fit(votes: Array) -> Array:
        def objective(weights: Array) -> Array:
            margins = features @ weights
            zeros = jnp.zeros_like(margins)
            lost, won = bradley_terry_loss(zeros, margins), bradley_terry_loss(margins, zeros)
            losses = votes[:, 0] * lost + votes[:, 1] * won
            return jnp.sum(losses) + precision / 2 * jnp.sum(weights**2)

        start = jnp.zeros(features.shape[1], features.dtype)
        return features @ newton_minimum(objective, start).params

    found = jax.lax.map(fit, counts.reshape(-1, *counts.shape[-2:]))
    return found.reshape(counts.shape[:-1])
