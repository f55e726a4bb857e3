"""Records that are longer than the lab's columns: refused, dropped or truncated, and counted."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rlhf_jax.recipes.buckets import SizedRecords, token_lengths
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.training import UserError


class FittingRecords(NamedTuple):
    """Records that the lab reads by its length policies.

    kept: number of each record among those given. dropped: how many were left out. prompts,
    answers: how many of those kept lose tokens of their prompt, or of an answer. longest: tokens of
    the longest prompt and the longest answer of those kept, after truncation; total: of both in one
    record.
    """

    records: SizedRecords
    kept: list[int]
    dropped: int
    prompts: int
    answers: int
    longest: tuple[int, int]
    total: int


def fitting_records(lab: LanguageLab, records: Sequence[dict]) -> FittingRecords:
    """The records after the lab's `long_prompts` and `long_answers`; a batch truncates the texts.

    Raises:
      UserError: no records left, or one that is too long under "error".
    """
    measured = token_lengths(lab, records)
    lengths = measured.max(axis=1)
    sides = (
        ("prompt", lab.prompt_length, lab.long_prompts),
        ("answer", lab.answer_length, lab.long_answers),
    )
    long = lengths > [most for _, most, _ in sides]
    for column, (name, most, policy) in enumerate(sides):
        if policy == "error" and long[:, column].any():
            row = int(long[:, column].argmax())
            raise UserError(
                f"record {row}: its {name} has {lengths[row, column]} tokens, at most {most} fit; "
                f"raise {name}_length, or choose long_{name}s drop, truncate_left or truncate_right"
            )
    dropping = [policy == "drop" for *_, policy in sides]
    kept = [i for i, row in enumerate(long) if not (row & dropping).any()]
    if not kept:
        raise UserError(
            f"all {len(long)} records are longer than prompt_length {lab.prompt_length} or "
            f"answer_length {lab.answer_length} and dropped; raise them"
        )
    prompts, answers = map(int, long[kept].sum(axis=0))
    columns = np.minimum(lengths[kept], [most for _, most, _ in sides])
    prompt, answer = map(int, columns.max(axis=0))
    return FittingRecords(
        records=SizedRecords(records, measured, np.array(kept)),
        kept=kept,
        dropped=len(long) - len(kept),
        prompts=prompts,
        answers=answers,
        longest=(prompt, answer),
        total=int(columns.sum(axis=1).max()),
    )
