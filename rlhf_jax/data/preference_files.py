r"""Human preference files of plain texts, in three formats of `data.formats`.

1. `prompt`, `chosen`, `rejected`: three texts.
2. `chosen`, `rejected`: two whole dialogues "\n\nHuman: ...\n\nAssistant: ..." (hh-rlhf). The
   prompt is their common beginning, up to and including its last "\n\nAssistant:".
3. `question`, `passages`, `prediction 1` to `prediction 4`, `preference` (QA-feedback): six labels
   for the pairs (1,2) (1,3) (1,4) (2,3) (2,4) (3,4): 1 if the first is better, 2 if the second is,
   0 if neither. One row gives up to six pairs with the same prompt.

Rules:

- Texts are kept exactly, including leading spaces: prompt + answer is the dialogue.
- A prompt repeated in the answers is removed and counted: always if the answers are whole dialogues
  beside a `prompt`; otherwise if both answers begin with the prompt in more than half of the pairs.
  If it is half or fewer, it may be chance ("Hi" and "Hi there"): the answers stay and are counted.
- Dropped and counted: ties, pairs with a blank answer, and pairs with equal answers (after
  stripping). hh-rlhf has blank answers (4 of the 2,000 rows of the harmless test set) where people
  preferred silence; they would only teach a policy to stop, and a reward model nothing.
- Kept and counted: pairs that also occur with chosen and rejected exchanged.
- Kept: in a few rows of hh-rlhf an answer has another "\n\nAssistant:" turn after the point where
  the dialogues diverge. All of it is the answer.
- Unknown fields are left out and listed. A field that belongs to the question (`system`, `context`,
  the prompt of another format) is an error unless it is empty.
- Anything else is an error with the file name and the row number.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rlhf_jax.data.formats.pairs import text_chosen_rejected, text_dialogues
from rlhf_jax.data.formats.reading import read_rows
from rlhf_jax.data.formats.table import FORMATS
from rlhf_jax.data.records import Pair as Pair

_PAIRS = {format.name: format for format in FORMATS}
TEXT_PAIRS = (
    _PAIRS["qa_feedback"],
    _PAIRS["pairs"]._replace(
        columns=("prompt", "chosen", "rejected"), parse=text_chosen_rejected, beside=(), skipped=()
    ),
    _PAIRS["dialogue_pairs"]._replace(
        columns=("chosen", "rejected"), parse=text_dialogues, beside=()
    ),
)


class FieldNames(NamedTuple):
    """Names of the fields of a file: those that are read, and those that are left out."""

    read: tuple[str, ...]
    left_out: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PreferencePairs:
    """Pairs of one file, in its order.

    pairs: at least one.
    ties_dropped: judgements "neither is better".
    identical_dropped: pairs of two equal answers.
    blank_dropped: pairs with a blank answer.
    prompts_removed: pairs in which the prompt was removed from the answers.
    prompts_repeated: pairs in which the answers begin with the prompt and keep it.
    contradicted: pairs that also occur with chosen and rejected exchanged.
    fields: names of the fields that were read, and of those that were not.
    """

    pairs: tuple[Pair, ...]
    ties_dropped: int
    identical_dropped: int
    blank_dropped: int
    prompts_removed: int
    prompts_repeated: int
    contradicted: int
    fields: FieldNames


def read_preferences(path: Path | str) -> PreferencePairs:
    """Reads a preference file; for formats and rules see the docstring of the module.

    Args:
      path: any container of `data.containers`.
    Raises:
      ValueError: no such file, damaged gzip, no pairs, or a bad row. The message names file and
        row, says what was expected and how to fix it, and never quotes the texts.
    """
    found = read_rows(path, kind="pairs", formats=TEXT_PAIRS)
    counts = Counter(found.counts)
    columns = next(format.columns for format in TEXT_PAIRS if format.name == found.format)
    return PreferencePairs(
        pairs=tuple(record for record in found.records if isinstance(record, Pair)),
        ties_dropped=counts["ties"],
        identical_dropped=counts["equal answers"],
        blank_dropped=counts["blank answers"],
        prompts_removed=counts["prompts removed from the answers"],
        prompts_repeated=counts["answers that begin with their prompt, kept"],
        contradicted=counts["contradicted, kept"],
        fields=FieldNames(columns, found.unused),
    )
