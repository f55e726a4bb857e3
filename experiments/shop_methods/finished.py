"""`python -m experiments.shop_methods.finished OUT`: the table of what a stopped run has finished.

It trains nothing; `--resume` of the run goes on where it stopped.
"""

import json
import sys
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from experiments.shop_methods import CLAIM, PAPER
from experiments.shop_methods.config import Config
from experiments.shop_methods.run import run
from rlhf_jax.reports.claims import claims_table, print_table, write_summary
from rlhf_jax.training import UserError, open_run, run_seconds


def config_of(values: dict[str, Any]) -> Config:
    """The config that a run has written."""
    parts = Config()
    given = {
        name: type(getattr(parts, name))(**value) if is_dataclass(getattr(parts, name)) else value
        for name, value in values.items()
    }
    return Config(**given)


def show(out: Path) -> None:
    """Writes report.html and summary.json of the finished stages, and prints the tables."""
    config = config_of(json.loads((out / "run.json").read_text())["config"])
    with open_run(out, slug="shop_methods", config=config, resume=True) as job:
        outcome = run(config, job, finished=True)
        write_summary(
            out,
            slug="shop_methods",
            paper=PAPER,
            seconds=run_seconds(job),
            versions=job.versions,
            config=job.config,
            claims=outcome.claims,
            size="finished",
            claim=CLAIM,
            numbers=outcome.numbers,
            environments=job.environments,
        )
    for table in (claims_table(outcome.claims), outcome.table):
        if table is not None:
            print_table(table)


if __name__ == "__main__":
    try:
        show(Path(sys.argv[1]))
    except UserError as error:
        sys.exit(f"error: {error}")
