"""Several tries at one question: what an episode is worth, and how often it is solved.

    right: [*B, N] bool, the answer of this try is right.
    answers: [*B, N] int, ids of normalised answers; equal ids are equal answers.
    taken: [*B, N] bool, the try was made; valid: [*B, N] bool, it also has an answer to read.

Values under a False `taken` or `valid` never matter. Unequal shapes raise AssertionError.
"""

import chex
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.checks import check_ids, check_mask, check_range
from rlhf_jax.ops.rankings import tied_with_better
from rlhf_jax.types import Scalar


def retry_return(
    solved_at: Int[Array, "*B"],
    valid: Int[Array, "*B"],
    distinct: Int[Array, "*B"],
    malformed: Int[Array, "*B"],
    *,
    decay: Scalar = 1.0,
    repetition: Scalar = 0.0,
    malformed_reward: Scalar = 0.0,
) -> Float[Array, "*B"]:
    """Return of an episode of tries at one question (UFO).

    R = gamma^t - lambda (1 - E / V) + eta M,   gamma^t = 0 if no try is right.

    Args:
      solved_at: [*B] t, number of the first right try from 0; -1 for none.
      valid: [*B] V, tries with an answer. distinct: [*B] E, different answers among them.
      malformed: [*B] M, tries without one. An episode with V = 0 repeats nothing.
      decay: gamma in [0, 1], per try and not per token; 1 in the limit of the plain reward.
      repetition: lambda >= 0.
      malformed_reward: eta of each, any real number; a penalty is negative.
    Needs: counts of an episode.
    Reduces to: the reward of a single answer, 0 or 1, at one valid try or decay = 1, lambda = 0.
    Reference: Liu et al. 2025, arXiv:2507.14295 (UFO), read in its code: 0.5, 0.5, -0.1.
    """
    check_range("[0, 1]", decay=decay)
    check_range("[0, inf)", repetition=repetition)
    check_range("(-inf, inf)", malformed_reward=malformed_reward)
    check_ids(solved_at=solved_at, valid=valid, distinct=distinct, malformed=malformed)
    chex.assert_equal_shape([solved_at, valid, distinct, malformed])
    tries = jnp.maximum(solved_at, 0)
    reward = jnp.where(solved_at >= 0, jnp.asarray(decay, float) ** tries, 0.0)
    repeated = jnp.where(valid > 0, 1.0 - distinct / jnp.maximum(valid, 1), 0.0)
    return reward - repetition * repeated + malformed_reward * malformed


def distinct_count(answers: Int[Array, "*B N"], valid: Bool[Array, "*B N"]) -> Int[Array, "*B"]:
    """E, the number of different answers among the valid tries, [*B]."""
    check_mask(valid=valid)
    check_ids(answers=answers)
    repeats = tied_with_better(answers.astype(jnp.float32), valid)
    return jnp.sum(valid & ~repeats, axis=-1)


def first_success(right: Bool[Array, "*B N"], taken: Bool[Array, "*B N"]) -> Int[Array, "*B"]:
    """Number of the first right try from 0, -1 for none, [*B]."""
    solved = success_within(right, taken)
    return jnp.where(solved[..., -1], jnp.argmax(solved, axis=-1), -1)


def success_within(right: Bool[Array, "*B N"], taken: Bool[Array, "*B N"]) -> Bool[Array, "*B N"]:
    """Whether one of the first k tries is right, k = 1 ... N; the mean over B is Succ@k."""
    check_mask(right=right, taken=taken)
    chex.assert_equal_shape([right, taken])
    return jnp.cumsum(right & taken, axis=-1) > 0


def independent_success(probability: Float[Array, "*B"], tries: int) -> Float[Array, "*B N"]:
    """Pass@k = 1 - (1 - p)^k of k = 1 ... N independent tries, by question.

    Succ@k of a policy that does not read what it has tried is the mean of this over questions, not
    this of the mean.
    """
    check_range("[1, inf)", tries=tries)
    return 1.0 - (1.0 - probability[..., None]) ** jnp.arange(1, tries + 1)
