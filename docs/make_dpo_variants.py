"""Writes docs/dpo_variants.md: python docs/make_dpo_variants.py [--check].

The rows are those of experiments/dpo_survey/taxonomy.py; papers are in the docstrings.
"""

import argparse
import inspect
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # for `experiments`, which is not in the wheel

from experiments.dpo_survey.taxonomy import MISSING, ROWS, Row, place  # noqa: E402
from rlhf_jax.cli.losses import PAIR_LOSSES  # noqa: E402

PAGE = Path(__file__).parent / "dpo_variants.md"
PREFERENCE = "preference --loss "
WIDEST = 80
HEAD = """# Variants of DPO

You have read of a variant of DPO and want its function. The tables follow the survey of Liu et al.
2025, [2503.11701](https://arxiv.org/abs/2503.11701): by the part of DPO that a method changes. A
test calls every row. Formulas are in [losses.md](losses.md). A row without a command needs more
than a file of pairs: lengths, scores, rankings, labelled answers. Where that is one more number for
a pair, it is a column of the batch of `algos.preference.make_update`.

    rlhf preference --loss cdpo --loss-options label_smoothing 0.2 --model DIR --data pairs.jsonl

Which of them helps when labels are wrong, few, or biased by length: run [`dpo_survey`][survey].

[survey]: ../experiments/dpo_survey/README.md
"""


def page() -> str:
    """The whole page."""
    lines = [HEAD]
    for dimension, rows in ROWS.items():
        lines += [f"## {dimension}", ""]
        lines += ["| class | method | function | `rlhf` |", "|---|---|---|---|"]
        lines += [f"| {' | '.join(cells(row))} |" for row in rows]
        if dimension in MISSING:
            lines += ["", f"Not in the library: {MISSING[dimension]}."]
        lines += [""]
    return "\n".join(lines)


def cells(row: Row) -> tuple[str, str, str, str]:
    """Class, method with its paper, function, command. Raises ValueError for a wide cell."""
    number = paper(row)
    link = f" [{number}](https://arxiv.org/abs/{number})" if number else ""
    words = command(row)
    found = row.family, row.method + link, f"`{place(row.function)}`", f"`{words}`" if words else ""
    for cell in found:
        if len(cell) > WIDEST + len(link):
            raise ValueError(f"{row.method}: a cell of {len(cell)} characters: {cell}")
    return found


def paper(row: Row) -> str:
    """The row's arXiv number, or the first one under `Reference` in the docstring."""
    text = (inspect.getdoc(row.function) or "").partition("Reference:")[2]
    match = re.search(r"arXiv:(\d{4}\.\d{4,5})", text)
    return row.paper or (match[1] if match else "")


def command(row: Row) -> str:
    """What `rlhf` does it, or ""."""
    name = row.function.__name__.removesuffix("_loss")
    if row.command:
        return row.command
    return (
        PREFERENCE + name if f"{name}_loss" == row.function.__name__ and name in PAIR_LOSSES else ""
    )


def commanded() -> Iterator[str]:
    """Names of the losses of pairs that the page gives to `rlhf preference`, each once."""
    names = (command(row) for rows in ROWS.values() for row in rows)
    losses = (name.removeprefix(PREFERENCE) for name in names if name.startswith(PREFERENCE))
    yield from dict.fromkeys(losses)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if out of date")
    if parser.parse_args().check:
        if PAGE.exists() and PAGE.read_text() == page():
            return 0
        print(f"{PAGE} is not what the taxonomy says: run python docs/make_dpo_variants.py")
        return 1
    PAGE.write_text(page())
    print(PAGE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
