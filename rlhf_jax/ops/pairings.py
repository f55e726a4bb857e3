"""Comparisons of K answers to a prompt as pairs with soft labels: the ranked pairing of OSP.

Shared argument:
  prefs: [*B, K, K] P(row beats column), NaN without a verdict; the diagonal never matters.
"""

from typing import Literal, NamedTuple

import jax
import jax.core
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from rlhf_jax.checks import check_entries, check_range
from rlhf_jax.ops.rankings import best_first
from rlhf_jax.types import Scalar

Pairing = Literal["halves", "ends"]


class RankedPairs(NamedTuple):
    """K / 2 pairs of places, better first, that use every answer once, and P(first beats second).

    prefs: NaN where the judge has no verdict on this very pair.
    """

    first: Int[Array, "*B M"]
    second: Int[Array, "*B M"]
    prefs: Float[Array, "*B M"]


def mean_wins(prefs: Float[Array, "*B K K"]) -> Float[Array, "*B K"]:
    """Win rate over the other answers, of the known comparisons; NaN where none is known."""
    own = jnp.eye(prefs.shape[-1], dtype=bool)
    known = jnp.isfinite(prefs) & ~own
    count = jnp.sum(known, axis=-1)
    total = jnp.sum(jnp.where(known, prefs, 0.0), axis=-1)
    return jnp.where(count > 0, total / jnp.maximum(count, 1), jnp.nan)


def ranked_pairing(prefs: Float[Array, "*B K K"], *, pairing: Pairing = "halves") -> RankedPairs:
    """Pairs by rank: y_(1) >= ... >= y_(K) by their win rates over the others.

    "halves": (y_(i), y_(i + K/2)), gaps of one size; "ends": (y_(i), y_(K + 1 - i)), gaps from the
    largest to the smallest. The label of a pair is the judge's own P for it, not a difference of
    win rates, and may be below 1/2. Answers with equal win rates stay in their order.

    Args:
      pairing: static.
    Raises:
      ValueError: K is not an even number of at least 2.
    Reference: Zhai et al. 2024, arXiv:2405.14103 (OSP).
    Departs: the paper's pairing rule was not available; both are natural ones.
    """
    size = prefs.shape[-1]
    if prefs.shape[-2] != size or size < 2 or size % 2:
        raise ValueError(
            "a ranked pairing needs an even number of answers to each prompt, at least 2, and "
            f"prefs [*B, K, K]; got {list(prefs.shape)}"
        )
    if pairing not in ("halves", "ends"):
        raise ValueError(f"pairing must be halves or ends, got {pairing!r}")
    order = best_first(mean_wins(prefs))
    first, second = order[..., : size // 2], order[..., size // 2 :]
    if pairing == "ends":
        second = jnp.flip(second, axis=-1)
    rows = jnp.take_along_axis(prefs, first[..., None], axis=-2)
    return RankedPairs(first, second, jnp.take_along_axis(rows, second[..., None], axis=-1)[..., 0])


def tempered_prefs(
    prefs: Float[Array, "*B"], *, temperature: Scalar = 1.0, clip: float = 1e-4
) -> Float[Array, "*B"]:
    """sigmoid(logit(p) / tau), p clipped to [c, 1 - c]; NaN stays, for no verdict. No gradient.

    With p = sigmoid(gap) of a judge, DPO's optimum of these labels is pi_ref exp(gap / (tau beta)):
    tau and beta enter as a product. A clip bounds the log-ratio that a pair asks for.

    Args:
      prefs: [*B] p in [0, 1], or NaN.
      temperature: tau > 0; above 1 for a judge that is too sure. May be traced.
      clip: c in (0, 1/2), static.
    Raises:
      ValueError: names a known probability outside [0, 1].
    Reference: Zhai et al. 2024, arXiv:2405.14103 (OSP); tau and the clip are ours.
    """
    check_range("(0, inf)", temperature=temperature)
    check_range("(0, 1/2)", clip=clip)
    if not isinstance(prefs, jax.core.Tracer):
        check_entries("[0, 1]", prefs=jnp.where(jnp.isnan(prefs), 0.5, prefs))
    inside = (prefs >= 0.0) & (prefs <= 1.0)
    kept = jnp.where(inside, jnp.clip(prefs, clip, 1.0 - clip), jnp.nan)
    logits = jnp.log(kept) - jnp.log1p(-kept)
    return jax.lax.stop_gradient(jax.nn.sigmoid(logits / temperature))


def label_entropy(prefs: Float[Array, "*B"]) -> Float[Array, "*B"]:
    """Entropy of a soft label in nats: log 2 of a tie, 0 of a sure one; NaN stays."""
    one, other = (
        jnp.where(p > 0, p * jnp.log(jnp.where(p > 0, p, 1.0)), 0.0) for p in (prefs, 1.0 - prefs)
    )
    return jnp.where(jnp.isnan(prefs), jnp.nan, -one - other)
