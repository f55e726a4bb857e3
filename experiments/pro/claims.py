"""Claims of the pro experiment."""

from collections.abc import Mapping

import numpy as np

from experiments.pro.config import Config
from experiments.pro.methods import PLAIN, PRO, RRHF, SFT, SHUFFLED
from experiments.pro.world import MEASURES
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim

Found = Mapping[str, np.ndarray]  # method -> [num_seeds, lengths, measures]
SECTION = "Section 4 and Table 2: longer rankings help; sizes and thresholds are ours"
NAMES = {PRO: "PRO", PLAIN: "PRO without temperatures"}


def size_of(config: Config) -> str:
    """What the claims read, in words."""
    return f"{config.num_seeds} log-linear worlds, {config.prompts} prompts"


def world_claims(config: Config, found: Found) -> list[Claim]:
    """What n does to a log-linear policy, beside SFT and RRHF with the same steps."""
    longest = config.lengths[-1]
    plain, rrhf, shuffled = (found[name][:, -1, 1] for name in (PLAIN, RRHF, SHUFFLED))
    changes = {name: found[name][:, -1, 1] - found[name][:, 0, 1] for name in (PRO, PLAIN)}
    return [
        rise_claim(config, found, PRO, "accuracy"),
        rise_claim(config, found, PLAIN, "accuracy"),
        rise_claim(config, found, PLAIN, "reward"),
        *(lead_claim(config, found, name, what) for name in NAMES for what in MEASURES),
        mean_claim(
            f"{NAMES[PLAIN]} minus RRHF, n = {longest}, {size_of(config)}: reward",
            plain - rrhf,
            ">",
            0.0,
            kind="paper",
            source="Table 2: PRO above RRHF in reward",
            baseline=("shuffled rankings", (shuffled - rrhf).mean()),
        ),
        mean_claim(
            f"PRO, {size_of(config)}: reward at n = {longest} minus that at n = "
            f"{config.lengths[0]}",
            changes[PRO],
            "<=",
            0.0,
            kind="ours",
            source="gaps of scores below 1 soften the scores; the sign is from trials",
            baseline=("without temperatures", changes[PLAIN].mean()),
        ),
    ]


def rise_claim(config: Config, found: Found, name: str, what: str) -> Claim:
    """In how many worlds a measure rises at every step of n."""
    lengths = ", ".join(map(str, config.lengths))
    return Claim(
        f"{NAMES[name]}, {size_of(config)}: share of the worlds of this run in which {what} rises "
        f"at each n of {lengths}",
        rises(found[name], what).mean(),
        ">=",
        0.9,
        kind="paper",
        source=SECTION,
        baseline=("shuffled rankings", rises(found[SHUFFLED], what).mean()),
    )


def rises(runs: np.ndarray, what: str) -> np.ndarray:
    """[num_seeds] whether the measure rises at every step of n."""
    return np.all(np.diff(runs[..., MEASURES.index(what)], axis=1) > 0, axis=1)


def lead_claim(config: Config, found: Found, name: str, what: str) -> Claim:
    """The least lead over SFT on the best answer, over all n and worlds."""
    place = MEASURES.index(what)
    leads, chance = ((found[x] - found[SFT])[..., place] for x in (name, SHUFFLED))
    return Claim(
        f"{NAMES[name]} minus SFT on the best of n, {size_of(config)}: {what}, the least over n "
        "and the worlds of this run",
        leads.min(),
        ">",
        0.0,
        kind="paper",
        source="Table 2: PRO above SFT",
        baseline=("shuffled rankings", chance.min()),
    )
