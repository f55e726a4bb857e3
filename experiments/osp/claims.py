"""Claims of the osp experiment."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from experiments.osp.config import Config
from experiments.osp.world import HARD, JUDGES, MEASURES, SMOOTH, SOFT
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim

Found = Mapping[str, np.ndarray]  # row -> [num_seeds, points + 1, measures]
UNKNOWING = "soft, unknowing"
BASELINE = "soft labels of a judge that knows nothing"
WORDS = {HARD: "hard labels (online DPO)", SMOOTH: "label smoothing (cDPO)"}


def osp_claims(config: Config, found: Found) -> list[Claim]:
    """Soft labels beside hard and smoothed ones; the optimum; temperature times beta."""
    claims = [
        *(lead_claim(found, judge, rival) for judge in JUDGES[:2] for rival in (HARD, SMOOTH)),
        mean_claim(
            "soft, calibrated judge: total variation to pi_ref exp(r / beta) / Z",
            last(found, "soft, calibrated", "distance"),
            "<=",
            0.02,
            kind="theorem",
            source="fixed point logit p of each pair; 0.02 leaves room for sampling noise",
            baseline=("hard labels", last(found, "hard, calibrated", "distance").mean()),
        ),
        Claim(
            "KL of hard labels over KL of soft ones, calibrated judge, the least over worlds",
            kl_ratios(found, "hard, calibrated").min(),
            ">=",
            2.0,
            kind="ours",
            source="hard labels have their optimum at infinity; threshold from trials",
            baseline=(BASELINE, kl_ratios(found, UNKNOWING).min()),
        ),
        *(
            mean_claim(
                f"soft, judge tempered by {config.temperature:g}, beta over it{words}: total "
                "variation to the same optimum",
                last(found, f"soft, tempered, beta / tau{steps}", "distance"),
                "<=",
                0.02,
                kind="theorem",
                source="temperature and beta enter as their product",
                baseline=("the same beta", last(found, "soft, tempered", "distance").mean()),
            )
            for words, steps in (("", ""), (", steps times its square", ", steps tau^2"))
        ),
    ]
    size = f"{config.num_seeds} tables of {config.prompts} prompts"
    return [replace(claim, statement=f"{claim.statement}, {size}") for claim in claims]


def lead_claim(found: Found, judge: str, rival: str) -> Claim:
    """J of soft labels minus that of a rival, on the same prompts, judge and updates."""
    soft, other, chance = (
        last(found, name, "J") for name in (f"{SOFT}, {judge}", f"{rival}, {judge}", UNKNOWING)
    )
    return mean_claim(
        f"J of soft labels minus J of {WORDS[rival]}, {judge} judge",
        soft - other,
        ">",
        0.0,
        kind="paper",
        source="the paper's claim that soft labels over-fit less; J = E r - beta KL is ours",
        baseline=(BASELINE, (chance - other).mean()),
    )


def last(found: Found, name: str, what: str) -> np.ndarray:
    """[num_seeds] of a measure at the end."""
    return found[name][:, -1, MEASURES.index(what)]


def kl_ratios(found: Found, name: str) -> np.ndarray:
    """[num_seeds] KL at the end over that of soft labels of the calibrated judge."""
    return last(found, name, "KL") / last(found, "soft, calibrated", "KL")
