"""Labelled answers from comments in free text, by any language model that names principles (RLBFF).

    extract = language_extractor(lab, params)           # a model here
    extract = chat_extractor(chat_model("http://localhost:8000/v1#Qwen3-8B"))   # or at an address
    found = feedback_records(rows, extract)             # rows: "prompt", "answer", "comments"
    asked = asked_records(found.records)                # to train on, as in `recipes.principles`

Reference: Wang et al. 2025, arXiv:2509.21319.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from rlhf_jax.data.messages import as_user
from rlhf_jax.data.principle_replies import ExtractionQuestion, reply_extractor
from rlhf_jax.data.principles import (
    ExtractPrinciples,
    FeedbackComment,
    Vectors,
    agreed_points,
    checked_spans,
    extracted_points,
    merged_points,
    principle_records,
)
from rlhf_jax.recipes.lab import LanguageLab, stage_key
from rlhf_jax.recipes.refusals import quoted
from rlhf_jax.recipes.texts import sample_texts
from rlhf_jax.recipes.tokens import prompt_tokens
from rlhf_jax.rewards import ChatModel, ask_chat
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.training import UserError
from rlhf_jax.types import Params


class FeedbackRecords(NamedTuple):
    """records: "prompt", "answer", "principle" and "label". counts: of each step -> what it kept,
    and what it left out by reason."""

    records: list[dict]
    counts: dict[str, dict[str, int]]


def chat_extractor(
    model: ChatModel, question: ExtractionQuestion | None = None
) -> ExtractPrinciples:
    """Principles by a model behind an address; it counts its own failures in `model.counts`."""
    return reply_extractor(partial(ask_chat, model), question)


def language_extractor(
    lab: LanguageLab,
    params: Params,
    question: ExtractionQuestion | None = None,
    *,
    sampling: SamplingConfig | None = None,
) -> ExtractPrinciples:
    """Principles by the lab's policy, one reply to each comment.

    A comment that does not fit into `lab.prompt_length` with its question gets no reply: cut, it
    would be another one.
    """
    key = stage_key(lab, "extraction")

    def ask(texts: Sequence[str], /) -> list[str | None]:
        asked = [text if lab.chat is None else list(as_user(text)) for text in texts]
        rows = prompt_tokens(lab.vocabulary, lab.chat, asked)
        fits = [n for n, row in enumerate(rows) if len(row) <= lab.prompt_length]
        given = [asked[n] for n in fits]
        said = sample_texts(lab, params, given, key, samples=1, sampling=sampling)
        replies = dict(zip(fits, (reply for (reply,) in said), strict=True))
        return [replies.get(n) for n in range(len(texts))]

    return reply_extractor(ask, question)


def feedback_records(
    rows: Sequence[Mapping[str, Any]],
    extract: ExtractPrinciples,
    *,
    vectors: Vectors = None,
    threshold: float = 0.8,
    annotators: int | None = None,
) -> FeedbackRecords:
    """Extracts, checks quotes, asks for consensus, and merges: see `data.principles`.

    Args:
      rows: each an answer with its "comments", a text of each annotator.
      vectors, threshold, annotators: as in `agreed_points`.
    Raises:
      UserError: a row without comments, or no point that is left; the counts say why.
    """
    comments = [
        FeedbackComment(number, annotator, text)
        for number, row in enumerate(rows)
        for annotator, text in enumerate(_texts(row))
    ]
    same: dict[str, Any] = {"vectors": vectors, "threshold": threshold}
    steps = {"extracted": extracted_points(comments, extract)}
    steps["quoted"] = checked_spans(steps["extracted"].points)
    steps["agreed"] = agreed_points(steps["quoted"].points, comments, **same, annotators=annotators)
    steps["merged"] = merged_points(steps["agreed"].points, **same)
    counts = {name: found.counts for name, found in steps.items()}
    if not steps["merged"].points:
        raise UserError(f"no principle is left of {len(comments)} comments: {counts_line(counts)}")
    answers = {n: (row["prompt"], row["answer"]) for n, row in enumerate(rows)}
    return FeedbackRecords(principle_records(steps["merged"].points, answers), counts)


def counts_line(counts: Mapping[str, Mapping[str, int]]) -> str:
    """The counts of all steps in a line."""
    return "; ".join(
        f"{step}: " + ", ".join(f"{name} {n}" for name, n in Counter(found).items())
        for step, found in counts.items()
    )


def _texts(row: Mapping[str, Any]) -> list[str]:
    """The comments of a row."""
    found = row.get("comments")
    texts = isinstance(found, list | tuple) and len(found) > 0
    if not (texts and all(isinstance(text, str) and text.strip() for text in found)):
        raise UserError(
            f"the answer to {quoted(row['prompt'])} needs comments, a list of texts, one of each "
            f"annotator; got {found!r:.40}"
        )
    if not isinstance(row.get("answer"), str | list | tuple):
        raise UserError(f"the comments on {quoted(row['prompt'])} have no answer beside them")
    return list(found)
