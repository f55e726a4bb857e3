"""Nash-MD and its baselines: does the last policy converge, and how far from where it should?"""

from collections.abc import Mapping

import numpy as np

from experiments.nlhf import judges
from experiments.nlhf.claims import (
    bound_claims,
    floor_claims,
    hedge_claims,
    judge_claims,
    log_kl,
    mixture_claims,
    nash_md_rates,
    rival_claims,
    slope_claims,
)
from experiments.nlhf.config import Config
from experiments.nlhf.mixture import NAMES, exact_gaps, sampled_gaps
from experiments.nlhf.report import write_report
from experiments.nlhf.tables import GAMES, decaying_curves, fixed_curves, hedge_ends, rival_ends
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.reports.rates import Rate
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]
START = 1000  # of the fitted slopes


def run(config: Config, job: Run) -> Outcome:
    """Exact runs on four games, samples on one, and three types of judge."""
    stages = {
        "decaying": lambda: decaying_curves(config),
        "fixed": lambda: fixed_curves(config),
        "rivals": lambda: rival_ends(config),
        "hedge": lambda: hedge_ends(config),
        "mixture": lambda: sampled_gaps(config) | {"exact": exact_gaps(config)},
        "judges": judges.solutions,
    }
    found = run_stages(job, stages)
    rates = nash_md_rates(found["decaying"])
    claims = [
        *bound_claims(config, found["decaying"]),
        *slope_claims(config, rates, found["fixed"]),
        *rival_claims(config, found["rivals"]),
        *hedge_claims(found["hedge"]),
        *floor_claims(found["fixed"]),
        *mixture_claims(found["mixture"]),
        *judge_claims(found["judges"]),
    ]
    table, numbers = summary(config, found, rates)
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers=numbers, table=table)


def summary(
    config: Config, found: Mapping[str, Arrays], rates: Mapping[str, Rate]
) -> tuple[Table, dict]:
    """Games as rows; the opponents' gaps and Hedge's ends among the numbers."""
    curves, fixed = found["decaying"], found["fixed"]
    rows = []
    for column, game in enumerate(GAMES):
        ends = [curves[f"{name}/kl"][:, column, :, -1] for name in ("Nash-MD", "OMD")]
        small, large = np.median(fixed["Nash-MD"][:, column, :, -1], axis=-1)
        rate = rates[game]
        rows.append(
            (
                game,
                *np.abs(np.median(np.concatenate(ends), axis=-1)),
                f"{rate.slope:.3f} [{rate.low:.3f}, {rate.high:.3f}]",
                large / small,
            )
        )
    headers = [f"{name}, {beta:g}" for name in ("Nash-MD", "OMD") for beta in config.betas]
    table = Table(
        f"KL to the regularised Nash policy after {config.steps} updates",
        ("game", *headers, "slope of Nash-MD [95%]", "growth of its floor"),
        rows,
        note=f"medians over {config.num_seeds} seeds; slope from t = {START}, "
        f"beta = {config.betas[0]:g}; floors of constant steps {config.fixed_etas}",
    )
    mixture = found["mixture"]
    numbers = {
        "mixture gaps": dict(zip(NAMES, mixture["late"].mean(-1).tolist(), strict=True)),
        "mixture gaps, exact gradient": dict(
            zip(NAMES, mixture["exact"][:, -1].tolist(), strict=True)
        ),
        "hedge": {name: value.tolist() for name, value in found["hedge"].items()},
        "bound": curves["Nash-MD/bound"].max(-1).tolist(),
        "rivals, log10 KL": {
            name: log_kl(values).mean(-1).tolist() for name, values in found["rivals"].items()
        },
    }
    return table, numbers
