"""The figures and the page of craft_gui."""

from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from experiments.craft_gui import CLAIM, PAPER
from experiments.craft_gui.config import Config
from experiments.craft_gui.language import ARMS
from rlhf_jax.ops.groups import signal_probability
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
REWARDS = {"outcome": "Outcome alone", "steps": "Outcome and steps"}
SHOWN = ("curriculum", "mixed", "hard first", "hard only")
SMOOTH = 12  # updates of which equal groups are counted together


def write_report(
    job: Run,
    config: Config,
    stages: Mapping[str, Arrays],
    claims: Sequence[Claim],
    tables: Sequence[Table],
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, stages)
    figures = {
        "success": success_figure(stages["full"]),
        "equal": equal_figure(stages["full"]),
        "signal": signal_figure(config),
    }
    if "language" in stages:
        figures["language"] = language_figure(stages["language"])
    write_page(
        job.out,
        "From short tasks to long ones",
        lead=CLAIM + ".",
        paper=PAPER,
        claims=claims,
        tables=tables,
        figures=figures,
    )


def success_figure(full: Arrays) -> Shown:
    """Hard success by update."""
    found = []
    for reward, title in REWARDS.items():
        curves = {}
        for name in SHOWN:
            runs = full[f"{reward}/{name}/hard"]
            curves[name] = band(np.arange(runs.shape[1]), runs, centre="mean", spread="t")
        found.append(Panel(title, "update", "hard tasks right", curves))
    return show_panels(
        found,
        "Hard tasks",
        "Exact probability of a right chain, mean over held-out hard tasks.",
        "with the outcome alone the curriculum is far ahead and hard only stays at 0; with rewards "
        "of steps all rise",
        share_y=True,
    )


def equal_figure(full: Arrays) -> Shown:
    """Groups without a signal by update."""
    found = []
    for reward, title in REWARDS.items():
        curves = {}
        for name in SHOWN:
            runs = full[f"{reward}/{name}/equal"]
            whole = runs.shape[1] // SMOOTH * SMOOTH
            means = runs[:, :whole].reshape(len(runs), -1, SMOOTH).mean(-1)
            places = (np.arange(means.shape[1]) + 0.5) * SMOOTH
            curves[name] = band(places, means, centre="mean", spread="t")
        found.append(Panel(title, "update", "groups with equal rewards", curves))
    return show_panels(
        found,
        "Groups that teach nothing",
        f"Share of groups in which all rewards are equal, means of {SMOOTH} updates.",
        "under the outcome hard only has nothing else, and the curriculum far fewer than mixed in "
        "the first hundred updates",
        share_y=True,
    )


def signal_figure(config: Config) -> Shown:
    """S(a^L) by the probability of one right step."""
    steps = np.linspace(0.0, 1.0, 101)
    lengths = (config.easy[0], config.medium[0], config.hard[0], config.hard[1])
    curves = {
        f"L = {length}": Series(
            steps, np.asarray(signal_probability(jnp.asarray(steps) ** length, config.samples))
        )
        for length in lengths
    }
    panel = Panel("", "probability of one right step", "groups with a signal", curves)
    return show_panels(
        [panel],
        "Why order matters",
        f"1 - p^K - (1 - p)^K of K = {config.samples} answers, p = a^L. Skills that easy tasks "
        "teach move a to where longer ones have a signal.",
        "the longer the chain, the later the signal",
        columns=1,
    )


def language_figure(found: Arrays) -> Shown:
    """Success of the model by horizon."""
    lengths = np.arange(1, len(found["solver"]) + 1)
    curves = {}
    for name in ("start", *ARMS):
        by = [found[name][:, found["horizons"] == length].mean() for length in lengths]
        curves[name] = Series(lengths, np.array(by))
    curves["random"] = Series(lengths, found["random"])
    return show_panels(
        [Panel("", "actions of the solver", "held-out tasks done", curves, levels={"solver": 1.0})],
        "Language: a transformer on the text phone",
        "Share of tasks done on layouts that training never shows.",
        "fewer long tasks than short ones are done, by every policy",
        columns=1,
    )
