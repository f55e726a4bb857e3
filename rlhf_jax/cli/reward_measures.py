"""Held-out numbers of a reward model, and of the baselines that it has to beat.

Pairs of one dialogue are alike, so each interval counts their dialogue as one draw.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy

from rlhf_jax.cli.data import dialogue_numbers, text_of
from rlhf_jax.cli.measures import Numbers, bootstrapped
from rlhf_jax.data.records import Pair
from rlhf_jax.data.tokenizer import decode_rows
from rlhf_jax.ops.statistics import calibration_error
from rlhf_jax.recipes import LanguageLab
from rlhf_jax.recipes.buckets import by_length, token_lengths
from rlhf_jax.recipes.ngram_reward import Ngrams, make_ngram_fit, ngram_margins
from rlhf_jax.recipes.offline import pair_scores
from rlhf_jax.recipes.rows import side_batch
from rlhf_jax.reports.intervals import grouped_mean_interval
from rlhf_jax.types import Params

SIDES = ("chosen", "rejected")
FITTED = 10_000  # training pairs that the n-grams are fitted to, at most: 16 kB each
DRAWS = 200  # of outcomes, for the calibration error of a calibrated model


def reward_quality(
    lab: LanguageLab, records: Sequence[dict], params: Params, *, batch_size: int
) -> Numbers:
    """Accuracy, also where the longer answer is and is not the chosen one, and calibration."""
    if not records:
        return {}
    return pair_quality(reward_margins(lab, records, params, batch_size=batch_size), records)


def pair_quality(margins: np.ndarray, records: Sequence[dict]) -> Numbers:
    """`margin_quality` of pairs, and accuracy by which of the answers is longer."""
    groups = dialogue_numbers(records)
    longer = length_margins(records)
    found = margin_quality(margins, groups)
    for name, which in (("chosen is longer", longer > 0), ("chosen is shorter", longer < 0)):
        if which.any():
            found[f"accuracy, {name}"] = grouped_mean(hits(margins[which]), groups[which])
    return found | {"longer is better": grouped_mean(hits(longer), groups)}


def reward_margins(
    lab: LanguageLab, records: Sequence[dict], params: Params, *, batch_size: int
) -> np.ndarray:
    """[N] score of the chosen answer minus that of the rejected one."""

    def work(narrow: LanguageLab, part: Sequence[dict]) -> np.ndarray:
        return pair_scores(narrow, params, part, batch_size=batch_size)

    scores = by_length(work, lab, records, batch_size=batch_size).astype(float)
    return scores[:, 0] - scores[:, 1]


def margin_quality(margins: np.ndarray, groups: np.ndarray) -> Numbers:
    """Of margins m [N], where P(chosen beats rejected) = sigmoid(m).

    Calibration compares the confidence in the answer with the higher score with how often that is
    the chosen one. The error of a finite number of pairs is above 0 also for a calibrated model:
    "if calibrated" is its mean when outcomes are drawn with these probabilities.
    """
    bins = _binned(margins)
    sums = np.zeros((groups.max() + 1, bins.gaps.shape[1]))
    np.add.at(sums, groups, bins.gaps)
    counts = np.bincount(groups)
    held = counts > 0
    error = bootstrapped(lambda x, n: np.abs(x.sum(0)).sum() / n.sum(), sums[held], counts[held])
    return {
        "accuracy": grouped_mean(hits(margins), groups),
        "log loss": grouped_mean(np.logaddexp(0.0, -margins), groups),
        "calibration error": error,
        "calibration error if calibrated": _error_if_calibrated(bins),
    }


def reliability(margins: np.ndarray) -> dict[str, Any]:
    """Number of "pairs", and "bins" as of `calibration_error`."""
    probs = jnp.asarray(scipy.special.expit(margins), jnp.float32)
    bins = calibration_error(probs, jnp.ones_like(probs))[1]
    return {"pairs": len(margins), "bins": np.asarray(bins).tolist()}


class _Bins(NamedTuple):
    """confidence [N]; member [N, K], 1 in the pair's bin; gaps [N, K], outcome - confidence."""

    confidence: np.ndarray
    member: np.ndarray
    gaps: np.ndarray


_bin_each = jax.jit(jax.vmap(lambda probs: calibration_error(probs, jnp.ones_like(probs))[1]))


def _binned(margins: np.ndarray) -> _Bins:
    """Each pair as a bin of its own."""
    probs = jnp.asarray(scipy.special.expit(margins), jnp.float32)[:, None]
    confidence, right, member = np.moveaxis(np.asarray(_bin_each(probs), float), -1, 0)
    return _Bins(confidence.sum(-1), member, right - confidence)


