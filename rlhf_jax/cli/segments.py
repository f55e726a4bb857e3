"""Fine-grained reward models: heads on one trunk, each for the segments of an answer.

Their folder is that of a reward model with the files HEADS and WEIGHTS beside it.
"""

import io
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.algos.reward_ensemble import average_members
from rlhf_jax.cli.data import dialogue_numbers
from rlhf_jax.cli.frame import Opened, Training
from rlhf_jax.cli.measures import Numbers
from rlhf_jax.cli.reward_measures import FITTED, grouped_mean, margin_quality
from rlhf_jax.data.spans import sentences, subsentences
from rlhf_jax.hf.vocabulary import read_object
from rlhf_jax.ops.statistics import area_under_curve
from rlhf_jax.recipes import (
    HeadLabels,
    LanguageLab,
    SegmentHead,
    segment_model,
    segment_rows,
    whole_answer,
)
from rlhf_jax.recipes.ensembles import first_heads
from rlhf_jax.recipes.ngram_reward import Ngrams, make_ngram_fit, ngram_logits
from rlhf_jax.recipes.rows import in_chunks
from rlhf_jax.recipes.segments import Segments, head_examples, heads_scores, segment_batch
from rlhf_jax.sharding import on_host
from rlhf_jax.training import UserError
from rlhf_jax.types import Params

HEADS = "segment_heads.json"  # name of a head -> its segments, kinds and unless
WEIGHTS = "segment_heads.npz"  # weight [K, d] and bias [K] of the heads, float32
SEGMENTS: dict[str, Segments] = {
    "subsentences": subsentences,
    "sentences": sentences,
    "answer": whole_answer,
}
Labels = dict[str, HeadLabels]


def segment_training(opened: Opened, heads: Mapping[str, str], *, batch_size: int) -> Training:
    """Scores for the segments of an answer, from marked spans.

    Args:
      heads: as of `named_labels`.
    Raises:
      UserError: answers would lose their first segments, or as `named_labels`.
    """
    lab, records = opened.lab, opened.records
    if lab.long_answers == "truncate_left":
        raise UserError(
            "--long-answers truncate_left takes the beginning of an answer, so that spans no "
            "longer belong to their text: choose error, drop or truncate_right"
        )
    labels = named_labels(heads, records)
    rows = segment_rows(lab, records, [*labels.values()], batch_size=batch_size)
    measure = partial(segment_quality, lab, labels, opened.held, batch_size=batch_size)
    return Training(
        lab=lab,
        first=first_heads(lab, opened.base.params, members=len(labels)),
        recipe=segment_model,
        rows=lambda _: rows,
        quality=lambda params: measure(params) if opened.held else {},
        compare=lambda _: {"numbers": segment_baselines(labels, records, opened.held)},
        export=mean_head,
        trained_files=lambda params: segment_files(labels, params),
    )


def named_labels(heads: Mapping[str, str], records: Sequence[dict]) -> Labels:
    """Heads by name; without any, one on sub-sentences for each kind of span in the records.

    Args:
      heads: name -> "SEGMENTS:KIND,KIND" or "SEGMENTS:KIND,KIND:UNLESS,UNLESS".
    Raises:
      UserError: a text of another form, a kind that no span has, or no span at all.
    """
    kinds = sorted({span[2] for row in records for span in row["spans"]})
    if not kinds:
        raise UserError("no answer in the training rows has a marked span")
    if not heads:
        return {kind: HeadLabels(subsentences, (kind,)) for kind in kinds}
    found = {}
    for name, text in heads.items():
        segments, *rest = text.split(":")
        parts = [tuple(part.split(",")) for part in rest]
        if segments not in SEGMENTS or not 1 <= len(parts) <= 2:
            raise UserError(
                f"--heads {name} {text}: expected SEGMENTS:KIND,KIND or "
                f"SEGMENTS:KIND,KIND:UNLESS,UNLESS, with SEGMENTS one of {', '.join(SEGMENTS)}"
            )
        if unknown := [kind for part in parts for kind in part if kind not in kinds]:
            raise UserError(
                f"--heads {name} {text}: no span of the training rows is of the kind "
                f"{unknown[0]!r}; there are {', '.join(map(repr, kinds))}"
            )
        found[name] = HeadLabels(SEGMENTS[segments], *parts)
    return found


def mean_head(params: Params) -> Params:
    """A reward model of the mean weights, as the head of a classifier has no bias."""
    head = average_members(params["head"])
    return {**params, "head": {**head, "bias": jnp.zeros_like(head["bias"])}}


class ScoredSegments(NamedTuple):
    """Segments of one head that are read in full.

    scores: [N] logits of "free of the error". free: [N] whether it is. rows: [N] number of the
    answer.
    """

    scores: np.ndarray
    free: np.ndarray
    rows: np.ndarray


