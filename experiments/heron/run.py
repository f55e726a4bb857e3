"""HERON: does a ranking of factors do what the true weights do, in any units?"""

from collections.abc import Mapping
from functools import partial

import jax
import numpy as np

from experiments.heron.choices import RANKINGS, ranking_study, scale_study
from experiments.heron.config import Config
from experiments.heron.report import write_report
from experiments.heron.swing_up import sums, train_on_heron, train_on_sums
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]
LAST = 5  # one part in so many of the rounds counts as the end of training


def run(config: Config, job: Run) -> Outcome:
    """Part A: units; part B: rankings and margins; part C: the pendulum."""

    key, size = jax.random.key(config.seed), config.swing_up
    choices = {
        "scales": partial(scale_study, config),
        "rankings": partial(ranking_study, config),
    }
    trained = {
        "sums": partial(train_on_sums, size, key),
        "heron": partial(train_on_heron, size, key),
    }
    stages = run_stages(job, choices, x64=True) | run_stages(job, trained)
    summed, learnt = stages["sums"], stages["heron"]
    returns = dict(zip(sums(config.swing_up), summed["return"], strict=True))
    returns["HERON, odd unit"] = learnt["return"]
    ends = {name: end(curves) for name, curves in returns.items()}
    untrained = learnt["return"][:, 0]
    claims = [
        *scale_claims(config, stages["scales"]),
        *ranking_claims(config, stages["rankings"]),
        *pendulum_claims(ends, untrained),
    ]
    table = returns_table(config, ends, untrained)
    write_report(job, config, stages, returns, claims, table)
    return Outcome(claims, numbers=summary(stages), table=table)


def scale_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """Part A: factor 2 in other units, over seeds."""
    usual, largest = config.scales.index(1.0), int(np.argmax(config.scales))

    def fall(chosen: np.ndarray) -> float:
        means = chosen[:, :, 0].mean(0)
        return float(1 - means[largest] / means[usual])

    # Seeds first: they are the units.
    summed, heron = (np.moveaxis(arrays[name], 1, 0) for name in ("weighted sum", "HERON"))
    return [
        bootstrap_claim(
            f"weighted sum, factor 2 times {config.scales[largest]:g}: relative fall of mean z1",
            fall,
            [summed],
            ">=",
            1.0,
            kind="paper",
            source="a weighted sum hangs on its units",
            baseline=("HERON", fall(heron)),
        )
    ]


def ranking_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """Part B: the ranking decides, the margins trade. The worst sigma by its mean over seeds."""
    small = np.asarray(config.sigmas) <= 1
    chosen = arrays["chosen"]  # [rankings, sigmas, seeds, factors]
    leads = (chosen[..., 0] - chosen[..., 1])[:, small]
    steps = np.diff(chosen[0, :, :, 0], axis=0)
    about = {"kind": "ours", "source": "the tree decides by the first factor that differs enough"}
    return [
        mean_claim(
            "ranking 1, 2, 3: least lead of z1 over z2, of sigma <= 1",
            lowest(leads[0]),
            ">",
            0,
            baseline=("ranking 2, 1, 3", lowest(leads[1]).mean()),
            **about,
        ),
        mean_claim(
            "ranking 2, 1, 3: least lead of z2 over z1, of sigma <= 1",
            lowest(-leads[1]),
            ">",
            0,
            baseline=("ranking 1, 2, 3", lowest(-leads[0]).mean()),
            **about,
        ),
        mean_claim(
            "ranking 1, 2, 3: largest step of z1 from one sigma to the next",
            -lowest(-steps),
            "<",
            0,
            kind="ours",
            source="margins trade the first factor for the others",
        ),
    ]


def lowest(values: np.ndarray) -> np.ndarray:
    """The row of [rows, seeds] with the least mean."""
    return values[values.mean(-1).argmin()]


def pendulum_claims(ends: Mapping[str, np.ndarray], untrained: np.ndarray) -> list[Claim]:
    """Part C: true returns [seeds] at the end of training. The first is the gate of the others:
    where nobody learns, everybody is close to everybody."""
    heron, truth = ends["HERON, odd unit"], ends["true reward"]
    paper = {"kind": "paper", "source": "as good as engineered rewards, robust to their scale"}
    return [
        mean_claim(
            "pendulum, true reward: mean true return",
            truth,
            ">=",
            -200,
            kind="ours",
            source="the task is learnt; 0 at best",
            baseline=("untrained", untrained.mean()),
        ),
        mean_claim(
            "pendulum, HERON in the odd unit: mean shortfall from the true reward",
            shortfall(truth, heron),
            "<=",
            0.15,
            baseline=("untrained", shortfall(truth, untrained).mean()),
            **paper,
        ),
        mean_claim(
            "pendulum: lead of HERON over the weighted sum, both in the odd unit",
            heron - ends["weighted sum, odd unit"],
            ">",
            0,
            **paper,
        ),
    ]


def end(curves: np.ndarray) -> np.ndarray:
    """Mean over the last rounds, of curves [..., rounds]."""
    return curves[..., -max(1, curves.shape[-1] // LAST) :].mean(-1)


def shortfall(truth: np.ndarray, returns: np.ndarray) -> np.ndarray:
    """Relative to training on the true reward, seed by seed; returns are negative."""
    return (truth - returns) / np.abs(truth)


def returns_table(config: Config, ends: Mapping[str, np.ndarray], untrained: np.ndarray) -> Table:
    """Methods as rows."""

    def row(name: str, values: np.ndarray, last: str | None) -> tuple[str | None, ...]:
        return (name, *(f"{f(values):.0f}" for f in (np.mean, np.min, np.max)), last)

    truth = ends["true reward"]
    rows = [row(name, each, f"{shortfall(truth, each).max():.3f}") for name, each in ends.items()]
    rows.append(row("nothing yet", untrained, None))
    size = config.swing_up
    return Table(
        f"Pendulum: true return at the end of training, {size.num_seeds} seeds",
        ("trained on", "mean", "worst seed", "best seed", "largest shortfall"),
        rows,
        note=f"mean over the last rounds, one in {LAST} of {size.warmup + size.rounds}; odd unit: "
        f"u^2 times {size.unit:g}",
    )


def summary(stages: Mapping[str, Arrays]) -> dict:
    """Means over seeds: chosen factors, shares decided at each level."""
    scales, rankings, learnt = stages["scales"], stages["rankings"], stages["heron"]
    methods = ("HERON", "weighted sum", "standardised sum")
    return {
        "scales": {name: scales[name].mean(1).tolist() for name in methods},
        "rankings": dict(zip(RANKINGS, rankings["chosen"].mean(2).tolist(), strict=True)),
        "decided": (1 - rankings["levels"][0, ..., -1].mean(1)).tolist(),
        "pendulum": {
            name: end(learnt[name]).mean().item() for name in ("return", "decided", "accuracy")
        },
    }