def _error_if_calibrated(bins: _Bins) -> float:
    """Mean calibration error over DRAWS of the outcomes."""
    draws = np.random.default_rng(0).random((DRAWS, len(bins.confidence))) < bins.confidence
    return float(np.abs((draws - bins.confidence) @ bins.member).sum(1).mean() / draws.shape[1])


def beside_baselines(
    lab: LanguageLab,
    records: Sequence[dict],
    held: Sequence[dict],
    params: Params,
    *,
    batch_size: int,
) -> dict[str, Any]:
    """`beside_rivals` of a reward model."""
    if not held:
        return {}
    margins = reward_margins(lab, held, params, batch_size=batch_size)
    return beside_rivals(lab, records, held, margins)


def beside_rivals(
    lab: LanguageLab, records: Sequence[dict], held: Sequence[dict], margins: np.ndarray
) -> dict[str, Any]:
    """Baselines fitted to the training records, and the model's accuracy minus theirs.

    Args:
      margins: [N] of the model on the held-out records.
    Returns:
      "numbers" on the held-out records, and "reliability" of the model and of the n-grams.
    """
    groups = dialogue_numbers(held)
    rivals = {"length": length_direction(records) * length_margins(held)}
    rivals |= ngram_rivals(lab, records, held)
    numbers: Numbers = {}
    for name, rival in rivals.items():
        found = margin_quality(rival, groups)
        shown = ("accuracy",) if name == "length" else ("accuracy", "log loss", "calibration error")
        numbers |= {f"{name}: {measure}": found[measure] for measure in shown}
    for name, rival in rivals.items():
        numbers[f"accuracy minus {name}"] = grouped_mean(hits(margins) - hits(rival), groups)
    curves = {"reward model": reliability(margins), "n-grams": reliability(rivals["n-grams"])}
    return {"numbers": numbers, "reliability": curves}


def ngram_rivals(
    lab: LanguageLab, records: Sequence[dict], held: Sequence[dict]
) -> dict[str, np.ndarray]:
    """Margins of n-grams of the answers, and of the parts that the model reads if any is cut."""
    config, every = Ngrams(), -(-len(records) // FITTED)
    train = [records[i] for i in range(0, len(records), every)]
    fit = make_ngram_fit(config)
    texts = {"n-grams": whole_pairs}
    if (token_lengths(lab, [*train, *held])[..., 1] > lab.answer_length).any():
        texts["n-grams of the cut answers"] = lambda rows: seen_pairs(lab, rows)
    return {
        name: ngram_margins(fit, pairs(train), pairs(held), config, len(train))
        for name, pairs in texts.items()
    }


def whole_pairs(records: Sequence[dict]) -> list[Pair]:
    """Pairs of texts without prompts."""
    return [Pair("", text_of(row["chosen"]), text_of(row["rejected"])) for row in records]


def seen_pairs(lab: LanguageLab, records: Sequence[dict]) -> list[Pair]:
    """The same, of the tokens that the lab keeps of each answer."""
    sides = side_batch(lab, records, SIDES)
    texts = []
    for x in sides.values():
        rows = zip(np.asarray(x.actions), np.asarray(x.mask), strict=True)
        texts.append(decode_rows(lab.vocabulary, [ids[kept].tolist() for ids, kept in rows]))
    return [Pair("", *both) for both in zip(*texts, strict=True)]


def length_margins(records: Sequence[dict]) -> np.ndarray:
    """[N] characters of the chosen answer minus those of the rejected one."""
    lengths = [[len(text_of(row[side])) for side in SIDES] for row in records]
    return np.array([a - b for a, b in lengths], float)


def length_direction(records: Sequence[dict]) -> float:
    """1 if the longer answer is the chosen one in half of these pairs or more, else -1."""
    return 1.0 if hits(length_margins(records)).mean() >= 0.5 else -1.0


def hits(margins: np.ndarray) -> np.ndarray:
    """1 where the chosen answer is ahead, 1/2 at a tie, else 0."""
    return np.where(margins == 0, 0.5, margins > 0)


def grouped_mean(x: np.ndarray, groups: np.ndarray) -> list[float] | float:
    """[mean, low, high]; the mean alone of one group, which has no interval."""
    mean = float(x.mean())
    return [mean, *grouped_mean_interval(x, groups)] if len(np.unique(groups)) > 1 else mean
