"""Several short answers in a row of one length: one program, and hardly a column without a token.

    packs = pack_records(lab, records, columns=1024)
    packs.filled                                       # 0.98
    rows = answer_rows(lab, records, batch_size=8, packs=packs)    # 8 rows of 1,024 columns

For supervised fine-tuning. Attention stays within an answer and its prompt, and positions begin at
0 in each: loss and gradient are those of the same answers one a row, up to rounding. The mean of
a batch is over its tokens, so `batch_size` rows are several times as many answers.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from rlhf_jax.data.packing import Packs, pack_lengths
from rlhf_jax.data.padding import pack_rows
from rlhf_jax.policies.language import LanguageInputs
from rlhf_jax.recipes.buckets import row_lengths
from rlhf_jax.recipes.lab import LanguageLab, encoded_cases, fitted_rows
from rlhf_jax.recipes.tokens import TokenRow, side_case
from rlhf_jax.training import UserError
from rlhf_jax.types import Trajectory


def pack_records(lab: LanguageLab, records: Sequence[dict], *, columns: int) -> Packs:
    """Rows of records; prompts and answers are at most as long as the lab's.

    Raises:
      UserError: a record that is longer than a row.
    """
    lengths = row_lengths(lab, records).sum(axis=1)
    if (longest := int(lengths.max())) > columns:
        raise UserError(
            f"a packed row of {columns} columns does not hold record {int(lengths.argmax())}, "
            f"which has {longest} tokens: make it longer, or the lab's prompts or answers shorter"
        )
    return pack_lengths(lengths, columns, seed=lab.seed)


def packed_batch(
    lab: LanguageLab, records: Sequence[dict], packs: Sequence[np.ndarray], *, columns: int
) -> Trajectory:
    """Rows of the answers with these numbers, [R] with T = L = `columns`.

    Raises:
      UserError: as `side_batch`.
      ValueError: the answers of a row do not fit in it.
    """
    row_of = [row for row, numbers in enumerate(packs) for _ in numbers]
    cases = [side_case(records[int(i)], "answer") for numbers in packs for i in numbers]
    rows: list[TokenRow] = encoded_cases(lambda given: fitted_rows(lab, given), cases)
    packed = pack_rows(
        [[*row.prompt, *row.answer] for row in rows],
        columns,
        pad_id=lab.vocabulary.pad_id,
        counted=[[False] * len(row.prompt) + row.counted for row in rows],
        row_of=row_of,
    )
    ids, positions, segments, mask = map(jnp.asarray, packed)
    inputs = LanguageInputs(ids, positions, segments, completion_length=columns)
    # Prompts lie among the steps: the model reads them, and they do not count.
    return Trajectory(inputs, actions=ids, mask=mask, valid=segments > 0)
