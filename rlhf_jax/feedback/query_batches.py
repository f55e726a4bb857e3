"""Batches of queries: the best scores, random ones weighted by score, diverse and telling sets."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from rlhf_jax.checks import check_range
from rlhf_jax.feedback.queries import choice_entropy, mean_entropy
from rlhf_jax.types import Scalar

MOST_ANSWERS = 4096  # to a set of queries, which are enumerated


def top(scores: Float[Array, " N"], n: int) -> Int[Array, " n"]:
    """Indices of the n largest scores, best first; ties go to the lower index, NaN comes last."""
    return jax.lax.top_k(jnp.where(jnp.isnan(scores), -jnp.inf, scores), n)[1]


def gumbel_top(
    key: Key[Array, ""], scores: Float[Array, " N"], n: int, *, temperature: Scalar
) -> Int[Array, " n"]:
    """n indices drawn without replacement, each from softmax(scores / temperature) of the rest.

    Args:
      scores: [N].
      n: number of indices, <= N.
      temperature: > 0, in units of the score. May be traced.
    """
    check_range("(0, inf)", temperature=temperature)
    # Same order as scores / temperature + noise, without overflow at a tiny temperature.
    return top(scores + temperature * jax.random.gumbel(key, scores.shape, scores.dtype), n)


def k_centre(
    x: Float[Array, "N d"], scores: Float[Array, " N"], labelled: Float[Array, "L d"], n: int
) -> Int[Array, " n"]:
    """n distant queries among the 2n best ones: greedy argmax_j min_{k in S} |x_j - x_k|.

    The order of a comparison's items does not matter: distances are min(|x - z|, |x + z|).

    Args:
      x: [N, d] feature differences of candidates, N >= 2n.
      scores: [N] of any rule.
      labelled: [L, d] differences that were asked already: S starts with them. If L = 0, the first
        pick is the one with the best score.
      n: number of queries.
    Reference: greedy k-centre selection of B-Pref, Lee et al. 2021, arXiv:2111.03026.
    Departs: distances do not depend on the order of the items.
    """
    kept = top(scores, 2 * n)
    near = jnp.min(turned_distances(x[kept], labelled), axis=-1, initial=jnp.inf)

    def pick(near, _):
        j = jnp.argmax(near)
        near = jnp.minimum(near, turned_distances(x[kept], x[kept][j][None])[:, 0])
        return near.at[j].set(-jnp.inf), j

    return kept[jax.lax.scan(pick, near, length=n)[1]]


def turned_distances(x: Float[Array, "N d"], z: Float[Array, "L d"]) -> Float[Array, "N L"]:
    """min(|x_i - z_j|, |x_i + z_j|)."""
    away = x[:, None] - z[None]
    turned = x[:, None] + z[None]
    squares = jnp.minimum(jnp.sum(away**2, -1), jnp.sum(turned**2, -1))
    return jnp.sqrt(squares)


def determinantal(kernel: Float[Array, "N N"], n: int) -> Int[Array, " n"]:
    """n queries with a large det(L_S), greedily: each has the largest conditional variance left.

    Args:
      kernel: [N, N] L = q_i k(x_i, x_j) q_j, positive semi-definite, with quality q > 0 and a
        similarity k that does not depend on the order of the items, e.g. (x . z)^2.
      n: number of queries, at most the rank of L.
    Reference: greedy MAP of a determinantal point process, Chen et al. 2018, arXiv:1709.05135.
    """
    size = kernel.shape[0]

    def pick(carry, k):
        left, rows = carry
        j = jnp.argmax(left)
        root = jnp.sqrt(jnp.maximum(left[j], jnp.finfo(kernel.dtype).tiny))
        row = (kernel[j] - rows[:, j] @ rows) / root
        return ((left - row**2).at[j].set(-jnp.inf), rows.at[k].set(row)), j

    start = jnp.diagonal(kernel), jnp.zeros((n, size), kernel.dtype)
    return jax.lax.scan(pick, start, jnp.arange(n))[1]


class InformativeSet(NamedTuple):
    """numbers: [n] of the queries. gains: [n] nats that each tells beyond those before it."""

    numbers: Int[Array, " n"]
    gains: Float[Array, " n"]


def informative_set(
    probs: Float[Array, "M N K"], weights: Float[Array, " M"], n: int
) -> InformativeSet:
    """n queries whose answers together tell much about the member, greedily.

    I(y_S; i) = H(sum_i w_i prod_{j in S} P_i(y_j)) - sum_{j in S} sum_i w_i H(P_i(y_j)).

    The best queries one by one would be copies of one; here a copy tells only what the noise of its
    first answer has left. All K^n answers are enumerated.

    Args:
      probs, weights: as in `queries`, of N candidates.
      n: at most N, and K^n at most MOST_ANSWERS.
    Reference: Kirsch et al. 2019, arXiv:1906.08158 (BatchBALD).
    """
    members, size, options = probs.shape
    check_range(f"[1, {size}]", n=n)
    check_range(f"[1, {MOST_ANSWERS}]", answers=options**n)
    noise = mean_entropy(probs, weights)
    joint, told, taken = jnp.ones((members, 1)), 0.0, jnp.zeros(size, bool)
    numbers, gains = [], []
    for _ in range(n):
        answers = jnp.einsum("m,ma,mjk->jak", weights, joint, probs).reshape(size, -1)
        entropies = choice_entropy(answers)
        gain = jnp.where(taken, -jnp.inf, entropies - told - noise)
        best = jnp.argmax(gain)
        numbers.append(best)
        gains.append(jnp.maximum(gain[best], 0.0))  # rounding
        told, taken = entropies[best], taken.at[best].set(True)
        joint = (joint[:, :, None] * probs[:, best][:, None]).reshape(members, -1)
    return InformativeSet(jnp.stack(numbers), jnp.stack(gains))
