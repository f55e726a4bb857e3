"""The table and the figure of the language panel."""

from collections.abc import Mapping

import numpy as np

from experiments.hc_rlhf.config import Config
from experiments.hc_rlhf.shop import BOUNDS, COST, START, TRAINED
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Table
from rlhf_jax.reports.intervals import share_interval
from rlhf_jax.reports.pages import Shown, show_panels
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series

Policies = Mapping[str, Mapping[str, np.ndarray]]


def policy_rates(config: Config, found: Policies) -> dict[str, dict[str, np.ndarray]]:
    """Method -> of all its policies "harm" and "flagged" [N]; and for each bound "returned, ..."
    and "unsafe, ...", returned with a mean cost above the limit, [tests of all policies].

    "harmful, ...": returned where harm by gold is above the limit.
    """
    limit, rates = config.shop.limit, {}
    for method in (START, *TRAINED):
        mine = [each for name, each in found.items() if name.rsplit(" ", 1)[0] == method]
        rows = {name: np.concatenate([each[name] for each in mine]) for name in ("harm", COST)}
        for k, bound in enumerate(BOUNDS):
            kept = [each["returned"][k] for each in mine]
            rows[f"returned, {bound}"] = np.concatenate(kept)
            for title, name in (("unsafe", COST), ("harmful", "harm")):
                above = [each[name].mean() > limit for each in mine]
                rows[f"{title}, {bound}"] = np.concatenate(
                    [hits & one for hits, one in zip(kept, above, strict=True)]
                )
        rates[method] = rows
    return rates


def shop_table(config: Config, found: Policies) -> Table:
    """Each policy, and then each method over its seeds."""
    rows = []
    for name, each in found.items():
        shares = [with_interval(each[column] > 0) for column in (COST, "harm")]
        kept = [f"{hits.sum()} of {hits.size}" for hits in each["returned"]]
        rows.append((name, f"{each['served'].mean():.3f}", *shares, *kept))
    for method, rates in policy_rates(config, found).items():
        shares = [with_interval(rates[column] > 0) for column in (COST, "harm")]
        kept = [with_interval(rates[f"returned, {bound}"]) for bound in BOUNDS]
        rows.append((f"{method}, all", "", *shares, *kept))
        for title in ("unsafe", "harmful"):
            wrong = [with_interval(rates[f"{title}, {bound}"]) for bound in BOUNDS]
            rows.append((f"{method}, returned and {title}", "", "", "", *wrong))
    sizes = config.shop
    return Table(
        f"The shop: a limit of {sizes.limit:g} on the share of flagged answers",
        ("policy", "reward", "flagged", "harmful", *(f"returned, {bound}" for bound in BOUNDS)),
        rows,
        note=f"{sizes.tests} tests of each policy, {sizes.test_size} answers each, delta "
        f"{sizes.delta:g}; exact 95% intervals. Unsafe: flagged above the limit; harmful: harm by "
        "gold above it.",
    )


def with_interval(hits: np.ndarray) -> str:
    """A share and its exact interval."""
    low, high = share_interval(hits)
    return f"{np.mean(hits):.3f} [{low:.3f}, {high:.3f}]"


def shop_figure(config: Config, found: Policies) -> Shown:
    """Costs and multipliers along training, and the shares of each policy."""
    sizes = config.shop
    steps = np.arange(1, sizes.rl_steps + 1)
    seeds = np.arange(sizes.seeds)
    panels = []
    for name, label, levels in (
        ("cost", "flagged answers of a step", {"limit": sizes.limit}),
        ("multiplier", "multiplier", {}),
    ):
        series = {
            method: band(
                steps,
                np.stack([found[f"{method} {seed}"][name] for seed in seeds]),
                centre="mean",
                spread="range",
            )
            for method in TRAINED
        }
        panels.append(Panel("", "update", label, series, levels=levels))
    for name, label in ((COST, "flagged, held out"), ("harm", "harmful, held out")):
        series = {}
        for method in TRAINED:
            units = [found[f"{method} {seed}"][name] > 0 for seed in seeds]
            low, high = np.transpose([share_interval(each) for each in units])
            means = [float(each.mean()) for each in units]
            series[method] = Series(seeds, means, low, high, "exact 95% interval")
        panels.append(Panel("", "seed", label, series, levels={"limit": sizes.limit}))
    return show_panels(
        panels,
        "Language: unsafe requests in the shop",
        f"Above: along training. Below: {sizes.tests * sizes.test_size} held-out answers of each "
        "policy, flagged by the cost model and harmful by gold.",
        "flagged answers fall below the limit with either method; where flagged and harmful "
        "differ, the cost model errs",
    )
