"""Which judgements a judge is fitted to: of several per pair the right ones, and of those one.

    found = select_traces(verdicts, lengths, labels)          # "longest", the paper's choice
    rows = [traces[i][k] for i, k in found.chosen]

Reference: Hong et al. 2025, arXiv:2505.16265 (Think-RM): the longest right trace of each pair.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from rlhf_jax.checks import check_entries

Keep = Literal["longest", "shortest", "random"]


class TraceSelection(NamedTuple):
    """One trace for each pair that has a right one.

    chosen: [M, 2] number of the pair, and of its trace. pairs: N, of which `without` have no right
    trace. unread: traces without a verdict, wrong: with another one; in numbers of traces.
    """

    chosen: Int[np.ndarray, "M 2"]
    pairs: int
    without: int
    unread: int
    wrong: int

    @property
    def counts(self) -> dict[str, int]:
        """The numbers; `kept` and `without` add up to the pairs."""
        names = ("pairs", "without", "unread", "wrong")
        return {"kept": len(self.chosen)} | {name: getattr(self, name) for name in names}


def select_traces(
    verdicts: ArrayLike,
    lengths: ArrayLike,
    labels: ArrayLike,
    *,
    keep: Keep = "longest",
    seed: int = 0,
) -> TraceSelection:
    """Of the traces with z = z* one for each pair.

    Args:
      verdicts: [N, K] z of K judgements of each pair, NaN without a verdict.
      lengths: [N, K] > 0, e.g. tokens. The first of equal ones is taken.
      labels: [N] z*, finite and not 0.
      keep: which of the right ones.
      seed: of "random".
    Raises:
      ValueError: shapes differ, or a label that is 0 or not finite.
    """
    z, sizes, wanted = (np.asarray(x, np.float64) for x in (verdicts, lengths, labels))
    if z.ndim != 2 or z.shape != sizes.shape or wanted.shape != z.shape[:1]:
        raise ValueError(
            "verdicts and lengths must be [N, K] and labels [N], "
            f"got {z.shape}, {sizes.shape} and {wanted.shape}"
        )
    check_entries("(0, inf)", lengths=sizes, absolute_labels=np.abs(wanted))
    draws = np.random.default_rng(seed).random(z.shape) + 1.0
    ranks = {"longest": sizes, "shortest": -sizes, "random": draws}
    if keep not in ranks:
        raise ValueError(f"keep must be one of {sorted(ranks)}, got {keep!r}")
    right = z == wanted[:, None]
    rows = np.flatnonzero(right.any(axis=1))
    best = np.where(right, ranks[keep], -np.inf)[rows].argmax(axis=1)
    unread = int(np.isnan(z).sum())
    return TraceSelection(
        chosen=np.stack([rows, best], axis=1),
        pairs=len(z),
        without=len(z) - len(rows),
        unread=unread,
        wrong=z.size - unread - int(right.sum()),
    )
