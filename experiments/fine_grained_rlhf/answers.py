"""Heads on the errors that people marked in answers (QA-feedback), by cross-validation.

A transformer from random weights reads the question and the answer, not the passages. Beside it:
the commoner label, logistic regression on n-grams of the segment, and the share of the segment's
words that are in the passages.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.fine_grained_rlhf.config import Answers, Config
from rlhf_jax.data.formats import read_rows
from rlhf_jax.data.spans import sentences, subsentences
from rlhf_jax.data.splits import Fold, kfold
from rlhf_jax.data.tokenizer import (
    BOS_ID,
    EOS_ID,
    PAD_ID,
    standard_vocabulary,
    train_bpe_tokenizer,
)
from rlhf_jax.models import TransformerConfig
from rlhf_jax.ops import area_under_curve
from rlhf_jax.recipes import (
    Fit,
    HeadLabels,
    LanguageLab,
    adamw_cosine,
    make_lab,
    segment_model,
    segment_rows,
)
from rlhf_jax.recipes.ensembles import first_heads
from rlhf_jax.recipes.ngram_reward import NgramFit, Ngrams, make_ngram_fit, ngram_logits
from rlhf_jax.recipes.rows import in_chunks
from rlhf_jax.recipes.segments import head_examples, heads_scores, segment_batch
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.intervals import bootstrap_claim, bootstrap_interval
from rlhf_jax.training import Run, Stage, UserError, reading_input, run_stage
from rlhf_jax.types import Params, Vocabulary

RELEVANCE, FACTUALITY = "relevance", "factuality"
OFF, FALSE = ("Irrelevant", "Redundant", "Incoherent"), ("Wrong-Grounding", "Unverifiable")
HEADS = {
    RELEVANCE: HeadLabels(subsentences, OFF),
    FACTUALITY: HeadLabels(sentences, FALSE, unless=OFF),
    **{kind: HeadLabels(subsentences, (kind,)) for kind in OFF},
    **{kind: HeadLabels(sentences, (kind,)) for kind in FALSE},
}
MOST = 32  # segments of an answer
NGRAMS = Ngrams(features=500, steps=100)
RIVALS = ("head", "n-grams", "passages")
Held = Mapping[str, np.ndarray]  # of one head: [Q, MOST] "mask", "free", "common" and RIVALS
area = jax.jit(area_under_curve)


class Tools(NamedTuple):
    """What all folds share, so that each program is compiled once. rows: of the n-grams' batch."""

    lab: LanguageLab
    fit: Fit
    ngrams: NgramFit
    rows: int


def read_answers(path: Path) -> list[dict[str, Any]]:
    """The marked answers of a file, their questions and passages apart."""
    with reading_input():
        found = read_rows(path, kind="spans").records
    rows = []
    for row in found:
        passages, mark, question = row.prompt.rpartition("Question:")
        rows.append(row._asdict() | {"prompt": mark + question, "passages": passages})
    return rows


