"""Which filter of answers to train with: `rlhf eval --truth`, R^2 of the truth on the reward."""

from functools import partial

import jax.numpy as jnp
import numpy as np

from rlhf_jax.cli.online import FILTERS
from rlhf_jax.ops.filtration import filter_r2, power_weights, uniform_weights
from rlhf_jax.recipes import AnswerFilter, LanguageLab, Task, measure
from rlhf_jax.recipes.lab import chunk_of, stage_key
from rlhf_jax.recipes.task import overall
from rlhf_jax.training import UserError
from rlhf_jax.types import Params

TRUTH = "truth"
# Those that compare the answers to one prompt; `widest` compares prompts.
COMPARED: dict[str, AnswerFilter] = {
    "none": uniform_weights,
    **FILTERS,
    "power": partial(power_weights, power=2.0),
}


def filter_choice(
    lab: LanguageLab, task: Task, params: Params, indices: np.ndarray, *, total: int
) -> dict[str, float]:
    """ "R^2, FILTER" of the score TRUTH on the objective, over what a filter keeps.

    Args:
      task: scores TRUTH beside its objective.
      total: answers in all, about; two or more to a prompt.
    Raises:
      UserError: no filter has an R^2, as the reward or the truth is the same for all answers.
    """
    samples, key = max(2, round(total / len(indices))), stage_key(lab, "filter choice")
    given = (lab, task, params, params, indices, key)
    found = measure(*given, samples=samples, chunk=chunk_of(lab, len(indices)))
    return r2_by_filter(overall(task, found.named), np.asarray(found.named[TRUTH], float))


def r2_by_filter(scores: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """The same of [B, K] scores and true scores, NaN where an answer has none."""
    known = [jnp.asarray(x, jnp.float32) for x in (scores, truth)]
    found = {
        f"R^2, {name}": float(filter_r2(*known, weigh(known[0])))
        for name, weigh in COMPARED.items()
    }
    if not np.isfinite([*found.values()]).any():
        raise UserError(
            f"no R^2 of {scores.size} answers: the reward or the truth is the same for all of them"
        )
    return {name: value for name, value in found.items() if np.isfinite(value)}
