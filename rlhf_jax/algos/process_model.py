"""Fitting a process reward model to labels of steps."""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array

from rlhf_jax.algos.gradient import Diagnostics, Penalise, accumulate
from rlhf_jax.losses.feedback import soft_process_loss
from rlhf_jax.ops.masking import Mean, weighted_mean
from rlhf_jax.types import Params, TrainState, Trajectory, Update, record

StepScores = Callable[[Params, Trajectory], Array]  # [*B, T] logits, read after each token


@record
class StepBatch:
    """Answers with labelled steps.

    ends: [*B, T] bool, True at the last token of each labelled step.
    labels: [*B, T] float32 in [0, 1] there: 1 right, 0 wrong, or a probability.
    """

    trajectory: Trajectory
    ends: Array
    labels: Array


def make_objective(
    step_scores: StepScores,
) -> Callable[[Params, StepBatch], tuple[Mean, Diagnostics]]:
    """The mean of `soft_process_loss` over all steps: `(params, batch) -> (Mean, diagnostics)`."""

    def objective(params: Params, batch: StepBatch) -> tuple[Mean, Diagnostics]:
        scores = step_scores(params, batch.trajectory)
        losses = soft_process_loss(scores, batch.labels, batch.ends)
        weights = batch.ends.astype(jnp.float32)
        right = (scores > 0) == (batch.labels > 0.5)
        accuracy = weighted_mean(right.astype(jnp.float32), weights)
        return weighted_mean(losses, weights), {"steps/accuracy": accuracy}

    return objective


def make_update(
    step_scores: StepScores,
    optimizer: optax.GradientTransformation,
    *,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, StepBatch]:
    """Update on binary cross-entropy, averaged over the steps of the batch.

    Args:
      parts, penalty: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)` with metrics "loss" in nats per step,
      "grad_norm" and "steps/accuracy" at the threshold 1/2.
    """
    return accumulate(make_objective(step_scores), optimizer, parts=parts, penalty=penalty)
