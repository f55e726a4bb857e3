"""Numbers on held-out rows: name -> a number, or [mean, low, high] with a 95% interval."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from rlhf_jax.cli.losses import NamedLoss
from rlhf_jax.data.meteor import prompt_similarity
from rlhf_jax.data.reward_bench import BenchItem
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.ops.statistics import wins
from rlhf_jax.recipes import LanguageLab, Task, measure, overall, stage_key
from rlhf_jax.recipes.buckets import by_length
from rlhf_jax.recipes.calibration import token_calibration
from rlhf_jax.recipes.evaluation import Measured
from rlhf_jax.recipes.lab import chunk_of
from rlhf_jax.recipes.rewards import pair_prefs
from rlhf_jax.recipes.rows import in_chunks, side_batch
from rlhf_jax.recipes.win_rates import (
    TIES,
    bench_credits,
    length_controlled_win_rate,
    ties_score,
)
from rlhf_jax.reports.intervals import bootstrap_interval, mean_interval
from rlhf_jax.rewards import ComparePairs
from rlhf_jax.training import UserError
from rlhf_jax.types import AnswerLogps, Params

OPENING = 8  # words
Numbers = dict[str, Any]
Quality = Callable[[Params], Numbers]


def side_logps(
    lab: LanguageLab,
    params: Params,
    records: Sequence[dict],
    sides: Sequence[str],
    *,
    batch_size: int,
    logps: AnswerLogps = sequence_logps,
) -> dict[str, np.ndarray]:
    """Log-probs of each of these fields of each record, and of their numbers of tokens."""

    def chunk(narrow: LanguageLab, part: list[dict]) -> dict[str, Any]:
        found = {}
        for side, batch in side_batch(narrow, part, sides).items():
            found[side] = logps(lab.token_logps(params, batch), batch.mask)
            found[f"{side}/tokens"] = jnp.sum(batch.mask, -1)
        return found

    def work(narrow: LanguageLab, part: Sequence[dict]) -> dict[str, Any]:
        return in_chunks(partial(chunk, narrow), part, size=batch_size)

    return by_length(work, lab, records, batch_size=batch_size)


def answer_loss(
    lab: LanguageLab, records: Sequence[dict], params: Params, *, batch_size: int
) -> Numbers:
    """The negative log-prob of a token of the answers, and its perplexity; {} of no records."""
    if not records:
        return {}
    found = side_logps(lab, params, records, ["answer"], batch_size=batch_size)
    loss = token_loss(found["answer"], found["answer/tokens"])
    return {"loss": loss, "perplexity": np.exp(loss).tolist()}


def calibration(
    lab: LanguageLab, records: Sequence[dict], params: Params, *, batch_size: int
) -> Numbers:
    """How far the probability of the most likely next token is from how often it is right."""
    found = token_calibration(lab, params, records, batch_size=batch_size)
    return {
        "calibration error": found.error,
        "confidence": found.confidence,
        "right tokens": found.accuracy,
    }


def token_loss(logps: np.ndarray, tokens: np.ndarray) -> list[float] | float:
    """-sum_i log p_i / sum_i n_i of log-probs [N] of answers with n_i tokens."""
    return bootstrapped(
        lambda x, n: -x.sum() / n.sum(), *(x.astype(float) for x in (logps, tokens))
    )


def pair_accuracy(
    lab: LanguageLab,
    records: Sequence[dict],
    chosen: NamedLoss,
    ref_params: Params,
    params: Params,
    *,
    batch_size: int,
) -> Numbers:
    """How often the chosen answer is preferred, and the margin, by what the loss reads."""
    if not records:
        return {}
    sides = ("chosen", "rejected")
    options = {"batch_size": batch_size, "logps": chosen.logps}
    found = side_logps(lab, params, records, sides, **options)
    if chosen.reference:
        refs = side_logps(lab, ref_params, records, sides, **options)
        found = {side: found[side] - refs[side] for side in sides}
    ahead = np.asarray(wins(*(jnp.asarray(found[side]) for side in sides)))
    margin = found["chosen"] - found["rejected"]
    return {"accuracy": with_interval(ahead), "margin": with_interval(margin)}


def label_accuracy(
    lab: LanguageLab,
    records: Sequence[dict],
    ref_params: Params,
    params: Params,
    *,
    batch_size: int,
) -> Numbers:
    """How often good answers gain log-prob over the reference and bad ones lose it."""
    if not records:
        return {}
    sides = [
        side_logps(lab, each, records, ["answer"], batch_size=batch_size)["answer"]
        for each in (params, ref_params)
    ]
    gains, good = sides[0] - sides[1], np.array([row["label"] for row in records])
    right = np.where(gains == 0, 0.5, (gains > 0) == good)
    return {
        "accuracy": with_interval(right),
        "gain of good": float(gains[good].mean()) if good.any() else 0.0,
    }


def answer_quality(
    lab: LanguageLab,
    task: Task,
    ref_params: Params,
    indices: np.ndarray,
    params: Params,
    *,
    total: int,
) -> Numbers:
    """Reward, KL, length and variety of about `total` answers to these prompts.

    "base perplexity" is that of the reference on the answers: it grows where they leave its
    language. Distinct openings and 3-grams are shares of all of them; the similarity is the METEOR
    of answers to different prompts, which grows where a policy collapses to one answer.
    """
    samples = max(1, round(total / len(indices)))
    key = stage_key(lab, "evaluation")
    given = (lab, task, params, ref_params, indices, key)
    found = measure(*given, samples=samples, chunk=chunk_of(lab, len(indices)))
    texts = [text for answers in found.texts for text in answers]
    reward = overall(task, found.named) if task.objective else None
    if reward is not None and not len(reward := reward[np.isfinite(reward).any(1)]):
        raise UserError(f"the reward has no number for any of {len(texts)} answers")
    loss = token_loss(found.ref_logps.sum(1), found.lengths.sum(1))
    return ({} if reward is None else {"reward": with_interval(np.nanmean(reward, axis=1))}) | {
        "KL to base (nats)": with_interval(found.log_ratios.mean(1)),
        "base perplexity": np.exp(loss).tolist(),
        **variety([text.split() for text in texts]),
        "similarity across prompts": prompt_similarity(found.texts) if len(indices) > 1 else 0.0,
        "tokens": with_interval(found.lengths.mean(1)),
        "finished": with_interval(found.finished.mean(1)),
    }


def bench_quality(items: Sequence[BenchItem], scores: Sequence[np.ndarray]) -> Numbers:
    """Scores on the subsets of a benchmark, and "overall", their mean as of RewardBench 2."""
    found: Numbers = {}
    for subset in dict.fromkeys(item.subset for item in items):
        places = [i for i, item in enumerate(items) if item.subset == subset]
        part = [items[i] for i in places], [scores[i] for i in places]
        found[subset] = ties_score(*part) if subset == TIES else with_interval(bench_credits(*part))
    middle = [value[0] if isinstance(value, list) else value for value in found.values()]
    return found | {"overall": float(np.mean(middle))}


def win_quality(
    task: Task,
    indices: np.ndarray,
    found: Measured,
    other: Measured,
    *,
    compare: ComparePairs | None,
) -> Numbers:
    """Win rates over the other answers to the same prompts, plain and at equal lengths.

    By rewards every answer meets every other of its prompt, by a judge its own number only; the
    length is that of the text.
    """
    lengths = [np.array([[len(text) for text in row] for row in x.texts]) for x in (found, other)]
    if compare is None:
        first, second = (overall(task, each.named) for each in (found, other))
        met = np.broadcast_arrays(first[:, :, None], second[:, None, :])
        prefs = np.asarray(wins(*(jnp.asarray(each) for each in met)))
        gaps = lengths[0][:, :, None] - lengths[1][:, None, :]
    else:
        sides = ([text for row in each.texts for text in row] for each in (found, other))
        gaps = lengths[0] - lengths[1]
        prompts = task.texts(np.repeat(indices, gaps.shape[1]))
        prefs = pair_prefs(compare, prompts, *sides)
    size = len(indices)
    prefs, gaps = prefs.reshape(size, -1).astype(float), gaps.reshape(size, -1)
    known = prefs[np.isfinite(prefs).any(1)]
    if len(known) < 2:
        raise UserError("a win rate needs verdicts on two prompts at least")
    return {
        "win rate": with_interval(np.nanmean(known, axis=1)),
        "win rate at equal lengths": length_controlled_win_rate(prefs, gaps),
    }


def wins_over(
    lab: LanguageLab,
    task: Task,
    compare: ComparePairs | None,
    ref_params: Params,
    indices: np.ndarray,
    params: Params,
    *,
    total: int,
) -> Numbers:
    """How often answers beat those of the reference to the same prompts; {} without a judge.

    Answers without a verdict are left out; {} and a note if there is none at all. The judge is not
    asked about the reference itself, which wins half the time.
    """
    if compare is None:
        return {}
    if params is ref_params:
        return {"win rate over the start": 0.5}
    samples = max(1, round(total / len(indices)))
    drawing = {"samples": samples, "chunk": chunk_of(lab, len(indices))}
    key = stage_key(lab, "evaluation")
    sides = [
        measure(lab, task, each, each, indices, key, **drawing).texts
        for each in (params, ref_params)
    ]
    first, second = ([text for row in side for text in row] for side in sides)
    prompts = task.texts(np.repeat(indices, samples))
    prefs = pair_prefs(compare, prompts, first, second).reshape(len(indices), samples)
    known = prefs[np.isfinite(prefs).any(1)]
    if not len(known):
        print(f"note: the judge gave no verdict on any of {prefs.size} pairs: no win rate")
        return {}
    return {"win rate over the start": with_interval(np.nanmean(known, axis=1))}


def variety(texts: Sequence[list[str]]) -> Numbers:
    """Of the words of answers."""
    return {
        "distinct openings": distinct([words[:OPENING] for words in texts]),
        "distinct 3-grams": distinct([gram for words in texts for gram in _grams(words, 3)]),
    }


def distinct(parts: Sequence[Sequence[str]]) -> float:
    """Share of the parts that differ from all before them; 0 of none."""
    return len({tuple(part) for part in parts}) / max(len(parts), 1)


def _grams(words: Sequence[str], n: int) -> list[Sequence[str]]:
    return [words[i : i + n] for i in range(len(words) - n + 1)]


def compared(before: Numbers, after: Numbers) -> dict[str, Numbers]:
    """name -> before and after, of what was measured both times."""
    both = [name for name in before if name in after]
    return {name: {"before": before[name], "after": after[name]} for name in both}


def middles(numbers: Mapping[str, Any]) -> dict[str, float]:
    """The same without intervals, as metrics of a training: "heldout/<name>"."""
    return {
        f"heldout/{name}": value[0] if isinstance(value, list) else value
        for name, value in numbers.items()
    }


def with_interval(x: np.ndarray) -> list[float] | float:
    """[mean, low, high]; the mean alone of one row, which has no interval."""
    return [float(x.mean()), *mean_interval(x)] if len(x) > 1 else float(x.mean())


def bootstrapped(statistic: Callable[..., float], *units: np.ndarray) -> list[float] | float:
    """[statistic, low, high], or the statistic alone of one row."""
    value = float(statistic(*units))
    return [value, *bootstrap_interval(statistic, *units)] if len(units[0]) > 1 else value
