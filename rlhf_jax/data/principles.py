"""Principles named in free-text feedback: extracted, checked against the text, agreed on.

    found = extracted_points(comments, extract)     # who says what of which answer, and its words
    found = checked_spans(found.points)             # the words stand in the comment
    found = agreed_points(found.points, comments)   # every other annotator names the principle
    found = merged_points(found.points)             # one yes or no for an answer and a principle
    records = principle_records(found.points, answers)

Each step returns what it kept and counts of the rest by reason: they add up to what came in. Two
principles mean the same if their phrases are equal (letter case and spaces apart), or if their
vectors have a cosine above a threshold, where vectors are given.

Reference: Wang et al. 2025, arXiv:2509.21319 (RLBFF), from a summary of its method.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np

from rlhf_jax.checks import check_range

YES, NO, PARTIALLY = "yes", "no", "partially"
CATCH_ALL = frozenset(["helpfulness"])
Vectors = Mapping[str, Any] | None  # phrase of a principle -> its embedding


class FeedbackComment(NamedTuple):
    """What one annotator wrote about one answer."""

    answer: Hashable
    annotator: Hashable
    text: str


class PrinciplePoint(NamedTuple):
    """A comment says that an answer follows a principle, or does not.

    verdict: YES or NO. span: words that say so, as quoted. comment: all that the annotator wrote.
    """

    answer: Hashable
    annotator: Hashable
    principle: str
    verdict: str
    span: str
    comment: str


class KeptPoints(NamedTuple):
    """points: kept. counts: "kept", and the others by reason."""

    points: tuple[PrinciplePoint, ...]
    counts: dict[str, int]


@runtime_checkable
class ExtractPrinciples(Protocol):
    """Reads principles off comments: a language model, or `phrase_extractor`."""

    def __call__(
        self, comments: Sequence[str], /
    ) -> Sequence[Sequence[tuple[str, str, str]] | None]:
        """(principle, verdict, span) of each comment's points; None for an unreadable reply."""
        ...


def phrase_extractor(phrases: Mapping[str, tuple[str, str]]) -> ExtractPrinciples:
    """An extractor by known phrases, on whole words.

    Args:
      phrases: what may stand in a comment -> (principle, verdict).
    """
    known = {_plain(phrase): found for phrase, found in phrases.items()}

    def extract(comments: Sequence[str], /) -> list[list[tuple[str, str, str]]]:
        texts = [f" {_plain(comment)} " for comment in comments]
        return [
            [(*found, phrase) for phrase, found in known.items() if f" {phrase} " in text]
            for text in texts
        ]

    return extract


def extracted_points(
    comments: Sequence[FeedbackComment],
    extract: ExtractPrinciples,
    *,
    catch_all: frozenset[str] = CATCH_ALL,
) -> KeptPoints:
    """All points with a verdict yes or no.

    Counted beside "kept": "partially", "catch-all" (principles that say nothing of their own),
    "no verdict" (any other word), and "unread comments", which are not points.

    Raises:
      ValueError: not one reply for each comment.
    """
    replies = extract([comment.text for comment in comments])
    if len(replies) != len(comments):
        raise ValueError(
            f"the extractor must reply to each of {len(comments)} comments, got {len(replies)}"
        )
    kept, counts = [], Counter()
    for comment, reply in zip(comments, replies, strict=True):
        counts["unread comments"] += reply is None
        for principle, verdict, span in reply or ():
            said = _plain(verdict)
            if said in (YES, NO) and _plain(principle) not in catch_all:
                kept.append(PrinciplePoint(*comment[:2], principle, said, span, comment.text))
            elif said in (YES, NO):
                counts["catch-all"] += 1
            else:
                counts[PARTIALLY if said == PARTIALLY else "no verdict"] += 1
    return _kept(kept, counts)


def span_ratio(span: str, text: str) -> float:
    """How much of a span stands in a text, in [0, 100].

    max over windows w of the text with |w| = |span| of 100 (1 - d / (|span| + |w|)), where d is the
    number of letters to insert and delete; letter case and spaces apart. 100 for a literal quote, 0
    for a blank span. The longer of the two is the text.

    Departs: windows that hang over the ends of the text are left out.
    """
    short, long = sorted((_plain(span), _plain(text)), key=len)
    if not short:
        return 0.0
    if short in long:
        return 100.0
    size = len(short)
    windows = (long[start : start + size] for start in range(len(long) - size + 1))
    places = _places(short)
    return 100.0 * max(_common(places, size, window) for window in windows) / size


def checked_spans(points: Sequence[PrinciplePoint], *, threshold: float = 60.0) -> KeptPoints:
    """The points with a `span_ratio` above the threshold; the others count as "span not found"."""
    check_range("[0, 100)", threshold=threshold)
    kept = [point for point in points if span_ratio(point.span, point.comment) > threshold]
    return _kept(kept, Counter({"span not found": len(points) - len(kept)}))


