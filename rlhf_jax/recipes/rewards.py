"""Where the scores of an online recipe come from: a reward model, the task's own scores, or both.

A reward has a part that runs on the host, on texts, and a part that runs on the device, within the
compiled step. A reward model is all device, a Python function all host.
"""

from collections.abc import Callable, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.ops.groups import pairwise_advantages
from rlhf_jax.ops.returns import last_step
from rlhf_jax.recipes.episodes import Transcripts, score_transcripts
from rlhf_jax.recipes.lab import LanguageLab, hold_params
from rlhf_jax.recipes.offline import ScoreScale
from rlhf_jax.recipes.task import Scores, Task, overall
from rlhf_jax.rewards import ComparePairs
from rlhf_jax.sharding import on_host
from rlhf_jax.training import UserError
from rlhf_jax.training.processes import by_rows
from rlhf_jax.types import Params, Prompts, Trajectory


def not_on_host(prompts: Prompts, found: Transcripts) -> tuple[tuple[()], Scores]:
    """The host's part of a reward that has none."""
    return (), {}


class Reward(NamedTuple):
    """One number for each answer of a rollout.

    params: arrays that `scores` is given.
    host: `(prompts, transcripts [B, K]) -> (arrays, named)`, before the compiled step: arrays for
      `scores`, anything or (); name -> [B, K] numbers to log.
    scores: pure `(params, host's arrays, trajectory [B, K]) -> [B, K]`; NaN leaves an answer out.
    steps: the same with rewards of tokens, [B, K, T], for credit by steps; None for the score at
      the last token.
    prefs: the same with P(row beats column) of all answers to a prompt, [B, K, K], NaN without a
      verdict, for methods that read comparisons.
    """

    params: Params
    host: Callable[[Prompts, Transcripts], tuple[Any, Scores]]
    scores: Callable[[Params, Any, Trajectory], Float[Array, "B K"]]
    steps: Callable[[Params, Any, Trajectory], Float[Array, "B K T"]] | None = None
    prefs: Callable[[Params, Any, Trajectory], Float[Array, "B K K"]] | None = None


def model_reward(lab: LanguageLab, params: Params, scale: ScoreScale) -> Reward:
    """A reward model's scores in units of `scale`."""

    def scores(params: Any, _: Any, trajectory: Trajectory) -> Array:
        return (lab.reward.scores(params["model"], trajectory) - params["mean"]) / params["std"]

    held = hold_params(lab, params, lab.axes["reward"])
    arrays = {"model": held, "mean": scale.mean, "std": scale.std}
    return Reward(arrays, not_on_host, scores)


def task_reward(lab: LanguageLab, task: Task) -> Reward:
    """The task's objective, scored on texts and on the rewards of its step."""

    def host(prompts: Prompts, found: Transcripts) -> tuple[np.ndarray, Scores]:
        indices = np.asarray(prompts.indices)
        _, named = score_transcripts(lab, task, indices, on_host(found))
        return overall(task, named).astype(np.float32), named

    return known_reward()._replace(host=host)


def judged_reward(lab: LanguageLab, task: Task, compare: ComparePairs) -> Reward:
    """The win rate of an answer over the others to its prompt, K >= 2; NaN without a verdict.

    One call of `compare` has all B K (K - 1) / 2 pairs. The task's own scores are logged.
    """

    def host(prompts: Prompts, found: Transcripts) -> tuple[np.ndarray, Scores]:
        prefs, named = _judged_prefs(lab, task, compare, prompts, found)
        known = np.isfinite(prefs).sum(-1)
        wins = np.nansum(prefs, -1) / np.maximum(known, 1)
        return np.where(known > 0, wins, np.nan).astype(np.float32), named

    return known_reward()._replace(host=host)


def judged_advantages(
    lab: LanguageLab, task: Task, compare: ComparePairs, *, eps: float = 1e-4
) -> Reward:
    """`pairwise_advantages` of all comparisons in place of scores, for `methods.pairwise_grpo`.

    An answer without any verdict is NaN, a comparison without one is left out. The task's own
    scores are logged, and the share of "judge/verdicts".

    Args:
      eps: as in `pairwise_advantages`.
    """

    def host(prompts: Prompts, found: Transcripts) -> tuple[np.ndarray, Scores]:
        prefs, named = _judged_prefs(lab, task, compare, prompts, found)
        known = np.isfinite(prefs)
        advantages = pairwise_advantages(jnp.asarray(prefs - 0.5), eps=eps)
        shares = known.sum(-1) / (prefs.shape[-1] - 1)
        kept = np.where(known.any(-1), np.asarray(advantages), np.nan)
        return kept.astype(np.float32), {**named, "judge/verdicts": shares}

    return known_reward()._replace(host=host)


