"""What changed, for .ci/run: which long tests to do, and whether a step is needed.

    python .ci/changed.py long           # files with long tests that are due, one a line
    python .ci/changed.py any PATH ...   # exit 0 if a file under one of the paths changed, else 1

Changed is what differs from the last tag, or from the newest commit that is four hours old if that
is nearer. Without a history everything counts as changed. A file of tests is due if it or a file
that it imports changed; of the others a fifth is due, another one every four hours. Tests of pages
and of every experiment's first stage are due always: what they read is no import.
"""

import re
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from import_graph import import_graph, imports, reachable  # noqa: E402  # ty: ignore[import-not-found]

HOURS = 4
SHARES = 5
ALWAYS = re.compile("/pages/|test_first_stages")
EVERYWHERE = ("pyproject.toml", "constraints.txt", "tests/conftest.py")


def git(*arguments: str) -> str:
    """Standard output, or "" where git has no answer."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)  # noqa: PLW1510
    return done.stdout.strip() if done.returncode == 0 else ""


def base() -> str:
    """The commit to compare with, or "" for none."""
    old = git("rev-list", "-1", f"--before={HOURS} hours ago", "HEAD")
    tag = git("describe", "--tags", "--abbrev=0")
    tagged = git("rev-list", "-1", tag) if tag else ""
    if not (old and tagged):
        return old or tagged
    return max((old, tagged), key=lambda commit: int(git("show", "-s", "--format=%ct", commit)))


def changed_files() -> set[str] | None:
    """Paths that differ from the base, those not committed included; None for everything."""
    start = base()
    if not start:
        return None
    return set(git("diff", "--name-only", start).splitlines())


def long_tests() -> Iterator[Path]:
    """Files with tests that are long, or are given the result of a whole run."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text()
        if "mark.long" in text or "def whole" in text or "def finished" in text:
            yield path


@cache
def graph() -> dict[str, set[str]]:
    """Who imports whom in the library and the experiments."""
    return import_graph(ROOT)


@cache
def sources(path: Path) -> set[str]:
    """Paths of the test file and of what it imports, helpers among the tests included.

    The test of an experiment may run it by its name.
    """
    helpers = {file.stem: file for file in (ROOT / "tests").rglob("*.py")}
    read: set[Path] = set()
    todo = [path]
    names = {f"experiments.{path.stem.removeprefix('test_')}.run"}
    while todo:
        file = todo.pop()
        read.add(file)
        here = {name for name, _ in imports(file, ROOT)}
        names |= here
        heads = {name.split(".")[0] for name in here} & helpers.keys()
        todo += [helpers[head] for head in heads if helpers[head] not in read]
    names |= {".".join(name.split(".")[:i]) for name in names for i in range(1, 9)}
    modules = {other for name in names for other in reachable(name, graph())} | names
    stems = {module.replace(".", "/") for module in modules}
    files = {str(file.relative_to(ROOT)) for file in read}
    return files | {f"{stem}.py" for stem in stems} | {f"{stem}/__init__.py" for stem in stems}


def long_runs(now: float) -> list[str]:
    """Test files with long tests that are due."""
    changed = changed_files()
    everything = changed is None or not changed.isdisjoint(EVERYWHERE)
    turn = int(now / 3600 / HOURS) % SHARES
    due = []
    for path in long_tests():
        name = str(path.relative_to(ROOT))
        touched = everything or ALWAYS.search(name) or changed & sources(path)
        if touched or zlib.crc32(name.encode()) % SHARES == turn:
            due.append(name)
    return due


def main(arguments: list[str]) -> int:
    """The command line."""
    match arguments:
        case ["long"]:
            print("\n".join(long_runs(time.time())))
            return 0
        case ["any", *paths]:
            changed = changed_files()
            hit = changed is None or any(f.startswith(p) for f in changed for p in paths)
            return 0 if hit else 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