def held_out(config: Config, job: Run) -> dict[str, Held]:
    """What every head and its rivals say of answers that they were not trained on.

    Raises:
      UserError: no file, a file that cannot be read, or fewer questions than folds.
    """
    if config.qa_feedback is None:
        raise UserError("the marked answers are in a file that --qa-feedback names")
    records, size = read_answers(config.qa_feedback), config.answers
    with reading_input():
        prompts = [row["prompt"] for row in records]
        folds = kfold(prompts, folds=size.folds, seed=config.seed)
    lab = make_lab(
        transformer(size),
        Vocabulary(None, PAD_ID, BOS_ID, (EOS_ID,)),  # each fold has a tokenizer of its own
        prompt_length=size.prompt_tokens,
        answer_length=size.answer_tokens,
        seed=config.seed,
    )
    steps = max(2, size.epochs * min(len(fold.train) for fold in folds) // size.batch)
    fit = Fit(adamw_cosine(size.rate, steps), steps, save_every=0)
    rows = max(len(head_examples(head, records)[0]) for head in HEADS.values())
    tools = Tools(lab, fit, make_ngram_fit(NGRAMS), rows)
    found: dict[str, Any] = {}
    for number, fold in enumerate(folds):
        work = partial(one_fold, tools=tools, records=records, fold=fold, size=size)
        part = run_stage(job, f"answers_{number}", lambda stage, work=work: (work(stage), {}))
        for name, each in part.arrays.items():
            place = found.setdefault(name, np.zeros((len(records), MOST), each.dtype))
            place[fold.test] = each
    used = max(int(found[f"{head}|mask"].sum(1).max()) for head in HEADS)
    return {head: {x: found[f"{head}|{x}"][:, :used] for x in _columns()} for head in HEADS}


def _columns() -> tuple[str, ...]:
    return ("mask", "free", "common", *RIVALS)


def transformer(size: Answers) -> TransformerConfig:
    """The trunk."""
    return TransformerConfig(
        vocab_size=size.vocab_size,
        d_model=size.d_model,
        num_layers=size.num_layers,
        num_heads=2,
        num_kv_heads=2,
        head_dim=size.d_model // 2,
        d_ff=2 * size.d_model,
    )


def one_fold(
    stage: Stage, *, tools: Tools, records: Sequence[dict], fold: Fold, size: Answers
) -> dict[str, np.ndarray]:
    """Trains on one part of the answers and reads the other, [M, MOST] by head and column."""
    train, test = ([records[i] for i in rows] for rows in (fold.train, fold.test))
    texts = [row[name] for row in train for name in ("prompt", "answer")]
    tokenizer = train_bpe_tokenizer(texts, vocab_size=size.vocab_size)
    lab = tools.lab._replace(vocabulary=standard_vocabulary(tokenizer))
    rows = segment_rows(lab, train, [*HEADS.values()], batch_size=size.batch)
    start = first_heads(lab, lab.policy.init(jax.random.key(lab.seed)), members=len(HEADS))
    params = segment_model(stage, lab, rows, start, tools.fit)
    read = read_segments(lab, params, test, size)
    return {
        f"{name}|{what}": each
        for number, (name, head) in enumerate(HEADS.items())
        for what, each in columns(tools, head, train, test, read[number]).items()
    }


def read_segments(
    lab: LanguageLab, params: Params, records: Sequence[dict], size: Answers
) -> list[list[np.ndarray]]:
    """Scores of the labelled segments that are read in full, by head and answer."""
    score = jax.jit(heads_scores(lab.scorer))

    def chunk(part: list[dict]) -> tuple[Any, Any]:
        batch = segment_batch(lab, part, [*HEADS.values()])
        return score(params, batch.trajectory), batch.ends

    scores, ends = in_chunks(chunk, records, size=size.batch)
    return [
        [each[at] for each, at in zip(scores[:, k], ends[:, k], strict=True)]
        for k in range(len(HEADS))
    ]


def columns(
    tools: Tools,
    head: HeadLabels,
    train: Sequence[dict],
    test: Sequence[dict],
    read: Sequence[np.ndarray],
) -> dict[str, np.ndarray]:
    """Of one head, [M, MOST]; segments beyond the tokens that are read are masked."""
    texts, free, _ = head_examples(head, train)
    held, known, rows = head_examples(head, test)
    logits = ngram_logits(tools.ngrams, texts, free, held, NGRAMS, tools.rows)
    passages = [set(row["passages"].lower().split()) for row in test]
    shares = [
        np.mean([word in passages[i] for word in text.lower().split()])
        for text, i in zip(held, rows, strict=True)
    ]
    found = {name: np.zeros((len(test), MOST)) for name in _columns()}
    for row, scores in enumerate(read):
        at = np.flatnonzero(rows == row)[: min(len(scores), MOST)]
        place = np.s_[row, : len(at)]
        found["mask"][place], found["free"][place] = 1, known[at]
        found["common"][place] = np.mean(free) >= 0.5
        found["head"][place], found["n-grams"][place] = scores[: len(at)], logits[at]
        found["passages"][place] = np.array(shares)[at]
    return found


def area_of(scores: np.ndarray, free: np.ndarray, mask: np.ndarray) -> float:
    """Area under the curve of all segments together."""
    flat = (scores.ravel().astype(np.float32), free.ravel() > 0, mask.ravel() > 0)
    return float(area(*flat))


def lead(right: np.ndarray, other: np.ndarray, mask: np.ndarray) -> float:
    """Share of segments in which one is right, minus that of the other."""
    return float(((right.astype(float) - other) * mask).sum() / mask.sum())


def right_of(held: Held, name: str) -> np.ndarray:
    """[Q, MOST] whether the head, a rival or the commoner label is right."""
    called = held["common"] > 0 if name == "common" else held[name] > 0
    return called == (held["free"] > 0)


def answers_claims(found: Mapping[str, Held]) -> list[Claim]:
    """Of the paper's two heads; an interval is over questions."""
    claims = []
    for name in (RELEVANCE, FACTUALITY):
        held = found[name]
        about = {"kind": "ours", "source": "a head must say more than a constant does"}
        claims += [
            bootstrap_claim(
                f"QA-feedback, {name} head: area under the curve of held-out segments",
                area_of,
                [held["head"], held["free"], held["mask"]],
                ">",
                0.5,
                baseline=(
                    "one score for all",
                    area_of(0 * held["head"], held["free"], held["mask"]),
                ),
                **about,
            ),
            bootstrap_claim(
                f"QA-feedback, {name} head: accuracy minus that of the commoner label",
                lead,
                [right_of(held, "head"), right_of(held, "common"), held["mask"]],
                ">",
                0,
                **about,
            ),
        ]
    return claims


def answers_table(found: Mapping[str, Held]) -> Table:
    """Every head beside its rivals."""
    rows = []
    for name, held in found.items():
        mask = held["mask"] > 0
        accuracy = [f"{right_of(held, x)[mask].mean():.3f}" for x in ("common", "head", "n-grams")]
        areas = [f"{area_of(held[x], held['free'], held['mask']):.3f}" for x in RIVALS]
        gap = [right_of(held, "head"), right_of(held, "n-grams"), held["mask"]]
        low, high = bootstrap_interval(lead, *gap)
        shown = f"{lead(*gap):+.3f} [{low:.3f}, {high:.3f}]"
        marked = f"{(held['free'][mask] == 0).sum():.0f} of {mask.sum()}"
        rows.append((name, marked, *accuracy, shown, *areas))
    headers = (
        *("head", "marked", "commoner label", "accuracy", "n-grams"),
        *("accuracy minus n-grams", "area", "area, n-grams", "area, words in the passages"),
    )
    return Table(
        "QA-feedback: held-out segments",
        headers,
        rows,
        note="area under the ROC curve, 0.5 by chance; interval over questions",
    )
