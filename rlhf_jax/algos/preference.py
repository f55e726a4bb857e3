"""Direct preference optimisation with any pairwise loss: DPO, IPO, SimPO and others."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from rlhf_jax.algos.gradient import Diagnostics, Penalise, accumulate, check_losses
from rlhf_jax.ops.elliptical import elliptical_norms, initial_inverse, rank_one_inverse
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.ops.masking import Mean, keep_weighted, weighted_mean
from rlhf_jax.ops.statistics import wins
from rlhf_jax.types import (
    AnswerLogps,
    PairLoss,
    Params,
    Policy,
    PreferenceBatch,
    Scalar,
    TrainState,
    Trajectory,
    Update,
)


def trajectory_logps(
    policy: Policy,
    params: Params,
    trajectory: Trajectory,
    *,
    logps: AnswerLogps = sequence_logps,
) -> Float[Array, "*B"]:
    """log pi(y | x) of each trajectory, in nats: the masked sum of its token log-probs.

    Args:
      logps: `(token_logps [*B, T], mask [*B, T]) -> [*B]`; `mean_logps` gives log pi(y | x) / |y|.
    """
    token_logps = policy.logps(params, trajectory.inputs, trajectory.actions)
    return logps(token_logps, trajectory.mask)


def attach_reference(
    policy: Policy,
    ref_params: Params,
    batch: PreferenceBatch,
    *,
    logps: AnswerLogps = sequence_logps,
) -> PreferenceBatch:
    """The batch with its reference log-probs, computed once; no update then runs the reference.

    Args:
      logps: the same function as in the update.
    """
    ref_logps = partial(trajectory_logps, policy, ref_params, logps=logps)
    return replace(
        batch,
        ref_chosen_logps=ref_logps(batch.chosen),
        ref_rejected_logps=ref_logps(batch.rejected),
    )


def rank_pairs(
    trajectory: Trajectory,
    scores: Float[Array, "B K"],
    ref_logps: Float[Array, "B K"] | None = None,
) -> PreferenceBatch:
    """Pairs from K answers to each prompt: the highest score is chosen, the lowest rejected.

    Args:
      trajectory: leading axes [B, K], K >= 2.
      scores: [B, K] from a reward model or judge; one that is not finite leaves its answer out.
      ref_logps: [B, K] log-probs of the answers under the reference; None adds none to the batch.
    Returns:
      PreferenceBatch with leading axis [B]. A pair has weight 0 if its scores are equal or none is
      finite, else 1; the mean weight is the share of decided pairs.
    Raises:
      ValueError: the trajectory or the scores have other leading axes.
    """
    _check_answers("rank_pairs", trajectory, scores)
    finite = jnp.isfinite(scores)
    best = jnp.argmax(jnp.where(finite, scores, -jnp.inf), axis=1)
    worst = jnp.argmin(jnp.where(finite, scores, jnp.inf), axis=1)
    return _pairs_of(trajectory, scores, ref_logps, best, worst, finite.any(axis=1))


def exploring_pairs(
    trajectory: Trajectory,
    scores: Float[Array, "B K"],
    features: Float[Array, "B K d"],
    ref_logps: Float[Array, "B K"] | None = None,
    *,
    ridge: Scalar,
) -> PreferenceBatch:
    """Pairs of the first answer to a prompt and the one whose reward beside it is least known.

    argmax_k ||x_k - x_0||_{A^-1}, A = ridge I + sum of (x - x_0)(x - x_0)^T over the pairs of the
    prompts before it in the batch.

    Args:
      trajectory, scores, ref_logps: as in `rank_pairs`; the higher score of the two is chosen. A
        pair with a score that is not finite has weight 0 and adds nothing to A; no other answer
        without a score is taken.
      features: [B, K, d] x of the answers, in which a reward is linear: of an answer's last token
        in a language model, or given ones.
      ridge: > 0, in the unit of x^2.
    Returns:
      as of `rank_pairs`.
    Reference: Dong et al. 2024, arXiv:2405.07863, Sec. 3: the enhancer.
    Departs: its policy is replaced by a choice among K answers, and A has the pairs of this batch.
    """
    _check_answers("exploring_pairs", trajectory, scores)
    known = jnp.where(jnp.isfinite(scores)[..., None], features, 0.0).astype(jnp.float32)

    def choose(inverse, row):
        x, counts = row
        differences = x - x[0]
        norms = jnp.where(counts, elliptical_norms(differences, inverse), -jnp.inf)
        partner = jnp.argmax(norms)
        weight = (counts[0] & counts[partner]).astype(inverse.dtype)
        return rank_one_inverse(inverse, differences[partner], weight=weight), partner

    finite, rows = jnp.isfinite(scores), jnp.arange(scores.shape[0])
    inverse = initial_inverse(features.shape[-1], ridge=ridge)
    _, partners = jax.lax.scan(choose, inverse, (known, finite))
    ahead = scores[:, 0] >= scores[rows, partners]
    best, worst = jnp.where(ahead, 0, partners), jnp.where(ahead, partners, 0)
    return _pairs_of(
        trajectory, scores, ref_logps, best, worst, finite[:, 0] & finite[rows, partners]
    )


def _check_answers(name: str, trajectory: Trajectory, scores: Float[Array, "B K"]) -> None:
    """ValueError unless both are [B, K] with K >= 2."""
    shape = trajectory.mask.shape[:-1]
    if not (len(shape) == 2 and shape[1] >= 2 and scores.shape == shape):
        raise ValueError(
            f"{name} needs two or more answers to each prompt, trajectory and scores [B, K]; "
            f"got trajectory {list(shape)} and scores {list(scores.shape)}"
        )


def _pairs_of(
    trajectory: Trajectory,
    scores: Float[Array, "B K"],
    ref_logps: Float[Array, "B K"] | None,
    best: Int[Array, "B"],
    worst: Int[Array, "B"],
    known: Bool[Array, "B"],
) -> PreferenceBatch:
    """Answers `best` against `worst`, of weight 1 where known and their scores differ."""
    rows = jnp.arange(scores.shape[0])
    decided = known & (scores[rows, best] > scores[rows, worst])
    refs = (None, None) if ref_logps is None else (ref_logps[rows, best], ref_logps[rows, worst])
    return PreferenceBatch(
        chosen=jax.tree.map(lambda x: x[rows, best], trajectory),
        rejected=jax.tree.map(lambda x: x[rows, worst], trajectory),
        ref_chosen_logps=refs[0],
        ref_rejected_logps=refs[1],
        weights=decided.astype(jnp.float32),
    )


def make_objective(
    policy: Policy,
    loss: PairLoss,
    *,
    logps: AnswerLogps = sequence_logps,
    reference: bool = True,
) -> Callable[[Params, PreferenceBatch], tuple[Mean, Diagnostics]]:
    """The objective of `make_update`: `(params, batch) -> (Mean over the pairs, diagnostics)`."""

    def objective(params: Params, batch: PreferenceBatch) -> tuple[Mean, Diagnostics]:
        refs = _reference_logps(batch) if reference else ()
        chosen, rejected = (
            keep_weighted(trajectory_logps(policy, params, each, logps=logps), batch.weights)
            for each in (batch.chosen, batch.rejected)
        )
        losses = loss(chosen, rejected, *refs, **kept_columns(batch))
        check_losses(losses, batch.chosen.mask.shape[:-1], loss=loss, per="pair")
        rewards = (chosen - refs[0], rejected - refs[1]) if refs else (chosen, rejected)
        diagnostics = {
            "rewards/accuracy": weighted_mean(wins(*rewards), batch.weights),
            "rewards/margin": weighted_mean(rewards[0] - rewards[1], batch.weights),
            "logps/chosen": weighted_mean(chosen, batch.weights),
            "logps/rejected": weighted_mean(rejected, batch.weights),
        }
        return weighted_mean(losses, batch.weights), diagnostics

    return objective


def make_update(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    loss: PairLoss,
    *,
    logps: AnswerLogps = sequence_logps,
    reference: bool = True,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, PreferenceBatch]:
    """Update on a pairwise loss, averaged over the pairs with the batch's weights.

    Args:
      policy: any parametrisation.
      optimizer: optax.
      loss: `(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps) -> [*B]`, e.g.
        `partial(dpo_loss, beta=0.1)`; beta may be traced.
      logps: `(token_logps, mask) -> [*B]`, reduces token log-probs to the input of the loss. Use
        `mean_logps` for length-normalised losses (SimPO, ORPO, IPO per token), and attach the
        reference with the same function.
      reference: False for a loss of two arrays, `(chosen_logps, rejected_logps) -> [*B]`, e.g.
        SimPO; the batch then needs no reference log-probs.
      parts, penalty: as in `gradient.accumulate`; a loss that compares pairs (AOT) compares
        those of a micro-batch.
    Returns:
      Pure `update(state, batch) -> (state, metrics)`; the batch carries its reference log-probs
      (`attach_reference`) and the columns that the loss reads.
      Metrics: "loss", "grad_norm", "rewards/accuracy" (ties count one half),
      "rewards/margin" (chosen minus rejected log-ratio, in nats; of log-probs if there is no
      reference), "logps/chosen", "logps/rejected".
      It raises ValueError at trace time if the batch has no reference log-probs, or if the loss
      does not return one value per pair.
    """
    objective = make_objective(policy, loss, logps=logps, reference=reference)
    return accumulate(objective, optimizer, parts=parts, penalty=penalty)


def kept_columns(batch: PreferenceBatch) -> dict[str, Array]:
    """The batch's columns by name, 0 where the weight is 0."""
    return {
        name: keep_weighted(column, batch.weights) for name, column in (batch.columns or {}).items()
    }


def _reference_logps(batch: PreferenceBatch) -> tuple[Array, Array]:
    """Reference log-probs of the chosen and the rejected answers, 0 where the weight is 0."""
    if batch.ref_chosen_logps is None or batch.ref_rejected_logps is None:
        raise ValueError(
            "the batch has no reference log-probs: add them with "
            "preference.attach_reference(policy, ref_params, batch)"
        )
    return (
        keep_weighted(batch.ref_chosen_logps, batch.weights),
        keep_weighted(batch.ref_rejected_logps, batch.weights),
    )
