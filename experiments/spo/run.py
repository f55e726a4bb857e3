"""SPO: an average policy that nobody beats, its rate, its trajectories, and its queue."""

import jax
import numpy as np

from experiments.spo import matrix_games, trajectories
from experiments.spo.config import Config
from experiments.spo.report import write_report
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.training import Run, run_stage

SETTLED = 10.0  # margin times T from which the winner has all the weight that it will have


def run(config: Config, job: Run) -> Outcome:
    """Four panels, each a stage, then the claims and the report."""
    games = _stage(config, job, "intransitive", matrix_games.intransitive)
    rates = _stage(config, job, "rates", matrix_games.rates)
    walks = _stage(config, job, "non_markovian", trajectories.non_markovian, x64=False)
    queues = _stage(config, job, "queue_lengths", matrix_games.queue_lengths)
    claims = [
        *intransitive_claims(games),
        *rate_claims(config, rates),
        *walk_claims(walks),
        *queue_claims(config, queues),
    ]
    write_report(job, config, (games, rates, walks, queues), claims)
    table = summary(config, games, walks, queues)
    return Outcome(claims, numbers={"rows": table.rows}, table=table)


def _stage(config: Config, job: Run, name: str, panel, *, x64: bool = True):
    """The arrays of a panel, computed once."""

    def work(_):
        with jax.enable_x64(x64):
            return panel(config), {}

    return run_stage(job, name, work).arrays


def intransitive_claims(games: dict) -> list[Claim]:
    """Panel A: the average policy against the reward model's, and the last one, which cycles."""
    claims = []
    for name in ("cycle", "low rank"):
        average = games[name]["SPO"]["average"][:, -1]
        model = games[name]["reward model"]["last"][:, -1]
        ahead = int((average < model).sum())
        claims.append(Claim(f"A, {name}: SPO's average gap, worst seed", average.max(), "<=", 0.1))
        claims.append(Claim(f"A, {name}: seeds below the reward model", ahead, "==", len(average)))
    last = games["RPS(0.9)"]["SPO"]["last"]
    peaks = last[:, -last.shape[1] // 10 :].max(axis=1)
    claims.append(
        Claim("A, RPS(0.9): SPO's last policy, peak gap, least seed", peaks.min(), ">=", 0.36)
    )
    return claims


def rate_claims(config: Config, rates: dict) -> list[Claim]:
    """Panel B: T times the gap is constant with a Condorcet winner; the regret bound without."""
    times = np.array(config.horizons)
    settled = np.multiply.outer(config.margins, times) >= SETTLED
    scaled = (rates["condorcet"] * times)[:, settled]
    first = rates["cycle"][0] / np.array([0.050, 0.041, 0.0051, 0.0045]) - 1.0
    return [
        Claim("B, Condorcet: T gap, least", scaled.min(), ">=", 6.05),
        Claim("B, Condorcet: T gap, largest", scaled.max(), "<=", 6.25),
        Claim("B, RPS: average gap, relative to expected", np.abs(first).max(), "<=", 0.02),
        Claim(
            "B, RPS: average gap over 2 regret / T",
            (rates["cycle"] / rates["bound"]).max(),
            "<=",
            1.0,
        ),
    ]


def walk_claims(walks: dict) -> list[Claim]:
    """Panel C: P(count = 3) at the end, of the worst seed."""
    ends = {name: chances[:, -1] for name, chances in walks.items()}
    return [
        Claim("C, SPO: P(count = 3), worst seed", ends["SPO"].min(), ">=", 0.95),
        Claim("C, r(a): P(count = 3), best seed", ends["reward model r(a)"].max(), "<=", 0.5),
        Claim(
            "C, control r(t, a): P(count = 3), worst seed",
            ends["reward model r(t, a)"].min(),
            ">=",
            0.95,
        ),
    ]


def queue_claims(config: Config, queues: dict) -> list[Claim]:
    """Panel D: the queue of one batch has the least average gap, in the mean over seeds."""
    means = queues["average"][..., -1].mean(axis=0)
    own = config.queues.index(config.batch)
    others = np.delete(means, own).min()
    return [
        Claim(
            "D: mean gap with a queue of a batch over the best other", means[own] / others, "<", 1.0
        )
    ]


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
