"""Where does best-of-B with a KL prior end, which rates does it bear, and what does it cost?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.superhf import claims, exact, learners
from experiments.superhf.config import Config
from experiments.superhf.report import write_report
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """Closed forms, rates, early stopping."""
    works = {
        "fixed points": partial(exact.run_fixed_points, config),
        "masses": partial(exact.run_masses, config),
        "frozen": partial(exact.run_frozen, config),
        "rates": partial(learners.run_rates, config, hack=config.hack),
        "absent": partial(learners.run_rates, config, hack=config.absent),
        "early": partial(learners.run_early, config),
    }
    folders = {name: name.replace(" ", "-") for name in works}
    stages = run_stages(job, {folders[name]: work for name, work in works.items()}, x64=True)
    found = {name: stages[folder] for name, folder in folders.items()}
    made = [
        *claims.exact_claims(config, found),
        claims.calibration_claim(config, found["fixed points"]),
        *claims.rate_claims(config, found["rates"]),
        *claims.cost_claims(config, found["rates"], found["absent"], found["early"]),
    ]
    tables = [beta_table(config, found["fixed points"]), rate_table(config, found)]
    write_report(job, config, found, made, tables)
    return Outcome(made, summary(config, found), tables[0])


def beta_table(config: Config, points: Mapping[str, np.ndarray]) -> Table:
    """Means over worlds by beta."""
    names = ("proxy", "gold", "hack", "collision", "calibration", "kl")
    return Table(
        f"Online fixed points, B = {config.samples}, means of {config.num_seeds} worlds",
        ("beta", *names),
        [
            (f"{beta:g}", *(points[name][:, i].mean() for name in names))
            for i, beta in enumerate(config.betas)
        ],
        note="hack: mass on the overrated answer; kl: KL(pi_0 || pi), nats",
    )


def rate_table(config: Config, found: Mapping[str, Mapping]) -> Table:
    """Proxy and gold gained, by method and rate."""
    rows = []
    for study, words in (("rates", ""), ("absent", ", never met")):
        for name, runs in found[study].items():
            for measure in ("proxy", "gold"):
                gain = (runs[measure][..., -1] - runs[measure][..., 0]).mean(0)
                rows.append((f"{name}{words}: {measure}", *gain))
    return Table(
        f"Gained after {config.superbatches} superbatches, means of {config.num_seeds} worlds",
        ("rate", *(f"{rate:g}" for rate in config.rates)),
        rows,
        note="never met: the overrated answer has no mass",
    )


def summary(config: Config, found: Mapping[str, Mapping]) -> dict:
    """Means over worlds."""
    points = {name: x.mean(0).tolist() for name, x in found["fixed points"].items()}
    early = {
        name: {m: runs[m][..., -1].mean(0).tolist() for m in ("gold", "proxy", "hack", "collision")}
        for name, runs in found["early"].items()
    }
    trained = {
        study: {
            name: {m: runs[m][..., -1].mean(0).tolist() for m in ("gold", "proxy", "hack")}
            for name, runs in found[study].items()
        }
        for study in ("rates", "absent")
    }
    masses = {name: np.mean(np.atleast_2d(x), 0).tolist() for name, x in found["masses"].items()}
    return (
        {"betas": list(config.betas), "fixed points": points, "early": early}
        | trained
        | {"masses": masses}
    )
