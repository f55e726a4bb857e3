"""The cross-entropy method: a sequence of continuous actions that maximises a score."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key

from rlhf_jax.checks import check_fields, check_range
from rlhf_jax.types import Scalar

Score = Callable[[Array], Array]  # sequences [N, H, k] -> scores [N], -inf where not allowed


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """horizon: H. candidates, elites, sweeps: drawn in each sweep, fitted to, and how many sweeps.
    spread: standard deviation of the first sweep, as a share of the limit.

    Fewer candidates than LS3's 1000, 100 and 5: actions are two numbers here.
    """

    horizon: int = 5
    candidates: int = 128
    elites: int = 16
    sweeps: int = 4
    spread: float = 0.7

    def __post_init__(self):
        check_fields(self, "[1, inf)", "horizon", "candidates", "sweeps")
        check_fields(self, f"[1, {self.candidates}]", "elites")
        check_fields(self, "(0, inf)", "spread")


class BestSequence(NamedTuple):
    """actions: [H, k] of the best candidate of all sweeps; score: its score, -inf if none was
    allowed, and then the actions are of any candidate."""

    actions: Array
    score: Array


def search_noise(
    key: Key[Array, ""], *, size: int, config: SearchConfig
) -> Float[Array, "sweeps N H k"]:
    """Standard normal numbers for `cross_entropy`; k = size is the length of an action."""
    return jax.random.normal(key, (config.sweeps, config.candidates, config.horizon, size))


def cross_entropy(
    noise: Float[Array, "sweeps N H k"], score: Score, *, limit: Scalar, config: SearchConfig
) -> BestSequence:
    """argmax of score over sequences in [-limit, limit]^(H x k), approximately.

    Each sweep takes a_i = clip(m + s noise_i) and fits m and s to the elites: the allowed
    candidates among those of the highest scores. m and s stay where none is allowed.

    Args:
      noise: from `search_noise`. Several plans may share it: drawing it takes longer than most
        scores, and a plan is a function of it.
      score: `[N, H, k] -> [N]`, -inf for a sequence that is not allowed.
      limit: > 0.
    Reference: Rubinstein 1999; for planning as in Wilcox et al. 2021 (LS3), arXiv:2107.04775.
    Departs: returns the best candidate, which is allowed if any is; LS3 takes the mean of the
      elites. Every plan starts at m = 0.
    """
    check_range("(0, inf)", limit=limit)

    def sweep(carry, drawn):
        mean, deviation, best = carry
        actions = jnp.clip(mean + deviation * drawn, -limit, limit)
        scores, rows = jax.lax.top_k(score(actions), config.elites)
        elites, allowed = actions[rows], scores > -jnp.inf
        mean, deviation = _fit(elites, allowed, mean, deviation)
        better = scores[0] > best.score
        best = BestSequence(
            jnp.where(better, elites[0], best.actions), jnp.maximum(scores[0], best.score)
        )
        return (mean, deviation, best), None

    mean = jnp.zeros(noise.shape[2:])
    start = mean, mean + config.spread * limit, BestSequence(mean, jnp.asarray(-jnp.inf))
    return jax.lax.scan(sweep, start, noise)[0][2]


def _fit(
    elites: Float[Array, "E H k"], allowed: Bool[Array, " E"], mean: Array, deviation: Array
) -> tuple[Array, Array]:
    """Mean and standard deviation of the allowed elites; the old ones if there are none."""
    weights = allowed / jnp.maximum(jnp.sum(allowed), 1)
    centre = jnp.einsum("e,ehk->hk", weights, elites)
    spread = jnp.sqrt(jnp.einsum("e,ehk->hk", weights, (elites - centre) ** 2))
    some = jnp.any(allowed)
    return jnp.where(some, centre, mean), jnp.where(some, spread, deviation)
