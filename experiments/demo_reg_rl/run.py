"""Near the expert: how good is a clone, what does it save, does it replace pessimism?

Data lie in data/<stage>.npz; their axes are in the docstrings of the stages.
"""

from collections.abc import Mapping

import numpy as np

from experiments.demo_reg_rl.cloning import clone_kls, linear_kls
from experiments.demo_reg_rl.config import Config
from experiments.demo_reg_rl.feedback import feedback_gaps
from experiments.demo_reg_rl.linear import linear_runs
from experiments.demo_reg_rl.online import fast_rate, lock_runs, references
from experiments.demo_reg_rl.report import write_report
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim
from rlhf_jax.reports.rates import Rate, fit_rate
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]
CLONE_SLOPES = (-1.05, -0.85)
FAST_SLOPE, FAST_BETAS = -0.8, (0.5, 0.1)
LOCK_SHARE = 0.2  # of the gap without demonstrations, with the most of them
FEEDBACK_SHARE, FEEDBACK_BETA = 0.75, 0.5
FEEDBACK_PAIRS = (30, 100, 300, 1000)


def run(config: Config, job: Run) -> Outcome:
    """Clones, online learning on random MDPs and on locks, rewards from comparisons."""
    stages = {
        "cloning": lambda: clone_kls(config),
        "linear": lambda: linear_kls(config),
        "fast": lambda: fast_rate(config),
        "lsvi": lambda: linear_runs(config),
        "lock": lambda: lock_runs(config),
        "feedback": lambda: feedback_gaps(config),
    }
    found = run_stages(job, stages)
    rates = {beta: fast_slope(found["fast"], i) for i, beta in enumerate(config.betas)}
    claims = [
        *clone_claims(config, found["cloning"]),
        *fast_claims(rates),
        *lock_claims(config, found["lock"]),
        *feedback_claims(config, found["feedback"]),
    ]
    table = lock_table(config, found["lock"])
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers=summary(config, found, rates), table=table)


def clone_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """KL to the expert falls like 1 / N."""
    rate = fit_rate(config.demos, arrays["kl"], law="power")
    return [
        *Claim.within(
            "cloning: slope of KL(expert || clone) in N",
            rate.slope,
            *CLONE_SLOPES,
            kind="theorem",
            source="bound of behaviour cloning, 1 / N",
            interval=(rate.low, rate.high),
        )
    ]


def fast_slope(arrays: Arrays, index: int, *, name: str = "soft optimistic") -> Rate:
    """Slope of a regularised gap of one beta, at episodes that double."""
    doubled = [2**i - 1 for i in range(6)]
    gaps = arrays[name][index][:, doubled]
    return fit_rate(arrays["episodes"][doubled], gaps, law="power")


def fast_claims(rates: Mapping[float, Rate]) -> list[Claim]:
    """1 / T instead of 1 / sqrt T, and faster where the penalty is larger."""
    claims = [
        Claim(
            f"fast rate, beta = {beta:g}: slope of the regularised gap, upper bound's policy",
            rates[beta].slope,
            "<=",
            FAST_SLOPE,
            kind="theorem",
            source="fast rate of UCBVI-Ent+, 1 / T",
            interval=(rates[beta].low, rates[beta].high),
        )
        for beta in FAST_BETAS
    ]
    more, less = (rates[beta].slopes for beta in FAST_BETAS)
    name = "fast rate: slope at beta = {:g} less that at {:g}".format(*FAST_BETAS)
    return [
        *claims,
        mean_claim(name, more - less, "<=", 0.0, kind="ours", source="seen in a trial"),
    ]


