"""SPO: an average policy that nobody beats, its rate, its trajectories, and its queue."""

from functools import partial

import numpy as np

from experiments.spo import claims, halves, labels, matrix_games, trajectories
from experiments.spo.config import Config
from experiments.spo.report import write_report
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """Six panels and the tuned rivals, each a stage, then the claims and the report."""
    matrices = {
        "intransitive": partial(matrix_games.intransitive, config),
        "rivals": partial(matrix_games.tuned_reward_models, config),
        "rates": partial(matrix_games.rates, config),
        "labels": partial(labels.noisy_labels, config),
    }
    walks = {
        "non_markovian": partial(trajectories.non_markovian, config),
        "halves": partial(halves.both_halves, config),
    }
    queues = {"queue_lengths": partial(matrix_games.queue_lengths, config)}
    games, rivals, rates, noisy = run_stages(job, matrices, x64=True).values()
    walks, same = run_stages(job, walks).values()
    (queues,) = run_stages(job, queues, x64=True).values()
    made = [
        *claims.intransitive_claims(games),
        *claims.rival_claims(config, games, rivals),
        *claims.rate_claims(config, rates),
        *claims.walk_claims(walks),
        *claims.queue_claims(config, queues),
        *claims.half_claims(same),
        *claims.label_claims(config, noisy),
    ]
    found = (games, rates, walks, queues, same, noisy, rivals)
    write_report(job, config, found, made)
    table = summary(config, found)
    return Outcome(made, numbers={"rows": table.rows}, table=table)


def summary(config: Config, found: tuple[dict, ...]) -> Table:
    """Range over seeds of what each method ends with."""

    def span(values: np.ndarray) -> str:
        return f"{values.min():.3f} .. {values.max():.3f}"

    games, _, walks, queues, same, noisy, rivals = found
    rows = []
    for game, methods in games.items():
        for name, gaps in methods.items():
            rows.append(
                (f"{game}, {name}", "gap", span(gaps["average"][:, -1]), span(gaps["last"][:, -1]))
            )
    for game, ends in rivals.items():
        for j, kept in enumerate(config.memories):
            i = int(ends[..., j].mean(axis=0).argmin())
            name = f"{game}, reward model, {kept:.0%} of old pairs kept, best fit rate, "
            rows.append((f"{name}{config.fit_rates[i]:g}", "gap", span(ends[:, i, j]), None))
    for what, panel in (("P(count = 3)", walks), ("P(difference = 0)", same)):
        for name, chances in panel.items():
            rows.append((name, what, "–", span(chances[:, -1])))  # noqa: RUF001
    for i, length in enumerate(config.queues):
        ends = queues["average"][:, i, -1], queues["last"][:, i, -1]
        rows.append((f"queue of {length}", "gap", *map(span, ends)))
    for game, methods in noisy.items():
        for name, gaps in methods.items():
            for i, flips in enumerate(config.flips):
                ends = (gaps[part][:, i, -1] for part in ("average", "last"))
                rows.append(
                    (f"{game}, labels, {flips:.0%} flipped, {name}", "gap", *map(span, ends))
                )
    return Table(
        f"Least and largest of {config.num_seeds} seeds",
        ("", "", "average policy", "last policy"),
        rows,
    )
