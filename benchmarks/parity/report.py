"""The table that the command prints, in Markdown."""

import importlib.metadata
import platform

from benchmarks.parity.compare import FIRST_STEP, STEPS, TOLERANCE, Row

PACKAGES = ("rlhf-jax", "jax", "numpy", "trl", "torch", "transformers", "accelerate", "rlax")

INTRODUCTION = f"""\
# Parity

`python -m benchmarks.parity --out docs/parity.md` wrote this page.

The same weights and batches go through another library's own code and through this library. The
model is one table [V, V] whose row s holds the logits after token s; weights and batches are the
small files in `benchmarks/parity/data`, drawn once by `benchmarks/parity/draw.py`. TRL's trainers
are constructed as they are, on text; only sampling is replaced, by the committed answers. Each
column is the largest deviation divided by the peer's largest entry, in float32:

- loss: before each of {STEPS} steps; for an estimator, what it returns.
- gradient: of the loss with respect to the table, at the first weights.
- steps: the weights after each of {STEPS} steps of plain SGD, relative to how far the peer moved
  them. The first step moves the most moved weight by {FIRST_STEP}.

To run it: `pip install -c constraints.txt -e '.[parity]'`. Tunix needs an environment of its own:
`pip install -c benchmarks/parity/tunix-constraints.txt google-tunix` there, and its interpreter
as `--tunix-python` or in RLHF_JAX_TUNIX_PYTHON here. A peer that is absent is left out.

PASS means that all of them are at most {TOLERANCE:.0e}. The last column names the functions called
and says how the call expresses a convention of the peer.
"""

NOT_COMPARED = """\
## Not in the table

- TRL {trl} no longer has PPO, unpaired BCO, XPO, Nash-MD and process reward trainers.
- TRL's load balancing of experts is not compared. Its distillation has no counterpart here.
- Objectives of this library that no peer has are proven by the tests alone.
"""


def installed(name: str) -> str | None:
    """Version of a package, None where it is absent."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions(peers: list[str]) -> str:
    """One line per environment."""
    here = [f"{name} {version}" for name in PACKAGES if (version := installed(name))]
    lines = [f"Python {platform.python_version()}, {platform.machine()}, CPU: {', '.join(here)}."]
    if peers:
        lines.append(f"Tunix's environment: {', '.join(peers)}.")
    return "\n\n".join(["## Versions", *lines]) + "\n"


def number(deviation: float | None) -> str:
    """Two digits; nothing where there is nothing to compare."""
    return "" if deviation is None else f"{deviation:.1e}"


def table(rows: list[Row]) -> str:
    """The rows as a Markdown table, aligned but for the last column, whose texts are long."""
    header = ("objective", "peer", "loss", "gradient", "steps", "verdict", "functions here")
    cells = [
        (
            row.name,
            row.source,
            *map(number, (row.value, row.gradient, row.path)),
            "PASS" if row.passed else "FAIL",
            row.note,
        )
        for row in rows
    ]
    widths = [max(map(len, column)) for column in list(zip(header, *cells, strict=True))[:-1]]
    widths.append(4)
    lines = [header, tuple("-" * width for width in widths), *cells]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines
    ]
    return "".join(f"| {' | '.join(line).rstrip()} |\n" for line in padded)


def summary(rows: list[Row], skipped: list[str]) -> str:
    """How many passed, and what was not run."""
    passed = sum(row.passed for row in rows)
    lines = [f"{passed} of {len(rows)} objectives pass.", *skipped]
    return "\n".join(lines) + "\n"


def page(rows: list[Row], skipped: list[str], peers: list[str]) -> str:
    """The whole page."""
    missing = NOT_COMPARED.format(trl=installed("trl") or "")
    return "\n".join([INTRODUCTION, summary(rows, skipped), table(rows), missing, versions(peers)])
