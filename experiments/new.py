"""`python -m experiments new <slug>`: copies the experiment in `_skeleton` under a new name.

The skeleton is an experiment that runs, so what it writes can be run before it is edited. Text to
replace is marked TODO; tests/experiments/test_every_experiment.py fails until none is left.
"""

import keyword
import re
from pathlib import Path

SKELETON = Path(__file__).parent / "_skeleton"
TEST = "test.py"
NEXT = """\
It runs as it is:
  python -m experiments run {slug} --quick
Next:
  1. Replace what is marked TODO: {todo}.
  2. Put your own training into run.py and your own options into config.py.
  3. Add a row to the paper index in experiments/README.md.
  4. pytest tests/experiments/test_every_experiment.py names what is still missing.
docs/adding_a_paper.md shows a complete paper."""


def write_experiment(slug: str, root: Path) -> list[Path]:
    """Writes experiments/<slug>/ and its test below root, and returns the files written.

    Raises:
      ValueError: root is no checkout, or slug is taken or no package name. Nothing is written.
      OSError: the folder cannot be written.
    """
    tests = root / "tests" / "experiments"
    if not tests.is_dir():
        raise ValueError(f"new needs a checkout of the repository: there is no {tests}")
    if not re.fullmatch("[a-z][a-z0-9_]*", slug) or keyword.iskeyword(slug):
        raise ValueError(
            f"{slug!r} cannot name an experiment: a slug has lower-case letters, digits and _, "
            "begins with a letter and is no keyword of Python"
        )
    if slug == "all":
        raise ValueError("'all' is taken: `run all` runs every experiment")
    folder, test = root / "experiments" / slug, tests / f"test_{slug}.py"
    for path in (folder, folder.with_suffix(".py"), test):
        if path.exists():
            raise ValueError(f"{slug!r} is taken: {path} exists")
    targets = {
        source: test if source.name == TEST else folder / source.name
        for source in sorted(SKELETON.iterdir())
        if source.is_file()
    }
    folder.mkdir()
    for source, target in targets.items():
        target.write_text(source.read_text().replace(SKELETON.name, slug))
    return list(targets.values())


def next_steps(slug: str, files: list[Path], root: Path) -> str:
    """The files that were written, and the edits that remain."""
    todo = ", ".join(path.name for path in files if "TODO" in path.read_text())
    written = [str(path.relative_to(root)) for path in files]
    return "\n".join([*written, "", NEXT.format(slug=slug, todo=todo)])
