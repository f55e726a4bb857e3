"""docs/labelling.md: its code runs as one program and prints what it says."""

import re
from pathlib import Path

from rlhf_jax.labelling.rows import KINDS

PAGE = (Path(__file__).parents[2] / "docs" / "labelling.md").read_text()


def test_the_code_of_the_page_prints_what_it_says(capsys):
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/labelling.md", "exec"), names)
    assert capsys.readouterr().out.splitlines() == [
        "3 rows; 3 items of pairs",
        "['kind', 'annotator', 'item', 'shown', 'seed', 'seconds', 'time']",
        "label_pairs: 4 pairs of 6 rows, 2 ties",
        "3",
    ]


def test_the_table_has_every_kind():
    assert tuple(re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE)) == KINDS
