"""The plots and the page of egpo."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.egpo import suite
from experiments.egpo.config import Config
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, write_page
from rlhf_jax.reports.panels import Panel, panels
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

FLOOR = 1e-12
GAP = "duality gap of the regularised game"


def write_report(
    job: Run, config: Config, results: Sequence[Mapping], claims: Sequence[Claim], table: Table
) -> None:
    """Saves the curves and the figures, and writes report.html with them."""
    strong, weak, bias, noise, guards, shared = results
    save_data(job, config, results)
    figures = {
        "suite": panels([*suite_panels(strong, weak), *kl_panels(config, strong, weak)]),
        "noise": panels(noise_panels(config, noise), share_y=True),
        "limits": panels([bias_panel(bias), *guard_panels(guards)], columns=3),
        "network": panels(network_panels(shared), columns=3, share_y=True),
    }
    texts = {
        "suite": (
            "Every method in the same games",
            f"Median and range between the 10th and 90th percentile over "
            f"{config.num_seeds * config.games} random games; drawn to 1e-12. Above, the gap; "
            "below, KL(pi* || pi_t) with the theorem's (1 - eta beta)^t from where it begins.",
            "EGPO's gap falls along a straight line at both betas; OMD's only at the larger",
        ),
        "noise": (
            "Samples of the opponent in place of its win rates",
            "Mean gap over the second half of a run and over games, beta 0.1. Dark: 0.04 eta / m.",
            "the floors of EGPO and OMD lie on one line of slope -1 at each of four steps",
        ),
        "limits": (
            "The bias of the penalty, and steps that are too large",
            "Left: exploitability with the penalty left out, largest of the games, against "
            "2 beta log n. Right: the last gap on rock-paper-scissors, largest over the starts; "
            "the dark line is the step of the theorem, 2 / (1 + 2 beta).",
            "the bias stays under its bound; EGPO converges to twice the theorem's step, not on",
        ),
        "network": (
            "A network in place of the table",
            "Three linear layers of width 10 with ReLU, shared by ten games of "
            f"{config.network_answers} answers, at beta {suite.NETWORK_BETA}: median over games, "
            "one panel for each network. No theorem and no claim.",
            "EGPO ends lowest, and nobody's curve is a straight line",
        ),
    }
    lead = (
        "One gradient step of online IPO on all pairs is a step of mirror descent. EGPO takes it "
        "twice from the same policy, the second time against where the first one led."
    )
    shown = {
        name: Shown(figures[name], title, caption, alt)
        for name, (title, caption, alt) in texts.items()
    }
    write_page(
        job.out, "EGPO's tabular suite", lead=lead, claims=claims, figures=shown, table=table
    )


def save_data(job: Run, config: Config, results: Sequence[Mapping]) -> None:
    """The numbers behind the figures, one file for each stage."""
    strong, weak, bias, noise, guards, shared = results
    folder = job.out / "data"
    folder.mkdir(parents=True, exist_ok=True)
    for beta, runs in ((0.1, strong), (0.01, weak)):
        flat = {f"{name}|{key}": x for name, run in runs.items() for key, x in run.items()}
        np.savez(folder / f"suite-{beta}.npz", **flat)
    for beta, ends in guards.items():
        np.savez(folder / f"guard-{beta}.npz", eta=suite.GUARD_ETAS[beta], **ends)
    np.savez(folder / "bias.npz", beta=suite.BIAS_BETAS, **bias)
    np.savez(folder / "noise.npz", eta=config.noise_etas, samples=config.samples, **noise)
    np.savez(folder / "network.npz", **shared)


def methods(results: Mapping) -> list[str]:
    """Those that are drawn."""
    return [name for name in results if name not in ("closed form", "times")]


def band(times: np.ndarray, values: np.ndarray) -> Series:
    """Median over games of [shown, G], and the 10th and 90th percentile, none below the floor."""
    low, middle, high = np.quantile(values, (0.1, 0.5, 0.9), axis=-1)
    return Series(times, ended(middle), np.maximum(low, FLOOR), high)


def ended(values: np.ndarray) -> np.ndarray:
    """A curve that stops where it is below the floor for good."""
    above = np.flatnonzero(values > FLOOR)
    last = above[-1] + 1 if above.size else 0
    return np.where(np.arange(len(values)) <= last, values, np.nan)


def suite_panels(strong: Mapping, weak: Mapping) -> list[Panel]:
    """Gap against updates."""
    return [
        Panel(
            f"beta {beta}",
            "updates",
            GAP,
            {name: band(run["times"], run["gap"]) for name, run in shown(runs).items()},
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
                {name: band(run["times"], run["kl"]) for name, run in shown(runs).items()},
                bounds={"(1 - eta beta)^t": Series(times, ended(bound))},
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
            bounds={"0.04 eta / m": Series(m, 0.04 * eta / m)},
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
