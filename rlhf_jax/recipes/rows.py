"""Records of text as batches by step: what the offline recipes are fitted to.

A recipe reads `rows[i]`, the batch of step i, and nothing else; so a run that is resumed sees what
an uninterrupted one does. Records are dicts of texts, in memory or on disk (`data.store`):
"prompt" and "answer", or "prompt", "chosen" and "rejected".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.data.loader import batches
from rlhf_jax.recipes.lab import LanguageLab, make_trajectories
from rlhf_jax.types import PreferenceBatch, PyTree, Trajectory

Records = Any  # a Sequence of dicts, or a grain source of them


@runtime_checkable
class Rows(Protocol):
    """The batch of each step."""

    def __getitem__(self, step: int, /) -> PyTree: ...


def answer_batch(lab: LanguageLab, records: Sequence[dict]) -> Trajectory:
    """Prompts and answers as one batch."""
    return make_trajectories(
        lab, [row["prompt"] for row in records], [row["answer"] for row in records]
    )


def pair_batch(lab: LanguageLab, records: Sequence[dict]) -> PreferenceBatch:
    """Pairs as one batch, without reference log-probs."""
    prompts = [row["prompt"] for row in records]
    return PreferenceBatch(
        chosen=make_trajectories(lab, prompts, [row["chosen"] for row in records]),
        rejected=make_trajectories(lab, prompts, [row["rejected"] for row in records]),
    )


def answer_rows(lab: LanguageLab, records: Records, *, batch_size: int) -> Rows:
    """Batches of answers, in an order of the lab's seed."""
    return batches(
        records, batch_size=batch_size, seed=lab.seed, batch_fn=partial(answer_batch, lab)
    )


def pair_rows(
    lab: LanguageLab,
    pairs: Records,
    *,
    batch_size: int,
    reference: Mapping[str, np.ndarray] | None = None,
) -> Rows:
    """Batches of pairs, in an order of the lab's seed.

    Args:
      reference: log-probs [N] of all pairs by `reference_logps`; None for losses without one.
    """

    def take(numbers: Sequence[int]) -> PreferenceBatch:
        batch = pair_batch(lab, [pairs[int(i)] for i in numbers])
        if reference is None:
            return batch
        refs = {f"ref_{side}_logps": jnp.asarray(x[numbers]) for side, x in reference.items()}
        return replace(batch, **refs)

    return batches(len(pairs), batch_size=batch_size, seed=lab.seed, batch_fn=take)


def array_rows(data: PyTree, *, batch_size: int, seed: int) -> Rows:
    """Batches of arrays [N, ...] in memory, e.g. pairs with their reference log-probs."""
    total = len(jax.tree.leaves(data)[0])

    def take(numbers: Sequence[int]) -> PyTree:
        return jax.tree.map(lambda x: x[np.asarray(numbers)], data)

    return batches(total, batch_size=batch_size, seed=seed, batch_fn=take)


def in_chunks(function: Callable[[list[dict]], PyTree], records: Records, *, size: int) -> PyTree:
    """`function` of every record in order, [N, ...] on the host, `size` at a time.

    The last chunk is filled up from the front, so that one shape is compiled.
    """
    total, parts = len(records), []
    for start in range(0, total, size):
        part = [records[i % total] for i in range(start, start + size)]
        parts.append(function(part))
    columns = jax.device_get(parts)
    return jax.tree.map(lambda *x: np.concatenate(x)[:total], *columns)


def halves(pairs: PreferenceBatch) -> Trajectory:
    """Chosen and rejected side by side, [B, 2]."""
    return jax.tree.map(lambda a, b: jnp.stack([a, b], 1), pairs.chosen, pairs.rejected)
