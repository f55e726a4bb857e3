"""Best-of-K selection: which of the sampled answers a policy learns from.

Only the order of the scores matters, so any strictly increasing transform of them selects the same
answers. An answer without a finite score, or with mask False, is never selected. Equal scores go to
the earliest answer; answers are drawn independently, so that is a draw among them.
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PyTree

from rlhf_jax.checks import check_ids, check_range
from rlhf_jax.ops.groups import scored_answers
from rlhf_jax.ops.kl import k1
from rlhf_jax.ops.rankings import best_first
from rlhf_jax.types import Scalar


class Best(NamedTuple):
    """The best of K answers to each prompt.

    index: [*B] in [0, K); 0 where nothing is kept.
    keep: [*B] False where none of the K can be selected.
    ties: [*B] answers with the highest score, 1 where it is unique and K where all are equal; 0
      where nothing is kept.
    """

    index: Int[Array, "*B"]
    keep: Bool[Array, "*B"]
    ties: Int[Array, "*B"]


class Top(NamedTuple):
    """The best answers of a batch. index: [M] into the batch, best first. keep: [M] False where
    fewer than M answers can be selected."""

    index: Int[Array, "M"]
    keep: Bool[Array, "M"]


def best_answers(scores: Float[Array, "*B K"], mask: Bool[Array, "*B K"] | None = None) -> Best:
    """Local ranking of RAFT: of each prompt's K answers the one with the highest score.

    k* = argmax_k R_k.

    Args:
      scores: [*B, K].
      mask: [*B, K] True where the answer may be selected; None for all.
    Needs: groups of scores.
    Reference: Dong et al. 2023, arXiv:2304.06767, Algorithm 1.
    """
    counted = scored_answers(scores, mask)
    scores = jnp.where(counted, scores, -jnp.inf)
    highest = counted & (scores == jnp.max(scores, axis=-1, keepdims=True))
    return Best(jnp.argmax(scores, axis=-1), counted.any(axis=-1), jnp.sum(highest, axis=-1))


def top_answers(
    scores: Float[Array, "B"], mask: Bool[Array, "B"] | None = None, *, count: int
) -> Top:
    """Global ranking of RAFT: the `count` highest scores of a batch, whatever their prompts.

    i_1, ..., i_M = the M largest of R_1, ..., R_B.

    It prefers easy prompts, those with high scores, over good answers to hard ones.

    Args:
      scores: [B], usually of one answer to each of B prompts.
      mask: [B] True where the answer may be selected; None for all.
      count: M in [1, B], answers to be kept: B / K for the acceptance rate of best-of-K.
    Needs: scores.
    Reference: Dong et al. 2023, arXiv:2304.06767, first version; "top" in the official code.
    """
    chex.assert_rank(scores, 1)
    check_range(f"[1, {scores.size}]", count=count)
    counted = scored_answers(scores, mask)
    index = best_first(scores, mask)[:count]
    return Top(index, counted[index])


def answers_at(tree: PyTree, places: Int[Array, "*B M"]) -> PyTree:
    """Of every array [*B, K, ...] the entries at these places along K, [*B, M, ...]."""
    check_ids(places=places)

    def take(x: Array) -> Array:
        x = jnp.asarray(x)
        index = places.reshape(*places.shape, *(1,) * (x.ndim - places.ndim))
        return jnp.take_along_axis(x, index, axis=places.ndim - 1)

    return jax.tree.map(take, tree)


def kl_ranking_scores(
    scores: Float[Array, "*B"],
    logps: Float[Array, "*B"],
    ref_logps: Float[Array, "*B"],
    *,
    beta: Scalar,
) -> Float[Array, "*B"]:
    """KL-penalised ranking of RAFT.

    R = r - beta (log pi - log pi_0), the scores to be ranked.

    An answer that the policy has made likely must be better to be selected again. The supervised
    step on the selected answers has no penalty of its own.

    Args:
      logps, ref_logps: [*B] of whole answers, under the policy that drew them and the reference.
      beta: >= 0.
    Needs: scores, reference.
    Reduces to: the scores at beta = 0.
    Reference: Dong et al. 2023, arXiv:2304.06767, Section 3 (the KL-regularised variant).
    """
    check_range("[0, inf)", beta=beta)
    chex.assert_equal_shape([scores, logps])
    return scores - beta * k1(logps, ref_logps)
