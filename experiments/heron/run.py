"""HERON: does a ranking of factors do what a tuned weighted sum does, in any units?"""

from collections.abc import Callable, Mapping

import jax
import numpy as np

from experiments.heron.choices import RANKINGS, ranking_study, scale_study
from experiments.heron.config import Config
from experiments.heron.report import write_report
from experiments.heron.swing_up import sums, train_on_heron, train_on_sums
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.training import Run, run_stage

Arrays = Mapping[str, np.ndarray]
LAST = 5  # one part in so many of the rounds counts as the end of training


def run(config: Config, job: Run) -> Outcome:
    """Part A: units; part B: rankings and margins; part C: the pendulum."""

    def double(name: str, work: Callable[[Config], dict[str, np.ndarray]]) -> Arrays:
        def stage(_):
            with jax.enable_x64(True):
                return work(config), {}

        return run_stage(job, name, stage).arrays

    def single(name: str, work: Callable) -> Arrays:
        key = jax.random.key(config.seed)
        return run_stage(job, name, lambda _: (work(config.swing_up, key), {})).arrays

    scales, rankings = double("scales", scale_study), double("rankings", ranking_study)
    summed, learnt = single("sums", train_on_sums), single("heron", train_on_heron)
    returns = dict(zip(sums(config.swing_up), summed["return"], strict=True))
    returns["HERON, odd unit"] = learnt["return"]
    ends = {name: end(curves) for name, curves in returns.items()}
    claims = [*scale_claims(config, scales), *ranking_claims(config, rankings), *claims_of(ends)]
    table = returns_table(config, ends, learnt["return"][:, 0])
    stages = {"scales": scales, "rankings": rankings, "sums": summed, "heron": learnt}
    write_report(job, config, stages, returns, claims, table)
    return Outcome(claims, numbers=summary(stages), table=table)


def scale_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """Part A: factor 2 in other units."""
    usual, largest = config.scales.index(1.0), np.argmax(config.scales)
    first = arrays["HERON"][..., 0].mean(1)
    summed = arrays["weighted sum"][..., 0].mean(1)
    return [
        Claim(
            "HERON: relative change of z1 with the scale of factor 2",
            np.abs(first / first[usual] - 1).max(),
            "<=",
            0.01,
        ),
        Claim("HERON: share of labels that change", arrays["flipped"].max(), "==", 0),
        Claim(
            f"weighted sum: relative fall of z1 at scale {config.scales[largest]:g}",
            1 - summed[largest] / summed[usual],
            ">=",
            1.0,
        ),
    ]


def ranking_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """Part B: the ranking decides, the margins trade."""
    small = np.asarray(config.sigmas) <= 1
    means = arrays["chosen"].mean(2)
    leads = means[:, small, 0] - means[:, small, 1]
    return [
        Claim("ranking 1, 2, 3: least z1 - z2 for sigma <= 1", leads[0].min(), ">", 0),
        Claim("ranking 2, 1, 3: least z2 - z1 for sigma <= 1", (-leads[1]).min(), ">", 0),
        Claim(
            "ranking 1, 2, 3: largest step of z1 as sigma rises",
            np.diff(means[0, :, 0]).max(),
            "<",
            0,
        ),
        Claim("labels that odd units leave alone, least share", arrays["same"].min(), ">=", 0.9999),
    ]


def claims_of(ends: Mapping[str, np.ndarray]) -> list[Claim]:
    """Part C: true returns [seeds] at the end of training."""
    heron, odd = ends["HERON, odd unit"], ends["weighted sum, odd unit"]
    return [
        Claim(
            "pendulum: largest shortfall of HERON from the true reward, over seeds",
            shortfall(ends, "HERON, odd unit").max(),
            "<=",
            0.15,
        ),
        Claim(
            "pendulum: least lead of HERON over the sum in the odd unit, over seeds",
            (heron - odd).min(),
            ">",
            0,
        ),
    ]


def end(curves: np.ndarray) -> np.ndarray:
    """Mean over the last rounds, of curves [..., rounds]."""
    return curves[..., -max(1, curves.shape[-1] // LAST) :].mean(-1)


def shortfall(ends: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """Relative to training on the true reward, seed by seed; returns are negative."""
    truth = ends["true reward"]
    return (truth - ends[name]) / np.abs(truth)


def returns_table(config: Config, ends: Mapping[str, np.ndarray], untrained: np.ndarray) -> Table:
    """Methods as rows."""

    def row(name: str, values: np.ndarray, last: str | None) -> tuple[str | None, ...]:
        return (name, *(f"{f(values):.0f}" for f in (np.mean, np.min, np.max)), last)

    rows = [row(name, ends[name], f"{shortfall(ends, name).max():.3f}") for name in ends]
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
