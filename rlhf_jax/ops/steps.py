"""Steps of an answer, each scored at its last token by a process reward model.

    step_scores: [*B, T] s_t, logits of "right so far"; only those at the end of a step are read.
    ends: [*B, T] True at the last token of each step; p = sigmoid(s) there is the step's score.

Values under False never matter, NaN included. Unequal shapes raise AssertionError at trace time.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_mask
from rlhf_jax.ops.returns import last_step


def step_ends(
    breaks: Bool[Array, "*B T"], stops: Bool[Array, "*B T"], mask: Bool[Array, "*B T"]
) -> Bool[Array, "*B T"]:
    """The last token of each step: a break between two steps, and the last token that counts.

    Of several breaks in a row, it is the last one. Breaks before the first step and after the last
    end none.

    Args:
      breaks: [*B, T] True at tokens between steps, e.g. those with a line break in their text.
      stops: [*B, T] True at tokens that end the answer.
      mask: [*B, T] True where a token counts.
    """
    check_mask(breaks=breaks, stops=stops, mask=mask)
    chex.assert_equal_shape([breaks, stops, mask])
    said = mask & ~breaks & ~stops
    seen = jnp.cumsum(said, axis=-1)
    inside = (seen > 0) & (seen < seen[..., -1:])
    following = jnp.concatenate([breaks[..., 1:], jnp.zeros_like(breaks[..., :1])], axis=-1)
    between = mask & breaks & ~following & inside
    return between | last_step(mask)


def step_product(
    step_scores: Float[Array, "*B T"], ends: Bool[Array, "*B T"]
) -> Float[Array, "*B"]:
    """Probability that every step is right, if they were independent.

    R = prod_n p_n; NaN without a step.

    Reference: Lightman et al. 2023, arXiv:2305.20050, Section 2.
    """
    log_probs = jax.nn.log_sigmoid(_at(step_scores, ends, 0.0))
    total = jnp.sum(jnp.where(ends, log_probs, 0.0), axis=-1)
    return jnp.where(jnp.any(ends, axis=-1), jnp.exp(total), jnp.nan)


def step_minimum(
    step_scores: Float[Array, "*B T"], ends: Bool[Array, "*B T"]
) -> Float[Array, "*B"]:
    """Probability that the worst step is right.

    R = min_n p_n; NaN without a step.

    Reference: Lightman et al. 2023, arXiv:2305.20050, Appendix F; Wang et al. 2023,
      arXiv:2312.08935, Section 3.4.
    """
    lowest = jnp.min(_at(step_scores, ends, jnp.inf), axis=-1)
    return jnp.where(jnp.any(ends, axis=-1), jax.nn.sigmoid(lowest), jnp.nan)


def step_rewards(
    step_scores: Float[Array, "*B T"], ends: Bool[Array, "*B T"]
) -> Float[Array, "*B T"]:
    """Rewards per token: r_t = p_n at the end of step n, 0 elsewhere.

    Their sum grows with the number of steps: watch the length of answers.

    Reference: Wang et al. 2023, arXiv:2312.08935, Section 3.5 (step-by-step PPO).
    """
    return jnp.where(ends, jax.nn.sigmoid(_at(step_scores, ends, 0.0)), 0.0)


def _at(step_scores: Array, ends: Array, other: float) -> Array:
    """The scores at the ends, `other` elsewhere."""
    check_mask(ends=ends)
    chex.assert_equal_shape([step_scores, ends])
    return jnp.where(ends, step_scores, other)
