"""What does a reward for hearts give, what does it cost, and when does it lie?"""

from functools import partial

import numpy as np

from experiments.rluf.claims import all_claims, column, gains, moderate, promised, shop_claims
from experiments.rluf.config import Config
from experiments.rluf.report import write_report
from experiments.rluf.shop import AREAS, SHOP_MEASURES, policies, shop_study
from experiments.rluf.studies import MEASURES, VARIANTS, product_study, troll_study
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.reports.intervals import mean_text
from rlhf_jax.training import Run, run_stages

Arrays = dict[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """P[Love] of every product, policies, trolls, with `panel` the shop; claims; the report."""
    stages = run_stages(
        job,
        {"products": partial(product_study, config), "trolls": partial(troll_study, config)},
    )
    products, trolls = stages["products"], stages["trolls"]
    claims, table = all_claims(config, products, trolls), weight_table(config, products)
    tables, shop = [table, troll_table(config, trolls)], {}
    if config.panel:
        shop = shop_study(config, job)
        claims += shop_claims(config, shop)
        tables.append(shop_table(config, shop))
    write_report(job, config, stages, claims, tables, shop=shop)
    found = {name: x.tolist() for name, x in shop.items()}
    return Outcome(claims, summary(config, products, trolls) | {"shop": found}, table)


def summary(config: Config, products: Arrays, trolls: Arrays) -> dict:
    """Means over products; r and what is promised beyond the live gain, told e, of each."""
    at, told = moderate(config), promised(products["told/sweep"])
    return {
        "r by product": {
            name: products[f"{name}/correlations"][..., 0].T.tolist() for name in VARIANTS
        },
        "promised at weight 1, told e, by product": told[:, -1].tolist(),
        "auroc": {name: float(products[f"{name}/auroc"].mean()) for name in VARIANTS},
        "closer": {name: float(products[f"{name}/closer"].mean()) for name in VARIANTS},
        "correlations": {
            name: products[f"{name}/correlations"].mean(0).tolist() for name in VARIANTS
        },
        "sweep": {name: products[f"{name}/sweep"].mean(0).tolist() for name in VARIANTS},
        "constrained": products["constrained"].mean(0).tolist(),
        "multipliers": products["multipliers"].mean(0).tolist(),
        "intercepts": products["intercepts"].mean(0).tolist(),
        "rates": products["blind/rates"].mean(0).tolist(),
        "trolls": {
            "auroc": trolls["auroc"].mean(0).tolist(),
            "live gain": gains(trolls["sweep"], "live")[..., at].mean(0).tolist(),
            "dropped": trolls["dropped"].mean(0).tolist(),
        },
    }


def weight_table(config: Config, products: Arrays) -> Table:
    """Gains and features by the weight of love, for P[Love] and for the one that is told e."""
    rows = []
    for name, words in (("blind", "P[Love]"), ("told", "P[Love] told e")):
        sweep = products[f"{name}/sweep"]
        columns = [gains(sweep, "predicted"), gains(sweep, "live")]
        columns += [column(sweep, each) for each in MEASURES[2:]]
        means = np.stack([x.mean(0) for x in columns], axis=-1)
        rows += [(f"{words}, {w:g}", *row) for w, row in zip(config.weights, means, strict=True)]
    return Table(
        f"By the weight of love, means of {config.num_seeds} products",
        ("reward, weight", "predicted gain", "live gain", "helpful", "unsafe", "closing"),
        rows,
        note="gains are relative to weight 0",
    )


def troll_table(config: Config, trolls: Arrays) -> Table:
    """With and without the filter."""
    at = moderate(config)
    live, auroc = gains(trolls["sweep"], "live")[..., at].mean(0), trolls["auroc"].mean(0)
    dropped = trolls["dropped"].mean(0)
    return Table(
        f"Trolls, means of {config.num_seeds} products",
        ("share", "AUROC", "filtered", "live gain", "filtered", "trolls dropped", "others dropped"),
        [
            (f"{share:.0%}", auroc[i, 0], auroc[i, 1], live[i, 0], live[i, 1], *dropped[i])
            for i, share in enumerate(config.troll_shares)
        ],
        note=f"live gain at weight {config.weights[at]:g}; AUROC among honest users",
    )


def shop_table(config: Config, shop: Arrays) -> Table:
    """The start and every policy, with intervals over seeds."""
    names = ("the start", *policies(config.shop))
    rows = []
    for name, found in zip(names, np.moveaxis(shop["values"], 1, 0), strict=True):
        rows.append((name, *(mean_text(x) for x in found.T)))
    areas = ", ".join(
        f"{name} {x:.3f}" for name, x in zip(AREAS, shop["auroc"].mean(0), strict=True)
    )
    return Table(
        f"Shop: means of {config.shop.seeds} seeds [95%]",
        ("policy", *SHOP_MEASURES),
        rows,
        note="AUROC of P[Love] by the answers it reads, of who knows the law of the log, of what "
        f"answers are worth, of goodbyes alone: {areas}",
    )
