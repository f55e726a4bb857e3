"""The site: every room has a page, every page is in the nav, docstrings become Markdown."""

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parents[2]
make_reference = SimpleNamespace(**runpy.run_path(str(ROOT / "docs" / "make_reference.py")))
NAV = (ROOT / "mkdocs.yml").read_text()

DOC = """Loss of [*B] pairs, `a_b` < 1.

    code_stays = a * b

Args:
  chosen_logps, beta: [*B] weights,
    in nats.
Needs: pairs_of_answers.

>>> f(x_y)
0.5"""

MARKDOWN = r"""Loss of \[\*B\] pairs, `a_b` &lt; 1.

    code_stays = a * b


**Args:**

- `chosen_logps, beta`: \[\*B\] weights,
    in nats.

**Needs:** pairs\_of\_answers.


    >>> f(x_y)
    0.5"""


def test_a_docstring_becomes_markdown_with_its_code_untouched():
    assert make_reference.markdown(DOC) == MARKDOWN


def test_every_public_module_is_on_the_page_of_its_room():
    rooms = make_reference.rooms()
    listed = [module for modules in rooms.values() for module in modules]
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in (ROOT / "rlhf_jax").rglob("*.py")
    }
    public = {name for name in files if not re.search(r"\._", name)} - {"rlhf_jax"}
    assert len(listed) == len(set(listed))
    assert set(listed) == public
    assert rooms["types"] == ["rlhf_jax.types"]
    assert make_reference.reference_page("types", rooms["types"]) == (
        "# types\n\n::: rlhf_jax.types\n"
    )


def test_a_page_that_the_nav_does_not_name_is_added_to_it():
    named = re.findall(r"\w+\.md", NAV)
    assert {"index.md", "glossary.md", "losses.md"} <= set(named)
    added = make_reference.other_pages([page for page in named if page != "games.md"])
    assert "games.md" in added
    assert not set(added) & (set(named) - {"games.md"})


def test_every_page_with_code_is_executed_by_a_test():
    """By its own test, which reads the page by its name."""
    pages = [path.name for path in (ROOT / "docs").glob("*.md") if "```python" in path.read_text()]
    tests = [path for path in (ROOT / "tests").rglob("test_*.py") if "exec(" in path.read_text()]
    sources = "".join(path.read_text() for path in tests)
    assert {"index.md", "games.md", "mdp.md", "feedback.md"} <= set(pages)
    assert [page for page in pages if page not in sources] == []
