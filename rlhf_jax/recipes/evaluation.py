"""Policies on held-out prompts: scores, KL to the reference, lengths, win rates, best-of-n.

    indices = np.asarray(task.splits["heldout"][:256])
    found = measure(lab, task, params, sft, indices, stage_key(lab, "evaluation"))
    rate, low, high = paired_win_rate(found.named["gold"], baseline.named["gold"])

Prompts are answered `CHUNK` at a time, fewer filled up. The unit of every interval is a prompt.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.checks import check_range
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.ops.statistics import best_of_n_curve, best_of_n_kl, mean_with_interval, wins
from rlhf_jax.recipes.episodes import Turns, score_transcripts, task_rollout, transcripts
from rlhf_jax.recipes.lab import CHUNK, LanguageLab, make_prompts
from rlhf_jax.recipes.rewards import check_scores
from rlhf_jax.recipes.rows import Records, answer_batch, in_chunks
from rlhf_jax.recipes.task import Task
from rlhf_jax.training import Run, check_stop, progress_bar
from rlhf_jax.types import Params, Rollout


class Measured(NamedTuple):
    """K answers to each of N prompts.

    texts: N lists of K. named: the task's scores by name, [N, K], NaN where it left an answer out;
    with a step also "return", and an answer is a whole episode.
    scores: [N, K] of a reward model, or None. log_ratios: [N, K] log pi - log pi_ref, their mean
    estimates KL(pi || pi_ref) in nats per answer. lengths: [N, K] tokens that count, the stop token
    included. finished: [N, K] bool, False where the length ran out. ref_logps: [N, K] log pi_ref.
    """

    texts: list[list[str]]
    named: Mapping[str, np.ndarray]
    scores: np.ndarray | None
    log_ratios: np.ndarray
    lengths: np.ndarray
    finished: np.ndarray
    ref_logps: np.ndarray


def at_temperature(lab: LanguageLab, temperature: float) -> LanguageLab:
    """The lab with draws at this temperature, 0 for the likeliest token, as `measure` takes it.

    What a method wins at temperature 1 may be what a lower one gives to the policy it came from:
    the log-probs of a rollout stay those of the policy itself, at temperature 1.
    """
    sampling = replace(lab.sampling, temperature=temperature)
    return lab._replace(draw=partial(lab.draw, sampling=sampling))


def measure(
    lab: LanguageLab,
    task: Task,
    params: Params,
    ref_params: Params,
    indices: np.ndarray,
    key: jax.Array,
    *,
    samples: int = 1,
    first: int = 0,
    reward: Params | None = None,
    episode_length: int | None = None,
    chunk: int = CHUNK,
) -> Measured:
    """Draws answers number first .. first + samples - 1 to each prompt and scores them.

    The same key draws the same answers from the same policy, and correlated ones from similar
    policies, which narrows paired comparisons.

    Args:
      indices: [N] the prompts' numbers.
      reward: parameters of a reward model, in the scores of which nothing is rescaled.
      episode_length: of a task with a step, as in `episodes.task_rollout`.
      chunk: prompts answered at a time.
    Raises:
      UserError: the task or the reward model failed on a prompt, which is named.
    """
    check_range("[1, inf)", samples=samples, prompts=len(indices))

    def columns(numbers: list[Any]) -> tuple[Any, ...]:
        prompts = make_prompts(lab, task, np.asarray(numbers))
        rollout, turns = task_rollout(
            lab, task, params, prompts, key, samples, first, episode_length=episode_length
        )
        trajectory = rollout.trajectory
        ref = sequence_logps(lab.token_logps(ref_params, trajectory), trajectory.mask)
        log_ratios = sequence_logps(rollout.token_logps, trajectory.mask) - ref
        return *_drawn_columns(lab, rollout, turns, reward), log_ratios, ref

    found, lengths, finished, scores, log_ratios, ref_logps = in_chunks(
        columns, indices, size=chunk
    )
    texts, named = score_transcripts(lab, task, indices, found)
    if scores is not None:
        check_scores(indices, scores)
    return Measured(texts, named, scores, log_ratios, lengths, finished, ref_logps)


def heldout_means(found: Measured) -> dict[str, float]:
    """What a training curve records, under the names of `online`'s metrics; for `Fit.measure`.

    Answers that the task left out do not count in the means of its scores.
    """
    means = {f"heldout/{name}": _mean(values) for name, values in found.named.items()}
    if found.scores is not None:
        means["heldout/scores/mean"] = _mean(found.scores)
    return means | {
        "heldout/kl/ref": _mean(found.log_ratios),
        "heldout/answers/length": _mean(found.lengths),
        "heldout/answers/finished": _mean(found.finished),
    }


def paired_win_rate(scores: np.ndarray, other_scores: np.ndarray) -> np.ndarray:
    """How often answers score higher than another policy's to the same prompt, ties at 1/2.

    Args:
      scores, other_scores: as in `prompt_win_rates`.
    Returns:
      [mean, low, high] with a 95% normal interval over prompts (paired).
    Raises:
      ValueError: other prompts, or fewer than two of them.
    """
    rates = prompt_win_rates(scores, other_scores)
    return np.asarray(mean_with_interval(jnp.asarray(rates[~np.isnan(rates)])))


def prompt_win_rates(scores: np.ndarray, other_scores: np.ndarray) -> np.ndarray:
    """[N] the same of each prompt; NaN where no two of its answers have scores.

    Args:
      scores, other_scores: [N] or [N, K] and [N, L]; every answer meets every other of its prompt.
        NaN leaves an answer out, and with all of its answers a prompt.
    Raises:
      ValueError: other prompts.
    """
    first, second = (jnp.asarray(x).reshape(len(x), -1) for x in (scores, other_scores))
    if len(first) != len(second):
        raise ValueError(f"expected scores of the same prompts, got {len(first)} and {len(second)}")
    shape = (len(first), first.shape[1], second.shape[1])
    met = [jnp.broadcast_to(x, shape) for x in (first[:, :, None], second[:, None, :])]
    return np.asarray(jnp.nanmean(wins(*met), axis=(1, 2)))


class BestOf(NamedTuple):
    """n answers to each of N prompts, as in `Measured`, and which a reward model chooses.

    chosen: [N] number of the answer with the highest score, the first of equals.
    """

    texts: list[list[str]]
    named: Mapping[str, np.ndarray]
    scores: np.ndarray
    lengths: np.ndarray
    chosen: np.ndarray


def best_of_n(
    run: Run,
    lab: LanguageLab,
    task: Task,
    params: Params,
    reward: Params,
    indices: np.ndarray,
    key: jax.Array,
    *,
    n: int,
) -> BestOf:
    """The answers that best-of-n chooses from, drawn two at a time, so that memory is that of two.

    Raises:
      UserError: as `measure`.
    """

    def two(numbers: list[Any], first: int) -> tuple[Any, ...]:
        prompts = make_prompts(lab, task, np.asarray(numbers))
        drawn = task_rollout(lab, task, params, prompts, key, 2, first)
        return _drawn_columns(lab, *drawn, reward)

    parts = []
    with progress_bar("best of n", n, show=run.progress) as advance:
        for first in range(0, n, 2):
            check_stop(run, "drawing for best-of-n")
            parts.append(in_chunks(lambda x, i=first: two(x, i), indices, size=CHUNK))
            advance(first + 2)
    found, lengths, _, scores = jax.tree.map(lambda *x: np.concatenate(x, 1)[:, :n], *parts)
    check_scores(indices, scores)
    texts, named = score_transcripts(lab, task, indices, found)
    return BestOf(texts, named, scores, lengths, scores.argmax(1))


def best_of_curve(best: BestOf, name: str, ns: np.ndarray) -> dict[str, np.ndarray]:
    """What best-of-n buys for every n at most that of `best`, by `ops.statistics.best_of_n_curve`.

    Args:
      name: of the task's score.
      ns: [M] numbers of answers to choose from.
    Returns:
      "kl": [M] nats, an upper bound. "mean", "low", "high": [M] over prompts.
    """
    scores, gold = (jnp.asarray(x, jnp.float32) for x in (best.scores, best.named[name]))
    curve = best_of_n_curve(scores, gold, jnp.asarray(ns))
    mean, low, high = np.stack([mean_with_interval(column) for column in curve.T], 1)
    return {"kl": np.asarray(best_of_n_kl(jnp.asarray(ns))), "mean": mean, "low": low, "high": high}


def corpus_loss(lab: LanguageLab, params: Params, records: Records, *, batch_size: int) -> float:
    """Mean negative log-prob of a token, over all tokens of the records' answers, in nats.

    Its rise on texts that a model was trained on before measures what a training forgets.

    Args:
      records: of "prompt" and "answer"; a plain text has the prompt "".
    """

    def columns(part: list[dict]) -> tuple[jax.Array, jax.Array]:
        batch = answer_batch(lab, part)
        logps = sequence_logps(lab.token_logps(params, batch), batch.mask)
        return logps, jnp.sum(batch.mask, -1)

    logps, lengths = in_chunks(columns, records, size=batch_size)
    return float(-logps.astype(float).sum() / lengths.sum())


def perplexity(lab: LanguageLab, params: Params, records: Records, *, batch_size: int) -> float:
    """exp of the `corpus_loss`."""
    return float(np.exp(corpus_loss(lab, params, records, batch_size=batch_size)))


def _drawn_columns(
    lab: LanguageLab, rollout: Rollout, turns: Turns | None, reward: Params | None
) -> tuple[Any, ...]:
    """Transcripts, lengths, finished and reward-model scores of a rollout [B, K]."""
    trajectory = rollout.trajectory
    scores = None if reward is None else lab.scores(reward, trajectory)
    found, lengths = transcripts(rollout, turns), jnp.sum(trajectory.mask, -1)
    return found, lengths, rollout.finished, scores


def _mean(x: np.ndarray) -> float:
    """Of the entries that are there; NaN of none."""
    there = x[~np.isnan(x)]
    return float(there.mean()) if there.size else float("nan")
