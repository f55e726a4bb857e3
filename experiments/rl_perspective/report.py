"""The plots and the page of rl_perspective."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.rl_perspective import PAPER
from experiments.rl_perspective.compounding import METHODS
from experiments.rl_perspective.config import Config
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
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
    save_stages(job.out, stages)
    drawn = {
        "costs": show_panels(
            [cost_panel(config, stages["costs"])],
            "Cost against horizon",
            "Expected total cost on the tightrope, exact, every policy executed with slips, a rope "
            "of its own for each seed. As many: episodes as RLHF sees. BC has "
            "seen the expert on the rope only; with slips in the demonstrations (the control) it "
            "has seen some of the way back, and rare offsets still catch it. Inverse RL and RLHF "
            "plan through the dynamics. The bound is that of cloning, expert + slip T^2: a slope "
            "above 2 below it is no contradiction.",
            "BC bends up, IRL and RLHF lie on the expert's line",
        ),
        "prompts": show_panels(
            prompt_panels(config, stages["prompts"]),
            "Prompts from logged outcomes",
            "True success on new queries when the prompt is chosen by a bilinear reward model "
            "fitted to logged queries, each tried under every logged prompt. All prompts: ten of "
            "them were never tried. The model is well specified but for the biases of unseen "
            "prompts, hence the ease.",
            "success rises with logged queries to the oracle of the logged prompts, and above it "
            "where unseen prompts may be chosen",
            share_y=True,
        ),
        "tokens": show_panels(
            token_panels(config, stages["tokens"]),
            "A string rewarded at its end",
            "Share of right greedy tokens. Both "
            "learners see the position only: the target of a value is aliased over prefixes, and "
            "the reward reaches early tokens through maxima alone. On prefixes, with replay, "
            "Q-learning is the stronger baseline that this calls for; its table has a row for "
            "every string, so it is shown for the smallest vocabulary, with its step swept, beside "
            "positions with the same replay.",
            "policy gradients reach 1 at every vocabulary, Q-learning stays below one half",
            columns=3,
            share_y=True,
        ),
    }
    write_page(
        job.out,
        "What RLHF owes to imitation",
        paper=PAPER,
        lead=LEAD,
        claims=claims,
        figures=drawn,
        table=table,
    )


def cost_panel(config: Config, costs: Arrays) -> Panel:
    """Log cost against log T."""
    horizons = np.array(config.compounding.horizons, float)
    expert = np.median(costs["expert"], 0)
    return Panel(
        "Tightrope",
        "horizon T (steps)",
        "expected total cost",
        {name: band(horizons, costs[name]) for name in METHODS},
        bounds={
            "expert + slip T^2": Series(horizons, expert + config.compounding.slip * horizons**2)
        },
        log_x=True,
        log_y=True,
    )


def prompt_panels(config: Config, found: Arrays) -> list[Panel]:
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
                {name: band(queries, values) for name, values in shown.items()},
                levels=levels,
                log_x=True,
            )
        )
    return items


def token_panels(config: Config, curves: Arrays) -> list[Panel]:
    """Right tokens against iterations, one panel for each vocabulary."""
    items = []
    for i, vocabulary in enumerate(config.tokens.vocabularies):
        series = {}
        for name, curve in curves.items():
            if i < len(curve):
                series[name] = band(
                    np.arange(1, curve[i].shape[-1] + 1),
                    curve[i],
                    centre="mean",
                    spread="quartiles",
                )
        items.append(
            Panel(
                f"|V| = {vocabulary}",
                f"iterations of {config.tokens.samples} strings",
                "share of right greedy tokens",
                series,
            )
        )
    return items
