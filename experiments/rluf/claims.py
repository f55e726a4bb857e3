"""What is claimed of P[Love], of policies that are paid for it, and of trolls in its logs.

products, trolls: the arrays of `studies.product_study` and `troll_study`, products first.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.rluf.config import Config
from experiments.rluf.studies import MEASURES
from rlhf_jax.reports.claims import Claim, behind_gates
from rlhf_jax.reports.intervals import mean_claim, mean_interval

Arrays = Mapping[str, np.ndarray]
SPEC = "acceptance of this design, from a NumPy run of it"
MODERATE = 0.2  # weight of love that claims are about


def column(sweep: np.ndarray, name: str) -> np.ndarray:
    """One of MEASURES, [..., W]."""
    return sweep[..., MEASURES.index(name)]


def gains(sweep: np.ndarray, name: str) -> np.ndarray:
    """Relative to weight 0, [..., W]."""
    found = column(sweep, name)
    return found / found[..., :1] - 1.0


def promised(sweep: np.ndarray) -> np.ndarray:
    """Predicted gain minus live gain, [..., W]."""
    return gains(sweep, "predicted") - gains(sweep, "live")


def moderate(config: Config) -> int:
    """Place of the moderate weight."""
    return config.weights.index(MODERATE)


def all_claims(config: Config, products: Arrays, trolls: Arrays) -> list[Claim]:
    """In the order of the page."""
    return [
        *model_claims(config, products),
        *policy_claims(config, products),
        *confounding_claims(config, products),
        *constraint_claims(config, products),
        *troll_claims(config, trolls),
    ]


def model_claims(config: Config, products: Arrays) -> list[Claim]:
    """P[Love] as a classifier and as an offline evaluator."""
    auroc = products["blind/auroc"]
    words = f"AUROC of P[Love] on fresh messages, {config.messages:,} messages of logs"
    about: dict[str, Any] = {"kind": "paper", "interval": mean_interval(auroc)}
    about["source"] = "0.85 in its summary; 0.80 to 0.88 in this design"
    r = {name: products[f"{name}/correlations"][..., 0] for name in ("blind", "told", "shuffled")}
    chance = ("P[Love] of shuffled hearts", r["shuffled"][:, 0].mean())
    arms = f"Pearson's r of mean P[Love] and live rate, {config.arms} random policies"
    paper: dict[str, Any] = {
        "kind": "paper",
        "source": "0.95 in its summary, over live tests",
        "baseline": chance,
    }
    plain, shifted, full = products["intercepts"].T
    return [
        Claim(
            f"{words}, at least",
            auroc.mean(),
            ">=",
            0.80,
            baseline=("of shuffled hearts", products["shuffled/auroc"].mean()),
            **about,
        ),
        Claim(f"{words}, at most", auroc.mean(), "<=", 0.88, **about),
        mean_claim(f"{arms} of h, w, b, s", r["blind"][:, 0], ">=", 0.95, **paper),
        mean_claim(f"{arms} of h, w, s", r["blind"][:, 1], ">=", 0.95, **paper),
        mean_claim(f"{arms} of h, w, b, s, P[Love] told e", r["told"][:, 0], ">=", 0.95, **paper),
        mean_claim(
            f"|intercept - that of all messages|, {config.keep_rate:.0%} of those without a heart, "
            "shifted by log kappa",
            np.abs(shifted - full),
            "<=",
            0.1,
            kind="theorem",
            source="prior shift; 0.1 is the rounding of a few thousand hearts",
            baseline=("not shifted", np.abs(plain - full).mean()),
        ),
    ]


def policy_claims(config: Config, products: Arrays) -> list[Claim]:
    """What a moderate weight of love gives and costs, and what is promised."""
    sweep, at = products["blind/sweep"], moderate(config)
    told = products["told/sweep"]
    live, lost = gains(sweep, "live"), -gains(sweep, "help")
    steps, told_steps = (np.diff(promised(x)) for x in (sweep, told))
    return [
        mean_claim(
            f"Live gain of hearts at weight {MODERATE:g}",
            live[:, at],
            ">=",
            0.2,
            kind="paper",
            source="+28% at most in its summary; +20% in this design",
            baseline=("weight 0", 0.0),
        ),
        mean_claim(
            f"Helpfulness lost at weight {MODERATE:g}",
            lost[:, at],
            "<",
            0.1,
            kind="ours",
            source=SPEC,
            baseline=("weight 1", lost[:, -1].mean()),
        ),
        mean_claim(
            "Predicted minus live gain, the smallest of all weights above 0",
            promised(sweep)[:, 1:].min(-1),
            ">",
            0.01,
            kind="ours",
            source=f"{SPEC}: 3.4 points at weight 0.1; 1 point is beyond what hearts of the test "
            "can tell",
            baseline=("P[Love] told e", promised(told)[:, 1:].min(-1).mean()),
        ),
        mean_claim(
            "Predicted minus live gain, smallest step of its mean from one weight to the next",
            steps[:, steps.mean(0).argmin()],
            ">",
            0.0,
            kind="ours",
            source=f"{SPEC}: it grows with the weight",
            baseline=("P[Love] told e", told_steps.mean(0).min()),
        ),
        mean_claim(
            "Helpfulness at weight 1 as a share of that at 0, P[Love] told e",
            1.0 + gains(told, "help")[:, -1],
            "<",
            0.5,
            kind="ours",
            source=f"{SPEC}: a conflict of objectives, which is no reward hacking",
            baseline=(f"weight {MODERATE:g}", 1.0 + gains(told, "help")[:, at].mean()),
        ),
    ]


def confounding_claims(config: Config, products: Arrays) -> list[Claim]:
    """Closing phrases are credited with the end of the conversation."""
    coefficient = {name: products[f"{name}/closer"] for name in ("blind", "told")}
    closers = {name: 1 + gains(products[f"{name}/sweep"], "closer") for name in ("blind", "told")}
    gap = {name: np.abs(promised(products[f"{name}/sweep"])).max(-1) for name in ("blind", "told")}
    return [
        Claim(
            f"Smallest coefficient of the closing phrase in P[Love], {config.num_seeds} products",
            coefficient["blind"].min(),
            ">",
            0.5,
            kind="ours",
            source=f"{SPEC}: 1.2 on average, where the cause is at most 0",
            baseline=("P[Love] told e", coefficient["told"].min()),
        ),
        Claim(
            f"Largest coefficient of the closing phrase in P[Love] told e, {config.num_seeds} "
            "products",
            coefficient["told"].max(),
            "<",
            0.0,
            kind="ours",
            source=f"{SPEC}: -0.69 on average",
            baseline=("P[Love]", coefficient["blind"].max()),
        ),
        mean_claim(
            "Closing phrases at weight 1 over those at 0",
            closers["blind"][:, -1],
            ">=",
            3.0,
            kind="ours",
            source=f"{SPEC}: 3.3; the paper names 'Bye!'",
            baseline=("P[Love] told e", closers["told"][:, -1].mean()),
        ),
        mean_claim(
            "The same, P[Love] told e",
            closers["told"][:, -1],
            "<",
            1.0,
            kind="ours",
            source=f"{SPEC}: 0.44",
            baseline=("P[Love]", closers["blind"][:, -1].mean()),
        ),
        mean_claim(
            "Largest |predicted - live gain| of all weights, P[Love] told e",
            gap["told"],
            "<",
            0.05,
            kind="ours",
            source=f"{SPEC}: within 0.001; 0.05 for a few thousand hearts",
            baseline=("P[Love]", gap["blind"].mean()),
        ),
    ]


def constraint_claims(config: Config, products: Arrays) -> list[Claim]:
    """Limits in place of weights."""
    help_only, both = (column(products["constrained"], "help")[:, i] for i in (0, 1))
    unsafe = column(products["constrained"], "unsafe")
    free = column(products["blind/sweep"], "help")[:, -1]
    goal = config.least_help
    return [
        mean_claim(
            f"Most love with E h >= {goal:g}, {config.dual_steps} dual steps: |E h - {goal:g}|",
            np.abs(help_only - goal),
            "<=",
            0.005,
            kind="ours",
            source=f"{SPEC}: 1.2000",
            baseline=("no limit", np.abs(free - goal).mean()),
        ),
        mean_claim(
            "The same: unsafe answers, which no limit is set to",
            unsafe[:, 0],
            ">",
            0.03,
            kind="ours",
            source=f"{SPEC}: 0.054; what is left out of the limits is spent",
            baseline=("with a limit", unsafe[:, 1].mean()),
        ),
        mean_claim(
            f"With a second limit, E s <= {config.most_unsafe:g}: unsafe answers over it, and "
            "helpfulness below its own, the larger as a share of its limit",
            np.maximum(unsafe[:, 1] / config.most_unsafe - 1.0, 1.0 - both / goal),
            "<=",
            0.02,
            kind="ours",
            source="both limits are met",
            baseline=("the limit of help alone", (unsafe[:, 0] / config.most_unsafe).mean() - 1.0),
        ),
    ]


def troll_claims(config: Config, trolls: Arrays) -> list[Claim]:
    """What trolls cost, and what is left of it if users who disagree are dropped."""
    at, share = moderate(config), config.troll_shares[-1]
    live = gains(trolls["sweep"], "live")[..., at]  # [N, shares, 2]
    clean, raw, filtered = live[:, 0, 0], live[:, -1, 0], live[:, -1, 1]
    hits = trolls["dropped"][:, -1]
    return [
        mean_claim(
            f"Live gain at weight {MODERATE:g} that {share:.0%} trolls cost, as a share of that "
            "without trolls",
            1.0 - raw / clean,
            ">=",
            0.25,
            kind="ours",
            source="a quarter of it, or there is nothing to repair",
            baseline=("no trolls", 0.0),
        ),
        mean_claim(
            f"The same after users with an agreement below {config.drop_below:g} are dropped",
            1.0 - filtered / clean,
            "<=",
            0.1,
            kind="ours",
            source="nine tenths are kept",
            baseline=("no filter", (1.0 - raw / clean).mean()),
        ),
        mean_claim(
            f"Share of trolls that the filter drops, {share:.0%} trolls",
            hits[:, 0],
            ">=",
            0.8,
            kind="ours",
            source="most of them",
            baseline=("of honest users", hits[:, 1].mean()),
        ),
        mean_claim(
            "Share of honest users that it drops, no trolls",
            trolls["dropped"][:, 0, 1],
            "<=",
            0.05,
            kind="ours",
            source="2.3% of a standard normal law are below -2",
            baseline=(f"of trolls, {share:.0%} trolls", hits[:, 0].mean()),
        ),
    ]


def shop_claims(config: Config, shop: Arrays) -> list[Claim]:
    """The language panel, from the arrays of `shop.shop_study`; logs are the units."""
    sizes, values = config.shop, shop["values"]
    size = f"GRPO from the product's policy, {sizes.rl_steps} steps, {sizes.seeds} logs"
    predicted, live, helpful, goodbyes = np.moveaxis(values, -1, 0)
    start, none, low, full, blind = 0, 1, 2, -2, -1
    # By which P[Love] says that weight 1 has more hearts than weight 0, less what it has.
    lie = predicted[:, full] - predicted[:, none] - (live[:, full] - live[:, none])
    honest = predicted[:, blind] - shop["base"][:, 0] - (live[:, blind] - live[:, none])
    about: dict[str, Any] = {"kind": "paper", "source": "love rises, and goodbyes with it"}
    claims = [
        mean_claim(
            f"Shop: live hearts, weight {sizes.weights[1]:g} minus weight 0, {size}",
            live[:, low] - live[:, none],
            ">",
            0.0,
            baseline=("the start minus weight 0", float((live[:, start] - live[:, none]).mean())),
            **about,
        ),
        mean_claim(
            f"Shop: goodbyes, weight 1 minus weight 0, {size}",
            goodbyes[:, full] - goodbyes[:, none],
            ">",
            0.1,
            baseline=(
                "P[Love] that reads none",
                float((goodbyes[:, blind] - goodbyes[:, none]).mean()),
            ),
            **about,
        ),
        mean_claim(
            f"Shop: hearts promised less hearts got, weight 1 minus weight 0, {size}",
            lie,
            ">",
            0.0,
            baseline=("P[Love] that reads no goodbyes", float(honest.mean())),
            **about,
        ),
        mean_claim(
            f"Shop: help, weight 0 minus weight 1, {size}",
            helpful[:, none] - helpful[:, full],
            ">",
            0.0,
            kind="paper",
            source="a conflict of love and help",
            baseline=(
                "the start minus weight 0",
                float((helpful[:, start] - helpful[:, none]).mean()),
            ),
        ),
    ]
    return behind_gates([_heart_gate(config, shop)], claims)


def _heart_gate(config: Config, shop: Arrays) -> Claim:
    """P[Love] must tell hearts apart before anything is claimed of it."""
    return mean_claim(
        f"Shop: AUROC of P[Love] on another log, {config.shop.logs:,} messages",
        shop["auroc"][:, 0],
        ">=",
        0.6,
        kind="ours",
        source="a gate: a model that cannot tell hearts apart proves nothing; who knows the "
        f"law has {shop['auroc'][:, 2].mean():.3f}",
        baseline=("P[Love] that reads no goodbyes", shop["auroc"][:, 1].mean()),
    )
