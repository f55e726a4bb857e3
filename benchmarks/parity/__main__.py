"""`python -m benchmarks.parity`: this library's objectives against TRL, rlax and Tunix.

Exit code 0 if all objectives that ran agree, 3 if one does not, 4 if no peer is installed.
"""

import argparse
import importlib
import importlib.util
import os
import sys
import warnings
from pathlib import Path

from benchmarks.parity import report
from benchmarks.parity.compare import Objective, compare

PEERS = {
    "trl": ("trl_pairs", "trl_answers", "trl_groups", "trl_online"),
    "rlax": ("rlax_peer",),
}
TUNIX_PYTHON = "RLHF_JAX_TUNIX_PYTHON"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parity", description=__doc__)
    parser.add_argument("--out", type=Path, help="also write the page to this file")
    parser.add_argument(
        "--tunix-python",
        default=os.environ.get(TUNIX_PYTHON),
        help=f"interpreter of an environment with google-tunix; default ${TUNIX_PYTHON}",
    )
    return parser.parse_args()


def collect(tunix_python: str | None) -> tuple[list[Objective], list[str]]:
    """Objectives of the peers at hand, and a line for each peer that is not."""
    objectives, skipped = [], []
    for peer, modules in PEERS.items():
        if importlib.util.find_spec(peer) is None:
            skipped.append(f"{peer}: skipped, not installed (pip install -e '.[parity]').")
            continue
        for name in modules:
            objectives += importlib.import_module(f"benchmarks.parity.{name}").objectives()
    if tunix_python is None:
        skipped.append(f"tunix: skipped, neither --tunix-python nor {TUNIX_PYTHON} is given.")
        return objectives, skipped
    tunix = importlib.import_module("benchmarks.parity.tunix_peer")
    return objectives + tunix.objectives(tunix_python), skipped


def main() -> int:
    """Compare, print, write."""
    options = arguments()
    warnings.simplefilter("ignore")  # the peers' deprecations
    objectives, skipped = collect(options.tunix_python)
    if not objectives:
        sys.stderr.write("\n".join(skipped) + "\n")
        return 4
    rows = [compare(objective) for objective in objectives]
    peers = []
    if options.tunix_python is not None:
        tunix = importlib.import_module("benchmarks.parity.tunix_peer")
        peers = tunix.versions(options.tunix_python)
    page = report.page(rows, skipped, peers)
    sys.stdout.write(page)
    if options.out is not None:
        options.out.write_text(page)
    return 0 if all(row.passed for row in rows) else 3


if __name__ == "__main__":
    sys.exit(main())
