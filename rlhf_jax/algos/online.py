"""Updates on sampled answers: in pairs (log-ratio regressions), singly or in groups (gradients).

Every other input of a loss (reference log-probs, win rates, gaps of older policies) is a column of
the batch; the name of the column is the name of the loss's keyword argument.
"""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import chex
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Shaped

from rlhf_jax.algos.gradient import Diagnostics, Penalise, accumulate, check_losses
from rlhf_jax.algos.preference import trajectory_logps
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.ops.masking import Mean, keep_weighted, token_weights, weighted_mean
from rlhf_jax.types import (
    AnswerLogps,
    AnswerLoss,
    GroupLoss,
    PairLoss,
    Params,
    Policy,
    TrainState,
    Trajectory,
    Update,
    record,
)

# `(losses [*B, T], mask [*B, T], weights [*B] or None) -> Mean`
Reduction = Callable[[Array, Array, Array | None], Mean]


@runtime_checkable
class GroupMeasures(Protocol):
    """What a `GroupLoss` does not say of itself: name -> a number for each group, [*B]."""

    def __call__(self, logps: Array, /, *args: Any, **columns: Any) -> dict[str, Array]:
        """The arguments are those of the loss."""
        ...


@record
class PairBatch:
    """Two answers to each prompt, and the other inputs of their loss.

    first, second: trajectories with leading axes [*B]; winner and loser if the loss is of that
      kind.
    columns: keyword argument of the loss -> [*B, ...]. Data: no gradient flows to it.
    weights: [*B] float32, non-negative weight of each pair in the mean; None means 1.
    """

    first: Trajectory
    second: Trajectory
    columns: dict[str, Array]
    weights: Array | None = None


@record
class AnswerBatch:
    """Single answers, and the other inputs of their loss.

    answers: trajectory with leading axes [*B].
    columns, weights: as in `PairBatch`; columns are [*B, T] per token or [*B] per answer.
    """

    answers: Trajectory
    columns: dict[str, Array]
    weights: Array | None = None


@record
class GroupBatch:
    """K answers to each prompt, and the other inputs of a loss of the whole group.

    answers: trajectory with leading axes [*B, K].
    columns: keyword argument of the loss -> [*B, K] or [*B, ...]. Data: no gradient flows to it.
    weights: [*B] float32, non-negative weight of each group in the mean; None means 1.
    """

    answers: Trajectory
    columns: dict[str, Array]
    weights: Array | None = None


def make_pair_objective(
    policy: Policy,
    loss: PairLoss,
    *,
    logps: AnswerLogps = sequence_logps,
) -> Callable[[Params, PairBatch], tuple[Mean, Diagnostics]]:
    """The objective of `make_pair_update`: `(params, batch) -> (Mean over pairs, diagnostics)`."""

    def objective(params: Params, batch: PairBatch) -> tuple[Mean, Diagnostics]:
        first, second = (
            keep_weighted(trajectory_logps(policy, params, each, logps=logps), batch.weights)
            for each in (batch.first, batch.second)
        )
        losses = loss(first, second, **_columns(batch, first))
        check_losses(losses, batch.first.mask.shape[:-1], loss=loss, per="pair")
        diagnostics = {
            "logps/first": weighted_mean(first, batch.weights),
            "logps/second": weighted_mean(second, batch.weights),
        }
        return weighted_mean(losses, batch.weights), diagnostics

    return objective


def make_pair_update(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    loss: PairLoss,
    *,
    logps: AnswerLogps = sequence_logps,
    penalty: Penalise | None = None,
) -> Update[TrainState, PairBatch]:
    """Update on a loss of pairs, averaged over them with the batch's weights.

    Args:
      policy: any parametrisation.
      optimizer: optax.
      loss: `(first_logps [*B], second_logps [*B], **columns) -> [*B]`, e.g.
        `partial(online_ipo_loss, beta=0.1)` on the columns ref_first_logps, ref_second_logps and
        win_rate_gaps.
      logps: `(token_logps, mask) -> [*B]`, reduces token log-probs to the input of the loss. Make
        columns of log-probs with the same function.
      penalty: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)`. Metrics: "loss", "grad_norm", "logps/first",
      "logps/second" (nats). Rows of weight 0 have no effect, even if they are NaN.
      At trace time it raises TypeError if the columns are not arguments of the loss, AssertionError
      if their leading axes differ from those of the pairs, and ValueError if the loss does not
      return one value per pair.
    """
    objective = make_pair_objective(policy, loss, logps=logps)
    return accumulate(objective, optimizer, penalty=penalty)


