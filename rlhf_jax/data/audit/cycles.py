"""Judgements that no ranking of the answers can agree with."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_array

from rlhf_jax.data.audit.findings import Finding, once
from rlhf_jax.data.audit.rows import JudgedPair, prompt_groups
from rlhf_jax.data.formats.cleaning import text_key


def intransitive_triples(pairs: Sequence[JudgedPair], kind: str) -> Finding:
    """Triples of answers to one prompt with A over B over C over A.

    total: triples of which every two are compared. Of contradictory judgements of two answers the
    majority counts, and a draw is no comparison. A 3-cycle begins at each of its answers, so that
    with W[i, j] = 1 where i beats j, cycles = trace(W^3) / 3 and triples = trace((W + W^T)^3) / 6.
    """
    beats = _majorities(pairs)
    both = beats + beats.T
    triples = round(((both @ both).multiply(both)).sum() / 6)
    closing = (beats @ beats).multiply(beats.T)  # [i, j]: paths from i to j that j closes
    cycles = round(closing.sum() / 3)
    ends = {(int(i), int(j)) for i, j in zip(*closing.nonzero(), strict=True)}
    edges = _edges(pairs)
    places = [x.place for x, (i, j) in zip(pairs, edges, strict=True) if (j, i) in ends]
    return Finding(
        "intransitive triples",
        cycles,
        triples,
        "triples",
        places=once(places),
        inapplicable="" if triples else f"{kind} without three answers that are all compared",
    )


def _edges(pairs: Sequence[JudgedPair]) -> list[tuple[int, int]]:
    """(better, worse) of each pair, numbers of answers to a prompt."""
    numbers: dict[tuple[int, int], int] = {}
    groups = prompt_groups([x.pair.prompt for x in pairs])
    return [
        (
            numbers.setdefault((group, hash(text_key(x.pair.chosen))), len(numbers)),
            numbers.setdefault((group, hash(text_key(x.pair.rejected))), len(numbers)),
        )
        for x, group in zip(pairs, groups, strict=True)
    ]


def _majorities(pairs: Sequence[JudgedPair]) -> csr_array:
    """[answers, answers] 1 where most judgements say that the first beats the second."""
    edges = np.array(_edges(pairs), int).reshape(-1, 2)
    size = int(edges.max()) + 1 if len(edges) else 1
    votes = csr_array((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), shape=(size, size))
    return csr_array((votes - votes.T) > 0).astype(float)
