"""docs/dpo_variants.md is what the taxonomy of dpo_survey says, and its links lead somewhere."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from experiments.dpo_survey.taxonomy import ROWS, Row
from rlhf_jax.losses import cdpo_loss, r_dpo_loss

ROOT = Path(__file__).parents[2]
maker = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "make_dpo_variants.py")))
PAGE = (ROOT / "docs" / "dpo_variants.md").read_text()


def test_the_page_is_up_to_date():
    assert maker.page() == PAGE


def test_a_row_by_hand():
    assert maker.cells(Row("noise", "cDPO", cdpo_loss, paper="1")) == (
        "noise",
        "cDPO [1](https://arxiv.org/abs/1)",
        "`losses.preference.pairs.cdpo_loss`",
        "`preference --loss cdpo`",
    )
    found = maker.cells(Row("length", "R-DPO", r_dpo_loss))
    assert found[1].startswith("R-DPO [2403.19159]")
    assert found[3] == ""


def test_a_cell_too_wide_is_refused():
    with pytest.raises(ValueError, match="a cell of 81 characters"):
        maker.cells(Row("noise", 81 * "a", cdpo_loss))


def test_what_is_in_another_table_is_what_the_page_says():
    """Rows of losses of pairs have a command, and their functions are on losses.md."""
    losses = (ROOT / "docs" / "losses.md").read_text()
    functions = re.findall(r"`(losses\.[\w.]+)`", PAGE)
    assert len(functions) > 40
    assert [name for name in functions if f"`{name}`" not in losses] == []
    assert len(list(maker.commanded())) >= 20


def test_files_that_the_page_names_are_there():
    files = re.findall(r"\[\w+\]: (\S+)", PAGE) + re.findall(r"\]\((\w+\.md)\)", PAGE)
    assert files
    assert [name for name in files if not (ROOT / "docs" / name).exists()] == []
    assert f"## {list(ROWS)[-1]}" in PAGE
