"""The plots and the page of nlhf."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.nlhf import PAPER
from experiments.nlhf.config import Config
from experiments.nlhf.judges import EPS
from experiments.nlhf.mixture import NAMES
from experiments.nlhf.tables import GAMES
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
METHODS = {"Nash-MD": "Nash-MD", "OMD": "OMD (MMD, INPO)", "Hedge": "Hedge, last policy"}
FLOOR = 1e-15  # a KL below it is rounding


def write_report(
    job: Run, config: Config, stages: Mapping[str, Arrays], claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, stages)
    drawn = {
        "last_iterate": show_panels(
            metric_panels(config, stages["decaying"], "kl"),
            "Last policies",
            "KL from the regularised Nash policy, steps 2 / (beta (t + 2)). Hedge has no penalty "
            "and a step of its theorem; it goes to another policy, and its last one to none.",
            "Nash-MD and mirror descent fall below the bound, Hedge does not",
        ),
        "exploitability": show_panels(
            metric_panels(config, stages["decaying"], "gap"),
            "Exploitability",
            "Exploitability in the game without a penalty. The penalised methods end at the bias "
            "that beta costs; Hedge's average goes to zero.",
            "penalised methods level off at their bias, the average of Hedge goes on",
        ),
        "fixed_step": show_panels(
            fixed_panels(config, stages["fixed"]),
            "Constant steps",
            "A constant step: Nash-MD stops at a distance of order eta^2, mirror descent does not.",
            "Nash-MD ends on a floor that grows with the step, mirror descent on rounding",
        ),
        "mixture": show_panels(
            mixture_panels(stages["mixture"]),
            "The opponent of Nash-MD-PG",
            "Nash-MD-PG on rock-paper-scissors, left with 64 answers a step, right with exact "
            "gradients: the distance comes from the opponent, not from the noise.",
            "the gap grows with the weight of the reference in the opponent",
            share_y=True,
        ),
        "judges": show_panels(
            judges_panels(stages["judges"]),
            "Three types of judge",
            "Three types of judge: left the Nash policy, right the answer that a Bradley-Terry "
            "fit likes best.",
            "the Nash policy is continuous where the Bradley-Terry optimum jumps",
            share_y=True,
        ),
    }
    write_page(
        job.out,
        "Nash learning from human feedback",
        lead="Nash-MD plays each step against a mixture of the policy and the reference, and its "
        "last policy converges. What is that mixture worth, and what does it cost?",
        paper=PAPER,
        claims=claims,
        figures=drawn,
        table=table,
    )


def metric_panels(config: Config, arrays: Arrays, metric: str) -> list[Panel]:
    """One panel for each game and beta; `metric` is kl or gap."""
    labels = {"kl": "KL(pi* || pi), nats", "gap": "exploitability"}
    times, items = arrays["times"], []
    for row, beta in enumerate(config.betas):
        for column, game in enumerate(GAMES):
            series = {
                label: band(times, arrays[f"{name}/{metric}"][row, column])
                for name, label in METHODS.items()
            }
            average = arrays[f"Hedge/average {metric}"][row, column]
            series["Hedge, average"] = band(times, average)
            bound = Series(times, 8 / (beta**2 * (times + 1)))
            items.append(
                Panel(
                    f"{game}, beta = {beta:g}",
                    "updates t",
                    labels[metric],
                    series,
                    bounds={"8 / (beta² (t + 1))": bound} if metric == "kl" else {},
                    log_x=True,
                    log_y=True,
                    floor=FLOOR,
                )
            )
    return items


def fixed_panels(config: Config, arrays: Arrays) -> list[Panel]:
    """One panel for each game: both methods at both steps."""
    return [
        Panel(
            f"{game}, beta = {config.betas[0]:g}",
            "updates t",
            "KL(pi* || pi), nats",
            {
                f"{name}, eta = {eta:g}": band(arrays["times"], arrays[name][row, column])
                for name in ("Nash-MD", "OMD")
                for row, eta in enumerate(config.fixed_etas)
            },
            log_x=True,
            log_y=True,
            floor=FLOOR,
        )
        for column, game in enumerate(GAMES)
    ]


def mixture_panels(arrays: Arrays) -> list[Panel]:
    """Sampled beside exact gradients."""
    times = arrays["times"]
    kinds = {
        "64 answers a step": arrays["gaps"],
        "exact gradients": arrays["exact"][:, None],
    }
    return [
        Panel(
            title,
            "updates t",
            "regularised gap",
            {name: band(times, gaps[i]) for i, name in enumerate(NAMES)},
            log_x=True,
            log_y=True,
            floor=1e-7,
        )
        for title, gaps in kinds.items()
    ]


def judges_panels(arrays: Arrays) -> list[Panel]:
    """Probabilities of the three answers against eps."""
    best = np.eye(3)[np.argmax(arrays["scores"], axis=-1)]
    kinds = {"Nash policy": arrays["nash"], "optimum of a Bradley-Terry fit": best}
    return [
        Panel(
            title,
            "eps",
            "probability",
            {f"answer {i + 1}": Series(EPS, probs[:, i]) for i in range(3)},
        )
        for title, probs in kinds.items()
    ]
