"""How rows fill the columns of batches: padded, in buckets of lengths, or packed."""

from collections.abc import Sequence
from typing import Any

from rlhf_jax.cli.options import Padding
from rlhf_jax.recipes import LanguageLab, length_buckets, pack_records, padding_shares
from rlhf_jax.recipes.buckets import token_lengths, training_buckets
from rlhf_jax.recipes.lab import CHUNK
from rlhf_jax.training import UserError


def bucketing(
    lab: LanguageLab, records: Sequence[dict], options: Padding, *, batch_size: int
) -> dict[str, Any]:
    """Arguments of `answer_rows` or `pair_rows`; says what the buckets save."""
    if options.buckets is None:
        buckets = training_buckets(lab, records, batch_size=batch_size)
    else:
        buckets = length_buckets(lab, records, count=options.buckets)
    if buckets is None or len(buckets) == 1:
        return {}
    shares = padding_shares(lab, records, buckets)
    shapes = ", ".join(f"{prompt}+{answer}" for prompt, answer in buckets)
    before, after = shares["before"], shares["after"]
    print(f"buckets of {shapes} tokens: padding {before:.0%} of the columns, now {after:.0%}")
    return {"buckets": buckets}


def packing(lab: LanguageLab, records: Sequence[dict], columns: int) -> dict[str, Any]:
    """Arguments of `answer_rows`, for rows of several answers.

    Raises:
      UserError: a record that is longer than a row.
    """
    try:
        packs = pack_records(lab, records, columns=columns)
    except UserError as error:
        raise UserError(f"--pack {columns}: {error}") from error
    rows, filled = len(packs), packs.filled
    print(f"packed: {len(records)} answers in {rows} rows of {columns} tokens, {filled:.0%} filled")
    return {"packs": packs}


def batch_rows(rows: Sequence[dict]) -> int:
    """Rows of a batch of texts to score, a power of two up to CHUNK: few shapes are compiled."""
    return min(CHUNK, 1 << (len(rows) - 1).bit_length())


def narrowed(lab: LanguageLab, rows: Sequence[dict]) -> LanguageLab:
    """The lab with columns for these rows, in powers of two: few shapes are compiled."""
    longest = token_lengths(lab, rows).max(axis=(0, 1))
    prompt, answer = (1 << int(n - 1).bit_length() for n in longest)
    return lab._replace(
        prompt_length=min(prompt, lab.prompt_length), answer_length=min(answer, lab.answer_length)
    )
