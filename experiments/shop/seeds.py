"""`python -m experiments.shop.seeds OUT OUT ...`: several runs of shop, one a seed, as one table.

    for seed in 0 1 2; do python -m experiments run shop --seed $seed --out results/shop-$seed; done
    python -m experiments.shop.seeds results/shop-0 results/shop-1 results/shop-2

The mean over runs, with a 95% interval of Student's t over them: another seed is another world of
prompts and other draws from the same shipped policy.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rlhf_jax.reports.intervals import mean_text

COLUMNS = ("gold", "greedy", "helpful", "honest", "kl", "length", "greedy_gain")


def table(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """A line for each method, in COLUMNS, of which the last is greedy less SFT's; then one for each
    claim with its verdicts, in the words of the first run: numbers of held-out pairs, from which
    ties are dropped, are its own.

    Raises:
      ValueError: fewer than two runs, or runs that differ in more than the seed.
    """
    if len(runs) < 2:
        raise ValueError(f"an interval over runs needs two of them, got {len(runs)}")
    configs = [{**run["config"], "seed": None} for run in runs]
    if any(each != configs[0] for each in configs):
        raise ValueError("the runs differ in more than the seed: run all seeds at one size")
    lines = []
    for name in runs[0]["numbers"]["methods"]:
        rows = [_row(run["numbers"]["methods"], name) for run in runs]
        cells = [_cell([row[column] for row in rows]) for column in COLUMNS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for i, claim in enumerate(runs[0]["claims"]):
        values = [run["claims"][i]["value"] for run in runs]
        verdicts = ", ".join(run["claims"][i]["verdict"] for run in runs)
        lines.append(f"| {claim['statement']} | {_cell(values)} | {verdicts} |")
    return lines


def _row(methods: Mapping[str, Any], name: str) -> dict[str, Any]:
    row = methods[name]
    gain = None if row["greedy"] is None else row["greedy"] - methods["SFT"]["greedy"]
    return {**row, **row["axes"], "greedy_gain": gain}


def _cell(values: Sequence[float | None]) -> str:
    found = [value for value in values if value is not None]
    if not found:
        return ""
    return mean_text(found)


if __name__ == "__main__":
    try:
        read = [json.loads((Path(out) / "summary.json").read_text()) for out in sys.argv[1:]]
        print("\n".join(table(read)))
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"error: {error}")
