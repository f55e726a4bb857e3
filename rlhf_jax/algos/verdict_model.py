"""Fitting a generative pairwise judge to comparisons, in both orders of each pair."""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rlhf_jax.algos.gradient import Diagnostics, Penalise, accumulate, check_losses
from rlhf_jax.checks import check_range
from rlhf_jax.losses.feedback import order_bias, verdict_loss, verdict_margins
from rlhf_jax.ops.masking import Mean, keep_weighted, weighted_mean
from rlhf_jax.types import (
    Params,
    PreferenceBatch,
    PreferenceFn,
    Scalar,
    TrainState,
    Trajectory,
    Update,
    VerdictFn,
)


def make_objective(
    judge: VerdictFn, *, loss=verdict_loss, consistency: Scalar = 0.0
) -> Callable[[Params, PreferenceBatch], tuple[Mean, Diagnostics]]:
    """The objective of `make_update`: `(params, batch) -> (Mean over the pairs, diagnostics)`."""
    check_range("[0, inf)", consistency=consistency)

    def objective(params: Params, batch: PreferenceBatch) -> tuple[Mean, Diagnostics]:
        logps, weights = judge.logps(params, batch.chosen, batch.rejected), batch.weights
        if weights is not None:
            logps = keep_weighted(logps, jnp.broadcast_to(weights[..., None, None], logps.shape))
        losses, bias = loss(logps), order_bias(logps)
        check_losses(losses, batch.chosen.mask.shape[:-1], loss=loss, per="pair")
        # (g + g')^2 = 4 b^2: the square of b alone would be a quarter of the spec's penalty.
        total = losses + consistency * (2.0 * bias) ** 2
        margins = verdict_margins(logps)
        right = jnp.stack([margins + bias, margins - bias], axis=-1)
        diagnostics = {
            "verdicts/accuracy": _wins(margins),
            "verdicts/one_order": jnp.mean(_wins(right), axis=-1),
            "verdicts/bias": jnp.abs(bias),
        }
        means = {name: weighted_mean(x, weights) for name, x in diagnostics.items()}
        return weighted_mean(total, weights), means

    return objective


def make_update(
    judge: VerdictFn,
    optimizer: optax.GradientTransformation,
    *,
    loss=verdict_loss,
    consistency: Scalar = 0.0,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, PreferenceBatch]:
    """Update on `loss + consistency (g(y, y') + g(y', y))^2`, averaged over the pairs.

    Each pair is read in both orders, the chosen answer first and second.

    Args:
      judge: any parametrisation.
      optimizer: optax.
      loss: `(log-probs [*B, 2, 2]) -> [*B]`: `verdict_loss`, or `verdict_token_loss`.
      consistency: weight >= 0 of the penalty on what the order does to the margin. May be traced.
      parts, penalty: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)` with metrics "loss", "grad_norm",
      "verdicts/accuracy" (of the margin over both orders), "verdicts/one_order" (of either order by
      itself; ties count one half) and "verdicts/bias" (|order_bias|, nats).
    Reference: Xu et al. 2025, arXiv:2504.04950.
    Departs: the paper's formulas were not available; loss and penalty are their natural forms.
    """
    objective = make_objective(judge, loss=loss, consistency=consistency)
    return accumulate(objective, optimizer, parts=parts, penalty=penalty)


def two_order_preference(judge: VerdictFn) -> PreferenceFn:
    """The judge as a preference model: logits s = [g(y, y') - g(y', y)] / 2, exactly antisymmetric.

    `rewards.judges.preference_judge` of it plays every preference game.
    """

    def logits(params: Params, first: Trajectory, second: Trajectory) -> Float[Array, "*B"]:
        return verdict_margins(judge.logps(params, first, second))

    return PreferenceFn(judge.init, logits)


def _wins(margins: Float[Array, "*B"]) -> Array:
    """1 where the chosen answer is ahead, 1/2 at a tie, else 0."""
    return 0.5 + 0.5 * jnp.sign(margins)
