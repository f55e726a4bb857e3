"""The plots and the page of demo_reg_rl."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from scipy.stats import t as student

from experiments.demo_reg_rl.config import Config
from experiments.demo_reg_rl.online import references
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, write_page
from rlhf_jax.reports.panels import Panel, panels
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
GAPS = {
    "soft optimistic": "soft greedy in the upper bound",
    "soft regret": "soft greedy in the empirical model",
    "stop": "bound G that the plan gives",
}
ZERO = 0.01  # where beta = 0 is drawn on a logarithmic axis


def write_report(
    job: Run, config: Config, stages: Mapping[str, Arrays], claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    (job.out / "data").mkdir(exist_ok=True)
    for name, arrays in stages.items():
        np.savez_compressed(job.out / "data" / f"{name}.npz", allow_pickle=False, **arrays)
    drawn = {
        "cloning": Shown(
            cloning_figure(config, stages["cloning"], stages["linear"]),
            "The clone",
            "KL of whole episodes from the expert to its clone, with the limit of N times it.",
            "straight lines of slope -1 on logarithmic axes, on the predicted ones",
        ),
        "fast": Shown(
            fast_figure(config, stages["fast"], stages["lsvi"]),
            "The fast rate",
            "Gap of the regularised problem, uniform reference, and a line of slope -1. UCBVI-Ent+ "
            "in tables, LSVI-UCB-Ent in linear MDPs.",
            "gaps fall about as 1 / T, the bound G above them",
        ),
        "lock": Shown(
            lock_figure(config, stages["lock"]),
            "Combination lock",
            f"V* - V against episodes; beta = {config.epsilon:g} / KL(expert || reference). Right: "
            "means over the episodes of the table, with the clone alone.",
            "with 300 demonstrations the gap is gone at once; without any it stays for a while",
        ),
        "feedback": Shown(
            feedback_figure(config, stages["feedback"]),
            "Rewards from comparisons",
            "V* - V of exact planning with fitted rewards and a KL penalty to the clone; beta = 0 "
            f"is drawn at {ZERO:g}.",
            "least gap at a beta between 0.2 and 1, but for many pairs, where small betas are best",
        ),
    }
    write_page(
        job.out,
        "Demonstration-regularised RL",
        lead="Clone the expert, then pay for KL to the clone: fewer episodes, and learned rewards "
        "need no pessimism. Lines are means, bands their 95% intervals over seeds.",
        claims=claims,
        figures=drawn,
        table=table,
    )


def cloning_figure(config: Config, tables: Arrays, linear: Arrays) -> Figure:
    """KL against demonstrations, in a table and in the log-linear class."""
    items = [
        Panel(
            title,
            "demonstrations N, episodes",
            "KL(expert || clone), nats",
            {"clone": banded(sizes, arrays["kl"])},
            bounds={"limit of N KL, over N": Series(sizes, np.mean(arrays["limit"]) / sizes)},
            log_x=True,
            log_y=True,
        )
        for title, sizes, arrays in (
            ("table, counts + 1", np.asarray(config.demos), tables),
            ("log-linear, mixed with uniform / N", np.asarray(config.log_linear), linear),
        )
    ]
    return panels(items)


def fast_figure(config: Config, tables: Arrays, linear: Arrays) -> Figure:
    """One panel for each beta, tables above, linear MDPs below."""
    items = [
        fast_panel(f"{kind}, beta = {beta:g}", arrays, i)
        for kind, arrays in (("table", tables), ("linear MDP", linear))
        for i, beta in enumerate(config.betas)
    ]
    return panels(items, columns=len(config.betas), share_y=True)


def fast_panel(title: str, arrays: Arrays, index: int) -> Panel:
    """Gaps of one beta, and a line of slope -1 through the last."""
    times = arrays["episodes"]
    level = arrays["soft optimistic"][index, :, -1].mean() * times[-1]
    line = np.geomspace(times[0] / 2.5, 1.25 * times[-1], 9)
    return Panel(
        title,
        "episodes T",
        "regularised gap",
        {
            shown: banded(times, arrays[name][index])
            for name, shown in GAPS.items()
            if name in arrays
        },
        bounds={"slope -1": Series(line, level / line)},
        log_x=True,
        log_y=True,
        floor=1e-5,
    )


def lock_figure(config: Config, arrays: Arrays) -> Figure:
    """Gaps against episodes for both policies, and against demonstrations."""
    names = references(config)
    times = np.arange(1, config.lock_times[-1] + 1)
    items = [
        Panel(
            title,
            "episodes T",
            "V* - V",
            {name: banded(times, arrays[key][:, i]) for i, name in enumerate(names)},
        )
        for key, title in (
            ("regret", "soft greedy in the empirical model"),
            ("optimistic", "soft greedy in the upper bound"),
        )
    ]
    sizes, asked = np.asarray(config.lock_demos), np.asarray(config.lock_times) - 1
    learned = arrays["regret"][..., asked].mean(-1)
    items.append(
        Panel(
            "mean over the table's episodes",
            "demonstrations N, episodes",
            "V* - V",
            {
                "reinforcement learning from N": banded(sizes, learned[:, 2:]),
                "clone alone": banded(sizes, arrays["clone"][:, 2:]),
            },
            bounds={
                "without demonstrations": flat(sizes, learned[:, 0]),
                "expert": flat(sizes, arrays["expert"]),
            },
            log_x=True,
        )
    )
    return panels(items, columns=3)


def feedback_figure(config: Config, arrays: Arrays) -> Figure:
    """Gap against beta, a line for each number of pairs."""
    betas = np.maximum(config.penalties, ZERO)
    item = Panel(
        "exact planning with fitted rewards",
        "KL weight beta",
        "V* - V",
        {
            f"{count} pairs": banded(betas, arrays["gap"][:, i])
            for i, count in enumerate(config.pairs)
        },
        bounds={name: flat(betas, arrays[name]) for name in ("clone", "expert")},
        log_x=True,
        log_y=True,
        floor=1e-3,
    )
    return panels([item], columns=1)


def banded(x: np.ndarray, values: np.ndarray) -> Series:
    """Mean over seeds of values [seeds, X] and its 95% interval, not below zero."""
    mean = values.mean(0)
    count = len(values)
    half = student.ppf(0.975, count - 1) * values.std(0, ddof=1) / np.sqrt(count)
    return Series(x, mean, np.maximum(mean - half, 0.0), mean + half)


def flat(x: np.ndarray, values: np.ndarray) -> Series:
    """The mean of all values, at every x."""
    return Series(x, np.full(len(x), values.mean()))
