"""Who gave a comparison: which pairs each member of an ensemble learns from.

Members of an ensemble differ by their seed, or by the people whose judgements they learn from. For
the second, every record has an "annotator", as pairs read from a file have it (`data.formats`), or
within its "judgement", where the labelling page writes it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np


class AnnotatorMembers(NamedTuple):
    """names: of N annotators, sorted. weights: [N, B] float32, 1 where a pair is by the annotator.

    Each pair teaches one member, and all pairs weigh the same: of annotators with unequally many
    pairs none is lost, and the one with most moves a shared trunk most.
    """

    names: tuple[str, ...]
    weights: np.ndarray


def annotator_members(records: Sequence[Mapping[str, Any]], *, least: int = 1) -> AnnotatorMembers:
    """One member for each annotator of the pairs.

    Args:
      records: B pairs with an annotator.
      least: pairs that an annotator must have.
    Raises:
      ValueError: a pair without an annotator, data of one annotator, or an annotator with too few
        pairs; all named.
    """
    by = [_annotator(record, number) for number, record in enumerate(records)]
    found, places, counts = np.unique(by, return_inverse=True, return_counts=True)
    names = found.tolist()
    if len(names) < 2:
        who = f"all {len(by)} pairs are by {names[0]!r}" if by else "there are no pairs"
        raise ValueError(
            f"an ensemble with a member for each annotator needs two annotators, but {who}: "
            "with one, train the members on the same pairs from different seeds"
        )
    few = [f"{name!r} ({n})" for name, n in zip(names, counts, strict=True) if n < least]
    if few:
        raise ValueError(f"annotators need {least} pairs or more, too few have {', '.join(few)}")
    weights = (places.reshape(-1) == np.arange(len(names))[:, None]).astype(np.float32)
    return AnnotatorMembers(tuple(names), weights)


def _annotator(record: Mapping[str, Any], number: int) -> str:
    """Who gave the record."""
    judgement = record.get("judgement")
    name = record.get("annotator", judgement.get("annotator") if judgement else None)
    if not isinstance(name, str) or not name:
        raise ValueError(
            f'pair {number} has no "annotator": the ensemble needs to know whose judgement it is'
        )
    return name