def judged_matrix(
    lab: LanguageLab, task: Task, compare: ComparePairs
) -> Callable[[Prompts, Transcripts], tuple[np.ndarray, Scores]]:
    """The host's part of a reward that compares all answers: P(row beats column) [B, K, K].

    The task's own scores are logged, and the share of "judge/verdicts".
    """

    def host(prompts: Prompts, found: Transcripts) -> tuple[np.ndarray, Scores]:
        prefs, named = _judged_prefs(lab, task, compare, prompts, found)
        shares = np.isfinite(prefs).sum(-1) / (prefs.shape[-1] - 1)
        return prefs.astype(np.float32), {**named, "judge/verdicts": shares}

    return host


def _judged_prefs(
    lab: LanguageLab, task: Task, compare: ComparePairs, prompts: Prompts, found: Transcripts
) -> tuple[np.ndarray, Scores]:
    """P(row beats column) [B, K, K], NaN on the diagonal and without a verdict; the task's scores.

    Each pair is compared once, the earlier answer shown first.
    """
    indices = np.asarray(prompts.indices)
    texts, named = score_transcripts(lab, task, indices, on_host(found))
    size, count = len(texts), len(texts[0])
    pairs = list(combinations(range(count), 2))
    row, one, other = np.array([(i, *pair) for i in range(size) for pair in pairs]).T
    sides = ([texts[i][k] for i, k in zip(row, side, strict=True)] for side in (one, other))
    prefs = np.full((size, count, count), np.nan)
    prefs[row, one, other] = pair_prefs(compare, task.texts(indices[row]), *sides)
    prefs[row, other, one] = 1.0 - prefs[row, one, other]
    return prefs, named


def pair_prefs(
    compare: ComparePairs, prompts: Sequence[Any], first: Sequence[str], second: Sequence[str]
) -> np.ndarray:
    """[N] P(first beats second), NaN without a verdict.

    Raises:
      UserError: the judge raised, or its reply is not N probabilities; it names the first prompt.
    """
    about = f"the judge, asked about {len(prompts)} pairs, the first of {str(prompts[0])!r:.60}"

    def ask(*texts: Any) -> list[float]:
        try:
            return np.atleast_1d(np.array(compare(*texts), np.float64)).tolist()
        except Exception as error:  # the user's own code, or a service
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise UserError(f"{about}, failed: {reason}") from error

    prefs = np.array(by_rows(ask, prompts, first, second), np.float64)
    if prefs.shape != (len(prompts),) or ((prefs < 0) | (prefs > 1)).any():
        raise UserError(f"{about}, must give a probability or None for each, got {prefs!r:.80}")
    return prefs


def known_reward() -> Reward:
    """Scores that were computed before: they are given in place of the host's arrays."""
    return Reward((), not_on_host, lambda params, given, trajectory: given)


def weighted_reward(parts: dict[str, tuple[float, Reward]]) -> Reward:
    """The weighted sum of several; an answer that one of them leaves out is left out."""
    if not parts:
        raise ValueError("weighted_reward needs at least one reward")

    def host(prompts: Prompts, answers: Transcripts) -> tuple[dict[str, Any], Scores]:
        found = {part: one.host(prompts, answers) for part, (_, one) in parts.items()}
        named = {
            f"{part}/{name}": each
            for part, (_, scores) in found.items()
            for name, each in scores.items()
        }
        return {part: arrays for part, (arrays, _) in found.items()}, named

    def scores(params: Any, given: Any, trajectory: Trajectory) -> Array:
        return sum(
            (
                weight * one.scores(params[name], given[name], trajectory)
                for name, (weight, one) in parts.items()
            ),
            start=jnp.zeros(()),
        )

    def steps(params: Any, given: Any, trajectory: Trajectory) -> Array:
        total = jnp.zeros(())
        for name, (weight, one) in parts.items():
            each = _token_rewards(one)(params[name], given[name], trajectory)
            total += weight * each
        return total

    known = any(one.steps is not None for _, one in parts.values())
    params = {name: one.params for name, (_, one) in parts.items()}
    return Reward(params, host, scores, steps if known else None)


def _token_rewards(reward: Reward) -> Callable[[Params, Any, Trajectory], Array]:
    """Its `steps`, or its score at the last token."""

    def final(params: Params, given: Any, trajectory: Trajectory) -> Array:
        scores = reward.scores(params, given, trajectory)
        return jnp.where(last_step(trajectory.mask), scores[..., None], 0.0)

    return final if reward.steps is None else reward.steps


def check_scores(indices: np.ndarray, scores: np.ndarray) -> None:
    """Stops at a reward model's score that is not finite: it would be the best or the worst of all.

    Args:
      indices, scores: [N] prompts' numbers and [N] or [N, K] scores of answers to them.
    Raises:
      UserError: naming the first such prompt.
    """
    wrong = ~np.isfinite(scores).reshape(len(indices), -1).all(-1)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UserError(
            f"prompt {indices[row]}: the reward model's scores must be finite, got "
            f"{scores[row].tolist()} ({wrong.sum()} of {len(indices)} prompts have such scores): "
            "lower its learning rate"
        )
