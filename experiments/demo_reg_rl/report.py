"""The plots and the page of demo_reg_rl."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.demo_reg_rl import PAPER
from experiments.demo_reg_rl.config import Config
from experiments.demo_reg_rl.online import references
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
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
    save_stages(job.out, stages)
    drawn = {
        "cloning": show_panels(
            cloning_panels(config, stages["cloning"], stages["linear"]),
            "The clone",
            "KL of whole episodes from the expert to its clone, with the limit of N times it.",
            "straight lines of slope -1 on logarithmic axes, on the predicted ones",
        ),
        "fast": show_panels(
            fast_panels(config, stages["fast"], stages["lsvi"]),
            "The fast rate",
            "Gap of the regularised problem, uniform reference, and a line of slope -1. UCBVI-Ent+ "
            "in tables, LSVI-UCB-Ent in linear MDPs.",
            "gaps fall about as 1 / T, the bound G above them",
            columns=min(len(config.betas), 3),
            share_y=True,
        ),
        "lock": show_panels(
            lock_panels(config, stages["lock"]),
            "Combination lock",
            f"V* - V against episodes; beta = {config.epsilon:g} / KL(expert || reference). Right: "
            "means over the episodes of the table, with the clone alone.",
            "with 300 demonstrations the gap is gone at once; without any it stays for a while",
            columns=3,
        ),
        "feedback": show_panels(
            feedback_panels(config, stages["feedback"]),
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
        "need no pessimism.",
        paper=PAPER,
        claims=claims,
        figures=drawn,
        table=table,
    )


def cloning_panels(config: Config, tables: Arrays, linear: Arrays) -> list[Panel]:
    """KL against demonstrations, in a table and in the log-linear class."""
    return [
        Panel(
            title,
            "demonstrations N, episodes",
            "KL(expert || clone), nats",
            {"clone": means(sizes, arrays["kl"])},
            bounds={"limit of N KL, over N": Series(sizes, np.mean(arrays["limit"]) / sizes)},
            log_x=True,
            log_y=True,
        )
        for title, sizes, arrays in (
            ("table, counts + 1", np.asarray(config.demos), tables),
            ("log-linear, mixed with uniform / N", np.asarray(config.log_linear), linear),
        )
    ]


def fast_panels(config: Config, tables: Arrays, linear: Arrays) -> list[Panel]:
    """One panel for each beta, tables above, linear MDPs below."""
    return [
        fast_panel(f"{kind}, beta = {beta:g}", arrays, i)
        for kind, arrays in (("table", tables), ("linear MDP", linear))
        for i, beta in enumerate(config.betas)
    ]


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
            shown: means(times, arrays[name][index])
            for name, shown in GAPS.items()
            if name in arrays
        },
        guides={"slope -1": Series(line, level / line)},
        log_x=True,
        log_y=True,
        floor=1e-5,
    )


def lock_panels(config: Config, arrays: Arrays) -> list[Panel]:
    """Gaps against episodes for both policies, and against demonstrations."""
    names = references(config)
    times = np.arange(1, config.lock_times[-1] + 1)
    items = [
        Panel(
            title,
            "episodes T",
            "V* - V",
            {name: means(times, arrays[key][:, i]) for i, name in enumerate(names)},
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
                "reinforcement learning from N": means(sizes, learned[:, 2:]),
                "clone alone": means(sizes, arrays["clone"][:, 2:]),
            },
            levels={
                "without demonstrations": float(learned[:, 0].mean()),
                "expert": float(arrays["expert"].mean()),
            },
            log_x=True,
        )
    )
    return items


def feedback_panels(config: Config, arrays: Arrays) -> list[Panel]:
    """Gap against beta, a line for each number of pairs."""
    betas = np.maximum(config.penalties, ZERO)
    item = Panel(
        "exact planning with fitted rewards",
        "KL weight beta",
        "V* - V",
        {
            f"{count} pairs": means(betas, arrays["gap"][:, i])
            for i, count in enumerate(config.pairs)
        },
        levels={name: float(arrays[name].mean()) for name in ("clone", "expert")},
        log_x=True,
        log_y=True,
        floor=1e-3,
    )
    return [item]


def means(x: np.ndarray, values: np.ndarray) -> Series:
    """Mean over seeds of values [seeds, X] and its 95% interval."""
    return band(x, values, centre="mean", spread="t")
