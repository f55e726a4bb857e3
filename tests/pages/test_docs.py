"""docs/losses.md is what the docstrings say, and every objective says what it must."""

import inspect
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
make_losses = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "make_losses.py")))

LISTED = {module for modules in make_losses.PARTS.values() for module in modules}


def test_the_page_is_up_to_date():
    assert make_losses.PAGE.read_text() == make_losses.page()


def test_no_module_of_losses_is_forgotten():
    folder = ROOT / "rlhf_jax"
    modules = {
        ".".join(path.relative_to(folder).with_suffix("").parts)
        for path in (folder / "losses").rglob("*.py")
        if path.stem != "__init__"
    }
    assert modules - LISTED == {"losses.preference.ratios"}  # the shared first step of pair losses


def test_a_docstring_without_its_sections_is_named():
    def bare(x):
        """A loss.

        L = x.

        Args:
          x: [*B].
        Reduces to: x.
        """

    found = make_losses.sections(inspect.getdoc(bare))
    assert found["name"] == "A loss."
    assert found["formula"] == "L = x."
    complaints = make_losses.missing("bare", found)
    assert [line.split("'")[1] for line in complaints] == ["Needs"]


def test_bars_and_papers_in_a_cell():
    assert make_losses.cell("|y|, arXiv:2305.18290") == (
        "\\|y\\|, [2305.18290](https://arxiv.org/abs/2305.18290)"
    )


@pytest.mark.parametrize("module", sorted(LISTED))
def test_every_listed_module_has_functions(module):
    assert list(make_losses.functions(module))
