"""The figures and the page of think_rm."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.think_rm import PAPER
from experiments.think_rm.config import Config
from experiments.think_rm.judges import KEPT, SHUFFLED
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
PAIRWISE = ("pairwise graded", "pairwise binary")
POINTWISE = ("pointwise graded", "pointwise win or lose")
LOST = (
    "pairwise binary",
    "binary, lost verdicts masked",
    "binary, lost verdicts as ties",
    "binary over length",
)


def write_report(
    job: Run,
    config: Config,
    stages: Mapping[str, Arrays],
    claims: Sequence[Claim],
    table: Table,
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, stages)
    figures = {
        "regret": show_panels(
            regret_panels(config, stages["bandits"]),
            "Comparisons or scores",
            "Normalised regret of a policy on a bandit. Calls of the judge: left a group of "
            f"{config.bandit.group} for each prompt; middle the same against calls; right what "
            f"happens to binary comparisons where {config.bandit.lost:.0%} have no verdict, and "
            f"where verdicts are divided by {config.bandit.length:,.0f} characters as in the "
            "paper's code.",
            "pairs fall fastest; win or lose against one answer stops falling",
            columns=3,
        ),
        "judges": show_panels(
            judge_panels(config, stages["judges"]),
            "Judges that think",
            "Which of two sums modulo 4 is larger. Left: accuracy where a judge is made to think "
            "so many columns, or reads as many that it wrote for another comparison. "
            "Middle, right: rule-based RL, reward and tokens before the verdict.",
            "accuracy rises with the last columns of its own thinking; the rule lengthens thinking",
            columns=3,
        ),
    }
    write_page(
        job.out,
        "Think-RM: judges that think, and advantages from their comparisons",
        lead="A judge writes what it thinks and then a verdict; it is fitted to right judgements "
        "and trained by a rule. A policy learns from the matrix of its comparisons.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        table=table,
    )


def regret_panels(config: Config, found: Arrays) -> list[Panel]:
    """By steps, by calls of the judge, and with judgements that are lost or long."""
    sizes = config.bandit
    steps = np.arange(sizes.steps + 1)
    pairs = sizes.groups * sizes.group * (sizes.group - 1) // 2
    points = sizes.wide_groups * sizes.group
    by_step = {name: means(steps, found[name]) for name in (*PAIRWISE, *POINTWISE)}
    by_call = {name: means(pairs * steps, found[name]) for name in PAIRWISE}
    by_call |= {name: means(points * steps, found[f"{name}, equal calls"]) for name in POINTWISE}
    lost = {name: means(steps, found[name]) for name in LOST}
    return [
        Panel("as many prompts", "step", "regret", by_step, log_y=True),
        Panel("as many calls", "calls of the judge", "regret", by_call, log_y=True),
        Panel("lost and long judgements", "step", "regret", lost, log_y=True),
    ]


def judge_panels(config: Config, found: Arrays) -> list[Panel]:
    """Accuracy by forced thinking, and the curves of RL."""
    columns = np.arange(config.judge.columns + 1)
    forced = {f"{name}, SFT": means(columns, found[f"{name}/sft/forced"]) for name in KEPT}
    forced["longest, RL"] = means(columns, found["longest/rl/forced"])
    forced["longest, RL, columns of another"] = means(columns, found["longest/rl/borrowed"])
    steps = np.arange(config.judge.rl_steps)
    names = (*KEPT, SHUFFLED)
    rewards, thinking = (
        {name: means(steps, found[f"{name}/curve/{curve}"]) for name in names}
        for curve in ("reward", "thinking")
    )
    return [
        Panel("forced thinking", "columns", "accuracy", forced, levels={"chance": 0.5}),
        Panel("rule-based RL", "step", "mean reward", rewards),
        Panel("its thinking", "step", "tokens before the verdict", thinking),
    ]


def means(x: Sequence[float] | np.ndarray, values: np.ndarray) -> Series:
    """Mean and range over seeds of values [seeds, X]."""
    return band(x, values, centre="mean")
