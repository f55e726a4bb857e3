"""The figures and the page of rlhf_workflow."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.rlhf_workflow import CLAIM, PAPER
from experiments.rlhf_workflow.config import Config
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.training import Run

MAIN = ("offline", "offline, best and worst", "online", "online, best and worst", "enhancer")
TRAPS = ("offline, sure labels", "online, best and worst, sure labels")


def write_report(
    job: Run,
    config: Config,
    paths: Mapping,
    found: Mapping,
    claims: Sequence[Claim],
    table: Table,
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, {"rounds": paths, "promise": {"sizes": config.sizes, **found}})
    figures = {
        "rounds": show_panels(
            round_panels(config, paths),
            "Who draws the pairs",
            "Distance to the best J against labels. Left, Bradley-Terry labels. Right, labels "
            "without noise.",
            "the enhancer falls fastest; without noise best and worst overshoot",
        ),
        "promise": show_panels(
            [promise_panel(config, found)],
            "What pairs of the reference promise",
            "The bound on what a pessimistic policy loses, what it loses in fact, what plain DPO "
            "loses, and the range of rewards, above which a bound says nothing.",
            "the bound is vacuous long after the loss is small",
        ),
    }
    lead = (
        "The best answers are rare under the reference, so that its own pairs say little about "
        "them. Iterative DPO labels answers of the policy instead, and an enhancer looks for what "
        "is least known."
    )
    write_page(job.out, CLAIM, paper=PAPER, lead=lead, claims=claims, table=table, figures=figures)


def round_panels(config: Config, paths: Mapping) -> list[Panel]:
    """Gap against labels, after the first round on."""
    labels = config.pairs * np.arange(1, config.rounds + 1)

    def panel(title: str, names: Sequence[str]) -> Panel:
        curves = {
            name: band(
                labels, paths[name]["gap"][:, 1:], centre="mean", spread="t", units="bandits"
            )
            for name in names
        }
        return Panel(title, "labels", "J(pi*) - J(pi)", curves, log_x=True, log_y=True)

    return [panel("", MAIN), panel("labels without noise", TRAPS)]


def promise_panel(config: Config, found: Mapping) -> Panel:
    """Bound and losses against pairs."""
    names = {"bound": "bound", "range of rewards": "range", "pessimistic": "loss", "DPO": "plain"}
    curves = {
        name: band(config.sizes, found[key].T, centre="mean", spread="range", units="bandits")
        for name, key in names.items()
    }
    return Panel("", "pairs of the reference", "reward", curves, log_x=True, log_y=True)
