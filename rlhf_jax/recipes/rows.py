"""Records of text as batches by step: what the offline recipes are fitted to.

A recipe reads `rows[i]`, the batch of step i, and nothing else; so a run that is resumed sees what
an uninterrupted one does. Records are dicts, in memory or on disk (`data.store`): "prompt" and
"answer", or "prompt", "chosen" and "rejected", as texts or, in a lab with a chat template, as lists
of messages; "tools" beside them; or "messages", a dialogue in which every turn of the assistant
counts. With `buckets` a batch has rows of similar length (`recipes.buckets`), with `packs` several
answers in each row (`recipes.packing`); without, every row is padded to the lab's lengths. With
several hosts each reads its part of a batch (`recipes.hosts`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.checks import check_range
from rlhf_jax.data.loader import batches
from rlhf_jax.data.packing import Packs
from rlhf_jax.recipes.buckets import Bucket, BucketBatch, bucket_rows
from rlhf_jax.recipes.hosts import host_batches
from rlhf_jax.recipes.lab import LanguageLab, make_trajectories
from rlhf_jax.recipes.packing import packed_batch
from rlhf_jax.recipes.tokens import side_case
from rlhf_jax.sharding import on_host
from rlhf_jax.training import UserError
from rlhf_jax.types import PreferenceBatch, PyTree, Trajectory

Records = Any  # a Sequence of dicts, or a grain source of them


@runtime_checkable
class Rows(Protocol):
    """The batch of each step."""

    def __getitem__(self, step: int, /) -> PyTree: ...


def side_batch(
    lab: LanguageLab, records: Sequence[dict], sides: Sequence[str]
) -> dict[str, Trajectory]:
    """Each of these fields as answers to the prompts of the records.

    Raises:
      UserError: a record without one of the fields, or with a text that the lab cannot read.
    """
    found = {}
    for side in sides:
        prompts, answers, tools = zip(*(side_case(row, side) for row in records), strict=True)
        found[side] = make_trajectories(lab, prompts, answers, tools)
    return found


def answer_batch(lab: LanguageLab, records: Sequence[dict]) -> Trajectory:
    """Prompts and answers as one batch."""
    return side_batch(lab, records, ["answer"])["answer"]


def pair_batch(lab: LanguageLab, records: Sequence[dict]) -> PreferenceBatch:
    """Pairs as one batch, without reference log-probs."""
    sides = side_batch(lab, records, ["chosen", "rejected"])
    return PreferenceBatch(sides["chosen"], sides["rejected"])


def answer_rows(
    lab: LanguageLab,
    records: Records,
    *,
    batch_size: int,
    buckets: Sequence[Bucket] | None = None,
    packs: Packs | None = None,
) -> Rows:
    """Batches of answers, in an order of the lab's seed.

    With buckets, no token counts in a row that fills up the last batch of one.

    Args:
      packs: several answers in each of the rows, as `pack_records` says; without buckets.
    """
    if packs is not None:
        if buckets is not None:
            raise ValueError("answers go to buckets or into packed rows, not both")
        pack = partial(packed_batch, lab, records, columns=packs.columns)
        return host_batches(lab, packs, pack, batch_size=batch_size)
    if buckets is None:
        return host_batches(lab, records, partial(answer_batch, lab), batch_size=batch_size)

    def take(narrow: LanguageLab, batch: BucketBatch) -> Trajectory:
        found = answer_batch(narrow, [records[int(i)] for i in batch.rows])
        return replace(found, mask=found.mask & batch.kept[:, None])

    return bucket_rows(lab, records, buckets, take, batch_size=batch_size)


def pair_rows(
    lab: LanguageLab,
    pairs: Records,
    *,
    batch_size: int,
    reference: Mapping[str, np.ndarray] | None = None,
    columns: Mapping[str, np.ndarray] | None = None,
    buckets: Sequence[Bucket] | None = None,
) -> Rows:
    """Batches of pairs, in an order of the lab's seed.

    With buckets, pairs have weights: 0 for a pair that fills up the last batch of one.

    Args:
      reference: log-probs [N] of all pairs by `reference_logps`; None for losses without one.
      columns: [N] of all pairs, for the loss; "weights" are those of the pairs, [N], or [N, M] for
        the members of an ensemble.
    Raises:
      UserError: a reference or columns of other pairs.
    """
    if reference is not None:
        check_reference(reference, pairs, ("chosen", "rejected"))
    for name, column in (columns or {}).items():
        if len(column) != len(pairs):
            raise UserError(f"column {name!r} must be of {len(pairs)} pairs, got {len(column)}")

    def take(lab: LanguageLab, numbers: Any) -> PreferenceBatch:
        batch = pair_batch(lab, [pairs[int(i)] for i in numbers])
        if columns is not None:
            found = {name: jnp.asarray(x[np.asarray(numbers)]) for name, x in columns.items()}
            batch = replace(batch, weights=found.pop("weights", None), columns=found)
        if reference is None:
            return batch
        refs = {f"ref_{side}_logps": jnp.asarray(x[numbers]) for side, x in reference.items()}
        return replace(batch, **refs)

    def take_kept(narrow: LanguageLab, batch: BucketBatch) -> PreferenceBatch:
        found, kept = take(narrow, batch.rows), jnp.asarray(batch.kept, jnp.float32)
        if found.weights is not None:
            kept = kept.reshape(-1, *(1,) * (found.weights.ndim - 1)) * found.weights
        return replace(found, weights=kept)

    if buckets is not None:
        return bucket_rows(lab, pairs, buckets, take_kept, batch_size=batch_size)
    return host_batches(lab, len(pairs), partial(take, lab), batch_size=batch_size)


def check_reference(
    reference: Mapping[str, np.ndarray], records: Records, sides: Sequence[str]
) -> None:
    """UserError unless the reference has a log-prob for each of these fields of each record."""
    for side in sides:
        if len(reference.get(side, ())) != len(records):
            raise UserError(
                f"reference must have {side!r} for {len(records)} records, got "
                f"{len(reference.get(side, ()))}: make it by reference_logps of the same records"
            )


def array_rows(data: PyTree, *, batch_size: int, seed: int) -> Rows:
    """Batches of arrays [N, ...] in memory, e.g. pairs with their reference log-probs."""
    total = len(jax.tree.leaves(data)[0])

    def take(numbers: Sequence[int]) -> PyTree:
        return jax.tree.map(lambda x: x[np.asarray(numbers)], data)

    return batches(total, batch_size=batch_size, seed=seed, batch_fn=take)


def in_chunks(function: Callable[[list[dict]], PyTree], records: Records, *, size: int) -> PyTree:
    """`function` of every record in order, [N, ...] on the host, `size` at a time.

    The last chunk is filled up from the front, so that one shape is compiled.

    Raises:
      ValueError: no records.
    """
    total, parts = len(records), []
    check_range("[1, inf)", records=total, size=size)
    for start in range(0, total, size):
        part = [records[i % total] for i in range(start, start + size)]
        parts.append(function(part))
    columns = on_host(parts)
    return jax.tree.map(lambda *x: np.concatenate(x)[:total], *columns)


def halves(pairs: PreferenceBatch) -> Trajectory:
    """Chosen and rejected side by side, [B, 2]."""
    return jax.tree.map(lambda a, b: jnp.stack([a, b], 1), pairs.chosen, pairs.rejected)
