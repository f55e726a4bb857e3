"""Fine-tuning on the best of K answers, for any sampler, score and policy (RAFT).

    best = best_answers(scores)                          # scores [B, K] of the answers [B, K]
    batch = selected_answers(rollout.trajectory, best)   # [B]
    state, metrics = sft.make_update(policy, optimizer)(state, batch)

Answers may come from another model, since no log-prob of the sampler is read. Local ranking is
`best_answers`, global ranking `top_answers` with `top_rows`, the penalised one `kl_ranking_scores`.

SuperHF adds a prior over the whole vocabulary, which reads logits of the reference:

    update = make_prior_update(policy, optimizer, partial(superhf_loss, beta=0.35))
    ref_logits = policy.logits(ref_params, batch.inputs)
    state, metrics = update(state, AnswerBatch(batch, {"ref_logits": ref_logits}))
"""

from collections.abc import Callable
from dataclasses import replace

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from rlhf_jax.algos.gradient import Diagnostics, Penalise, accumulate, check_losses
from rlhf_jax.algos.online import AnswerBatch, Reduction
from rlhf_jax.ops.masking import Mean, token_mean
from rlhf_jax.ops.selection import Best, Top, answers_at
from rlhf_jax.types import Params, Policy, PyTree, TrainState, Trajectory, Update


def selected_answers(answers: Trajectory, best: Best) -> Trajectory:
    """The answer of each prompt that was selected, [*B] of [*B, K]; without any, no step counts."""
    return _counted(best_rows(answers, best), best)


def top_rows(answers: Trajectory, top: Top) -> Trajectory:
    """The answers of a batch that were selected, [M] of [B]; no step counts beyond those kept."""
    return _counted(jax.tree.map(lambda x: jnp.asarray(x)[top.index], answers), top)


def best_rows(tree: PyTree, best: Best) -> PyTree:
    """Of every array [*B, K, ...] the entry of the selected answer, [*B, ...]."""
    rows = answers_at(tree, best.index[..., None])
    return jax.tree.map(lambda x: jnp.squeeze(x, best.index.ndim), rows)


def _counted(answers: Trajectory, chosen: Best | Top) -> Trajectory:
    """The same, counting only what is kept; what may be attended to stays."""
    valid = answers.mask if answers.valid is None else answers.valid
    return replace(answers, mask=answers.mask & chosen.keep[..., None], valid=valid)


def make_prior_objective(
    policy: Policy, loss: Callable[..., Array], *, reduction: Reduction = token_mean
) -> Callable[[Params, AnswerBatch], tuple[Mean, Diagnostics]]:
    """The objective of `make_prior_update`: `(params, batch) -> (Mean, {})`."""

    def objective(params: Params, batch: AnswerBatch) -> tuple[Mean, Diagnostics]:
        answers = batch.answers
        logits = policy.logits(params, answers.inputs)
        losses = loss(logits, batch.columns["ref_logits"], answers.actions, answers.mask)
        check_losses(losses, answers.mask.shape, loss=loss, per="token")
        return reduction(losses, answers.mask, batch.weights), {}

    return objective


def make_prior_update(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    loss: Callable[..., Array],
    *,
    reduction: Reduction = token_mean,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, AnswerBatch]:
    """Update on a loss of logits, averaged over the counted steps with the batch's weights.

    Args:
      policy: any parametrisation; its logits [*B, T, A] are in memory, so a large vocabulary needs
        `parts`.
      loss: `(logits, ref_logits, actions, mask) -> [*B, T]`, e.g. `partial(superhf_loss,
        beta=0.35)`; the column "ref_logits" of the batch is [*B, T, A].
      reduction, parts, penalty: as in `make_answer_update` and `gradient.accumulate`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)`.
    """
    objective = make_prior_objective(policy, loss, reduction=reduction)
    return accumulate(objective, optimizer, parts=parts, penalty=penalty)