def agreed_points(
    points: Sequence[PrinciplePoint],
    comments: Sequence[FeedbackComment],
    *,
    vectors: Vectors = None,
    threshold: float = 0.8,
    annotators: int | None = None,
) -> KeptPoints:
    """The points with a principle that enough annotators of the same answer name.

    Verdicts may differ: `merged_points` settles them.

    Args:
      comments: all of them, since an annotator without any point does not agree.
      vectors: embeddings of the principles' phrases.
      threshold: cosine above which two principles mean the same.
      annotators: how many must name it, the point's own included; None for every annotator of the
        answer, as in the paper.
    Returns:
      Counted beside "kept": "not agreed", and "one annotator" for an answer with a single one,
      where nobody could agree.
    Raises:
      ValueError: a point of an annotator without a comment on the answer, or without a vector.
    """
    if annotators is not None:
        check_range("[1, inf)", annotators=annotators)
    people: dict[Hashable, set[Hashable]] = defaultdict(set)
    for comment in comments:
        people[comment.answer].add(comment.annotator)
    said: dict[Hashable, dict[Hashable, list[str]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        if point.annotator not in people[point.answer]:
            raise ValueError(
                f"annotator {point.annotator!r} has a point, but no comment, on {point.answer!r}"
            )
        said[point.answer][point.annotator].append(point.principle)
    same, kept, counts = _same_meaning(points, vectors, threshold), [], Counter()
    for point in points:
        everyone = len(people[point.answer])
        if everyone == 1 and annotators != 1:
            counts["one annotator"] += 1
            continue
        agree = sum(
            any(same(point.principle, other) for other in named)
            for named in said[point.answer].values()
        )
        if agree >= (annotators or everyone):
            kept.append(point)
        else:
            counts["not agreed"] += 1
    return _kept(kept, counts)


def merged_points(
    points: Sequence[PrinciplePoint], *, vectors: Vectors = None, threshold: float = 0.8
) -> KeptPoints:
    """One point for each answer and meaning, with the verdict of the majority.

    It is the first point with that verdict. The others count as "merged"; all points of a meaning
    with as many yes as no count as "split".
    """
    same, groups = _same_meaning(points, vectors, threshold), defaultdict(list)
    for point in points:
        found = groups[point.answer]
        group = next((x for x in found if same(x[0].principle, point.principle)), None)
        found.append([point]) if group is None else group.append(point)
    kept, counts = [], Counter()
    for group in (group for found in groups.values() for group in found):
        yes = sum(point.verdict == YES for point in group)
        if 2 * yes == len(group):
            counts["split"] += len(group)
            continue
        verdict = YES if 2 * yes > len(group) else NO
        kept.append(next(point for point in group if point.verdict == verdict))
        counts["merged"] += len(group) - 1
    return _kept(kept, counts)


def principle_records(
    points: Sequence[PrinciplePoint], answers: Mapping[Any, tuple[Any, Any]]
) -> list[dict[str, Any]]:
    """Records of "prompt", "answer", "principle" and "label", as `rlhf reward --kind principles`
    reads them.

    Args:
      answers: name of an answer -> its prompt and itself.
    """
    return [
        {
            "prompt": answers[point.answer][0],
            "answer": answers[point.answer][1],
            "principle": point.principle,
            "label": point.verdict == YES,
        }
        for point in points
    ]


def principle_numbers(names: Sequence[str], known: Sequence[str]) -> np.ndarray:
    """[N] int places of principles among those that a reward was trained on.

    Raises:
      ValueError: a principle that it has never seen.
    """
    places = {name: place for place, name in enumerate(known)}
    if unknown := [name for name in names if name not in places]:
        shown = ", ".join(repr(name) for name in known[:5])
        raise ValueError(
            f"the reward knows no principle {unknown[0]!r}; it was trained on {len(known)} "
            f"({shown}{', ...' if len(known) > 5 else ''})"
        )
    return np.array([places[name] for name in names], int)


@runtime_checkable
class _SameMeaning(Protocol):
    def __call__(self, one: str, other: str, /) -> bool: ...


def _same_meaning(
    points: Sequence[PrinciplePoint], vectors: Vectors, threshold: float
) -> _SameMeaning:
    """Whether two of the points' principles mean the same."""
    check_range("[-1, 1)", threshold=threshold)
    units = {} if vectors is None else _unit_vectors(points, vectors)

    def same(one: str, other: str, /) -> bool:
        if _plain(one) == _plain(other):
            return True
        return bool(units) and bool(units[one] @ units[other] > threshold)

    return same


def _unit_vectors(
    points: Sequence[PrinciplePoint], vectors: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """Vectors of the points' principles, of length 1."""
    units = {}
    for name in dict.fromkeys(point.principle for point in points):
        if name not in vectors:
            raise ValueError(f"the principle {name!r} has no vector")
        vector = np.asarray(vectors[name], np.float64)
        length = np.linalg.norm(vector)
        if not (np.isfinite(length) and length > 0):
            raise ValueError(f"the vector of the principle {name!r} must be finite and not 0")
        units[name] = vector / length
    return units


def _kept(points: Sequence[PrinciplePoint], counts: Counter[str]) -> KeptPoints:
    return KeptPoints(tuple(points), {"kept": len(points)} | {k: n for k, n in counts.items() if n})


def _plain(text: str) -> str:
    """Lower case, single spaces."""
    return " ".join(text.lower().split())


def _places(text: str) -> dict[str, int]:
    """letter -> the places that it has in a text, as bits."""
    found: dict[str, int] = {}
    for place, letter in enumerate(text):
        found[letter] = found.get(letter, 0) | 1 << place
    return found


def _common(places: Mapping[str, int], size: int, window: str) -> int:
    """Length of the longest common subsequence of a text with these places and a window."""
    # Bit-parallel, one row of the table in an integer: Hyyrö 2004, "Bit-parallel LCS-length
    # computation revisited".
    full = row = (1 << size) - 1
    for letter in window:
        met = row & places.get(letter, 0)
        row = ((row + met) | (row - met)) & full
    return size - row.bit_count()
