"""docs/audit.md: its code runs as one program, and its table has every check with its limit."""

import re
from dataclasses import asdict
from pathlib import Path

from rlhf_jax.cli.audit_page import ABOUT
from rlhf_jax.cli.data_audit import Limits

PAGE = (Path(__file__).parents[2] / "docs" / "audit.md").read_text()


def test_the_code_of_the_page_prints_what_it_says(capsys):
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/audit.md", "exec"), names)
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["('row 4 is row 3 again',)", "('1', '2')", "0.75"]
    assert lines[-1] == "1"


def test_the_table_has_every_check_with_its_limit():
    table = PAGE.partition("## What is checked")[2].partition("##")[0]
    rows = re.findall(r"^\| ([\w -]+) \| .* \| ([\d% to]+) \|$", table, re.MULTILINE)
    allowed = {name: float(share.rstrip("%").split()[-1]) / 100 for name, share in rows}
    limits = {name.removeprefix("allow_"): share for name, share in asdict(Limits()).items()}
    assert {re.sub("[ -]", "_", name): share for name, share in allowed.items()} == limits
    assert set(ABOUT) == set(allowed)
