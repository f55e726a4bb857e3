"""Fitting a reward with several objectives to ratings of answers, by least squares.

    heads = shared_trunk(reward, members=2)                 # of `algos.reward_ensemble`: K scores
    update = make_update(heads, optimizer)
    state, metrics = update(state, RatingBatch(answers, ratings, mask))

Each objective is a score of its own, with a zero and a unit; `ops.directions.scalarise` makes one
number of the K. Rows of several data sets, which rate different things, may be mixed.
"""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jaxtyping import Array

from rlhf_jax.algos.gradient import Diagnostics, Penalise, accumulate, check_losses
from rlhf_jax.algos.reward_ensemble import RewardEnsemble
from rlhf_jax.losses.feedback import multi_rating_loss
from rlhf_jax.ops.masking import Mean, weighted_mean
from rlhf_jax.types import Params, TrainState, Trajectory, Update, record


@record
class RatingBatch:
    """Answers with up to K ratings each.

    answers: trajectory with leading axes [*B].
    ratings: [*B, K] float32; values under a False of the mask never matter.
    mask: [*B, K] bool, True where the answer has this rating.
    weights: [*B] float32, non-negative weight of each answer in the mean; None means 1.
    """

    answers: Trajectory
    ratings: Array
    mask: Array
    weights: Array | None = None


def make_objective(
    heads: RewardEnsemble,
) -> Callable[[Params, RatingBatch], tuple[Mean, Diagnostics]]:
    """The mean of `multi_rating_loss`: `(params, batch) -> (Mean over answers, diagnostics)`."""

    def objective(params: Params, batch: RatingBatch) -> tuple[Mean, Diagnostics]:
        scores = jnp.moveaxis(heads.scores(params, batch.answers), 0, -1)
        mask = batch.mask if batch.weights is None else batch.mask & (batch.weights > 0)[..., None]
        losses = multi_rating_loss(scores, batch.ratings, mask)
        check_losses(losses, batch.answers.mask.shape[:-1], loss=multi_rating_loss, per="answer")
        found = weighted_mean(losses, batch.weights)
        known = weighted_mean(jnp.sum(mask, axis=-1, dtype=losses.dtype), batch.weights)
        return found, {"ratings/squared_error": Mean(found.total, known.total)}

    return objective


def make_update(
    heads: RewardEnsemble,
    optimizer: optax.GradientTransformation,
    *,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, RatingBatch]:
    """Update on the squared errors of K scores, summed over the ratings that an answer has.

    Args:
      heads: scores [K, *B].
      parts, penalty: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)` with metrics "loss", "grad_norm" and
      "ratings/squared_error", the mean over all ratings.
    Reference: Wang et al. 2024, arXiv:2402.18571 (DPA), the multi-objective reward model.
    """
    return accumulate(make_objective(heads), optimizer, parts=parts, penalty=penalty)
