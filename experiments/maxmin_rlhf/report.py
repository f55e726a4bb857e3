"""The figures and the page of the maxmin_rlhf experiment."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.maxmin_rlhf import CLAIM, PAPER
from experiments.maxmin_rlhf.claims import rates
from experiments.maxmin_rlhf.config import Config
from experiments.maxmin_rlhf.methods import MARGINS, MOVED, POLICIES
from experiments.maxmin_rlhf.shop import TRAINED
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.intervals import mean_text
from rlhf_jax.reports.pages import Shown, save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
MEAN: dict[str, Any] = {"centre": "mean", "spread": "t", "units": "worlds"}
SHOWN = ("one reward", "MaxMin")
LEVEL = ("MaxMin", "worst of each answer", "equal weights", "MaxMin, true rewards")


def write_report(
    job: Run,
    config: Config,
    stages: Mapping[str, Arrays],
    claims: Sequence[Claim],
    table: Table,
    *,
    shop: Arrays,
) -> None:
    """Saves the data and the figures, and writes report.html; `shop` may be {}."""
    save_stages(job.out, {**stages, **({"shop": shop} if shop else {})})
    figures = study_figures(config, stages)
    if shop:
        figures["shop"] = show_panels(
            [shop_panel(shop)],
            "Language: the shop's SFT policy",
            "Win rates over SFT by the true utility of both groups of users, a point for each "
            "seed.",
            "MaxMin is further up than one reward",
        )
    write_page(
        job.out,
        CLAIM,
        lead="EM over users finds the groups and their rewards; the policy is the optimum of the "
        "least favourable weights.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        tables=[table, shop_table(config, shop)] if shop else [table],
    )


def study_figures(config: Config, stages: Mapping[str, Arrays]) -> dict[str, Shown]:
    """Of the worlds whose optima are known."""
    served = stages["groups"]
    return {
        "rates": show_panels(
            rate_panels(config, served),
            "Win rates by imbalance",
            f"P(an answer beats one of the uniform reference) by the true reward of each group, "
            f"{config.users} users. Serving the minority costs the majority: their interests "
            "conflict, and what MaxMin gives one group it takes from the other.",
            "with one reward the minority falls below one half; MaxMin keeps both groups level",
            share_y=True,
        ),
        "worst": show_panels(
            [worst_panel(config, served)],
            "The worst-off group",
            "The lower win rate of each world's two groups, for what knows both rewards. Minority "
            "and majority conflict alike here, so that equal weights are near the best ones.",
            "MaxMin is above the worst reward of each answer and close to what true rewards give",
        ),
        "solution": show_panels(
            [gap_panel(served), pooled_panel(stages["pooled"])],
            "The dual, and the bound on one reward",
            f"Left: all worlds, learned rewards. Right: one pair with margins {MARGINS[0]:g} for "
            f"the majority and {MARGINS[1]:g} for the minority, exact; the bound is "
            "4 (1 - share) |p_u - p_-u|.",
            "the gap falls to rounding error; the error stays above the bound at every share",
        ),
        "moving": show_panels(
            [moving_panel(config, stages["moving"])],
            "Policy and weights in turns",
            "Mirror ascent of the policy from the reference, on true rewards. What the worst group "
            "lacks of the max-min value.",
            "with all weight on the worst group the curve stops falling, with exponentiated "
            "weights it goes on",
        ),
    }


def shop_panel(shop: Arrays) -> Panel:
    """Each seed's win rate with the minority against that with the majority."""
    points = zip(TRAINED, np.moveaxis(shop["win rates"], 1, 0), strict=True)
    found = {name: Series(*x.T) for name, x in points}
    return Panel("", "win rate, majority", "win rate, minority", found, levels={"SFT": 0.5})


def shop_table(config: Config, shop: Arrays) -> Table:
    """Win rates of both groups with intervals over seeds."""
    rows = []
    for name, found in zip(TRAINED, np.moveaxis(shop["win rates"], 1, 0), strict=True):
        rows.append((name, *(mean_text(x) for x in found.T)))
    accuracy = ", ".join(f"{x:.3f}" for x in shop["accuracy"].mean(0))
    return Table(
        f"Shop: win rate over SFT, mean of {config.shop.seeds} seeds [95%]",
        ("policy", "majority", "minority"),
        rows,
        note=f"accuracy on held-out pairs of one reward and of the mixture: {accuracy}",
    )


def rate_panels(config: Config, served: Arrays) -> list[Panel]:
    """A panel for each group."""
    found = []
    for u, who in enumerate(("majority", "minority")):
        curves = {
            name: band(config.ratios, rates(served, name)[:, :, u].T, **MEAN) for name in SHOWN
        }
        levels = {"the reference": 0.5}
        found.append(Panel(who, "majority : minority", "win rate", curves, levels=levels))
    return found


def worst_panel(config: Config, served: Arrays) -> Panel:
    """The worse of both groups in each world."""
    found = {name: band(config.ratios, rates(served, name).min(-1).T, **MEAN) for name in LEVEL}
    return Panel("", "majority : minority", "win rate of the worst-off group", found)


def gap_panel(served: Arrays) -> Panel:
    """Duality gap against steps."""
    gaps = served["gaps"].reshape(-1, served["gaps"].shape[-1])
    curve = band(np.arange(gaps.shape[-1]), np.maximum(gaps, 1e-17), units="worlds")
    return Panel(
        "duality gap", "step of the weights", "gap", {"MaxMin": curve}, log_y=True, floor=1e-17
    )


def pooled_panel(pooled: Arrays) -> Panel:
    """The error of one reward by the share of the group."""
    x = pooled["share"]
    return Panel(
        "one reward on pooled data",
        "share of the minority",
        "error of its margin",
        {"one reward": Series(x, pooled["error"])},
        bounds={"4 (1 - share) TV": Series(x, pooled["bound"])},
    )


def moving_panel(config: Config, moving: Arrays) -> Panel:
    """What the worst group lacks, against steps."""
    steps = np.arange(config.policy_steps + 1)
    curves = {name: band(steps, np.maximum(moving[name], 1e-9), units="worlds") for name in MOVED}
    return Panel("", "step", "below the max-min value", curves, log_y=True)


def rate_table(config: Config, served: Arrays) -> Table:
    """Win rates of both groups, and of the worse group of each world, at every ratio."""
    rows = []
    for name in POLICIES:
        found = rates(served, name)
        means = zip(*found.mean(1).T, found.min(-1).mean(1), strict=True)
        rows.append((name, *(f"{a:.3f} / {b:.3f} ({worse:.3f})" for a, b, worse in means)))
    return Table(
        f"Win rate of majority / minority, means of {config.num_seeds} worlds",
        ("policy of", *(f"{ratio:g}:1" for ratio in config.ratios)),
        rows,
        note="in brackets: the worse group of each world",
    )
