"""Fitting a reward model to comparisons."""

from collections.abc import Callable

import optax
from jaxtyping import Array, Float

from rlhf_jax.algos.gradient import Diagnostics, Penalise, accumulate, check_losses
from rlhf_jax.algos.preference import kept_columns
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.masking import Mean, keep_weighted, weighted_mean
from rlhf_jax.ops.statistics import wins
from rlhf_jax.types import Params, PreferenceBatch, RewardFn, TrainState, Update


def make_objective(
    reward: RewardFn, *, loss=bradley_terry_loss
) -> Callable[[Params, PreferenceBatch], tuple[Mean, Diagnostics]]:
    """The objective of `make_update`: `(params, batch) -> (Mean over the pairs, diagnostics)`."""

    def objective(params: Params, batch: PreferenceBatch) -> tuple[Mean, Diagnostics]:
        chosen, rejected = (reward.scores(params, x) for x in (batch.chosen, batch.rejected))
        return scored_objective(chosen, rejected, batch, loss=loss)

    return objective


def scored_objective(
    chosen_scores: Float[Array, "*B"],
    rejected_scores: Float[Array, "*B"],
    batch: PreferenceBatch,
    *,
    loss=bradley_terry_loss,
) -> tuple[Mean, Diagnostics]:
    """The objective of `make_update` from the scores of the batch's answers."""
    chosen, rejected = (keep_weighted(x, batch.weights) for x in (chosen_scores, rejected_scores))
    diagnostics = {
        "scores/accuracy": weighted_mean(wins(chosen, rejected), batch.weights),
        "scores/margin": weighted_mean(chosen - rejected, batch.weights),
    }
    losses = loss(chosen, rejected, **kept_columns(batch))
    check_losses(losses, batch.chosen.mask.shape[:-1], loss=loss, per="pair")
    return weighted_mean(losses, batch.weights), diagnostics


def make_update(
    reward: RewardFn,
    optimizer: optax.GradientTransformation,
    *,
    loss=bradley_terry_loss,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, PreferenceBatch]:
    """Update on `loss(chosen_scores [*B], rejected_scores [*B]) -> [*B]`, averaged over the pairs.

    Columns of the batch reach the loss under their names: `soft_margin_bradley_terry_loss` reads
    "prefs" and "gaps".

    Args:
      parts, penalty: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)` with metrics "loss", "grad_norm",
      "scores/accuracy" (ties count one half) and "scores/margin" (units of the score). It raises
      ValueError at trace time if the loss does not return one value per pair.
    """
    objective = make_objective(reward, loss=loss)
    return accumulate(objective, optimizer, parts=parts, penalty=penalty)
