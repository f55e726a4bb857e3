"""SPO: an average policy that nobody beats, its rate, its trajectories, and its queue."""

import jax
import numpy as np

from experiments.spo import claims, matrix_games, trajectories
from experiments.spo.config import Config
from experiments.spo.report import write_report
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stage


def run(config: Config, job: Run) -> Outcome:
    """Four panels, each a stage, then the claims and the report."""
    games = _stage(config, job, "intransitive", matrix_games.intransitive)
    rates = _stage(config, job, "rates", matrix_games.rates)
    walks = _stage(config, job, "non_markovian", trajectories.non_markovian, x64=False)
    queues = _stage(config, job, "queue_lengths", matrix_games.queue_lengths)
    made = [
        *claims.intransitive_claims(games),
        *claims.rate_claims(config, rates),
        *claims.walk_claims(walks),
        *claims.queue_claims(config, queues),
    ]
    write_report(job, config, (games, rates, walks, queues), made)
    table = summary(config, games, walks, queues)
    return Outcome(made, numbers={"rows": table.rows}, table=table)


def _stage(config: Config, job: Run, name: str, panel, *, x64: bool = True):
    """The arrays of a panel, computed once."""

    def work(_):
        with jax.enable_x64(x64):
            return panel(config), {}

    return run_stage(job, name, work).arrays


def summary(config: Config, games: dict, walks: dict, queues: dict) -> Table:
    """Range over seeds of what each method ends with."""

    def span(values: np.ndarray) -> str:
        return f"{values.min():.3f} .. {values.max():.3f}"

    rows = []
    for game, methods in games.items():
        for name, gaps in methods.items():
            rows.append(
                (f"{game}, {name}", "gap", span(gaps["average"][:, -1]), span(gaps["last"][:, -1]))
            )
    for name, chances in walks.items():
        rows.append((name, "P(count = 3)", "–", span(chances[:, -1])))  # noqa: RUF001
    for i, length in enumerate(config.queues):
        ends = queues["average"][:, i, -1], queues["last"][:, i, -1]
        rows.append((f"queue of {length}", "gap", *map(span, ends)))
    return Table(
        f"Least and largest of {config.num_seeds} seeds",
        ("", "", "average policy", "last policy"),
        rows,
    )
