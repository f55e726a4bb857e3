"""The plots and the page of rluf."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.rluf import CLAIM, PAPER
from experiments.rluf.claims import column, gains, moderate
from experiments.rluf.config import Config
from experiments.rluf.shop import SHOP_MEASURES
from rlhf_jax.reports.bands import band
from rlhf_jax.reports.claims import Claim, Table
from rlhf_jax.reports.pages import save_stages, show_panels, write_page
from rlhf_jax.reports.panels import Panel
from rlhf_jax.reports.plots import Series
from rlhf_jax.training import Run

Arrays = Mapping[str, np.ndarray]
MEAN: dict[str, Any] = {"centre": "mean", "spread": "t", "units": "products"}
NAMES = {"blind": "P[Love]", "told": "P[Love] told e"}


def write_report(
    job: Run,
    config: Config,
    stages: Mapping[str, Arrays],
    claims: Sequence[Claim],
    tables: Sequence[Table],
    *,
    shop: Arrays,
) -> None:
    """Saves the data and the figures, and writes report.html; `shop` may be {}."""
    save_stages(job.out, {**stages, **({"shop": shop} if shop else {})})
    products, trolls = stages["products"], stages["trolls"]
    figures = {
        "model": show_panels(
            model_panels(products),
            "P[Love] on fresh messages",
            f"{config.tests:,} fresh messages of each product in 100 groups of ascending P[Love]. "
            "Left: hearts found against others taken. Right: hearts against P[Love]; on the "
            "dashed line they are equal.",
            "the curve is well above chance and the points are on the diagonal",
        ),
        "arms": show_panels(
            arm_panels(config, products),
            "Offline evaluation",
            f"{config.arms} random policies of the first product. Left: they differ in all "
            "features; right: not in closing phrases.",
            "without differences in closing phrases P[Love] orders policies as live hearts do",
        ),
        "weights": show_panels(
            weight_panels(config, products),
            "The weight of love",
            "Optimal policies at each weight. Gains are relative to weight 0.",
            "gains that are predicted lie above live ones, unless P[Love] is told e",
        ),
        "trolls": show_panels(
            troll_panels(config, trolls),
            "Trolls",
            "Users who love what others do not, and react e times as often. Users are dropped "
            f"whose agreement with P[Love] is below {config.drop_below:g} standard deviations.",
            "the live gain falls with the share of trolls, and hardly with the filter",
        ),
    }
    if shop:
        figures["shop"] = show_panels(
            shop_panels(config, shop),
            "Language: a model of the shop",
            f"GRPO from the product's policy, {config.shop.rl_steps} steps, "
            f"{config.shop.seeds} logs. Left: hearts, promised and live. Right: goodbyes.",
            "what is promised rises above live hearts as goodbyes do",
        )
    write_page(
        job.out,
        CLAIM,
        lead="Hearts in the logs of a product train P[Love]; policies are paid for it beside help "
        "and safety.",
        paper=PAPER,
        claims=claims,
        figures=figures,
        tables=tables,
    )


def model_panels(products: Arrays) -> list[Panel]:
    """ROC and reliability, from quantiles of the score."""
    roc, points = {}, {}
    for key, name in NAMES.items():
        found = products[f"{key}/quantiles"]  # [N, Q, 2]
        hearts = found[..., 1].mean(0)[::-1]
        taken = np.concatenate([[0.0], np.cumsum(1 - hearts)]) / np.sum(1 - hearts)
        roc[name] = Series(taken, np.concatenate([[0.0], np.cumsum(hearts)]) / np.sum(hearts))
        ten = found.mean(0).reshape(20, -1, 2).mean(1)
        points[name] = Series(ten[:, 0], ten[:, 1])
    ends = np.array([0.0, 1.0])
    least = min(each.x.min() for each in points.values())
    most = max(each.x.max() for each in points.values())
    equal = {"equal": Series(np.array([least, most]), np.array([least, most]))}
    return [
        Panel("ROC", "others taken", "hearts found", roc, guides={"chance": Series(ends, ends)}),
        Panel("reliability", "P[Love]", "hearts", points, guides=equal, log_x=True, log_y=True),
    ]


def arm_panels(config: Config, products: Arrays) -> list[Panel]:
    """Live rate against prediction, by ascending prediction."""
    panels = []
    for i, title in enumerate(("weights of h, w, b, s", "weights of h, w, s")):
        series = {}
        for key, name in NAMES.items():
            arms = products[f"{key}/arms"][0, i]
            series[name] = Series(*arms[np.argsort(arms[:, 0])].T)
        most = max(each.x.max() for each in series.values())
        equal = {"equal": Series(np.array([0.0, most]), np.array([0.0, most]))}
        panels.append(Panel(title, "mean P[Love]", "live rate", series, guides=equal))
    return panels


def weight_panels(config: Config, products: Arrays) -> list[Panel]:
    """Gains, helpfulness, unsafe answers and closing phrases."""
    weights = np.array(config.weights)

    def curves(key: str) -> dict[str, Series]:
        sweep = products[f"{key}/sweep"]
        return {
            f"{each} gain": band(weights, gains(sweep, each), **MEAN)
            for each in ("predicted", "live")
        }

    def both(name: str) -> dict[str, Series]:
        return {
            words: band(weights, column(products[f"{key}/sweep"], name), **MEAN)
            for key, words in NAMES.items()
        }

    label = "weight of love"
    return [
        *(Panel(words, label, "gain", curves(key)) for key, words in NAMES.items()),
        Panel("helpfulness", label, "E h", both("help")),
        Panel("closing phrases", label, "share", both("closer")),
        Panel("unsafe answers", label, "share", both("unsafe")),
    ]


def troll_panels(config: Config, trolls: Arrays) -> list[Panel]:
    """Live gain and AUROC by the share of trolls."""
    shares, at = 100 * np.array(config.troll_shares), moderate(config)
    live = gains(trolls["sweep"], "live")[..., at]
    names = ("all users", "users who agree")

    def curves(found: np.ndarray) -> dict[str, Series]:
        return {name: band(shares, found[..., i], **MEAN) for i, name in enumerate(names)}

    return [
        Panel(f"live gain at weight {config.weights[at]:g}", "trolls, %", "gain", curves(live)),
        Panel("AUROC among honest users", "trolls, %", "AUROC", curves(trolls["auroc"])),
    ]


def shop_panels(config: Config, shop: Arrays) -> list[Panel]:
    """Hearts and goodbyes by the weight of love."""
    weights = config.shop.weights
    found = dict(zip(SHOP_MEASURES, np.moveaxis(shop["values"][:, 1:-1], -1, 0), strict=True))
    mean: dict[str, Any] = {"centre": "mean", "spread": "range", "units": "logs"}
    hearts = {name: band(weights, found[name], **mean) for name in ("predicted", "live")}
    goodbyes = {"P[Love]": band(weights, found["goodbyes"], **mean)}
    blind = {"no goodbyes read, weight 1": float(shop["values"][:, -1, 3].mean())}
    return [
        Panel("hearts", "weight of love", "P(heart)", hearts),
        Panel("goodbyes", "weight of love", "share of answers", goodbyes, levels=blind),
    ]
