"""Do two commits give the same numbers? Every experiment's summary.json, bit for bit.

    python -m benchmarks.same_numbers run OLD_CHECKOUT OLD_RESULTS
    python -m benchmarks.same_numbers run . NEW_RESULTS
    python -m benchmarks.same_numbers compare OLD_RESULTS NEW_RESULTS

`run` does all `--quick` sizes in a checkout, one after another, and skips what is there already;
experiments that need data are left to the caller. `compare` prints each number that differs and
exits with 1 if there is one. Seconds, versions and environments are not compared.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NO_NUMBERS = {"versions", "environments", "paper", "claim", "group", "size"}  # of a summary's top


def differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """One line for each leaf that is not the same, seconds apart; NaN equals NaN."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            if name == "seconds" or (not where and name in NO_NUMBERS):
                continue
            if name in old and name in new:
                yield from differences(old[name], new[name], f"{where}.{name}")
            else:
                yield f"{where}.{name}: only {'old' if name in old else 'new'}"
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, pair in enumerate(zip(old, new, strict=True)):
            yield from differences(*pair, f"{where}[{i}]")
    elif old != new and not (old != old and new != new):
        yield f"{where}: {old!r} -> {new!r}"


def run_all(checkout: Path, results: Path) -> None:
    """Every quick size, in the order of the names."""
    for config in sorted(checkout.glob("experiments/[!_]*/config.py")):
        slug = config.parent.name
        if "NEEDS" in (config.parent / "__init__.py").read_text():
            print(f"{slug}: needs an option, left out")
        elif not (results / slug / "summary.json").exists():
            out = str((results / slug).absolute())
            command = [sys.executable, "-m", "experiments", "run", slug, "--quick", "--out", out]
            done = subprocess.run(command, check=False, cwd=checkout, stdout=subprocess.DEVNULL)
            print(f"{slug}: exit {done.returncode}", flush=True)


def compare(old: Path, new: Path) -> int:
    """The number of experiments that differ; each is printed."""
    names = sorted(path.parent.name for path in old.glob("*/summary.json"))
    changed = 0
    for name in names:
        pair = [root / name / "summary.json" for root in (old, new)]
        if not pair[1].exists():
            print(f"{name}: no new result")
            changed += 1
            continue
        found = list(differences(*(json.loads(path.read_text()) for path in pair)))
        print(f"{name}: {'the same' if not found else f'{len(found)} differ'}")
        for line in found[:20]:
            print(f"  {line}")
        changed += bool(found)
    print(f"{len(names) - changed} of {len(names)} the same")
    return changed


def main(arguments: list[str]) -> int:
    """The command line."""
    match arguments:
        case ["run", checkout, results]:
            run_all(Path(checkout), Path(results))
            return 0
        case ["compare", old, new]:
            return min(compare(Path(old), Path(new)), 1)
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
