"""What is claimed of the superhf runs."""

from collections.abc import Mapping

import numpy as np

from experiments.superhf.config import CLAIMED_RATE, Config
from experiments.superhf.exact import BEST, RARE
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import bootstrap_claim, mean_claim

Runs = Mapping[str, Mapping[str, np.ndarray]]
SPEC = "acceptance of this design, from a NumPy run of it"


def monotone(points: Mapping[str, np.ndarray], order: np.ndarray | None = None) -> np.ndarray:
    """[seeds] whether proxy and collision fall and gold rises at every step of beta."""
    signs = {"proxy": -1.0, "collision": -1.0, "gold": 1.0}
    steps = []
    for name, sign in signs.items():
        values = points[name] if order is None else points[name][:, order]
        steps.append((sign * np.diff(values, axis=1) > 0).all(1))
    return np.all(steps, axis=0)


def exact_claims(config: Config, found: Mapping[str, Mapping]) -> list[Claim]:
    """Fixed points, the rare answer, the frozen filter."""
    points, masses, frozen = found["fixed points"], found["masses"], found["frozen"]
    mixed = np.random.default_rng(0).permutation(len(config.betas))
    size = f"{config.prompts} prompts, {config.answers} answers, B = {config.samples}"
    return [
        Claim(
            f"Fixed points, {size}, {len(config.betas)} betas to {config.betas[-1]:g}: share of "
            "the worlds of this run in which each step of beta lowers proxy and collision across "
            "prompts and raises gold",
            np.mean(monotone(points)),
            ">=",
            1.0,
            kind="ours",
            source=SPEC + "; the paper's trade of reward against collapse by its KL coefficient",
            baseline=("betas in another order", np.mean(monotone(points, mixed))),
        ),
        Claim(
            f"Mass of a best answer with mass {RARE:g} in the reference, B = 4 and 16, beta 0.35 "
            "to 6: largest difference of the iteration and the root of its equation",
            np.abs(masses["found"] - masses["root"]).max(),
            "<=",
            1e-6,
            kind="theorem",
            source="(1 + beta) h = 1 - (1 - h)^B + beta h_0, derived from the loss",
            baseline=(
                "the root for one draw less",
                np.abs(masses["found"] - masses["other"]).max(),
            ),
        ),
        Claim(
            "The same for B = 16, beta = 0.35, the paper's: the mass, amplified to order 1",
            masses["found"][:, -1].min(),
            ">=",
            0.7,
            kind="theorem",
            source="beta < B - 1: the limit for a rare answer is 0.741",
            baseline=("B = 4, beta = 6 > B - 1", masses["found"][:, -2].max()),
        ),
        Claim(
            f"Filter of the reference, {size}, beta {config.beta}: largest difference of a "
            "probability after descent on the loss to (q + beta pi_0) / (1 + beta)",
            frozen["loss"].max(),
            "<=",
            1e-4,
            kind="theorem",
            source="the minimum of the loss with the forward KL, derived",
            baseline=("q, without the prior", frozen["no prior"].min()),
        ),
    ]


def calibration_claim(config: Config, points: Mapping[str, np.ndarray]) -> Claim:
    """The prior keeps a policy calibrated to the reference, and not to the answer it prefers."""
    errors, best = points["calibration"], points[BEST]
    return mean_claim(
        f"Fixed points, calibration error as a forecast of the reference's answers: beta = 0 minus "
        f"beta = {config.betas[-2]:g}",
        errors[:, 0] - errors[:, -2],
        ">",
        0.0,
        kind="ours",
        source="fine-tuning for reward makes a policy overconfident",
        baseline=(
            "as a forecast of the answer with the highest proxy",
            (best[:, 0] - best[:, -2]).mean(),
        ),
    )


def gains(config: Config, runs: Mapping[str, np.ndarray], measure: str = "proxy") -> np.ndarray:
    """[seeds, rates] what is gained by the last superbatch, at the rates of the claims."""
    kept = np.array(config.rates) >= CLAIMED_RATE
    return (runs[measure][..., -1] - runs[measure][..., 0])[:, kept]


def spread(values: np.ndarray) -> float:
    """(largest - smallest) / largest mean gain over rates, from gains [seeds, rates]."""
    means = values.mean(0)
    return float((means.max() - means.min()) / means.max())


def rate_claims(config: Config, rates: Runs) -> list[Claim]:
    """Stability over rates; SuperHF draws B times as many answers for an update as PPO."""
    ours, other = (gains(config, rates[name]) for name in ("SuperHF", "PPO"))
    size = f"{config.superbatches} superbatches, rates from {CLAIMED_RATE} on"
    shown = [rate for rate in config.rates if rate >= CLAIMED_RATE]
    found = [
        bootstrap_claim(
            f"SuperHF, B = {config.samples}, beta = {config.beta}, {size}: spread of the mean gain "
            "of the proxy over rates",
            spread,
            [ours],
            "<=",
            0.10,
            kind="paper",
            source="85% of SuperHF's sweeps improve, 15% of RLHF's; 0.10 is the " + SPEC,
            baseline=("PPO", spread(other)),
        ),
        bootstrap_claim(
            f"PPO, one answer, {config.epochs} epochs, {size}: the same spread",
            spread,
            [other],
            ">",
            0.25,
            kind="ours",
            source=SPEC,
            baseline=("SuperHF", spread(ours)),
        ),
    ]
    return found + [
        Claim(
            f"Share of the worlds of this run in which SuperHF gains more proxy than PPO, rate "
            f"{rate:g}, with {config.samples} times the answers for an update",
            np.mean(ours[:, i] > other[:, i]),
            ">=",
            0.8,
            kind="ours",
            source=SPEC + ": 4 worlds of 5",
            baseline=("before training", 0.0),
        )
        for i, rate in enumerate(shown)
    ]


def cost_claims(config: Config, rates: Runs, absent: Runs, early: Runs) -> list[Claim]:
    """What the proxy does not show."""
    gold = {
        name: gains(config, runs["SuperHF"], "gold") - gains(config, runs["PPO"], "gold")
        for name, runs in (("met", rates), ("never met", absent))
    }
    place = config.early_betas.index(config.beta)
    end = early["forward"]["gold"][..., -1]
    return [
        mean_claim(
            "Gold of SuperHF minus PPO where the overrated answer is never met, mean of rates "
            f"from {CLAIMED_RATE} on, {config.superbatches} superbatches",
            gold["never met"].mean(1),
            ">",
            0.0,
            kind="ours",
            source="what the gain of proxy is worth without the answer that is overrated",
            baseline=(f"where it has mass {config.hack:g}", gold["met"].mean()),
        ),
        mean_claim(
            f"Stopped after {config.early} superbatches, overrated answer with mass "
            f"{config.rare:g}: gold without a prior minus that with beta = {config.beta}, forward",
            end[:, 0] - end[:, place],
            ">",
            0.0,
            kind="ours",
            source="before the overrated answer is found the prior costs gold and saves none",
            baseline=("before training", 0.0),
        ),
    ]
