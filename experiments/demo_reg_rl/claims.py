"""What demo_reg_rl claims; the unit is an MDP with its data."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from experiments.demo_reg_rl.config import Config
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim
from rlhf_jax.reports.rates import Rate, fit_rate

Arrays = Mapping[str, np.ndarray]
CLONE_SLOPES = (-1.05, -0.85)
FAST_SLOPE, FAST_BETAS = -0.8, (0.5, 0.1)
LOCK_SHARE = 0.2  # of the gap without demonstrations, with the most of them
FEEDBACK_SHARE, FEEDBACK_BETA = 0.75, 0.5
FEEDBACK_PAIRS = (30, 100, 300, 1000)
AIMLESS = "as many episodes of the uniform policy"


def clone_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """KL to the expert falls like 1 / N."""
    rate = fit_rate(config.demos, arrays["kl"], law="power")
    constant = fit_rate(config.demos, arrays["kl, constant share"], law="power")
    least, most = Claim.within(
        "cloning: slope of KL(expert || clone) in N",
        rate.slope,
        *CLONE_SLOPES,
        kind="theorem",
        source="bound of behaviour cloning, 1 / N",
        interval=(rate.low, rate.high),
    )
    return [least, replace(most, baseline=("a tenth of the uniform policy", constant.slope))]


def fast_slope(arrays: Arrays, index: int, *, name: str = "soft optimistic") -> Rate:
    """Slope of a regularised gap of one beta, at episodes that double."""
    doubled = [2**i - 1 for i in range(6)]
    gaps = arrays[name][index][:, doubled]
    return fit_rate(arrays["episodes"][doubled], gaps, law="power")


def fast_claims(arrays: Arrays, betas: tuple[float, ...]) -> list[Claim]:
    """1 / T instead of 1 / sqrt T, and faster where the penalty is larger."""
    rates, aimless = (
        {beta: fast_slope(arrays, i, name=name) for i, beta in enumerate(betas)}
        for name in ("soft optimistic", "aimless")
    )
    claims = [
        Claim(
            f"fast rate, beta = {beta:g}: slope of the regularised gap, upper bound's policy",
            rates[beta].slope,
            "<=",
            FAST_SLOPE,
            kind="theorem",
            source="fast rate of UCBVI-Ent+, 1 / T",
            interval=(rates[beta].low, rates[beta].high),
            baseline=(AIMLESS, aimless[beta].slope),
        )
        for beta in FAST_BETAS
    ]
    more, less = (rates[beta].slopes for beta in FAST_BETAS)
    change = aimless[FAST_BETAS[0]].slope - aimless[FAST_BETAS[1]].slope
    name = "fast rate: slope at beta = {:g} less that at {:g}".format(*FAST_BETAS)
    return [
        *claims,
        mean_claim(
            name,
            more - less,
            "<=",
            0.0,
            kind="ours",
            source="seen in a trial",
            baseline=(AIMLESS, change),
        ),
    ]


def lock_claims(config: Config, arrays: Arrays) -> list[Claim]:
    """Demonstrations save episodes, for either policy that a plan offers."""
    times = np.asarray(config.lock_times) - 1
    policies = {
        "soft greedy in the upper bound (the theory's)": ("optimistic", "theorem"),
        "soft greedy in the empirical model": ("regret", "ours"),
    }
    most, alone = config.lock_demos[-1], arrays["clone"][:, -1].mean()
    return [
        bootstrap_claim(
            f"lock, {policy}: mean gap with N = {most} over that without demonstrations",
            lambda gaps: float(gaps[:, -1].mean() / gaps[:, 0].mean()),
            [arrays[name][..., times].mean(-1)],
            "<=",
            LOCK_SHARE,
            kind=kind,
            source="demonstrations save episodes, 1 / (eps^2 N)",
            baseline=("the clone alone", alone / arrays[name][:, 0, times].mean()),
        )
        for policy, (name, kind) in policies.items()
    ]


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
            baseline=(
                "KL to the uniform policy",
                share(arrays["gap, uniform"][:, i], arrays["clone"]),
            ),
        )
        for i, count in enumerate(config.pairs)
        if count in FEEDBACK_PAIRS
    ]
