"""What changed, for .ci/run: which whole toy runs to do, and whether a step is needed.

    python .ci/changed.py whole          # test files of tests/experiments, one a line
    python .ci/changed.py any PATH ...   # exit 0 if a file under one of the paths changed, else 1

Changed is what differs from the last tag, or from the newest commit that is four hours old if that
is nearer. Without a history everything counts as changed. A whole run is due if a file that its
experiment imports changed; of the others a fifth is due, another one every four hours.
"""

import subprocess
import sys
import time
import zlib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from import_graph import import_graph, reachable  # noqa: E402  # ty: ignore[import-not-found]

HOURS = 4
SHARES = 5


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


def sources_of(slug: str, graph: dict[str, set[str]]) -> set[str]:
    """Paths of everything that an experiment's run imports, and of its test."""
    modules = {f"experiments.{slug}.run", *reachable(f"experiments.{slug}.run", graph)}
    stems = {module.replace(".", "/") for module in modules}
    files = {f"{stem}.py" for stem in stems} | {f"{stem}/__init__.py" for stem in stems}
    return files | {f"tests/experiments/test_{slug}.py"}


def whole_runs(now: float) -> list[str]:
    """Test files of the experiments that are due."""
    changed, graph = changed_files(), import_graph(ROOT)
    turn = int(now / 3600 / HOURS) % SHARES
    due = []
    for config in sorted(ROOT.glob("experiments/[!_]*/config.py")):
        slug = config.parent.name
        touched = changed is None or bool(changed & sources_of(slug, graph))
        if touched or zlib.crc32(slug.encode()) % SHARES == turn:
            due.append(f"tests/experiments/test_{slug}.py")
    return [path for path in due if (ROOT / path).exists()]


def main(arguments: list[str]) -> int:
    """The command line."""
    match arguments:
        case ["whole"]:
            print("\n".join(whole_runs(time.time())))
            return 0
        case ["any", *paths]:
            changed = changed_files()
            hit = changed is None or any(f.startswith(p) for f in changed for p in paths)
            return 0 if hit else 1
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
