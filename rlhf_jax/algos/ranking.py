"""Preference optimisation on ranked answers of any number: PRO, Plackett-Luce, RRHF, LiPO.

batch = rank_lists(answers, scores)                    # [B, K] answers, sorted best first
update = make_update(policy, optimizer, pro_loss, sft_weight=0.05)
state, metrics = update(state, batch)
"""

from collections.abc import Callable
from dataclasses import replace

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from rlhf_jax.algos.gradient import Diagnostics, Penalise, accumulate, check_losses
from rlhf_jax.losses.preference import pro_sft_loss
from rlhf_jax.ops.groups import informative_groups, scored_answers
from rlhf_jax.ops.logprobs import mean_logps, sequence_logps
from rlhf_jax.ops.masking import Mean, weighted_mean
from rlhf_jax.ops.rankings import best_first, ranking_accuracy, tied_with_better
from rlhf_jax.ops.selection import answers_at
from rlhf_jax.types import (
    AnswerLogps,
    Params,
    Policy,
    RankingLoss,
    Scalar,
    TrainState,
    Trajectory,
    Update,
    record,
)


@record
class RankingBatch:
    """Answers to each prompt, sorted best first.

    answers: trajectory with leading axes [*B, K].
    scores: [*B, K] falling along K among the real candidates.
    mask: [*B, K] bool, True where the candidate is real.
    ref_logps: [*B, K] log-probs under the reference; None where the loss reads none.
    weights: [*B] float32, non-negative weight of each list in the mean; None means 1.
    """

    answers: Trajectory
    scores: Array
    mask: Array
    ref_logps: Array | None = None
    weights: Array | None = None


def rank_lists(
    answers: Trajectory,
    scores: Float[Array, "*B K"],
    mask: Bool[Array, "*B K"] | None = None,
    ref_logps: Float[Array, "*B K"] | None = None,
    *,
    ties: bool = True,
) -> RankingBatch:
    """The lists in the order of their scores, with weight 0 for one that ranks nothing.

    Args:
      answers: leading axes [*B, K], K >= 2, in any order.
      scores: [*B, K] from a reward model or people; one that is not finite leaves its answer out.
      mask: [*B, K] False for padding of a shorter list; None takes all.
      ties: whether equal scores stay; else the first of them alone, for losses that read the order
        and no scores.
    Returns:
      RankingBatch. A list has weight 0 if its real scores are all equal or fewer than two, else 1;
      the mean weight is the share of lists that rank something.
    Raises:
      ValueError: one answer to a prompt, or other leading axes.
    """
    shape = answers.mask.shape[:-1]
    if not (shape and shape[-1] >= 2 and scores.shape == shape):
        raise ValueError(
            "a ranking needs two or more answers to each prompt, answers and scores [*B, K]; "
            f"got answers {list(shape)} and scores {list(scores.shape)}"
        )
    real, order = scored_answers(scores, mask), best_first(scores, mask)
    given = (answers, jnp.where(real, scores, 0.0), real, ref_logps)
    answers, scores, real, refs = answers_at(given, order)
    if not ties:
        real &= ~tied_with_better(scores, real)
    differ = informative_groups(scores, real).astype(jnp.float32)
    return RankingBatch(answers, scores, real, refs, differ)


def ranking_logps(
    policy: Policy, params: Params, batch: RankingBatch
) -> tuple[Float[Array, "*B K T"], RankingBatch]:
    """Log-probs of the tokens of all answers, 0 in rows that do not count."""
    answers = batch.answers
    token_logps = policy.logps(params, answers.inputs, answers.actions)
    kept = answers.mask & batch.mask[..., None]
    if batch.weights is not None:
        kept &= batch.weights[..., None, None] > 0
    return jnp.where(kept, token_logps, 0.0), replace(batch, answers=replace(answers, mask=kept))


