"""Fitting a reward that is told a principle: does the answer follow it, yes or no?

    update = make_update(reward, optimizer)                     # the principle is among the inputs
    update = make_update(heads, optimizer, by_head=True)        # or chooses one of C scores
    heads = separate_trunks(linear_reward(d), members=C)        # of `algos.reward_ensemble`

    mine = principle_reward(heads, [2])                         # a `RewardFn` under one principle
    strict = principle_reward(heads, [0, 2], combine=worst_case_scores)     # both must hold

    logits = partial(entailment_logits, policy)                 # a policy that writes yes or no
    update = make_written_update(logits, optimizer, yes=(5,), no=(6,))

The label belongs to one answer, not to a pair, so scores have an absolute zero. With one principle
throughout this is a reward model of accepted and refused answers; with the principle "correct" and
labels of a verifier, its expectation is the verifiable reward. The generative form writes the
verdict as a token (`policies.entailment`).
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rlhf_jax.algos.gradient import Diagnostics, Penalise, accumulate, check_losses
from rlhf_jax.algos.reward_ensemble import Combine, RewardEnsemble
from rlhf_jax.losses.feedback import binary_loss, entailment_loss
from rlhf_jax.ops.ensembles import mean_scores
from rlhf_jax.ops.entailment import entailment_log_odds, scores_under
from rlhf_jax.ops.masking import Mean, keep_weighted, weighted_mean
from rlhf_jax.types import Params, RewardFn, TrainState, Trajectory, Update, record


@record
class EntailmentBatch:
    """Answers, each with one principle and a label.

    answers: trajectory with leading axes [*B].
    labels: [*B] bool, True where the answer follows the principle.
    principles: [*B] int number of the principle; None where the inputs say it.
    weights: [*B] float32, non-negative weight of each row in the mean; None means 1.
    """

    answers: Trajectory
    labels: Array
    principles: Array | None = None
    weights: Array | None = None


def make_objective(
    reward: RewardFn | RewardEnsemble, *, by_head: bool = False
) -> Callable[[Params, EntailmentBatch], tuple[Mean, Diagnostics]]:
    """The mean of `binary_loss`: `(params, batch) -> (Mean over the answers, diagnostics)`."""

    def objective(params: Params, batch: EntailmentBatch) -> tuple[Mean, Diagnostics]:
        scores = keep_weighted(_scores(reward, params, batch, by_head=by_head), batch.weights)
        losses = binary_loss(scores, batch.labels)
        check_losses(losses, batch.answers.mask.shape[:-1], loss=binary_loss, per="answer")
        return weighted_mean(losses, batch.weights), _diagnostics(scores, batch)

    return objective


def make_written_objective(
    logits: Callable[[Params, Trajectory], Array], *, yes: Sequence[int], no: Sequence[int]
) -> Callable[[Params, EntailmentBatch], tuple[Mean, Diagnostics]]:
    """The mean of `entailment_loss`; arguments as of `make_written_update`."""

    def objective(params: Params, batch: EntailmentBatch) -> tuple[Mean, Diagnostics]:
        found = logits(params, batch.answers)
        if batch.weights is not None:
            # Masked before the loss: the gradient of a NaN would be NaN.
            found = jnp.where((batch.weights > 0)[..., None], found, 0.0)
        losses = entailment_loss(found, batch.labels, yes=yes, no=no)
        scores = entailment_log_odds(found, yes=yes, no=no)
        mass = jnp.exp(binary_loss(scores, batch.labels) - losses)
        diagnostics = _diagnostics(scores, batch) | {
            "verdicts/mass": weighted_mean(mass, batch.weights)
        }
        return weighted_mean(losses, batch.weights), diagnostics

    return objective


def make_update(
    reward: RewardFn | RewardEnsemble,
    optimizer: optax.GradientTransformation,
    *,
    by_head: bool = False,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, EntailmentBatch]:
    """Update on the cross-entropy of yes and no, averaged over the answers of a batch.

    Args:
      reward: scores [*B] of answers whose inputs say the principle; [C, *B] with `by_head`.
      by_head: whether the batch's principles choose one of C scores.
      parts, penalty: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)` with metrics "loss" in nats, "grad_norm",
      "scores/accuracy" at the threshold 0 and "scores/margin", the log-odds of the right verdict.
      At trace time it raises ValueError for a batch without principles if `by_head`, or with
      principles that nothing reads.
    Reference: Wang et al. 2025, arXiv:2509.21319.
    """
    return accumulate(
        make_objective(reward, by_head=by_head), optimizer, parts=parts, penalty=penalty
    )


def make_written_update(
    logits: Callable[[Params, Trajectory], Array],
    optimizer: optax.GradientTransformation,
    *,
    yes: Sequence[int],
    no: Sequence[int],
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, EntailmentBatch]:
    """Update of a policy that writes the verdict: cross-entropy among all tokens of its place.

    Args:
      logits: `(params, answers) -> [*B, V]` where each row's verdict stands, such as
        `partial(policies.entailment.entailment_logits, policy)`; the inputs say the principle.
      yes, no: ids of the tokens that say so, all spellings of each.
      parts, penalty: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)`, with the metrics of `make_update` and
      "verdicts/mass", P(yes or no); at 1 the loss is that of `make_update`.
    Reference: Wang et al. 2025, arXiv:2509.21319.
    """
    objective = make_written_objective(logits, yes=yes, no=no)
    return accumulate(objective, optimizer, parts=parts, penalty=penalty)


def principle_reward(
    heads: RewardEnsemble, principles: Sequence[int], *, combine: Combine = mean_scores
) -> RewardFn:
    """The score under principles that are chosen when the reward is used; params as of `heads`.

    Args:
      principles: numbers of heads, e.g. by `data.principles.principle_numbers` of their names.
      combine: `(scores [c, *B]) -> [*B]`: `mean_scores`, or `worst_case_scores` where all
        principles must hold.
    Raises:
      ValueError: none chosen. The scores: a principle that has no head.
    """
    if not len(principles):
        raise ValueError("principle_reward needs at least one principle, got none")
    chosen = jnp.asarray(principles)

    def scores(params: Params, trajectory: Trajectory) -> Float[Array, "*B"]:
        found = heads.scores(params, trajectory)
        if unknown := [each for each in principles if not 0 <= each < len(found)]:
            raise ValueError(f"there are {len(found)} principles, from 0; got {unknown}")
        return combine(found[chosen])

    return RewardFn(heads.init, scores)


def _diagnostics(scores: Float[Array, "*B"], batch: EntailmentBatch) -> Diagnostics:
    """What log-odds say of the labels."""
    right = ((scores > 0) == batch.labels).astype(scores.dtype)
    signed = jnp.where(batch.labels, scores, -scores)
    return {
        "scores/accuracy": weighted_mean(right, batch.weights),
        "scores/margin": weighted_mean(signed, batch.weights),
    }


def _scores(
    reward: RewardFn | RewardEnsemble, params: Params, batch: EntailmentBatch, *, by_head: bool
) -> Float[Array, "*B"]:
    """One score for each answer."""
    if by_head != (batch.principles is not None):
        asked = "needs principles, one for each answer" if by_head else "has principles"
        raise ValueError(f"with by_head={by_head} the batch {asked}: give both or neither")
    found: jax.Array = reward.scores(params, batch.answers)
    return found if batch.principles is None else scores_under(found, batch.principles)
