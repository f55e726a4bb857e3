"""Answers that are empty, equal or too long; ties; and how far length decides."""

from collections.abc import Sequence

import numpy as np

from rlhf_jax.data.audit.findings import EXAMPLES, Finding, Sample, once
from rlhf_jax.data.audit.rows import (
    AuditFile,
    JudgedPair,
    answers_of,
    plain_text,
    prompt_groups,
)
from rlhf_jax.data.formats.cleaning import equal_texts, text_key
from rlhf_jax.data.messages import is_blank
from rlhf_jax.data.records import Pair, Ranking, Steps

Sizes = Sequence[tuple[int, ...]]  # of the answers of each record, in words or tokens


def unreadable_rows(file: AuditFile) -> Finding:
    """Rows that training on the file would stop at."""
    lines = [f"row {place}: {reason.partition('; found ')[0]}" for place, reason in file.faults]
    return Finding(
        "unreadable rows",
        len(file.faults),
        file.rows,
        "rows",
        places=once(place for place, _ in file.faults),
        examples=tuple(lines[:EXAMPLES]),
    )


def ties(file: AuditFile) -> Finding:
    """Judgements without a winner: marked as ties, equal answers, rankings with equal scores."""
    marked = sum(number for _, number in file.ties)
    pairs = [(place, x) for place, x in file.entries if isinstance(x, Pair)]
    equal = [place for place, x in pairs if equal_texts(x.chosen, x.rejected)]
    rankings = [(place, x) for place, x in file.entries if isinstance(x, Ranking)]
    level = [place for place, x in rankings if len(set(x.scores)) < len(x.scores)]
    return Finding(
        "ties",
        marked + len(equal) + len(level),
        marked + len(pairs) + len(rankings),
        "rankings" if rankings else "pairs",
        places=once([*(place for place, _ in file.ties), *equal, *level]),
        details={"marked as ties": marked, "equal answers": len(equal)} if not rankings else {},
        inapplicable="" if pairs or rankings or marked else f"{file.kind} have no winner",
    )


def empty_answers(file: AuditFile) -> Finding:
    """Records with an answer, or a step, of nothing but spaces, without a tool call."""
    blank = [
        place
        for place, record in file.entries
        if any(map(is_blank, record.steps if isinstance(record, Steps) else answers_of(record)))
    ]
    return Finding(
        "empty answers",
        len(blank),
        len(file.entries),
        places=once(blank),
        inapplicable=_no_answers(file),
    )


def word_sizes(file: AuditFile) -> list[tuple[int, ...]]:
    """Words of each answer: what white space separates."""
    return [
        tuple(len(plain_text(answer).split()) for answer in answers_of(record))
        for _, record in file.entries
    ]


def overlong_answers(file: AuditFile, sizes: Sizes, *, most: int, unit: str) -> Finding:
    """Records with an answer of more than `most` words or tokens."""
    long = [
        entry.place
        for entry, lengths in zip(file.entries, sizes, strict=True)
        if any(length > most for length in lengths)
    ]
    return Finding(
        "overlong answers",
        len(long),
        len(file.entries),
        places=once(long),
        details=_quantiles([length for each in sizes for length in each], unit),
        inapplicable=_no_answers(file),
    )


def _quantiles(lengths: list[int], unit: str) -> dict[str, float]:
    """Lengths that half, 99% and all of the answers do not exceed."""
    if not lengths:
        return {}
    shares = {"median": 0.5, "99%": 0.99, "longest": 1.0}
    found = np.quantile(lengths, [*shares.values()], method="inverted_cdf")
    return {f"{name}, in {unit}": float(x) for name, x in zip(shares, found.tolist(), strict=True)}


def unsupervised_rows(file: AuditFile, faults: Sequence[tuple[str, str]]) -> Finding:
    """Records in which the model's tokenizer and template leave no token to learn."""
    return Finding(
        "no supervised token",
        len(faults),
        len(file.entries),
        places=once(place for place, _ in faults),
        examples=tuple(f"row {place}: {reason}" for place, reason in faults[:EXAMPLES]),
        inapplicable=_no_answers(file),
    )


def length_bias(pairs: Sequence[JudgedPair], sizes: Sizes, kind: str) -> Finding:
    """How often the longer answer of a pair is the chosen one, equal lengths at one half.

    This is the accuracy of a judge that reads nothing but the length. details: the share of pairs
    with the longer one chosen, and of those with equal lengths.
    """
    lengths = np.array([[sizes[x.entry][i] for i in x.answers] for x in pairs]).reshape(-1, 2)
    longer, equal = lengths[:, 0] > lengths[:, 1], lengths[:, 0] == lengths[:, 1]
    hits = np.where(equal, 0.5, longer)
    groups = prompt_groups([x.pair.prompt for x in pairs])
    return Finding(
        "longer wins",
        int(longer.sum()),
        len(pairs),
        "pairs",
        details={"chosen longer": float(longer.mean()), "equal lengths": float(equal.mean())}
        if len(pairs)
        else {},
        sample=Sample(hits, np.array(groups, int)),
        inapplicable="" if pairs else f"{kind} without pairs",
    )


def lower_scored(file: AuditFile) -> Finding:
    """Pairs in which the chosen answer has the lower score of the two."""
    scored = [
        (place, x.margin)
        for place, x in file.entries
        if isinstance(x, Pair) and x.margin is not None
    ]
    lower = [place for place, margin in scored if margin < 0]
    return Finding(
        "chosen scored lower",
        len(lower),
        len(scored),
        "pairs",
        places=once(lower),
        inapplicable="" if scored else "no scores of both answers",
    )


def distinct_prompts(file: AuditFile) -> int:
    """Number of prompts that differ."""
    return len({text_key(entry.record.prompt) for entry in file.entries})


def _no_answers(file: AuditFile) -> str:
    return "prompts have no answers" if file.kind == "prompts" else ""