def make_objective(
    policy: Policy,
    loss: RankingLoss,
    *,
    logps: AnswerLogps = mean_logps,
    reads: tuple[str, ...] = ("scores",),
    sft_weight: Scalar = 0.0,
) -> Callable[[Params, RankingBatch], tuple[Mean, Diagnostics]]:
    """The objective of `make_update`: `(params, batch) -> (Mean over lists, diagnostics)`."""

    def objective(params: Params, batch: RankingBatch) -> tuple[Mean, Diagnostics]:
        token_logps, kept = ranking_logps(policy, params, batch)
        values = logps(token_logps, kept.answers.mask)
        sums = sequence_logps(token_logps, kept.answers.mask)
        columns = {name: _column(batch, name) for name in reads}
        losses = loss(values, mask=batch.mask, **columns)
        check_losses(losses, batch.mask.shape[:-1], loss=loss, per="list")
        sft = pro_sft_loss(sums, batch.mask, sft_weight=sft_weight)
        accuracy = ranking_accuracy(values, batch.scores, batch.mask)
        weights = jnp.ones_like(losses) if batch.weights is None else batch.weights
        ranked = batch.mask & (weights[..., None] > 0)
        tied = tied_with_better(batch.scores, ranked).astype(jnp.float32)
        diagnostics = {
            "rankings/accuracy": weighted_mean(accuracy.total, weights * accuracy.weight),
            "rankings/ties": weighted_mean(tied, ranked.astype(jnp.float32)),
            "rankings/length": weighted_mean(jnp.sum(ranked, axis=-1, dtype=jnp.float32), weights),
            "rankings/decided": weighted_mean((weights > 0).astype(jnp.float32)),
            "logps/best": weighted_mean(sums[..., 0], weights),
            "loss/sft": weighted_mean(sft, weights),
        }
        return weighted_mean(losses + sft, weights), diagnostics

    return objective


def make_update(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    loss: RankingLoss,
    *,
    logps: AnswerLogps = mean_logps,
    reads: tuple[str, ...] = ("scores",),
    sft_weight: Scalar = 0.0,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, RankingBatch]:
    """Update on a loss of ranked lists, averaged over them with the batch's weights.

    Args:
      policy: any parametrisation.
      optimizer: optax.
      loss: `(logps [*B, K], mask=[*B, K], **columns) -> [*B]`: `pro_loss`; `plackett_luce_loss`,
        which is PRO without temperatures, with reads=(); `partial(lipo_loss, beta=0.1)` with
        reads=("ref_logps", "scores") and logps=sequence_logps.
      logps: `(token_logps, mask) -> [*B, K]`, what the loss reads of an answer.
      reads: "scores" and "ref_logps", those that the loss has as arguments.
      sft_weight: of `pro_sft_loss`, the likelihood of the best answer; PRO has 0.05.
      parts, penalty: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)`. Metrics: "loss", "grad_norm", "loss/sft",
      "rankings/accuracy" (pairs in the right order by what the loss reads), "rankings/ties" (share
      of the candidates with the score of a better one), "rankings/length", "rankings/decided"
      (share of lists that rank something), "logps/best" (summed, nats).
      It raises ValueError at trace time if the batch has no reference log-probs that the loss
      reads, or if the loss does not return one value per list.
    Reference: Song et al. 2023, arXiv:2306.17492 (PRO).
    """
    options = {"logps": logps, "reads": reads, "sft_weight": sft_weight}
    objective = make_objective(policy, loss, **options)
    return accumulate(objective, optimizer, parts=parts, penalty=penalty)


def _column(batch: RankingBatch, name: str) -> Array:
    """This column, 0 where nothing counts."""
    column = {"scores": batch.scores, "ref_logps": batch.ref_logps}[name]
    if column is None:
        raise ValueError(f"the batch has no {name}, and the loss reads them: rank_lists takes them")
    kept = batch.mask
    if batch.weights is not None:
        kept &= batch.weights[..., None] > 0
    return jnp.where(kept, column, 0.0)
