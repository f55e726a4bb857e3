"""Policy filtration: how much a policy gradient learns from each of the K answers to a prompt.

Shared arguments and results, unless a function says otherwise:
  scores: [*B, K] r of a reward model; the last axis is the group. An answer without a finite score
    counts as missing, and gets weight 0; G of the K answers have one.
Weights are [*B, K], >= 0, and sum to 1 over a group; they are all 0 in a group without any score.
They are uniform in a group of equal scores, where a filter has nothing to go by: the share of
`ops.groups.informative_groups` says how many others there are. Of equal scores the earlier answer
ranks higher. Weights are data: no gradient flows to the scores.
"""

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from rlhf_jax.checks import check_range
from rlhf_jax.ops.groups import informative_groups, scored_answers
from rlhf_jax.ops.rankings import best_first
from rlhf_jax.types import Scalar


def uniform_weights(scores: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    """No filter: 1/G for every answer with a score. K may be 1.

    Reference: Zhang et al. 2024, arXiv:2409.06957 (PPO-M).
    """
    scored = scored_answers(scores)
    return scored / jnp.maximum(jnp.sum(scored, axis=-1, keepdims=True), 1)


def best_weights(scores: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    """Best of n: 1 for the best answer.

    Reference: Zhang et al. 2024, arXiv:2409.06957 (BoN).
    """
    places, _ = _places(scores)
    return _filtered(scores, places == 0)


def best_random_weights(scores: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    """Best and random: 1/2 for the best answer, 1/(2 (G - 1)) for each of the others.

    Reduces to: `uniform_weights` at G = 2.
    Reference: Zhang et al. 2024, arXiv:2409.06957 (BR).
    """
    places, count = _places(scores)
    others = scored_answers(scores) & (places > 0)
    return _filtered(scores, (places == 0) + others / jnp.maximum(count - 1, 1))


def best_worst_weights(scores: Float[Array, "*B K"]) -> Float[Array, "*B K"]:
    """Best and worst: 1/2 for each of the two.

    Reduces to: `uniform_weights` at G = 2.
    Reference: Zhang et al. 2024, arXiv:2409.06957 (BW).
    """
    places, count = _places(scores)
    return _filtered(scores, (places == 0) | (places == count - 1))


def power_weights(scores: Float[Array, "*B K"], *, power: Scalar = 2.0) -> Float[Array, "*B K"]:
    """Power: proportional to |r|^p, so that it keeps what is far from 0 on either side.

    The only filter here that depends on the zero of the scores.

    Args:
      power: p >= 0.
    Reduces to: `uniform_weights` at p = 0.
    Reference: Zhang et al. 2024, arXiv:2409.06957, in its code.
    Departs: over a prompt, not over the whole buffer.
    """
    check_range("[0, inf)", power=power)
    scores = jax.lax.stop_gradient(scores)
    sizes = jnp.where(scored_answers(scores), jnp.abs(scores), 0.0)
    # Over the largest of a group, so that no power overflows.
    largest = jnp.max(sizes, axis=-1, keepdims=True)
    sizes = sizes / jnp.where(largest > 0, largest, 1.0)
    return _filtered(scores, sizes**power)


def widest_weights(scores: Float[Array, "B K"], *, share: Scalar = 0.25) -> Float[Array, "B K"]:
    """Widest groups (rollout filter): uniform in the groups with the largest deviation, else 0.

    ceil(q B) of the B groups are kept, of equal deviations the earlier; unlike the filters above it
    compares prompts, so the leading axis is that of a whole batch. It leaves out easy and hopeless
    prompts, which changes the objective.

    Args:
      share: q in (0, 1].
    Reduces to: `uniform_weights` at q = 1.
    Reference: Liu et al. 2025, arXiv:2507.14295 (UFO), in its code, q = 0.25.
    """
    check_range("(0, 1]", share=share)
    weights = uniform_weights(scores)
    away = jnp.where(weights > 0, scores, 0.0)
    mean = jnp.sum(weights * away, axis=-1, keepdims=True)
    spread = jnp.sum(weights * jnp.where(weights > 0, away - mean, 0.0) ** 2, axis=-1)
    kept = jnp.argsort(best_first(spread)) < jnp.ceil(share * spread.shape[-1])
    return jax.lax.stop_gradient(jnp.where(kept[..., None], weights, 0.0))


def resampled(
    weights: Float[Array, "*B K"], key: Key[Array, ""], *, size: int
) -> tuple[Int[Array, "*B N"], Bool[Array, "*B"]]:
    """Numbers of `size` answers of each group, drawn with replacement by weight.

    Args:
      weights: [*B, K] >= 0, e.g. of a filter.
      key: of the draw. size: N >= 1.
    Returns:
      Numbers in [0, K), and False for the groups in which all weights are 0.
    Reference: Zhang et al. 2024, arXiv:2409.06957.
    """
    check_range("[1, inf)", size=size)
    weights = jax.lax.stop_gradient(weights)
    kept = jnp.any(weights > 0, axis=-1)
    logits = jnp.where(kept[..., None], jnp.log(weights), 0.0)
    shape = (size, *weights.shape[:-1])
    return jnp.moveaxis(jax.random.categorical(key, logits, shape=shape), 0, -1), kept


def filter_r2(
    scores: Float[Array, "*B K"], gold: Float[Array, "*B K"], weights: Float[Array, "*B K"]
) -> Float[Array, ""]:
    """R^2 of gold on the scores over what a filter keeps, by which a filter is chosen.

    R^2 = cov_w(r, g)^2 / (var_w r var_w g), the squared correlation over all prompts together.

    Args:
      gold: [*B, K] g, the true score or a verdict; an answer without a finite one is left out.
      weights: [*B, K] of a filter.
    Returns:
      A number in [0, 1]; NaN where fewer than two answers are left, or all are equal in r or in g:
      nothing can be chosen by it then.
    Needs: scores with true scores.
    Reference: Zhang et al. 2024, arXiv:2409.06957.
    Departs: plain samples; the paper groups them by reward before the regression, in groups of a
      size that was not found.
    """
    chex.assert_equal_shape([scores, gold, weights])
    known = jnp.isfinite(scores) & jnp.isfinite(gold) & (weights > 0)
    weights = jnp.where(known, weights, 0.0)
    total = jnp.sum(weights)
    shares = weights / jnp.where(total > 0, total, 1.0)

    def away(x: Array) -> Array:
        x = jnp.where(known, x, 0.0)
        x = jnp.where(known, x - jnp.sum(shares * x), 0.0)
        size = jnp.max(jnp.abs(x))
        return x / jnp.where(size > 0, size, 1.0)  # squares then neither overflow nor vanish

    x, y = away(scores), away(gold)
    spreads = jnp.sum(shares * x**2) * jnp.sum(shares * y**2)
    spread = (spreads > 0) & _differs(scores, known) & _differs(gold, known)
    found = jnp.sum(shares * x * y) ** 2 / jnp.where(spread, spreads, 1.0)
    return jnp.where(spread, jnp.clip(found, 0.0, 1.0), jnp.nan)


def _differs(x: Array, known: Array) -> Array:
    """Whether two known numbers differ; rounding of a mean would make equal ones differ."""
    return jnp.max(jnp.where(known, x, -jnp.inf)) > jnp.min(jnp.where(known, x, jnp.inf))


def _places(scores: Float[Array, "*B K"]) -> tuple[Int[Array, "*B K"], Int[Array, "*B 1"]]:
    """The rank of each answer, 0 for the best and missing ones last, and G."""
    if scores.shape[-1] < 2:
        raise ValueError(f"a filter ranks at least 2 answers to a prompt, got {scores.shape[-1]}")
    count = jnp.sum(scored_answers(scores), axis=-1, keepdims=True)
    return jnp.argsort(best_first(scores), axis=-1), count


def _filtered(scores: Float[Array, "*B K"], sizes: Array) -> Float[Array, "*B K"]:
    """Sizes as weights; uniform ones where all scores are equal, or all sizes 0."""
    uniform = uniform_weights(scores)
    sizes = jnp.where(scored_answers(scores), sizes, 0.0).astype(uniform.dtype)
    total = jnp.sum(sizes, axis=-1, keepdims=True)
    useful = informative_groups(scores)[..., None] & (total > 0)
    weights = jnp.where(useful, sizes / jnp.where(total > 0, total, 1.0), uniform)
    return jax.lax.stop_gradient(weights)
