"""Fitting a gap reward model to comparisons: how much better is an answer than a reference answer?

    update = make_update(reward, rewrite, optax.adam(1e-3))
    gaps = pair_gaps(reward, rewrite, params, pairs)        # [*B, 2, 2]

The model scores one row with the reference that was read and the answer that was written, as
`rewrite(read, write)` lays it out: `language_rewriting` with `language_reward`, `tabular_rewriting`
with `tabular_reward(S A, A)`, `paired_features` with `linear_reward(2 d)`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rlhf_jax.algos.correction_model import Rewrite
from rlhf_jax.algos.gradient import Diagnostics, Penalise, accumulate
from rlhf_jax.losses.gaps import GAP_TERMS, gap_loss, gap_shift
from rlhf_jax.ops.masking import Mean, keep_weighted, weighted_mean
from rlhf_jax.ops.statistics import wins
from rlhf_jax.types import Params, PreferenceBatch, RewardFn, TrainState, Trajectory, Update


def gap_rows(pairs: PreferenceBatch, rewrite: Rewrite) -> Trajectory:
    """Each answer of a pair after each as the reference: [*B, 2, 2, T], answer before reference."""
    sides, axis = (pairs.chosen, pairs.rejected), pairs.chosen.mask.ndim - 1

    def stack(parts: list[Trajectory]) -> Trajectory:
        return jax.tree.map(lambda *x: jnp.stack(x, axis), *parts)

    return stack([stack([rewrite(read, write) for read in sides]) for write in sides])


def pair_gaps(
    reward: RewardFn, rewrite: Rewrite, params: Params, pairs: PreferenceBatch
) -> Float[Array, "*B 2 2"]:
    """The gaps of `losses.gaps`, in one pass over four rows a pair."""
    return reward.scores(params, gap_rows(pairs, rewrite))


def make_objective(
    reward: RewardFn, rewrite: Rewrite, *, terms: Sequence[tuple[str, str]] = GAP_TERMS
) -> Callable[[Params, PreferenceBatch], tuple[Mean, Diagnostics]]:
    """The objective of `make_update`: `(params, batch) -> (Mean over the pairs, diagnostics)`."""
    loss = partial(gap_loss, terms=terms)

    def objective(params: Params, batch: PreferenceBatch) -> tuple[Mean, Diagnostics]:
        gaps, weights = pair_gaps(reward, rewrite, params, batch), batch.weights
        if weights is not None:
            gaps = keep_weighted(gaps, jnp.broadcast_to(weights[..., None, None], gaps.shape))
        better, worse = gaps[..., 0, 1], gaps[..., 1, 0]
        diagnostics = {
            "gaps/accuracy": weighted_mean(wins(better, worse), weights),
            "gaps/margin": weighted_mean(better - worse, weights),
            "gaps/shift": weighted_mean(gap_shift(gaps), weights),
        }
        return weighted_mean(loss(gaps), weights), diagnostics

    return objective


def make_update(
    reward: RewardFn,
    rewrite: Rewrite,
    optimizer: optax.GradientTransformation,
    *,
    terms: Sequence[tuple[str, str]] = GAP_TERMS,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, PreferenceBatch]:
    """Update on `gap_loss` of both answers of a pair, averaged over the pairs.

    Args:
      terms: as in `gap_loss`.
      parts, penalty: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)` with metrics "loss", "grad_norm",
      "gaps/accuracy" (g_wl above g_lw, ties one half), "gaps/margin" (g_wl - g_lw) and "gaps/shift"
      (the mean gap of an answer to itself).
    Reference: Wang et al. 2023, arXiv:2310.00898.
    """
    objective = make_objective(reward, rewrite, terms=terms)
    return accumulate(objective, optimizer, parts=parts, penalty=penalty)
