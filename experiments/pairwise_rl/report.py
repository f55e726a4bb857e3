"""The figures and the page of pairwise_rl."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.pairwise_rl import PAPER
from experiments.pairwise_rl.config import Config
from experiments.pairwise_rl.optimise import at_budget, exact_at_budget
from experiments.pairwise_rl.strings import MODELS
from experiments.pairwise_rl.world import SOURCES
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
DRAWN = ("two orders", "one order", "calibrated score", "shifted score", "shifted and scaled score")
TITLES = {"none": "no baseline per prompt", "others": "mean of the other answers"}


def write_report(
    job: Run,
    config: Config,
    stages: Mapping[str, Arrays],
    claims: Sequence[Claim],
    table: Table,
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, stages)
    bandit, strings = stages["bandit"], stages["strings"]
    figures = {
        "frontier": show_panels(
            [frontier(bandit, name, title) for name, title in TITLES.items()],
            "Win rate against KL",
            f"PPO with {config.betas} KL weights, {config.iterations} iterations of "
            f"{config.batch} answers, by the reward that it is given: true win rate over the "
            "anchor and KL to the reference, both exact; the dashed line is the best policy of KL "
            f"{config.budget:g}.",
            "two orders lie highest at the budget; on the left scores fall with their calibration, "
            "on the right only the scaled one lies lower",
            share_y=True,
        ),
        "losses": show_panels(
            [loss_panel(config, bandit, name, title) for name, title in TITLES.items()],
            "What the variance by prompt costs",
            f"At KL {config.budget:g}, mean of {config.num_seeds} worlds: win rate of the exact "
            "optimum of each reward minus that of PPO on it, against the share of the reward's "
            "variance that the prompt explains under the reference policy.",
            "on the left the loss rises with the share, on the right it does not",
            share_y=True,
        ),
        "strings": show_panels(
            [string_panel(config, strings)],
            "Strings",
            "Held-out accuracy of two heads on one transformer by training pairs; 'equal tokens' "
            "trains the score for more steps, since the judge reads two answers in a row.",
            "the verdict in two orders beside the score on as many pairs and on as many tokens",
            columns=1,
        ),
    }
    write_page(
        job.out,
        "A verdict over an anchor as the reward",
        lead="A judge that compares an answer with an anchor, asked in both orders, beside rewards "
        "with a zero or a unit of their own in each prompt.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        table=table,
    )


def frontier(bandit: Arrays, baseline: str, title: str) -> Panel:
    """Mean win rate against mean KL. Worlds differ by far more than rewards: no bands."""
    kl, wins = (bandit[f"{name}, {baseline}"].mean(0) for name in ("kl", "wins"))
    curves = {name: Series(kl[i], wins[i]) for i, name in enumerate(SOURCES) if name in DRAWN}
    return Panel(
        title,
        "KL to the reference, nats",
        "win rate over the anchor",
        curves,
        levels={"best at the budget": float(exact_at_budget(bandit)[SOURCES[0]].mean())},
    )


def loss_panel(config: Config, bandit: Arrays, baseline: str, title: str) -> Panel:
    """One point for each reward that reaches the budget in every world."""
    shares, exact = bandit["prompt share"].mean(0), exact_at_budget(bandit)
    wins = at_budget(config, bandit, baseline)
    lost = {name: (exact[name] - wins[name]).mean() for name in SOURCES}
    points = {
        name: Series([shares[i]], [lost[name]])
        for i, name in enumerate(SOURCES)
        if np.isfinite(lost[name])
    }
    return Panel(title, "variance by prompt", "win rate lost to the optimum", points)


def string_panel(config: Config, strings: Arrays) -> Panel:
    """Accuracy against training pairs."""
    found = strings["accuracy"]
    curves: dict[str, Series] = {
        name: band(config.strings.sizes, found[:, :, i], centre="mean")
        for i, name in enumerate(MODELS)
    }
    return Panel("", "training pairs", "accuracy", curves, levels={"coin": 0.5}, log_x=True)
