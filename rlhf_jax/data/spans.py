"""Segments of texts, marked spans and what they say of a segment. Python on the host.

    segments = subsentences(answer)                       # [(start, end)] in characters
    labels = segment_labels(segments, spans, ["relevance"]) # which of them are free of marks
    ends = token_ends(answer, segments, count)            # their last tokens

A span is marked text with the kind of its error. Spans may overlap: a segment has an error if any
span of that kind meets it.
"""

import difflib
import re
from bisect import bisect_left
from collections.abc import Callable, Collection, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from rlhf_jax.checks import check_range

SENTENCE = re.compile(r"\S.*?(?:[.!?]+(?=\s)|\s*$)", re.DOTALL)
BREAKS = (",", ";", "!", "?")  # a word that ends with one may end a sub-sentence
Segment = tuple[int, int]  # first character and the one after the last


class MarkedSpan(NamedTuple):
    """text[start:end] has an error of this kind."""

    start: int
    end: int
    kind: str


def sentences(text: str) -> list[Segment]:
    """Sentences: up to . ! or ? before white space, and the rest; without the space around them.

    >>> [text[a:b] for text in ["It is 3.5 m. Is it? Yes"] for a, b in sentences(text)]
    ['It is 3.5 m.', 'Is it?', 'Yes']
    """
    found = [
        (each.start(), each.start() + len(each.group().rstrip()))
        for each in SENTENCE.finditer(text)
    ]
    return [(start, end) for start, end in found if end > start]


def subsentences(text: str, *, least: int = 5) -> list[Segment]:
    """Sentences cut after words that end with , ; ! or ?, with `least` words on both sides.

    A part that is too short joins the one before it, or the one after if it is the first.

    >>> text = "The red one is in stock today, and the blue one comes next week, I think."
    >>> [text[a:b] for a, b in subsentences(text)]
    ['The red one is in stock today,', 'and the blue one comes next week, I think.']

    Reference: Wu et al. 2023, arXiv:2306.01693, the authors' code.
    """
    check_range("[1, inf)", least=least)
    found: list[Segment] = []
    for start, end in sentences(text):
        words = [
            (start + each.start(), start + each.end())
            for each in re.finditer(r"\S+", text[start:end])
        ]
        first = 0
        for i, (_, stop) in enumerate(words[:-1]):
            long_enough = i + 1 - first >= least and len(words) - i - 1 >= least
            if text[:stop].endswith(BREAKS) and long_enough:
                found.append((words[first][0], stop))
                first = i + 1
        found.append((words[first][0], words[-1][1]))
    return found


def check_spans(text: str, spans: Sequence[MarkedSpan]) -> None:
    """ValueError for a span that is empty or not within the text; it quotes the text."""
    for span in spans:
        if not 0 <= span.start < span.end <= len(text):
            raise ValueError(
                f"a span must lie in the {len(text)} characters of the answer {text!r:.60}, got "
                f"{span.start} to {span.end} ({span.kind})"
            )


def segment_labels(
    segments: Sequence[Segment],
    spans: Sequence[MarkedSpan],
    kinds: Collection[str],
    *,
    unless: Collection[str] = (),
) -> list[bool | None]:
    """For each segment: False if a span of these kinds meets it, None if only one of `unless` does.

    True means free of these errors. None is left out of training: a sentence that is off the
    subject need not be true or false.

    Reference: Wu et al. 2023, arXiv:2306.01693, the authors' code: their factuality labels are
      `unless` the other kinds.
    """

    def meets(segment: Segment, kinds: Collection[str]) -> bool:
        return any(
            span.kind in kinds and span.start < segment[1] and segment[0] < span.end
            for span in spans
        )

    return [
        False if meets(each, kinds) else None if meets(each, unless) else True for each in segments
    ]


def token_ends(
    text: str, segments: Sequence[Segment], count: Callable[[str], int], *, length: int
) -> list[int]:
    """Index of the last token of each segment: tokens of the text up to its end, less one.

    Args:
      count: tokens of a text, e.g. `lambda text: len(tokenizer.encode(text).ids)`.
      length: tokens of the longest answer, T; an end beyond it is moved to the last of them.
    """
    check_range("[1, inf)", length=length)
    return [min(max(count(text[:end]) - 1, 0), length - 1) for _, end in segments]


def reached_ends(
    segments: Sequence[Segment], characters: Callable[[int], int], *, length: int
) -> list[int]:
    """Index of the token with which a drawn answer reaches the end of each segment.

    A model may draw other tokens than those that its tokenizer would choose for the text.

    Args:
      characters: t -> length of the text of the first t tokens, 1 <= t <= length; it never falls.
      length: tokens of the answer, which together have all of the text.
    """
    check_range("[1, inf)", length=length)
    counts = range(1, length)  # the last token reaches every end
    return [bisect_left(counts, end, key=characters) for _, end in segments]


def matched_sentences(
    parts: Sequence[str], passages: Sequence[str], *, ratio: float = 0.85
) -> set[int]:
    """Numbers of the passage sentences that some part of an answer repeats, nearly word for word.

    Args:
      ratio: least similarity, 2 M / T of `difflib.SequenceMatcher`, in (0, 1].
    """
    check_range("(0, 1]", ratio=ratio)
    return {
        i
        for i, sentence in enumerate(passages)
        if any(difflib.SequenceMatcher(None, part, sentence).ratio() >= ratio for part in parts)
    }


def coverage(covered: Collection[int], needed: Collection[int]) -> float:
    """|covered and needed| / |needed|; NaN if nothing is needed."""
    return len(set(covered) & set(needed)) / len(set(needed)) if needed else float("nan")


def coverage_pairs(shares: Sequence[float]) -> list[tuple[int, int, int]]:
    """All pairs (i, j, outcome) of K answers, by their coverage: 1 if i covers more, 0 at a tie.

    Four answers make six pairs. An answer without a coverage, NaN, is in no pair.
    """
    known = [i for i, share in enumerate(shares) if not np.isnan(share)]
    return [(i, j, int(np.sign(shares[i] - shares[j]))) for i, j in combinations(known, 2)]
