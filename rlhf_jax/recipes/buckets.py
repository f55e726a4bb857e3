"""Rows of text in buckets of similar length: the columns come from the data, not from the lab.

    buckets = length_buckets(lab, records, count=4)
    padding_shares(lab, records, buckets)  # {"before": 0.41, "after": 0.17}
    rows = answer_rows(lab, records, batch_size=16, buckets=buckets)

A bucket is a pair (prompt columns, answer columns), at most as long as the lab's. A row goes to the
first bucket that holds its prompt and all of its answers, or is padded or cut to the lab's lengths
if none does. Each bucket in use compiles one program, and `rows.steps_per_epoch` counts the batches
in which every row comes once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from rlhf_jax.data.buckets import (
    BucketBatch,
    BucketBatches,
    assign_buckets,
    bucket_batches,
    choose_shapes,
    padding_share,
)
from rlhf_jax.recipes.hosts import host_share, join_hosts
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.tokens import flat_answers, side_case, token_rows
from rlhf_jax.sharding import on_host
from rlhf_jax.training import UserError
from rlhf_jax.types import PyTree

# Fields of a record that answer its prompt.
SIDES = ("chosen", "rejected", "answer", "mismatched")
Bucket = tuple[int, int]
CHUNK = 1024  # records in memory while they are measured
SAVED = 0.1  # of the columns, at least
MOST = 4  # buckets: each compiles a program
BATCHES = 8  # of each bucket in an epoch, at least: compiling for fewer costs more than it saves


def length_buckets(lab: LanguageLab, records: Sequence[dict], *, count: int) -> list[Bucket]:
    """At most `count` buckets of about equally many of these records, shortest first."""
    shapes = choose_shapes(row_lengths(lab, records), count)
    return [(prompt, answer) for prompt, answer in shapes]


def training_buckets(
    lab: LanguageLab, records: Sequence[dict], *, batch_size: int
) -> list[Bucket] | None:
    """Buckets for training on these records; None if they are few or of one length."""
    count = min(MOST, len(records) // (BATCHES * batch_size))
    if count < 2:
        return None
    buckets = length_buckets(lab, records, count=count)
    shares = padding_shares(lab, records, buckets)
    return buckets if shares["before"] - shares["after"] > SAVED else None


def by_length(
    work: Callable[[LanguageLab, Any], PyTree],
    lab: LanguageLab,
    records: Sequence[dict],
    *,
    batch_size: int,
) -> PyTree:
    """`work(narrow lab, part)` of every record, [N, ...] in their order on the host.

    A part has records of similar length, and its lab the columns of the longest. There are as many
    parts as `training_buckets` would have buckets.

    Args:
      work: its result has arrays [n, ...] for the n records of the part.
    """
    lengths = token_lengths(lab, records)
    needs = _needs(lab, lengths)
    order = np.argsort(needs.sum(axis=1), kind="stable")
    count = max(1, min(MOST, len(records) // (BATCHES * batch_size)))
    found = []
    for rows in np.array_split(order, count):
        prompt, answer = (int(n) for n in needs[rows].max(axis=0))
        narrow = lab._replace(prompt_length=prompt, answer_length=answer)
        found.append(on_host(work(narrow, SizedRecords(records, lengths, rows))))
    back = np.argsort(order)
    return jax.tree.map(lambda *parts: np.concatenate(parts)[back], *found)


def padding_shares(
    lab: LanguageLab, records: Sequence[dict], buckets: Sequence[Bucket]
) -> dict[str, float]:
    """Share of the columns that hold no token, "before" and "after" the rows go to buckets.

    Rows that fill up the last batch of a bucket are not counted.
    """
    lengths, shapes = token_lengths(lab, records), np.array(_shapes(lab, buckets))
    after = shapes[assign_buckets(_needs(lab, lengths), _shapes(lab, buckets))]
    columns = {"before": np.broadcast_to(shapes[-1], after.shape), "after": after}
    return {
        name: padding_share(*map(_flat, np.broadcast_arrays(lengths, x[:, None])))
        for name, x in columns.items()
    }


def bucket_rows(
    lab: LanguageLab,
    records: Sequence[dict],
    buckets: Sequence[Bucket],
    take: Callable[[LanguageLab, BucketBatch], PyTree],
    *,
    batch_size: int,
) -> BucketBatches:
    """Batches of one bucket each; `take` is given the lab with the lengths of the bucket."""
    shapes = _shapes(lab, buckets)

    def batch(found: BucketBatch) -> PyTree:
        prompt, answer = shapes[found.bucket]
        narrow = lab._replace(prompt_length=prompt, answer_length=answer)
        return join_hosts(take(narrow, found), lab.mesh)

    assigned = assign_buckets(row_lengths(lab, records), shapes)
    options = {"batch_size": batch_size, "seed": lab.seed, "share": host_share(lab.mesh)}
    return bucket_batches(assigned, **options, batch_fn=batch)


def token_lengths(lab: LanguageLab, records: Sequence[dict]) -> Int[np.ndarray, "N K 2"]:
    """Tokens of the prompt and of each of its K answers in a record.

    The records are read CHUNK at a time, so they need not fit into memory. Those with "answers",
    a list, and none of `SIDES`, have K of them each.
    """
    if isinstance(records, SizedRecords):
        return records.lengths[records.numbers]
    sides = [side for side in SIDES if side in records[0]] or ["answer"]
    listed = "answers" in records[0] and not any(side in records[0] for side in SIDES)
    if listed:
        sides = ["answer"] * len(records[0]["answers"])
    found = []
    for start in range(0, len(records), CHUNK):
        part = [records[i] for i in range(start, min(start + CHUNK, len(records)))]
        if listed:
            cases = [side_case(row, "answer") for row in flat_answers(part)]
        else:
            cases = [side_case(row, side) for row in part for side in sides]
        rows = token_rows(lab.vocabulary, lab.chat, cases)
        lengths = [(len(row.prompt), len(row.answer)) for row in rows]
        found.append(np.array(lengths, np.int32).reshape(-1, len(sides), 2))
    return np.concatenate(found)


@dataclass(frozen=True)
class SizedRecords:
    """Some records of a source, which may be on disk, with their `token_lengths`.

    lengths: of all records of the source. numbers: of those that these are.
    """

    source: Sequence[dict]
    lengths: Int[np.ndarray, "N K 2"]
    numbers: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int, /) -> dict:
        return self.source[int(self.numbers[index])]

    def take(self, places: Int[np.ndarray, " m"]) -> "SizedRecords":
        """Those at these places."""
        return replace(self, numbers=self.numbers[places])


Sequence.register(SizedRecords)


def row_lengths(lab: LanguageLab, records: Sequence[dict]) -> Int[np.ndarray, "N 2"]:
    """Tokens of each record's prompt and of its longest answer, at most the lab's."""
    return _needs(lab, token_lengths(lab, records))


def _needs(lab: LanguageLab, lengths: Int[np.ndarray, "N K 2"]) -> Int[np.ndarray, "N 2"]:
    """The columns that the longest answer of each record needs, at most the lab's."""
    return np.minimum(lengths.max(axis=1), (lab.prompt_length, lab.answer_length))


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), -1)


def _shapes(lab: LanguageLab, buckets: Sequence[Bucket]) -> list[Bucket]:
    """The buckets, and the lab's lengths for rows that none of them holds.

    Raises:
      UserError: a bucket longer than the lab's lengths, or without columns.
    """
    longest = (lab.prompt_length, lab.answer_length)
    for i, shape in enumerate(buckets):
        if not all(1 <= columns <= most for columns, most in zip(shape, longest, strict=True)):
            raise UserError(
                f"buckets[{i}] must have 1 to {longest[0]} prompt columns and 1 to {longest[1]} "
                f"answer columns, the lab's lengths, got {tuple(shape)}"
            )
    return [*((int(prompt), int(answer)) for prompt, answer in buckets), longest]
