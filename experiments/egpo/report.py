"""The plots and the page of egpo."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.egpo import PAPER, suite
from experiments.egpo.config import Config
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

FLOOR = 1e-12
GAP = "regularised duality gap"


def write_report(
    job: Run, config: Config, results: Sequence[Mapping], claims: Sequence[Claim], table: Table
) -> None:
    """Saves the curves and the figures, and writes report.html with them."""
    strong, weak, bias, noise, guards, shared = results
    save_data(job, config, results)
    figures = {
        "suite": show_panels(
            [*suite_panels(strong, weak), *kl_panels(config, strong, weak)],
            "Every method in the same games",
            "Random games, drawn to 1e-12. Above, the gap; below, KL(pi* || pi_t) with the "
            "theorem's (1 - eta beta)^t from where it begins.",
            "EGPO's gap falls along a straight line at both betas; OMD's only at the larger",
        ),
        "noise": show_panels(
            noise_panels(config, noise),
            "Samples of the opponent in place of its win rates",
            "Mean gap over the second half of a run and over games, beta 0.1.",
            "the floors of EGPO and OMD lie on one line of slope -1 at each of four steps",
            share_y=True,
        ),
        "limits": show_panels(
            [bias_panel(bias), *guard_panels(guards)],
            "The bias of the penalty, and steps that are too large",
            "Left: exploitability with the penalty left out, largest of the games, against "
            "2 beta log n. Right: the last gap on rock-paper-scissors, largest over the starts; "
            "the upright line is the step of the theorem, 2 / (1 + 2 beta).",
            "the bias stays under its bound; EGPO converges to twice the theorem's step, not on",
            columns=3,
        ),
        "network": show_panels(
            network_panels(shared),
            "A network in place of the table",
            "Three linear layers of width 10 with ReLU, shared by ten games of "
            f"{config.network_answers} answers, at beta {suite.NETWORK_BETA}: median over games, "
            "one panel for each network. No theorem and no claim.",
            "EGPO ends lowest, and nobody's curve is a straight line",
            columns=3,
            share_y=True,
        ),
    }
    lead = (
        "One gradient step of online IPO on all pairs is a step of mirror descent. EGPO takes it "
        "twice from the same policy, the second time against where the first one led."
    )
    write_page(
        job.out,
        "EGPO's tabular suite",
        paper=PAPER,
        lead=lead,
        claims=claims,
        figures=figures,
        table=table,
    )


def save_data(job: Run, config: Config, results: Sequence[Mapping]) -> None:
    """The numbers behind the figures, one file for each stage."""
    strong, weak, bias, noise, guards, shared = results
    stages = {
        "suite-0.1": strong,
        "suite-0.01": weak,
        "bias": {"beta": suite.BIAS_BETAS, **bias},
        "noise": {"eta": config.noise_etas, "samples": config.samples, **noise},
        "network": shared,
    }
    for beta, ends in guards.items():
        stages[f"guard-{beta}"] = {"eta": suite.GUARD_ETAS[beta], **ends}
    save_stages(job.out, stages)


def methods(results: Mapping) -> list[str]:
    """Those that are drawn."""
    return [name for name in results if name not in ("closed form", "times")]


def games(times: np.ndarray, values: np.ndarray) -> Series:
    """Median and deciles over games of [shown, G]."""
    return band(times, values.T, spread="deciles", units="games")


def suite_panels(strong: Mapping, weak: Mapping) -> list[Panel]:
    """Gap against updates."""
    return [
        Panel(
            f"beta {beta}",
            "updates",
            GAP,
            {name: games(run["times"], run["gap"]) for name, run in shown(runs).items()},
            levels={"1e-6": suite.GOAL},
            log_y=True,
            floor=FLOOR,
        )
        for beta, runs in ((0.1, strong), (0.01, weak))
    ]


def shown(runs: Mapping) -> dict[str, Mapping]:
    """Runs of the methods by name."""
    return {name: runs[name] for name in methods(runs)}


def kl_panels(config: Config, strong: Mapping, weak: Mapping) -> list[Panel]:
    """KL to the regularised Nash policy, and what the theorem promises."""
    items = []
    for beta, runs in ((0.1, strong), (0.01, weak)):
        factor = 1.0 - 4.0 * suite.RATES[beta] / config.answers
        times, kl = runs["EGPO"]["times"], runs["EGPO"]["kl"]
        bound = np.median(kl[0]) * factor**times
        items.append(
            Panel(
                f"beta {beta}",
                "updates",
                "KL(pi* || pi_t), nats",
                {name: games(run["times"], run["kl"]) for name, run in shown(runs).items()},
                bounds={"(1 - eta beta)^t": Series(times, bound)},
                log_y=True,
                floor=FLOOR,
            )
        )
    return items


def noise_panels(config: Config, noise: Mapping) -> list[Panel]:
    """Floor against samples, one panel for each step."""
    m = np.asarray(config.samples, float)
    return [
        Panel(
            f"eta {eta:g}",
            "m, samples of the opponent",
            "floor of the gap",
            {name: Series(m, floors[i].mean(-1)) for name, floors in noise.items()},
            guides={"0.04 eta / m": Series(m, 0.04 * eta / m)},
            log_x=True,
            log_y=True,
        )
        for i, eta in enumerate(config.noise_etas)
    ]


def bias_panel(bias: Mapping) -> Panel:
    """Exploitability against beta."""
    betas = np.asarray(suite.BIAS_BETAS)
    return Panel(
        "Without the penalty",
        "beta",
        "exploitability",
        {"EGPO": Series(betas, bias["exploitability"].max(-1))},
        bounds={"2 beta log n": Series(betas, bias["bound"])},
        log_x=True,
        log_y=True,
    )


def guard_panels(guards: Mapping) -> list[Panel]:
    """Last gap against the step."""
    return [
        Panel(
            f"Rock-paper-scissors, beta {beta}",
            "eta",
            GAP,
            {name: Series(suite.GUARD_ETAS[beta], gaps.max(-1)) for name, gaps in ends.items()},
            bounds={"2 / (1 + 2 beta)": Series([2.0 / (1.0 + 2.0 * beta)] * 2, [FLOOR, 1.0])},
            log_y=True,
            floor=FLOOR,
        )
        for beta, ends in guards.items()
    ]


def network_panels(shared: Mapping) -> list[Panel]:
    """Gap against updates, one panel for each network."""
    return [
        Panel(
            f"network {i + 1}",
            "updates",
            GAP,
            {
                name: Series(shared["times"], np.median(shared[name][i], axis=-1))
                for name in methods(shared)
            },
            log_x=True,
            log_y=True,
            floor=1e-9,
        )
        for i in range(len(shared["EGPO"]))
    ]