def scored_segments(
    lab: LanguageLab,
    labels: Labels,
    records: Sequence[dict],
    params: Params,
    *,
    batch_size: int,
) -> dict[str, ScoredSegments]:
    """The scores of all segments of these records, by head."""
    score = jax.jit(heads_scores(lab.scorer))

    def chunk(part: list[dict]) -> tuple[Any, ...]:
        batch = segment_batch(lab, part, [*labels.values()])
        return score(params, batch.trajectory), batch.ends, batch.labels

    scores, ends, free = in_chunks(chunk, records, size=batch_size)
    found = {}
    for number, name in enumerate(labels):
        at = ends[:, number]
        rows, _ = np.nonzero(at)
        each = scores[:, number][at].astype(float), free[:, number][at] > 0.5, rows
        found[name] = ScoredSegments(*each)
    return found


def segment_quality(
    lab: LanguageLab,
    labels: Labels,
    records: Sequence[dict],
    params: Params,
    *,
    batch_size: int,
) -> Numbers:
    """Accuracy, log loss and calibration of each head, and how well it separates errors."""
    found = scored_segments(lab, labels, records, params, batch_size=batch_size)
    groups, numbers = dialogue_numbers(records), {}
    for name, (scores, free, rows) in found.items():
        if not len(scores):
            continue
        measured = margin_quality(np.where(free, scores, -scores), groups[rows])
        measured["area under the curve"] = _area(scores, free)
        numbers |= {f"{name}: {measure}": value for measure, value in measured.items()}
    return numbers


def segment_baselines(labels: Labels, records: Sequence[dict], held: Sequence[dict]) -> Numbers:
    """The commoner label of the training segments, and logistic regression on their n-grams."""
    numbers: Numbers = {}
    groups, config = dialogue_numbers(held) if held else np.zeros(0, int), Ngrams()
    fit = make_ngram_fit(config)
    for name, head in labels.items():
        texts, free, _ = head_examples(head, records)
        test, known, rows = head_examples(head, held)
        if not test:
            continue
        common = bool(np.mean(free) >= 0.5)
        numbers[f"{name}: commoner label"] = grouped_mean(known == common, groups[rows])
        texts, free = texts[:FITTED], free[:FITTED]
        logits = ngram_logits(fit, texts, free, test, config, len(texts))
        right = grouped_mean((logits > 0) == known, groups[rows])
        numbers[f"{name}: n-grams"] = right
        numbers[f"{name}: area under the curve, n-grams"] = _area(logits, known)
    return numbers


def _area(scores: np.ndarray, free: np.ndarray) -> float:
    return float(area_under_curve(jnp.asarray(scores, jnp.float32), jnp.asarray(free)))


def segment_sums(
    lab: LanguageLab, head: SegmentHead, records: Sequence[dict], *, batch_size: int
) -> list[float]:
    """What a head pays for each answer: the sum of 1 for a segment that is more likely than not
    free of the error, and -1 for any other.

    Args:
      records: with a "prompt" and an "answer".
    """
    rows = [{**row, "spans": ()} for row in records]
    held: Any = head.params
    params = {**held, "head": jax.tree.map(lambda x: x[None], held["head"])}
    labels = {"head": HeadLabels(head.segments, ())}
    found = scored_segments(lab, labels, rows, params, batch_size=batch_size)["head"]
    paid = np.where(found.scores > 0, 1.0, -1.0)
    return np.bincount(found.rows, paid, minlength=len(rows)).tolist()


# ---- Their folder.


def segment_files(labels: Labels, params: Params) -> dict[str, bytes]:
    """HEADS and WEIGHTS."""
    names = {segments: name for name, segments in SEGMENTS.items()}
    heads = {
        name: {"segments": names[x.segments], "kinds": [*x.kinds], "unless": [*x.unless]}
        for name, x in labels.items()
    }
    written = io.BytesIO()
    arrays = {name: np.asarray(x, np.float32) for name, x in on_host(params["head"]).items()}
    np.savez(written, allow_pickle=False, **arrays)
    return {HEADS: (json.dumps(heads) + "\n").encode(), WEIGHTS: written.getvalue()}


def has_segments(folder: Path) -> bool:
    """Whether this is the folder of a fine-grained reward model."""
    return (folder / HEADS).is_file()


def with_segment_heads(params: Params, folder: Path) -> tuple[Params, Labels]:
    """The params of the folder's reward model with all of its heads, and what each was taught.

    Raises:
      UserError: the folder has no such heads, or damaged ones.
    """
    if not has_segments(folder):
        raise UserError(
            f"{folder} has no file {HEADS}: it does not score segments; rlhf reward --kind spans "
            "makes one that does"
        )
    try:
        found = read_object(folder / HEADS)
        labels = {
            name: HeadLabels(SEGMENTS[x["segments"]], tuple(x["kinds"]), tuple(x["unless"]))
            for name, x in found.items()
        }
        with np.load(folder / WEIGHTS, allow_pickle=False) as arrays:
            head = {name: arrays[name] for name in ("weight", "bias")}
    except (OSError, EOFError, BadZipFile, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{folder}: its heads of segments cannot be read: {error}") from error
    shape = (len(labels), params["head"]["weight"].shape[-1])
    if head["weight"].shape != shape or head["bias"].shape != shape[:1]:
        raise UserError(
            f"{folder / WEIGHTS}: expected weights {list(shape)}, got {list(head['weight'].shape)}"
        )
    return {**params, "head": jax.tree.map(jnp.asarray, head)}, labels
