"""Files of RewardBench and RewardBench 2, as items to score: some right answers, some wrong ones.

`formats` reads the same rows as pairs to train on; a benchmark is scored item by item.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rlhf_jax.data.containers import parse_rows, raw_rows
from rlhf_jax.data.fields import BadRow, Fields, filled_field, text_field, texts_field


class BenchItem(NamedTuple):
    """A prompt with right and wrong answers. name: its "id" in the file, "" without one."""

    prompt: str
    chosen: tuple[str, ...]
    rejected: tuple[str, ...]
    subset: str
    name: str


def is_bench(path: Path | str) -> bool:
    """Whether the first row has "chosen", "rejected" and a "subset".

    Raises:
      ValueError: the file cannot be read.
    """
    first = next(iter(raw_rows(path)), None)
    return first is not None and {"prompt", "chosen", "rejected", "subset"} <= first.fields.keys()


def read_bench(path: Path | str) -> Sequence[BenchItem]:
    """The items of a file, in its order; each column of answers is a text or a list of texts.

    Raises:
      ValueError: a bad row, named with its file.
    """
    return list(parse_rows(path, _item))


def _item(fields: Fields) -> BenchItem:
    sides = []
    for name in ("chosen", "rejected"):
        many = isinstance(fields.get(name), list)
        answers = texts_field(fields, name) if many else [text_field(fields, name)]
        if not answers:
            raise BadRow(f"field {name} is empty; give an answer at least")
        sides.append(tuple(answers))
    prompt, subset = (filled_field(fields, name) for name in ("prompt", "subset"))
    return BenchItem(prompt, *sides, subset, str(fields.get("id", "")))
