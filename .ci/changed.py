"""What changed, for .ci/run: which long tests to do, and whether a step is needed.

    python .ci/changed.py long           # files with long tests to do now, one a line
    python .ci/changed.py any PATH ...   # exit 0 if a file under one of the paths changed, else 1
    python .ci/changed.py seconds FILE   # writes .ci/seconds.json from a JUnit report of long tests

Changed is what differs from the last tag, or from the newest commit that is four hours old if that
is nearer. Without a history everything counts as changed. A file of tests is due if it or a file
that it imports changed; of the others a fifth is due, another one every four hours. Tests of pages
and of every experiment's first stage are due always: what they read is no import.

A change at the bottom of the library reaches every test, so what is due is done in order, up to
BUDGET: first what is due always, then tests that changed or import a changed file themselves, then
this turn's fifth, then those reached through other files. What is left out is
named on standard error; .ci/nightly does everything.
"""

import json
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
import zlib
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from import_graph import import_graph, imports, reachable  # noqa: E402  # ty: ignore[import-not-found]

HOURS = 4
SHARES = 5
BUDGET = 720.0  # seconds of processor time: six minutes on two cores
USUAL = 30.0  # of a file that was not timed yet
SECONDS = ROOT / ".ci" / "seconds.json"
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
def helper_files() -> dict[str, Path]:
    """Name of a file among the tests -> its path."""
    return {file.stem: file for file in (ROOT / "tests").rglob("*.py")}


def read_files(path: Path) -> set[Path]:
    """The test file and the helpers among the tests that it imports."""
    helpers = helper_files()
    read: set[Path] = set()
    todo = [path]
    while todo:
        file = todo.pop()
        read.add(file)
        heads = {name.split(".")[0] for name, _ in imports(file, ROOT)} & helpers.keys()
        todo += [helpers[head] for head in heads if helpers[head] not in read]
    return read


def paths_of(modules: set[str]) -> set[str]:
    """The files that a module of this name may be in."""
    stems = {module.replace(".", "/") for module in modules}
    return {f"{stem}.py" for stem in stems} | {f"{stem}/__init__.py" for stem in stems}


@cache
def sources(path: Path) -> tuple[set[str], set[str]]:
    """(paths of the test file, its helpers and what they import, paths of all that these import).

    The test of an experiment may run it by its name.
    """
    read = read_files(path)
    names = {name for file in read for name, _ in imports(file, ROOT)}
    names |= {f"experiments.{path.stem.removeprefix('test_')}.run"}
    near = {str(file.relative_to(ROOT)) for file in read} | paths_of(
        names | {name.rpartition(".")[0] for name in names}
    )
    names |= {".".join(name.split(".")[:i]) for name in names for i in range(1, 9)}
    far = {other for name in names for other in reachable(name, graph())} | names
    return near, near | paths_of(far)


def long_runs(now: float) -> list[str]:
    """Test files with long tests that are due, the nearest to a change first."""
    changed = changed_files()
    everything = changed is None or not changed.isdisjoint(EVERYWHERE)
    turn = int(now / 3600 / HOURS) % SHARES
    ranks = {}
    for path in long_tests():
        name = str(path.relative_to(ROOT))
        near, far = sources(path)
        if ALWAYS.search(name):
            ranks[name] = 0
        elif changed and changed & near:
            ranks[name] = 1
        elif zlib.crc32(name.encode()) % SHARES == turn:
            ranks[name] = 2
        elif everything or (changed and changed & far):
            ranks[name] = 3
    # Equals in another order every four hours, so that the budget leaves out others each time.
    return sorted(ranks, key=lambda name: (ranks[name], zlib.crc32(f"{name} {turn}".encode())))


def within(due: list[str], seconds: dict[str, float], budget: float) -> list[str]:
    """The first of the files that are due which fit into the budget together."""
    kept, spent = [], 0.0
    for name in due:
        if spent + seconds.get(name, USUAL) <= budget:
            kept.append(name)
            spent += seconds.get(name, USUAL)
    return kept


def file_seconds(report: Path) -> dict[str, float]:
    """Seconds of each test file, from a JUnit report."""
    seconds: dict[str, float] = defaultdict(float)
    for case in ElementTree.parse(report).iter("testcase"):
        parts = case.get("classname", "").split(".")
        while parts and not (ROOT / f"{'/'.join(parts)}.py").is_file():
            parts.pop()  # a class of tests
        seconds[f"{'/'.join(parts)}.py"] += float(case.get("time", 0))
    return {name: round(spent, 1) for name, spent in sorted(seconds.items()) if spent >= 0.5}


def main(arguments: list[str]) -> int:
    """The command line."""
    match arguments:
        case ["long"]:
            due = long_runs(time.time())
            kept = within(due, json.loads(SECONDS.read_text()), BUDGET)
            print("\n".join(kept))
            left = [name for name in due if name not in kept]
            if left:
                print(f"left to .ci/nightly: {len(left)} files: {' '.join(left)}", file=sys.stderr)
            return 0
        case ["seconds", report]:
            SECONDS.write_text(json.dumps(file_seconds(Path(report)), indent=1) + "\n")
            return 0
        case ["any", *paths]:
            changed = changed_files()
            hit = changed is None or any(f.startswith(p) for f in changed for p in paths)
            return 0 if hit else 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
