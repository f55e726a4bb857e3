"""Rounds of fresh answers, and dynamic sampling: batches without groups of equal scores."""

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from rlhf_jax.checks import check_range
from rlhf_jax.ops.groups import informative_groups
from rlhf_jax.recipes.episodes import Turns
from rlhf_jax.recipes.rewards import Reward
from rlhf_jax.recipes.task import Scores
from rlhf_jax.sharding import on_host
from rlhf_jax.types import Params, Prompts, PyTree, Rollout


class Drawn(NamedTuple):
    """K answers to each of B prompts, before the compiled step.

    rollout: [B, K]. given, named: the host's part of the reward (`Reward.host`). turns: None for
      single answers.
    """

    prompts: Prompts
    rollout: Rollout
    given: Any
    named: Scores
    turns: Turns | None = None


def make_grade(reward: Reward) -> Callable[..., Any]:
    """Compiled `Drawn -> (scores [B, K], informative [B])`."""

    @jax.jit
    def grade(params: Params, given: Any, rollout: Rollout) -> tuple[jax.Array, jax.Array]:
        scores = reward.scores(params, given, rollout.trajectory)
        return scores, informative_groups(scores)

    return lambda drawn: grade(reward.params, drawn.given, drawn.rollout)


def informative_batch(
    draw: Callable[[int], Drawn], grade: Callable[[Drawn], Any], *, rounds: int
) -> tuple[Drawn, int, dict[str, Any]]:
    """Draws until as many groups are informative as one round has prompts.

    A batch that `rounds` rounds do not fill is filled up with groups whose scores are NaN, so that
    they never matter, and a warning says so.

    Args:
      draw: number of the round, 0, 1, ... -> its answers.
      grade: `Drawn -> (scores [B, K], informative [B])`.
      rounds: at most so many, >= 1.
    Returns:
      The batch on the host, `given` being its scores; the rounds drawn; "groups/rounds",
      "groups/kept" (share of those drawn that are informative), "groups/filled" (share of the batch
      that they fill) and "scores/drawn" (mean over all that were drawn).
    Reference: Yu et al. 2025, arXiv:2503.14476, Section 3.2.
    """
    check_range("[1, inf)", rounds=rounds)
    kept, graded, count, number = [], [], 0, 0
    while True:
        drawn = draw(number)
        scores, informative = (np.array(x) for x in on_host(grade(drawn)))
        whole = on_host(drawn)._replace(given=scores)
        kept.append(_rows(whole, informative))
        graded.append(scores)
        number, size, count = number + 1, len(informative), count + int(informative.sum())
        if count >= size or number == rounds:
            break
    spare = _rows(whole, ~informative)
    batch = jax.tree.map(lambda *x: np.concatenate(x)[:size], *kept, spare)
    batch.given[count:] = np.nan
    if count < size:
        warnings.warn(
            "dynamic sampling did not fill a batch: see groups/filled in the metrics", stacklevel=2
        )
    scores = np.stack(graded)
    finite = np.isfinite(scores)
    return (
        batch,
        number,
        {
            "groups/rounds": number,
            "groups/kept": count / (number * size),
            "groups/filled": min(count, size) / size,
            "scores/drawn": (float(scores[finite].sum()), int(finite.sum())),
        },
    )


def _rows(tree: PyTree, chosen: np.ndarray) -> PyTree:
    """The chosen rows of every array."""
    return jax.tree.map(lambda x: np.asarray(x)[chosen], tree)
