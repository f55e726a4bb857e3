"""The table, the plots and the page of shop_nash."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.shop_nash import PAPER
from experiments.shop_nash.evaluate import Sampled, Standing, Tournament
from rlhf_jax.envs.shop import STYLES
from rlhf_jax.reports import plots
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.pages import Shown, save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run, StageResult, read_metrics

LEAD = (
    "Three judges agree on what is good and differ in the style they like, so that of three "
    "equally good answers of a pure style each loses to another by 2 : 1. No reward can say that. "
    "Every method starts from the same SFT policy; PPO is given a Bradley-Terry model of the "
    "judges, the others ask them about pairs of answers."
)


def write_report(
    job: Run,
    games: Tournament,
    table: Mapping[str, Standing],
    sampled: Mapping[str, Sampled],
    results: Mapping[str, StageResult],
    claims: Sequence[Claim],
    models: tuple[Mapping[str, Any], Mapping[str, Any]],
) -> Outcome:
    """Writes plots/*.png, data/tournament.npz and report.html; returns what the screen shows."""
    means, pool = games.wins.mean(0), games.gaps["SFT"]
    save_stages(job.out, {"tournament": {"names": games.names, "wins": games.wins}})
    shown = standings_table(table, sampled, results)
    accuracy = [float(np.mean(info["correct"])) for info in models]
    best = models[0]["best"]
    write_page(
        job.out,
        "Nash methods before judges who go round in circles",
        paper=PAPER,
        lead=LEAD,
        claims=claims,
        table=shown,
        text=f"Held-out accuracy on labels of one judge each: Bradley-Terry {accuracy[0]:.3f}, "
        f"pairwise model {accuracy[1]:.3f}, the population's own preferences {best:.3f}. "
        f"{pool['cycle'][0]:.0%} of prompts have a cycle among the pooled answers; "
        f"{pool['condorcet'][0]:.0%} have an answer that beats all others.",
        figures={
            "tournament": Shown(
                tournament_figure(games.names, means),
                "Tournament",
                "Every answer of one policy against every answer of the other.",
                "heat map of win rates of every policy over every other",
            ),
            "styles": show_panels(
                style_panels(job, results),
                "Styles in training",
                "Mean of one answer to each of 64 validation prompts.",
                "share of each style and gold score against answers drawn, for every method",
            ),
        },
    )
    numbers = {
        "accuracy": {"bradley_terry": accuracy[0], "preference": accuracy[1], "best": best},
        "pool": {"cycle": pool["cycle"], "condorcet": pool["condorcet"]},
        "names": games.names,
        "tournament": means,
        "standings": {name: one._asdict() for name, one in table.items()},
        "styles": {name: one.styles.mean((0, 1)) for name, one in sampled.items()},
    }
    return Outcome(claims, numbers=numbers, table=shown)


def tournament_figure(names: Sequence[str], means: np.ndarray) -> Figure:
    """Win rates as colours, all of them written in."""
    title = "Win rate of the row over the column"
    return plots.heat_map(means, names, names, title=title, low=0.0, high=1.0, unit="win rate")


def standings_table(
    table: Mapping[str, Standing],
    sampled: Mapping[str, Sampled],
    results: Mapping[str, StageResult],
) -> Table:
    """One row for each policy, the least exploitable first."""
    rows = []
    for name in sorted(table, key=lambda name: table[name].crossfit_gap[0]):
        one, answers = table[name], sampled[name]
        result = results.get(name)
        rows.append(
            (
                name,
                interval(one.worst),
                one.rival,
                interval(one.crossfit_gap),
                interval(one.gap),
                f"{one.against_sft[0]:.2f}",
                f"{answers.gold.mean():.3f}",
                *(f"{share:.2f}" for share in answers.styles.mean((0, 1))),
                f"{answers.log_ratios.mean():.1f}",
                result.info["answers"] if result else 0,
                f"{result.seconds:.0f}" if result else "",
            )
        )
    headers = (
        *("policy", "worst case [95%]", "against", "exploitability [95%]", "in-sample"),
        *("vs SFT", "gold", *STYLES, "KL", "answers", "seconds"),
    )
    return Table(
        "Standings, least exploitable first",
        headers,
        rows,
        note="exploitability: two-sided, within the pool of all answers, cross-fitted; KL in nats",
    )


def interval(x: np.ndarray) -> str:
    """mean [low, high]."""
    return f"{x[0]:.3f} [{x[1]:.3f}, {x[2]:.3f}]"


def style_panels(job: Run, results: Mapping[str, StageResult]) -> list[Panel]:
    """How the mean style moves with the answers drawn, one panel per style, and the gold score."""
    rows, items = read_metrics(job.out), []
    stages = list(dict.fromkeys(row["stage"] for row in rows if "heldout/brief" in row))
    names = [name for name in results if name != "PPO on Bradley-Terry"]
    for what in (*STYLES, "gold"):
        series = {}
        for name, stage in zip(names, stages, strict=True):
            seen = [row for row in rows if row["stage"] == stage and "heldout/brief" in row]
            per_round = results[name].info["answers"] / results[name].info["rounds"]
            x = [row["step"] * per_round for row in seen]
            series[name] = Series(x, [row[f"heldout/{what}"] for row in seen])
        items.append(
            Panel(what, "answers drawn", "gold score" if what == "gold" else "share", series)
        )
    return items
