"""Do annotators agree: the share of equal judgements, and Krippendorff's alpha."""

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

Row = Mapping[str, Any]
Number = int | float


class Agreement(NamedTuple):
    """Of the units (pairs, ratings of an answer, words) that several annotators have judged.

    units: their number. equal: share of equal judgements of two annotators. alpha: 1 is perfect
    and 0 is chance; None if all judgements are the same.
    """

    annotators: tuple[str, ...]
    units: int
    equal: float
    alpha: float | None

    def note(self) -> str:
        """One line."""
        alpha = "undefined, all are equal" if self.alpha is None else f"{self.alpha:.2f}"
        return (
            f"agreement of {', '.join(self.annotators)}: {self.units} judged by several, "
            f"{self.equal:.0%} equal, Krippendorff's alpha {alpha}"
        )


def agreement(rows: Iterable[Row]) -> Agreement | None:
    """Agreement on the rows of a file of labels; None where nothing was judged by two people.

    Choices and marks of words are equal or not, ratings have distances (squared differences). The
    latest of several judgements of one item by one annotator counts.
    """
    values: dict[Hashable, dict[str, Number]] = defaultdict(dict)
    kinds = set()
    for row in rows:
        kinds.add(row["judgement"]["kind"])
        for unit, value in _units(row):
            values[row["judgement"]["item"], unit][row["judgement"]["annotator"]] = value
    shared = [each for each in values.values() if len(each) > 1]
    if not shared:
        return None
    pairs = [a == b for each in shared for a, b in combinations(each.values(), 2)]
    return Agreement(
        annotators=tuple(sorted({name for each in shared for name in each})),
        units=len(shared),
        equal=sum(pairs) / len(pairs),
        alpha=krippendorff_alpha(
            [[*each.values()] for each in shared], interval="ratings" in kinds
        ),
    )


def krippendorff_alpha(units: Sequence[Sequence[Number]], *, interval: bool) -> float | None:
    """1 - observed / expected disagreement; None if only one value occurs.

    With o[c, k] the number of ordered pairs of values (c, k) within a unit, each over one less than
    the values of the unit, and n[c] = sum_k o[c, k]:
    1 - (n - 1) sum o[c, k] d(c, k) / sum n[c] n[k] d(c, k).

    Args:
      units: the values of each unit, at least two.
      interval: d is (c - k)^2; otherwise 1 for different values.
    Reference: Krippendorff 2011, "Computing Krippendorff's Alpha-Reliability".
    """
    known = sorted({value for unit in units for value in unit})
    if len(known) < 2:
        return None
    counts = np.array([[unit.count(value) for value in known] for unit in map(list, units)], float)
    pairs = 1 / (counts.sum(1) - 1)
    observed = (counts.T * pairs) @ counts - np.diag(pairs @ counts)
    totals = observed.sum(1)
    differences = np.subtract.outer(known, known)
    distance = differences**2 if interval else differences != 0
    expected = (np.outer(totals, totals) * distance).sum()
    return float(1 - (totals.sum() - 1) * (observed * distance).sum() / expected)


def _units(row: Row) -> Iterator[tuple[Hashable, Number]]:
    """(what is judged within the item, value)."""
    judgement = row["judgement"]
    if judgement["kind"] == "pairs":
        left, right = judgement["shown"]
        yield "", {"left": left, "right": right, "tie": 2, "both_bad": 3}[row["choice"]]
    elif judgement["kind"] == "ratings":
        for name, column in row["criteria"].items():
            yield from (((name, i), value) for i, value in enumerate(column))
    else:
        for i, word in enumerate(re.finditer(r"\S+", row["answer"])):
            marks = [
                span["quality"]
                for span in row["spans"]
                if span["start"] < word.end() and word.start() < span["end"]
            ]
            yield i, 2 if "bad" in marks else len(marks[:1])
