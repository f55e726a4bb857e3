"""The figures and the page of the osp experiment."""

from collections.abc import Mapping, Sequence

import numpy as np

from experiments.osp import CLAIM, PAPER
from experiments.osp.config import Config
from experiments.osp.world import JUDGES, LABELS, MEASURES, ROWS
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import Shown, save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Found = Mapping[str, np.ndarray]
AXES = {
    "reward": "reward of the policy",
    "KL": "KL to pi_ref (nats)",
    "J": "reward - beta KL",
    "distance": "total variation to the optimum",
}


def write_report(
    job: Run, config: Config, found: Found, claims: Sequence[Claim], table: Table
) -> None:
    """Saves the data and the figures, and writes report.html."""
    save_stages(job.out, {"train": found})
    write_page(
        job.out,
        CLAIM,
        paper=PAPER,
        lead=f"At each update a table policy draws {config.samples} answers to each prompt, a "
        "judge compares them, and they are paired by rank. All methods see the same prompts, "
        "judge and number of samples; only the label of a pair differs.",
        claims=claims,
        table=table,
        figures=figures(config, found),
    )


def figures(config: Config, found: Found) -> dict[str, Shown]:
    """Training under both judges, the temperature, and a judge of rare answers."""
    tempered = [name for name in ROWS if name == "soft, calibrated" or "tempered" in name]
    return {
        "training": show_panels(
            [
                panel(config, found, {x: f"{x}, {judge}" for x in LABELS}, what, f"{judge} judge")
                for judge in JUDGES[:2]
                for what in ("KL", "J")
            ],
            "Labels",
            "Against updates; thin lines: the closed-form optimum. Hard labels reach a higher raw "
            "reward, because they leave the trust region: over-fitting here means KL and J.",
            "soft labels end at the optimum of a calibrated judge, hard ones go on to larger KL",
        ),
        "temperature": show_panels(
            [
                panel(config, found, {x: x for x in names}, "distance", title)
                for names, title in (
                    ([f"{x}, calibrated" for x in LABELS], "labels, calibrated judge"),
                    (tempered, "temperature of the judge"),
                )
            ],
            "Distance to the optimum",
            f"Right, the judge's log-odds are divided by {config.temperature:g}, with beta divided "
            "by it too, or not.",
            "only the product of temperature and beta matters",
        ),
        "spurious": show_panels(
            [gold_panel(found, judge) for judge in ("calibrated", "spurious")],
            "Reward against KL",
            f"Means over {config.num_seeds} worlds along training. The spurious judge thinks the "
            f"{config.rare} answers that pi_ref draws least better by {config.overrated:g} than "
            "they are.",
            "a judge of rare answers takes policies further for less reward",
        ),
    }


def gold_panel(found: Found, judge: str) -> Panel:
    """The true reward against KL along training."""
    curves = {}
    for labels in LABELS:
        reward, kl = found[f"{labels}, {judge}"].mean(axis=0)[:, :2].T
        curves[labels] = Series(kl, reward)
    return Panel(f"{judge} judge", AXES["KL"], AXES["reward"], curves)


def panel(config: Config, found: Found, names: Mapping[str, str], what: str, title: str) -> Panel:
    """A measure against updates. names: in the legend -> row."""
    place = MEASURES.index(what)
    updates = np.linspace(0, config.updates, config.points + 1)
    curves = {
        name: band(updates, found[row][..., place], centre="mean", spread="t")
        for name, row in names.items()
    }
    level = float(found["optimum"][:, place].mean())
    levels = {} if what == "distance" else {"optimum": level}
    return Panel(title, "update", AXES[what], curves, levels=levels)
