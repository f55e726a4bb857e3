"""What causal_survey claims, from the arrays of its stages; worlds (seeds) are the units."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.causal_survey import adapted, fair, linear
from experiments.causal_survey.linear import COPIES, ERM, MARGINAL, MIDDLE, ORACLE, STRONG, TUNED
from experiments.causal_survey.world import FLAGS, LENGTHS
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim

Stages = Mapping[str, Any]
REVERSED, TRAINED = -0.9, 0.7
SEEN: dict[str, Any] = {"kind": "ours", "source": "an earlier simulation of the same law"}
HALF = {"kind": "ours", "source": "worse than a coin where the feature is reversed"}


def all_claims(stages: Stages) -> list[Claim]:
    """In the order of the page."""
    return [
        *length_claims(stages["linear"][LENGTHS]),
        *middle_claims(stages["linear"][LENGTHS]),
        *policy_claims(stages["linear"][LENGTHS]),
        *flag_claims(stages["linear"][FLAGS]),
        *fair_claims(stages["fair"]["numbers"]),
        *adapter_claims(stages["adapted"]["right"]),
    ]


def length_claims(found: Stages) -> list[Claim]:
    """Length-biased pairs; rho is the correlation of the length with the label in the test."""

    def at(name: str, rho: float = REVERSED) -> np.ndarray:
        return linear.at(found, name, rho)

    oracle = (ORACLE, at(ORACLE).mean())
    claims = [
        mean_claim(f"{name}, rho -0.9: accuracy", at(name), "<=", 0.5, baseline=oracle, **HALF)
        for name in (ERM, TUNED)
    ]
    claims += [
        mean_claim(
            f"{name}, rho -0.9: accuracy",
            at(name),
            ">=",
            0.75,
            baseline=(TUNED, at(TUNED).mean()),
            **SEEN,
        )
        for name in (*STRONG, "MMD")
    ]
    worst = min(STRONG, key=lambda name: np.mean(at(name) >= 0.75))
    claims.append(
        Claim(
            f"{worst}, the rarest of {', '.join(STRONG)}: share of worlds with 0.75 at rho -0.9",
            np.mean(at(worst) >= 0.75),
            ">=",
            0.9,
            baseline=(TUNED, np.mean(at(TUNED) >= 0.75)),
            **SEEN,
        )
    )
    return claims


def middle_claims(found: Stages) -> list[Claim]:
    """Losses that know less than the feature, and what knowing it costs."""

    def at(name: str, rho: float = REVERSED) -> np.ndarray:
        return linear.at(found, name, rho)

    erm, claims = at(ERM), []
    for name in MIDDLE:
        gain = at(name) - erm
        claims.append(
            mean_claim(
                f"{name}, rho -0.9: accuracy above that of {ERM}",
                gain,
                ">=",
                0.2,
                baseline=(TUNED, np.mean(at(TUNED) - erm)),
                **SEEN,
            )
        )
        claims.append(
            mean_claim(
                f"{name}, rho -0.9: accuracy below that of copies",
                at(COPIES) - at(name),
                ">",
                0,
                kind="ours",
                source="two environments leave some of the feature; copies none",
            )
        )
    claims.append(
        mean_claim(
            f"price of robustness, rho 0.7: accuracy of {ERM} above that of copies",
            at(ERM, TRAINED) - at(COPIES, TRAINED),
            ">=",
            0.05,
            baseline=(TUNED, np.mean(at(ERM, TRAINED) - at(TUNED, TRAINED))),
            **SEEN,
        )
    )
    claims.append(
        mean_claim(
            "correlation over both orders of each pair: weight of the length over that of quality",
            linear.ratio_of(found, MARGINAL),
            "<=",
            -0.1,
            baseline=("given the label", linear.ratio_of(found, "correlation").mean()),
            kind="ours",
            source="quality goes with the label, so marginal independence needs a negative weight",
        )
    )
    return claims


def policy_claims(found: Stages) -> list[Claim]:
    """Policies that moved as far along a reward; columns are ERM and copies."""
    (erm, copies), (worth, other) = found["drift"].T, found["gold"].T
    return [
        mean_claim(
            "policy on ERM, 3 nats: drift of the length",
            erm,
            ">=",
            1,
            baseline=(COPIES, copies.mean()),
            **SEEN,
        ),
        mean_claim(
            "policy on copies, 3 nats: size of the drift of the length",
            np.abs(copies),
            "<=",
            0.25,
            baseline=(ERM, np.abs(erm).mean()),
            **SEEN,
        ),
        mean_claim(
            "policies, 3 nats: gold of copies above that of ERM",
            other - worth,
            ">",
            0,
            baseline=("ERM above copies", np.mean(worth - other)),
            kind="ours",
            source="what goes into length is lost for quality",
        ),
    ]


def flag_claims(found: Stages) -> list[Claim]:
    """The same code with flattery in place of length."""
    copies, erm, tuned = (linear.at(found, x, REVERSED) for x in (COPIES, ERM, TUNED))
    return [
        mean_claim(
            "flattery, rho -0.9: accuracy of copies above that of ERM",
            copies - erm,
            ">=",
            0.2,
            baseline=(TUNED, np.mean(tuned - erm)),
            kind="ours",
            source="as for length",
        )
    ]


def fair_claims(numbers: np.ndarray) -> list[Claim]:
    """numbers [S, METHODS, NUMBERS]; the gap is accuracy where A is better, less where B is."""
    right, better, worse, _ = np.moveaxis(numbers, -1, 0)
    gaps = dict(zip(fair.METHODS, (better - worse).T, strict=True))
    accuracy = dict(zip(fair.METHODS, right.T, strict=True))
    erm = gaps[fair.ERM]
    claims = [
        mean_claim(
            "unfair labels, ERM: accuracy where A is better less where B is",
            erm,
            ">=",
            0.2,
            baseline=(fair.MARGINAL, gaps[fair.MARGINAL].mean()),
            kind="ours",
            source="labels favour A by 2 of log-odds",
        )
    ]
    for name in (fair.ADVERSARY, fair.MARGINAL):
        claims.append(
            mean_claim(
                f"unfair labels, {name}: size of the gap over half of that of ERM",
                np.abs(gaps[name]) - 0.5 * erm,
                "<=",
                0,
                baseline=(fair.ERM, 0.5 * erm.mean()),
                kind="ours",
                source="the same term as for domains, with the group in place of the domain",
            )
        )
        claims.append(
            mean_claim(
                f"unfair labels, {name}: accuracy on fair labels above that of ERM",
                accuracy[name] - accuracy[fair.ERM],
                ">",
                0,
                baseline=("ERM above it", np.mean(accuracy[fair.ERM] - accuracy[name])),
                kind="ours",
                source="what hides the group also removes what was unfair",
            )
        )
    return claims


def adapter_claims(right: np.ndarray) -> list[Claim]:
    """right [S, PARTS, LOSSES, TESTS]."""
    shifted = adapted.TESTS.index("mark reversed")
    erm, vrex, copies = (right[:, :, adapted.LOSSES.index(x), shifted] for x in adapted.LOSSES)
    about = {"kind": "ours", "source": "the loss decides what is ignored, not the part that learns"}
    claims = []
    for i, part in enumerate(adapted.PARTS):
        other = (f"ERM on {adapted.PARTS[1 - i]}", np.mean(erm[:, 1 - i] - erm[:, i]))
        for name, robust in (("copies", copies), ("V-REx", vrex)):
            claims.append(
                mean_claim(
                    f"{part} trained, mark reversed: accuracy of {name} above that of ERM",
                    robust[:, i] - erm[:, i],
                    ">=",
                    0.2 if name == "copies" else 0.05,
                    baseline=other,
                    **about,
                )
            )
    return claims
