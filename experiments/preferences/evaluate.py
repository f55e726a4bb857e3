"""From held-out numbers to means with 95% intervals, over the folds and over the pairs."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from scipy.special import expit
from scipy.stats import t as student_t

from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.statistics import Z95, calibration_error, wins
from rlhf_jax.reports.intervals import group_error

Arrays = Mapping[str, Any]


class Interval(NamedTuple):
    """A mean and the ends of its 95% interval."""

    mean: float
    low: float
    high: float


def fold_interval(values: Sequence[float] | np.ndarray) -> Interval:
    """mean +- t s / sqrt(K) over K >= 2 folds, t the 0.975 quantile of Student's law, K - 1 d.f.

    Training splits overlap, so the folds are not independent and the true coverage is a little
    lower than 95%; `pair_interval` errs the other way: it takes the K models as given.
    """
    x = np.asarray(values, np.float64)
    half = student_t.ppf(0.975, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return Interval(float(x.mean()), float(x.mean() - half), float(x.mean() + half))


def pair_interval(values: np.ndarray, groups: np.ndarray) -> Interval:
    """Mean of N numbers +- 1.96 standard errors, numbers of one group counting as one draw.

    Args:
      values: [N].
      groups: [N] integers >= 0, of G >= 2 groups: pairs about one prompt are alike.
    """
    x = np.asarray(values, np.float64)
    half = Z95 * group_error(x, groups)
    return Interval(float(x.mean()), float(x.mean() - half), float(x.mean() + half))


def wider(one: Interval, other: Interval) -> Interval:
    """The mean of the first with the lower of both low ends and the higher of both high ends."""
    return Interval(one.mean, min(one.low, other.low), max(one.high, other.high))


def judge(margins: Sequence[np.ndarray], groups: Sequence[np.ndarray], *, probs: bool) -> dict:
    """How well margins tell the chosen answer from the rejected one.

    Args:
      margins: for each fold [n], score of chosen minus rejected; a tie counts one half.
      groups: for each fold [n], the pair's dialogue.
      probs: whether sigmoid(margin) is a probability, so that calibration has a meaning.
    Returns:
      JSON values: "accuracy"; with probs "log_loss", the Bradley-Terry loss in nats (a coin has
      0.693), and "calibration_error" as well. Each has its "mean" over the folds, the interval
      "over_folds" and the value of all "folds".
    """
    measured = {"accuracy": summary([_hits(m) for m in margins], groups)}
    if probs:
        losses = [
            np.asarray(bradley_terry_loss(jnp.asarray(m), jnp.zeros(len(m)))) for m in margins
        ]
        errors = [float(calibration(m)[0]) for m in margins]
        measured["log_loss"] = summary(losses, groups)
        measured["calibration_error"] = _plain(fold_interval(errors), errors)
        measured["calibration_error"]["pooled"] = float(calibration(np.concatenate(margins))[0])
    return measured


def summary(values: Sequence[np.ndarray], groups: Sequence[np.ndarray]) -> dict[str, Any]:
    """The mean over folds with both intervals, and the mean of each fold."""
    means = [float(np.mean(v)) for v in values]
    over_pairs = pair_interval(np.concatenate(values), np.concatenate(groups))
    found = _plain(fold_interval(means), means)
    widest = wider(fold_interval(means), over_pairs)
    return found | {"over_pairs": list(over_pairs), "widest": list(widest)}


def calibration(margins: np.ndarray) -> tuple[Any, Any]:
    """Expected calibration error of sigmoid(margin), and its bins [10, 3]."""
    probs = jnp.asarray(expit(margins), jnp.float32)
    return calibration_error(probs, jnp.ones_like(probs), num_bins=10)


def perplexities(folds: Sequence[Arrays]) -> dict[str, dict]:
    """exp of nats per token of the held-out chosen answers, before and after each training."""
    found = {}
    for name in ("untrained", "sft", "dpo"):
        values = [float(np.exp(-f["logps"][name].sum() / f["tokens"].sum())) for f in folds]
        found[name] = _plain(fold_interval(values), values)
    return found


def preferences_measured(folds: Sequence[Arrays], groups: np.ndarray) -> dict[str, dict]:
    """Every row of the table: method -> measures."""
    of_fold = [groups[f["rows"]] for f in folds]
    lengths = [f["margins"]["length"] for f in folds]
    rules = [f["margins"]["length_rule"] for f in folds]
    found = {
        "longer wins": judge(lengths, of_fold, probs=False),
        "shorter wins": judge([-x for x in lengths], of_fold, probs=False),
        "length rule": judge(rules, of_fold, probs=False),
    }
    titles = {
        "ngrams": "n-gram Bradley-Terry",
        "ngrams_cut": "n-grams, answers cut",
        "ngrams_quarter": "n-grams, a quarter of the pairs",
        "reward": "reward model",
        "dpo": "DPO, implicit",
    }
    for name, title in titles.items():
        found[title] = judge([f["margins"][name] for f in folds], of_fold, probs=True)
    return found


def accuracy_lead(
    folds: Sequence[Arrays], groups: np.ndarray, one: str, other: str
) -> dict[str, Any]:
    """Accuracy of one method minus that of another, pair by pair, with intervals.

    Args:
      one, other: names of margins.
    """
    hits = [np.subtract(*(_hits(f["margins"][name]) for name in (one, other))) for f in folds]
    return summary(hits, [groups[f["rows"]] for f in folds])


def answers_measured(folds: Sequence[Arrays]) -> dict[str, dict]:
    """Of the answers sampled on held-out prompts: KL(DPO || SFT) by k1, and lengths in tokens.

    One answer a prompt, so the answers are independent given the models.
    """
    found = {}
    for name in ("kl", "dpo_length", "sft_length"):
        values = [np.asarray(f["sampled"][name], np.float64) for f in folds]
        found[name] = summary(values, np.split(*_numbering(values)))
    return found


def _hits(margins: np.ndarray) -> np.ndarray:
    """1 where the chosen answer has the higher score, 1/2 at a tie, 0 elsewhere."""
    scores = jnp.asarray(margins, jnp.float32)
    return np.asarray(wins(scores, jnp.zeros_like(scores)), np.float64)


def _numbering(values: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """0, 1, 2, ... over all folds, and where each fold but the first begins."""
    ends = np.cumsum([len(v) for v in values])
    return np.arange(ends[-1]), ends[:-1]


def _plain(interval: Interval, values: Sequence[float]) -> dict[str, Any]:
    return {
        "mean": interval.mean,
        "over_folds": [interval.low, interval.high],
        "folds": [float(value) for value in values],
    }
