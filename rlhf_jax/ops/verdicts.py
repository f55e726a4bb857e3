"""Verdicts of a generative judge as numbers: rewards of the judge, gaps between answers, votes.

A verdict z says how much better the second of two answers is: -1 and 1 in the binary form, -3, -2,
-1, 1, 2 and 3 in the graded one. NaN is a judgement without a verdict. `rewards.verdicts` reads
them from texts.

Reference: Hong et al. 2025, arXiv:2505.16265 (Think-RM), and its code.
"""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.checks import check_entries, check_range
from rlhf_jax.types import Scalar


def verdict_rewards(
    verdicts: Float[Array, "*B"], labels: Float[Array, "*B"], *, partial_credit: Scalar = 0.5
) -> Float[Array, "*B"]:
    """The rule that trains a judge: right, right about the winner, or wrong.

    R = 1 if z = z*, h if only sign(z) = sign(z*), else 0; also 0 without a verdict.

    Args:
      verdicts: [*B] z, NaN without a verdict.
      labels: [*B] z*, finite and not 0.
      partial_credit: h in [0, 1]. In the binary form it never enters.
    Needs: verdicts, labels.
    Reference: Hong et al. 2025, arXiv:2505.16265, the rewards of its code.
    """
    check_range("[0, 1]", partial_credit=partial_credit)
    check_entries("(0, inf)", absolute_labels=jnp.abs(labels))
    chex.assert_equal_shape([verdicts, labels])
    # NaN equals nothing, and its sign is NaN.
    same_side = jnp.sign(verdicts) == jnp.sign(labels)
    return jnp.where(verdicts == labels, 1.0, jnp.where(same_side, partial_credit, 0.0))


def verdict_gaps(
    verdicts: Float[Array, "*B K K"], lengths: Float[Array, "*B K K"] | None = None
) -> Float[Array, "*B K K"]:
    """The antisymmetric matrix of one judgement per pair, for `ops.groups.pairwise_advantages`.

    D_ij = -z_ij and D_ji = z_ij for i < j, D_ii = 0; with lengths z_ij / l_ij in place of z_ij.

    Args:
      verdicts: [*B, K, K] z_ij of answer i shown first and j second; read above the diagonal alone.
        NaN, without a verdict, makes two entries NaN, which advantages leave out. The paper's code
        takes 0 there, a tie: `jnp.nan_to_num` of the verdicts.
      lengths: [*B, K, K] > 0, characters of each judgement, as the code of the binary form divides
        by; None for none.
    Needs: verdicts on all pairs of K answers.
    Reference: Hong et al. 2025, arXiv:2505.16265.
    """
    if verdicts.shape[-1] != verdicts.shape[-2]:
        raise ValueError(f"verdicts must be [*B, K, K], got {verdicts.shape}")
    if lengths is not None:
        chex.assert_equal_shape([verdicts, lengths])
        verdicts = verdicts / lengths
    above = jnp.triu(jnp.ones(verdicts.shape[-2:], bool), 1)
    # `where`, because NaN below the diagonal would survive a product with 0.
    upper = jnp.where(above, verdicts, 0.0)
    return jnp.swapaxes(upper, -1, -2) - upper


def majority_verdicts(verdicts: Float[Array, "*B M"]) -> Float[Array, "*B"]:
    """The winner by most of M judgements of one pair: -1, 1, or 0 where they are even.

    Judgements without a verdict do not vote; NaN where none has one.
    """
    known = jnp.isfinite(verdicts)
    votes = jnp.sum(jnp.where(known, jnp.sign(verdicts), 0.0), axis=-1)
    return jnp.where(jnp.any(known, axis=-1), jnp.sign(votes), jnp.nan)


def verdict_credits(
    verdicts: Float[Array, "*B"], labels: Float[Array, "*B"], *, unread: Scalar = 0.0
) -> Float[Array, "*B"]:
    """What a verdict counts in an accuracy: 1 for the right winner, 1/2 for 0, else 0.

    Args:
      verdicts: [*B] z; 0 is an even vote of `majority_verdicts`, NaN is without a verdict.
      labels: [*B] z*, finite and not 0.
      unread: credit without a verdict: 0 is the strict accuracy of the paper's code, 1/2 the
        flexible one.
    """
    check_range("[0, 1]", unread=unread)
    check_entries("(0, inf)", absolute_labels=jnp.abs(labels))
    chex.assert_equal_shape([verdicts, labels])
    right = 0.5 * (1.0 + jnp.sign(verdicts) * jnp.sign(labels))
    return jnp.where(jnp.isfinite(verdicts), right, unread)
