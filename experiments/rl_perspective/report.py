"""The plots and the page of rl_perspective."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.rl_perspective.compounding import METHODS
from experiments.rl_perspective.config import Config
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, write_page
from rlhf_jax.reports.panels import Panel, panels
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
LEAD = (
    "Takeaways of the paper made measurable: a cloned policy pays for slips with the square "
    "of the horizon where policies that plan through known dynamics pay in proportion; logged "
    "outcomes are enough to choose a prompt for each query; sparse rewards at the end are learnt "
    "on policy where bootstrapped maxima fail. The paper runs no experiment: the designs are ours."
)


def write_report(
    job: Run, config: Config, stages: Mapping[str, Arrays], claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    (job.out / "data").mkdir(exist_ok=True)
    for name, arrays in stages.items():
        np.savez_compressed(job.out / "data" / f"{name}.npz", allow_pickle=False, **arrays)
    drawn = {
        "costs": Shown(
            cost_figure(config, stages["costs"]),
            "Cost against horizon",
            "Expected total cost on the tightrope, exact, every policy executed with slips. BC has "
            "seen the expert on the rope only; with slips in the demonstrations (the control) it "
            "has seen some of the way back, and rare offsets still catch it. Inverse RL and RLHF "
            "plan through the dynamics. Median and range over seeds. The bound is that of cloning, "
            "expert + slip T^2: a slope above 2 below it is no contradiction.",
            "BC bends up, IRL and RLHF lie on the expert's line",
        ),
        "prompts": Shown(
            prompt_figure(config, stages["prompts"]),
            "Prompts from logged outcomes",
            "True success on new queries when the prompt is chosen by a bilinear reward model "
            "fitted to logged queries, each tried under every logged prompt. All prompts: ten of "
            "them were never tried. The model is well specified but for the biases of unseen "
            "prompts, hence the ease. Median and range over seeds.",
            "success rises with logged queries to the oracle of the logged prompts, and above it "
            "where unseen prompts may be chosen",
        ),
        "tokens": Shown(
            token_figure(config, stages["tokens"]),
            "A string rewarded at its end",
            "Share of right greedy tokens; mean over seeds, band of one standard deviation. Both "
            "learners see the position only: the target of a value is aliased over prefixes, and "
            "the reward reaches early tokens through maxima alone. On prefixes, with replay, "
            "Q-learning is the stronger baseline that this calls for; its table has a row for "
            "every string, so it is shown for the smallest vocabulary.",
            "policy gradients reach 1 at every vocabulary, Q-learning stays below one half",
        ),
    }
    write_page(
        job.out, "What RLHF owes to imitation", lead=LEAD, claims=claims, figures=drawn, table=table
    )


def spread(x: Sequence | np.ndarray, values: np.ndarray) -> Series:
    """Median and range over seeds, values [seeds, N]."""
    return Series(x, np.median(values, 0), values.min(0), values.max(0))


def cost_figure(config: Config, costs: Arrays) -> Figure:
    """Log cost against log T."""
    horizons = np.array(config.compounding.horizons, float)
    expert = np.median(costs["expert"], 0)
    item = Panel(
        "Tightrope",
        "horizon T (steps)",
        "expected total cost",
        {name: spread(horizons, costs[name]) for name in METHODS},
        bounds={
            "expert + slip T^2": Series(horizons, expert + config.compounding.slip * horizons**2)
        },
        log_x=True,
        log_y=True,
    )
    figure = panels([item])
    axes = figure.axes[0]
    axes.set_xticks(config.compounding.horizons, labels=map(str, config.compounding.horizons))
    axes.minorticks_off()
    return figure


def prompt_figure(config: Config, found: Arrays) -> Figure:
    """Success against logged queries, one panel for each set of candidates."""
    queries = config.prompts.queries
    items = []
    for which in ("logged prompts", "all prompts"):
        levels = {"mean prompt": float(np.median(found["mean prompt"]))}
        oracle = {"oracle": np.repeat(found[f"oracle, {which}"][:, None], len(queries), 1)}
        shown = {
            "OIRL": found[f"OIRL, {which}"],
            "best single prompt": found["best single prompt"],
        } | oracle
        items.append(
            Panel(
                f"{which[0].upper()}{which[1:]}",
                "logged queries",
                "success on new queries",
                {name: spread(queries, values) for name, values in shown.items()},
                levels=levels,
                log_x=True,
            )
        )
    return panels(items, share_y=True)


def token_figure(config: Config, curves: Arrays) -> Figure:
    """Right tokens against iterations, one panel for each vocabulary."""
    items = []
    for i, vocabulary in enumerate(config.tokens.vocabularies):
        series = {}
        for name, curve in curves.items():
            if i < len(curve):
                mean, sd = curve[i].mean(0), curve[i].std(0)
                x = np.arange(1, len(mean) + 1)
                series[name] = Series(x, mean, np.maximum(mean - sd, 0), np.minimum(mean + sd, 1))
        items.append(
            Panel(
                f"|V| = {vocabulary}",
                f"iterations of {config.tokens.samples} strings",
                "share of right greedy tokens",
                series,
            )
        )
    return panels(items, columns=3, share_y=True)
