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
class Config:
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


class Best(NamedTuple):
    """actions: [H, k] of the best candidate of all sweeps; score: its score, -inf if none was
    allowed, and then the actions are of any candidate."""

    actions: Array
    score: Array


def cross_entropy(
    key: Key[Array, ""], score: Score, *, size: int, limit: Scalar, config: Config
) -> Best:
    """argmax of score over sequences in [-limit, limit]^(H x k), approximately.

    Each sweep draws a_i ~ clip(N(m, diag s^2)) and fits m and s to the elites: the allowed
    candidates among those of the highest scores. m and s stay where none is allowed.

    Args:
      score: `[N, H, k] -> [N]`, -inf for a sequence that is not allowed.
      size: k numbers in an action. limit: > 0.
    Reference: Rubinstein 1999; for planning as in Wilcox et al. 2021 (LS3), arXiv:2107.04775.
    Departs: returns the best candidate, which is allowed if any is; LS3 takes the mean of the
      elites. Every plan starts at m = 0.
    """
    check_range("(0, inf)", limit=limit)
    shape = (config.candidates, config.horizon, size)

    def sweep(carry, key):
        mean, deviation, best = carry
        drawn = mean + deviation * jax.random.normal(key, shape)
        actions = jnp.clip(drawn, -limit, limit)
        scores, rows = jax.lax.top_k(score(actions), config.elites)
        elites, allowed = actions[rows], scores > -jnp.inf
        mean, deviation = _fit(elites, allowed, mean, deviation)
        better = scores[0] > best.score
        best = Best(jnp.where(better, elites[0], best.actions), jnp.maximum(scores[0], best.score))
        return (mean, deviation, best), None

    mean = jnp.zeros(shape[1:])
    start = (mean, mean + config.spread * limit, Best(mean, jnp.asarray(-jnp.inf)))
    return jax.lax.scan(sweep, start, jax.random.split(key, config.sweeps))[0][2]


def _fit(
    elites: Float[Array, "E H k"], allowed: Bool[Array, " E"], mean: Array, deviation: Array
) -> tuple[Array, Array]:
    """Mean and standard deviation of the allowed elites; the old ones if there are none."""
    weights = allowed / jnp.maximum(jnp.sum(allowed), 1)
    centre = jnp.einsum("e,ehk->hk", weights, elites)
    spread = jnp.sqrt(jnp.einsum("e,ehk->hk", weights, (elites - centre) ** 2))
    some = jnp.any(allowed)
    return jnp.where(some, centre, mean), jnp.where(some, spread, deviation)
