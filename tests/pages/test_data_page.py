"""docs/data.md: its code runs as one program and prints what it says; its tables are complete."""

import re
from pathlib import Path

from rlhf_jax.data.formats import FORMATS
from rlhf_jax.data.records import KINDS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "data.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_the_code_prints_what_the_page_says(capsys):
    names: dict = {}
    for block in BLOCKS:
        exec(compile(block, "docs/data.md", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert printed == [
        "pairs: 1 pairs of 2 rows, 1 equal answers; unused columns: source",
        "4",
        "4 > four by 1.0",
        "4 > 5 by 2.0",
        "four > 5 by 1.0",
        "answers 4",
        "({'role': 'user', 'content': '2+2?'},)",
        "row 1: field rejected: expected text, found a number; correct it; found prompt (text), "
        "chosen (text), rejected (a number); a row of format pairs is "
        '{"prompt": "2+2?", "chosen": "4", "rejected": "5"}',
        "FittedRows(rows=[[2, 3], [4]], kept=[0, 1], dropped=0, truncated=1)",
        "3 2",
        "[9 7 8 6] [array([9, 7]), array([8, 6])]",
        "4 rows, 75% filled",
    ]


def test_the_tables_have_every_format_and_every_kind():
    rows = re.findall(r"^\| `(\w+)` \| .* \| (\w+) \|$", PAGE, re.MULTILINE)
    assert rows == [(format.name, format.kind) for format in FORMATS]
    for kind, record in KINDS.items():
        assert f"| `{kind}` | `{record.__name__}` | {', '.join(record._fields)} |" in PAGE
