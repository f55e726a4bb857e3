"""A reward model with several objectives: a head for each of K ratings of an answer, on one trunk.

    records = [{"prompt": ..., "answer": ..., "ratings": {"helpful": 4, "verbose": 2}}, ...]
    units = rating_units(records, ["helpful", "verbose"])
    rows = rating_rows(lab, records, units, batch_size=16)
    params = rating_model(stage, lab, rows, first_heads(lab, policy_params, members=2), fit)
    scores = rating_scores(lab, params, records, batch_size=16)     # [N, K], in deviations

Each rating is learned in deviations from its mean over the training rows, so that objectives with
other scales weigh the same and `ops.directions.scalarise` can add them. A row may lack ratings.

Reference: Wang et al. 2024, arXiv:2402.18571 (DPA).
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rlhf_jax.algos import rating_model as rating_update
from rlhf_jax.algos.rating_model import RatingBatch
from rlhf_jax.recipes.ensembles import member_axes, member_scores, num_heads, shared_heads
from rlhf_jax.recipes.hosts import host_batches
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.offline import Fit, built, fit_rows, step_options
from rlhf_jax.recipes.rows import Records, Rows, answer_batch
from rlhf_jax.training import Stage, UserError
from rlhf_jax.types import Params


class RatingUnits(NamedTuple):
    """names of K ratings; their means and deviations [K] over the training rows."""

    names: tuple[str, ...]
    means: np.ndarray
    deviations: np.ndarray


def rating_units(records: Sequence[dict], names: Sequence[str]) -> RatingUnits:
    """Mean and deviation of each rating over the records that have it.

    Raises:
      UserError: a rating that no record has, or that is the same in all.
    """
    ratings, mask = known_ratings(records, names)
    means, deviations = [], []
    for name, values, known in zip(names, ratings.T, mask.T, strict=True):
        if not known.any():
            raise UserError(f"none of the {len(records)} rows has the rating {name!r}")
        if np.ptp(values[known]) == 0:
            raise UserError(
                f"all {known.sum()} ratings {name!r} are {values[known][0]:g}: there is nothing to "
                "learn"
            )
        means.append(values[known].mean())
        deviations.append(values[known].std())
    return RatingUnits(tuple(names), np.array(means), np.array(deviations))


def known_ratings(records: Sequence[dict], names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """[N, K] ratings, 0 where a record has none, and whether it has one."""
    found = [[record["ratings"].get(name) for name in names] for record in records]
    mask = np.array([[value is not None for value in row] for row in found], bool)
    return np.array([[value or 0.0 for value in row] for row in found], float), mask


def standard_ratings(records: Sequence[dict], units: RatingUnits) -> tuple[np.ndarray, np.ndarray]:
    """[N, K] ratings in deviations from their means, and whether a record has each."""
    ratings, mask = known_ratings(records, units.names)
    return np.where(mask, (ratings - units.means) / units.deviations, 0.0), mask


def rating_batch(lab: LanguageLab, records: Sequence[dict], *, units: RatingUnits) -> RatingBatch:
    """Rated answers as one batch."""
    ratings, mask = standard_ratings(records, units)
    return RatingBatch(
        answer_batch(lab, records), jnp.asarray(ratings, jnp.float32), jnp.asarray(mask)
    )


def rating_rows(lab: LanguageLab, records: Records, units: RatingUnits, *, batch_size: int) -> Rows:
    """Batches of rated answers, in an order of the lab's seed."""
    take = partial(rating_batch, lab, units=units)
    return host_batches(lab, records, take, batch_size=batch_size)


def rating_model(stage: Stage, lab: LanguageLab, rows: Rows, params: Params, fit: Fit) -> Params:
    """K scores for each answer, in one pass of the trunk; params from `first_heads`."""
    heads = shared_heads(lab.reward, members=num_heads(params))
    options = step_options(lab, fit, "reward")
    update = built(rating_update.make_update, heads, fit.optimizer, **options)
    axes = {**lab.axes, "reward": member_axes(lab.axes["reward"], shared=True)}
    return fit_rows(stage, lab._replace(axes=axes), update, rows, params, fit, part="reward")


def rating_scores(
    lab: LanguageLab, params: Params, records: Records, *, batch_size: int
) -> np.ndarray:
    """[N, K] predicted ratings, in deviations from the means of the training."""
    return member_scores(lab, params, records, shared=True, batch_size=batch_size).T
