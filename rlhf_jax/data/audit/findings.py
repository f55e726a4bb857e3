"""What a check of a file returns."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

EXAMPLES = 10


class Sample(NamedTuple):
    """What a share is the mean of: hits [N] in [0, 1], and groups [N] of units that are alike."""

    hits: np.ndarray
    groups: np.ndarray


class Finding(NamedTuple):
    """One check of one file.

    count: units with the fault, of `total`. places: their rows, each once, in order.
    details: other numbers by name. examples: lines about single rows, without their texts.
    sample: of a share that is an estimate; its interval comes from it.
    inapplicable: why the file cannot have this fault; empty where it can.
    """

    name: str
    count: int = 0
    total: int = 0
    unit: str = "records"
    places: tuple[str, ...] = ()
    details: Mapping[str, float] = MappingProxyType({})
    examples: tuple[str, ...] = ()
    sample: Sample | None = None
    inapplicable: str = ""

    @property
    def share(self) -> float:
        """The mean of the sample, or count / total; 0 of nothing."""
        if self.sample is not None:
            return float(self.sample.hits.mean()) if len(self.sample.hits) else 0.0
        return self.count / self.total if self.total else 0.0


def once(places: Iterable[str]) -> tuple[str, ...]:
    """The places in order, each once."""
    return tuple(dict.fromkeys(places))
