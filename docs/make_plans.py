"""Plans of 8B and 70B models on pods, for the table of docs/scaling.md.

    python docs/make_plans.py                     # plans that are missing, then the table
    python docs/make_plans.py --only llama-8b dpo # those of them whose name has all of these words
    python docs/make_plans.py --table             # the table alone

Each plan is a run of `rlhf plan` and takes minutes of compiling; its plan.json is kept in
.cache/plans and is not made again. An interrupted run goes on where it stopped.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parent.parent
FOLDER, PAGE = ROOT / ".cache" / "plans", ROOT / "docs" / "scaling.md"
BEGIN, END = "<!-- plans -->", "<!-- end of plans -->"
LENGTH = 4096
GIB = 2**30
RUN = "import sys; from rlhf_jax.cli import main; sys.exit(main())"


class Row(NamedTuple):
    """A plan of the table: `rlhf plan` with these options."""

    method: str
    model: str
    topology: str
    mesh: str
    batch: int
    more: tuple[str, ...] = ()

    @property
    def words(self) -> list[str]:
        """The command line behind `rlhf`."""
        sizes = ["--batch", str(self.batch), "--length", str(LENGTH)]
        where = ["--topology", self.topology, "--mesh", self.mesh]
        return ["plan", self.method, "--model", self.model, *where, *sizes, *self.more]

    @property
    def name(self) -> str:
        """Of its folder."""
        return f"{self.model}-{self.method}-{self.topology.replace(':', '-')}"


def rows() -> list[Row]:
    """Both models and four methods on three pods.

    8B is split over fsdp alone and 70B over model too; sampling gathers what fsdp has split, so
    that methods that sample have as many model ways as there are heads of keys.
    """
    found = []
    for topology, chips in (("v5e:16x16", 256), ("v6e:16x16", 256), ("v5p:8x8x8", 512)):
        for model, fewest in (("llama-8b", 1), ("llama-70b", 4)):
            for method in ("sft", "dpo", "ppo", "grpo"):
                ways = 8 if method in ("ppo", "grpo") else fewest
                fsdp = chips // ways
                mesh = f"fsdp={fsdp}" if ways == 1 else f"fsdp={fsdp},model={ways}"
                # 4 answers to a prompt; a gradient is summed over 4 parts of a batch
                more = ("--samples", "4", "--micro-batches", "4") if method == "grpo" else ()
                # Where a device has one row, libtpu 0.0.42 aborts at the choice of a minibatch.
                batch = 2 * fsdp if method in ("ppo", "grpo") else fsdp
                found.append(Row(method, model, topology, mesh, batch, more))
    return found


def make(row: Row) -> None:
    """Runs the command, and prints its output."""
    print("rlhf", *row.words, flush=True)
    words = [sys.executable, "-c", RUN, *row.words, "--out", str(FOLDER / row.name)]
    subprocess.run(words, cwd=ROOT, check=True)


def table(planned: list[Row]) -> str:
    """A line for each plan; those that were not made say so."""
    lines = ["| plan | GiB a chip | seconds at least, limit | |", "|---|---|---|---|"]
    for row in planned:
        path = FOLDER / row.name / "plan.json"
        plan = f"{row.method} {row.model} {row.topology} {row.mesh}, {row.batch} x {LENGTH}"
        plan = " ".join([plan, *row.more])
        found = json.loads(path.read_text())["plans"][0] if path.is_file() else None
        cells = ("not planned yet", "", "") if found is None else _cells(found)
        lines.append(f"| {plan} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(found: dict[str, Any]) -> tuple[str, str, str]:
    programs = found["programs"].values()
    memory = max(one["memory"] for one in programs) / GIB
    verdict = "fits" if found["fits"] else f"{-found['spare'] / GIB:.1f} GiB too many"
    if not all(one["compiled"] for one in programs):
        return f"{memory:.1f} of {found['hbm'] / GIB:.2f}", "", verdict
    limit = max(programs, key=lambda one: one["seconds"])["limit"]
    seconds = f"{found['seconds']:.2f}, {limit}"
    return f"{memory:.1f} of {found['hbm'] / GIB:.2f}", seconds, verdict


def write(text: str) -> None:
    """The table between its marks in docs/scaling.md."""
    page = PAGE.read_text()
    head, _, rest = page.partition(BEGIN)
    PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


def main() -> None:
    """Makes what is missing and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--only", nargs="+", default=[], help="words of the plans to make")
    parser.add_argument("--table", action="store_true", help="make no plan")
    options = parser.parse_args()
    for row in [] if options.table else rows():
        wanted = all(word in row.name for word in options.only)
        if wanted and not (FOLDER / row.name / "plan.json").is_file():
            make(row)
    write(table(rows()))


if __name__ == "__main__":
    main()
