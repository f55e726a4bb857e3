"""What pf_ppo claims of its runs, and the baselines that must fail."""

from collections.abc import Mapping

import numpy as np

from experiments.pf_ppo.config import Config
from experiments.pf_ppo.filtered import NAMES
from rlhf_jax.reports.claims import Claim
from rlhf_jax.reports.intervals import mean_claim

Arrays = Mapping[str, np.ndarray]
ORDERS = ("whitened after", "whitened before")  # the filter; the first two settings
CLAIMED = ("best and random", "best and worst")
SPEC = "acceptance of this design, from a NumPy run of it: 9 worlds of 10"


def final(bandit: Arrays, setting: int, name: str) -> np.ndarray:
    """[N] gold at the end."""
    return bandit["gold"][:, setting, NAMES.index(name), -1]


def leads(bandit: Arrays, setting: int, name: str) -> np.ndarray:
    """[N] gold at the end minus that without a filter, in the same world."""
    return final(bandit, setting, name) - final(bandit, setting, "none")


def all_claims(config: Config, bandit: Arrays) -> list[Claim]:
    """Filters against none under both orders of whitening, and R^2."""
    found = []
    for setting, order in enumerate(ORDERS):
        for name in CLAIMED:
            lead, middle = (leads(bandit, setting, each) for each in (name, "middle"))
            about = f"{name}, {order} the filter, {len(lead)} worlds: final gold"
            found += above_none(
                about, lead, middle, source="the table of results, PF-PPO above PPO-M"
            )
    return [*found, *r2_claims(bandit)]


def r2_claims(bandit: Arrays) -> list[Claim]:
    """What the metric says before any training."""
    r2 = {name: bandit["r2"][:, 0, i] for i, name in enumerate(NAMES)}
    lead, middle = (r2[name] - r2["none"] for name in ("best and worst", "middle"))
    about = f"best and worst, {len(lead)} worlds: R^2"
    return above_none(about, lead, middle, source="R^2 chooses the filter")


def above_none(about: str, lead: np.ndarray, middle: np.ndarray, *, source: str) -> list[Claim]:
    """The mean lead [N] over no filter and how often it is one; the middle's must fail."""
    return [
        mean_claim(
            f"{about} minus that of no filter",
            lead,
            ">",
            0.0,
            kind="paper",
            source=source,
            baseline=("middle", middle.mean()),
        ),
        Claim(
            f"{about}, share of these worlds in which it is above that of no filter",
            np.mean(lead > 0),
            ">=",
            0.9,
            kind="ours",
            source=SPEC,
            baseline=("middle", np.mean(middle > 0)),
        ),
    ]
