"""How many labels of a file are wrong, by confident learning on a reward over n-grams."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy

from rlhf_jax.data.audit import AuditFile, Finding
from rlhf_jax.data.audit.findings import Sample, once
from rlhf_jax.data.audit.noise import confident_labels
from rlhf_jax.data.audit.rows import JudgedPair, plain_text
from rlhf_jax.data.records import Labelled, Pair, Steps
from rlhf_jax.data.splits import dialogue_groups, kfold
from rlhf_jax.recipes.ngram_reward import Ngrams, make_ngram_fit, ngram_margins
from rlhf_jax.training import UserError

FEWEST = 50  # prompts; fewer say nothing


class Judgement(NamedTuple):
    """A label that may be wrong: of a pair, or of one answer beside an empty text.

    label: 1 of a good answer, 0 of a bad one and of every pair.
    """

    place: str
    prompt: str
    pair: Pair
    label: int


class LabelNoise(NamedTuple):
    """finding: the estimate. right: how often the model agrees with a label that it did not see.

    suspects: (judgement, P(its label)) of those that look wrong, the least probable first.
    """

    finding: Finding
    right: Sample | None = None
    suspects: tuple[tuple[Judgement, float], ...] = ()


def label_noise(
    file: AuditFile, pairs: Sequence[JudgedPair], *, most: int, folds: int = 5, seed: int = 0
) -> LabelNoise:
    """The share of wrong labels among those that a model of n-grams is sure about.

    P(label) = sigmoid of the difference of the rewards, by a model of the other folds, in which no
    prompt of this fold is. A wrong label and one that words do not explain look alike: the estimate
    is as good as the model, see `right`.

    Args:
      pairs: of the file.
      most: judgements that are read; of more, so many are drawn.
    """
    judgements = _judgements(file, pairs)
    if not judgements:
        return _inapplicable(f"{file.kind} without judgements")
    if len(judgements) > most:
        draws = np.random.Generator(np.random.Philox(seed))
        chosen = np.sort(draws.choice(len(judgements), most, replace=False))
        judgements = [judgements[i] for i in chosen]
    openings = dialogue_groups([x.prompt for x in judgements], folds=folds)
    if len(set(openings)) < FEWEST:
        return _inapplicable(f"fewer than {FEWEST} different prompts")
    try:
        margins = _held_out_margins([x.pair for x in judgements], openings, folds, seed)
    except UserError as error:
        return _inapplicable(str(error))
    return _estimate(judgements, openings, margins)


def _estimate(
    judgements: Sequence[Judgement], openings: Sequence[str], margins: np.ndarray
) -> LabelNoise:
    """Confident learning on P(label) = sigmoid(margin)."""
    probs = scipy.special.expit(margins.astype(float))
    confident, flipped = confident_labels(probs, np.array([x.label for x in judgements]))
    groups = np.unique(openings, return_inverse=True)[1]
    right = np.where(margins == 0, 0.5, margins > 0)
    order = [i for i in np.argsort(probs, kind="stable") if flipped[i]]
    suspects = tuple((judgements[i], float(probs[i])) for i in order)
    finding = Finding(
        "wrong labels",
        int(flipped.sum()),
        int(confident.sum()),
        "confident judgements",
        places=once(judgement.place for judgement, _ in suspects),
        details={"judgements read": len(judgements), "accuracy of the model": float(right.mean())},
        sample=Sample(flipped[confident].astype(float), groups[confident]),
    )
    return LabelNoise(finding, Sample(right, groups), suspects)


def _held_out_margins(
    pairs: Sequence[Pair], openings: Sequence[str], folds: int, seed: int
) -> np.ndarray:
    """[N] reward of the chosen minus that of the rejected text, by a model of the other folds."""
    config = Ngrams()
    fit, parts = make_ngram_fit(config), kfold(openings, folds=folds, seed=seed)
    rows, margins = max(len(part.train) for part in parts), np.zeros(len(pairs))
    for part in parts:
        train, test = ([pairs[i] for i in numbers] for numbers in part)
        margins[part.test] = ngram_margins(fit, train, test, config, rows)
    return margins


def _judgements(file: AuditFile, pairs: Sequence[JudgedPair]) -> list[Judgement]:
    """Of pairs, of labelled answers, and of every step."""
    found = [
        Judgement(
            x.place,
            plain_text(x.pair.prompt),
            Pair("", plain_text(x.pair.chosen), plain_text(x.pair.rejected)),
            0,
        )
        for x in pairs
    ]
    for place, record in file.entries:
        if not isinstance(record, Labelled | Steps):
            continue
        prompt = plain_text(record.prompt)
        if isinstance(record, Labelled):
            labelled = [(plain_text(record.answer), bool(record.label))]
        else:
            labelled = [(s, y > 0.5) for s, y in zip(record.steps, record.labels, strict=True)]
        found += [
            Judgement(place, prompt, Pair("", *((text, "") if good else ("", text))), int(good))
            for text, good in labelled
        ]
    return found


def _inapplicable(why: str) -> LabelNoise:
    return LabelNoise(Finding("wrong labels", inapplicable=why))