def lock_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """Demonstrations save episodes, for either policy that a plan offers."""
    times = np.asarray(config.lock_times) - 1
    policies = {
        "soft greedy in the upper bound (the theory's)": ("optimistic", "theorem"),
        "soft greedy in the empirical model": ("regret", "ours"),
    }
    most = config.lock_demos[-1]
    return [
        bootstrap_claim(
            f"lock, {policy}: mean gap with N = {most} over that without demonstrations",
            lambda gaps: float(gaps[:, -1].mean() / gaps[:, 0].mean()),
            [arrays[name][..., times].mean(-1)],
            "<=",
            LOCK_SHARE,
            kind=kind,
            source="demonstrations save episodes, 1 / (eps^2 N)",
        )
        for policy, (name, kind) in policies.items()
    ]


def lock_means(config: Config, arrays: Arrays) -> dict[str, np.ndarray]:
    """[references] gaps, means over seeds and the episodes asked for."""
    times = np.asarray(config.lock_times) - 1
    return {name: arrays[name][..., times].mean((0, 2)) for name in ("regret", "optimistic")}


def feedback_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """The penalised policy is better than the unpenalised one and than the clone."""
    chosen = config.penalties.index(FEEDBACK_BETA)

    def share(gaps: np.ndarray, clone: np.ndarray) -> float:
        means = gaps.mean(0)
        return float(means[chosen] / min(means[0], clone.mean()))

    return [
        bootstrap_claim(
            f"feedback, {count} pairs: mean gap at beta = {FEEDBACK_BETA:g} over the lesser of beta"
            " = 0 and the clone",
            share,
            [arrays["gap"][:, i], arrays["clone"]],
            "<=",
            FEEDBACK_SHARE,
            kind="ours",
            source="no pessimism is needed; a quarter better",
        )
        for i, count in enumerate(config.pairs)
        if count in FEEDBACK_PAIRS
    ]


def lock_table(config: Config, arrays: Arrays) -> Table:
    """References as rows, gaps as columns."""
    means = lock_means(config, arrays)
    times = np.asarray(config.lock_times) - 1
    rows = []
    for i, name in enumerate(references(config)):
        gaps = arrays["regret"][:, i].mean(0)[times]
        known = [arrays[key][:, i].mean() for key in ("kl", "beta", "clone")]
        rows.append((name, *known, *gaps, means["regret"][i], means["optimistic"][i]))
    return Table(
        "Combination lock: V* - V",
        (
            *("reference", "KL(expert || ref)", "beta", "reference alone"),
            *(f"T = {time}" for time in config.lock_times),
            *("mean", "mean, optimistic policy"),
        ),
        rows,
        note=f"means over {config.num_seeds} locks; soft greedy in the empirical model, in "
        "the last column soft greedy in the upper bound",
    )


def summary(config: Config, found: Mapping[str, Arrays], rates: Mapping[float, Rate]) -> dict:
    """Constants of cloning, slopes with intervals, gaps of learned rewards."""
    cloning, linear, feedback = (found[name] for name in ("cloning", "linear", "feedback"))
    clones = fit_rate(config.demos, cloning["kl"], law="power")
    return {
        "cloning slope": [clones.slope, clones.low, clones.high],
        "cloning slopes, range": [clones.slopes.min(), clones.slopes.max()],
        "N KL of tables": (cloning["kl"] * np.asarray(config.demos)).mean(0).tolist(),
        "limit for tables": cloning["limit"].mean(),
        "N KL of the log-linear class": (linear["kl"] * np.asarray(config.log_linear)).mean(0),
        "limit for the log-linear class": float(linear["limit"]),
        "fast rate": {f"{beta:g}": [r.slope, r.low, r.high] for beta, r in rates.items()},
        "fast rate, model's policy": {
            f"{beta:g}": fast_slope(found["fast"], i, name="soft regret").slope
            for i, beta in enumerate(config.betas)
        },
        "fast rate, linear MDPs": {
            f"{beta:g}": fast_slope(found["lsvi"], i).slope for i, beta in enumerate(config.betas)
        },
        "feedback": feedback["gap"].mean(0).tolist(),
        "feedback, clone": feedback["clone"].mean(),
        "feedback, true rewards at beta = 0.5": feedback["true"].mean(),
        "feedback, largest gradient left": feedback["residual"].max(),
    }