def make_answer_objective(
    policy: Policy,
    loss: AnswerLoss,
    *,
    reduction: Reduction | None = None,
) -> Callable[[Params, AnswerBatch], tuple[Mean, Diagnostics]]:
    """The objective of `make_answer_update`: `(params, batch) -> (Mean, diagnostics)`."""

    def objective(params: Params, batch: AnswerBatch) -> tuple[Mean, Diagnostics]:
        answers = batch.answers
        token_logps = policy.logps(params, answers.inputs, answers.actions)
        token_logps = keep_weighted(token_logps, token_weights(answers.mask, batch.weights))
        logps = sequence_logps(token_logps, answers.mask)
        losses = loss(token_logps, mask=answers.mask, **_columns(batch, logps))
        diagnostics = {"logps/answer": weighted_mean(logps, batch.weights)}
        if reduction is None:
            check_losses(losses, logps.shape, loss=loss, per="answer")
            return weighted_mean(losses, batch.weights), diagnostics
        check_losses(losses, token_logps.shape, loss=loss, per="token")
        return reduction(losses, answers.mask, batch.weights), diagnostics

    return objective


def make_answer_update(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    loss: AnswerLoss,
    *,
    reduction: Reduction | None = None,
    penalty: Penalise | None = None,
) -> Update[TrainState, AnswerBatch]:
    """Update on a loss of single answers, averaged over them with the batch's weights.

    Args:
      policy: any parametrisation.
      optimizer: optax.
      loss: `(token_logps [*B, T], mask=[*B, T], **columns) -> [*B]`, e.g.
        `partial(nash_md_pg_loss, beta=0.1)` on the columns ref_token_logps and prefs; or [*B, T],
        e.g. `dapo_loss` on old_token_logps and advantages, with a reduction.
      reduction: for a loss per token, `(losses [*B, T], mask, weights) -> Mean`, from
        `ops.masking`: `token_mean`, `sequence_mean`, `sequence_mean_of_token_mean`, or
        `partial(constant_denominator, length=...)`. None for a loss per answer.
      penalty: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)`. Metrics: "loss", "grad_norm" and
      "logps/answer" (nats). Rows of weight 0 have no effect, even if they are NaN.
      It raises the same errors as the update of `make_pair_update`.
    """
    objective = make_answer_objective(policy, loss, reduction=reduction)
    return accumulate(objective, optimizer, penalty=penalty)


def make_group_objective(
    policy: Policy, loss: GroupLoss, *, measures: GroupMeasures | None = None
) -> Callable[[Params, GroupBatch], tuple[Mean, Diagnostics]]:
    """The objective of `make_group_update`: `(params, batch) -> (Mean of groups, diagnostics)`."""

    def objective(params: Params, batch: GroupBatch) -> tuple[Mean, Diagnostics]:
        logps = trajectory_logps(policy, params, batch.answers)
        if batch.weights is not None:
            logps = _kept_rows(logps, batch.weights)
        columns = _columns(batch, logps[..., 0])
        losses = loss(logps, **columns)
        check_losses(losses, logps.shape[:-1], loss=loss, per="group")
        found = {} if measures is None else measures(jax.lax.stop_gradient(logps), **columns)
        diagnostics = {name: weighted_mean(x, batch.weights) for name, x in found.items()}
        return weighted_mean(losses, batch.weights), diagnostics

    return objective


def make_group_update(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    loss: GroupLoss,
    *,
    measures: GroupMeasures | None = None,
    penalty: Penalise | None = None,
) -> Update[TrainState, GroupBatch]:
    """Update on a loss of the answers to a prompt together, averaged over prompts.

    Args:
      policy: any parametrisation.
      optimizer: optax.
      loss: `(logps [*B, K], **columns) -> [*B]`, e.g. `partial(p3o_v2_loss, clip_eps=0.2)` on the
        columns old_logps and scores.
      measures: numbers of each group to log, e.g. `partial(pair_measures, clip_eps=0.2)`.
      penalty: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)`. Metrics: "loss", "grad_norm" and the means
      of the measures. Groups of weight 0 have no effect, even if they are NaN.
      It raises the same errors as the update of `make_pair_update`.
    """
    return accumulate(
        make_group_objective(policy, loss, measures=measures), optimizer, penalty=penalty
    )


def _columns(
    batch: PairBatch | AnswerBatch | GroupBatch, like: Float[Array, "*B"]
) -> dict[str, Array]:
    """The columns without gradient, and 0 in rows of weight 0."""
    columns = {name: jax.lax.stop_gradient(x) for name, x in batch.columns.items()}
    for x in columns.values():
        chex.assert_equal_shape_prefix([x, like], like.ndim)
    if batch.weights is None:
        return columns
    return {name: _kept_rows(x, batch.weights) for name, x in columns.items()}


def _kept_rows(x: Shaped[Array, "..."], weights: Float[Array, "*B"]) -> Shaped[Array, "..."]:
    """x where the weight of its row is positive, 0 elsewhere."""
    rows = weights.reshape(weights.shape + (1,) * (x.ndim - weights.ndim))
    return jnp.where(rows > 0, x, jnp.zeros((), x.dtype))
