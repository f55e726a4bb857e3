"""What an experiment must have beside its code; each function returns a line for each fault."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from experiments import GROUPS

ABOUT = ("PAPER", "CLAIM", "MINUTES", "GROUP")
STUB = re.compile(r"\b(TODO|FIXME|XXX)\b")


def faults(slug: str, root: Path) -> list[str]:
    """All that is missing from experiments/<slug> of a checkout."""
    folder = root / "experiments" / slug
    test = root / "tests" / "experiments" / f"test_{slug}.py"
    files = [*sorted(folder.rglob("*.py")), *sorted(folder.rglob("*.md")), test]
    found = [f"{path.relative_to(root)} is missing" for path in files if not path.is_file()]
    found += about_faults(folder / "__init__.py")
    found += readme_faults(folder, slug)
    found += index_faults(root / "experiments" / "README.md", slug)
    for path in files:
        if path.is_file():
            found += stub_faults(path, root)
    for path in sorted(folder.rglob("*.py")):
        found += claim_faults(path, root)
    return found


def about_faults(path: Path) -> list[str]:
    """Constants that `list` prints."""
    given = {
        target.id: node.value
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    return [
        f"{path.parent.name}/{path.name} has no {name}"
        for name in ABOUT
        if not (isinstance(value := given.get(name), ast.Constant) and value.value)
    ] + [
        f"{path.parent.name}/{path.name}: GROUP {value.value!r} is not in {list(GROUPS)}"
        for value in [given.get("GROUP")]
        if isinstance(value, ast.Constant)
        and value.value not in GROUPS
        and not STUB.search(str(value.value))
    ]


def readme_faults(folder: Path, slug: str) -> list[str]:
    """A README with the command that runs the experiment."""
    path, command = folder / "README.md", f"python -m experiments run {slug}"
    if not path.is_file():
        return [f"{slug}/README.md is missing"]
    if not re.search(rf"^    {command}\b", path.read_text(), re.MULTILINE):
        return [f"{slug}/README.md has no line `    {command}`"]
    return []


def index_faults(index: Path, slug: str) -> list[str]:
    """A row of the paper index that names the experiment in its fifth column."""
    rows = [re.split(r"(?<!\\)\|", line) for line in index.read_text().splitlines()]
    if any(len(cells) > 5 and f"`{slug}`" in cells[5] for cells in rows):
        return []
    return [f"{slug} has no row in the paper index of experiments/README.md"]


def stub_faults(path: Path, root: Path) -> list[str]:
    """Text of the skeleton that nobody has replaced."""
    return [
        f"{path.relative_to(root)}:{number} is still a stub: {line.strip()}"
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if STUB.search(line)
    ]


def claim_faults(path: Path, root: Path) -> list[str]:
    """Claims made without a source. `**about` counts as one: a claim refuses to lack it at run
    time."""
    return [
        f"{path.relative_to(root)}:{call.lineno} makes a claim without source="
        for call in claims(ast.parse(path.read_text()))
        if not {"source", None} & {keyword.arg for keyword in call.keywords}
        and not any(isinstance(arg, ast.Starred) for arg in call.args)
    ]


def claims(tree: ast.Module) -> Iterator[ast.Call]:
    """Calls of `Claim`, `Claim.within` and the functions of `reports` named `..._claim`."""
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rlhf_jax.reports")
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            first, last = name.split(".")[0], name.split(".")[-1]
            made = last == "Claim" or last.endswith("_claim") or name == "Claim.within"
            if made and first in imported:
                yield node
