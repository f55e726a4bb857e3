"""OSP: do soft labels of a calibrated judge stay where hard labels over-fit, on policy?"""

from collections.abc import Mapping

import numpy as np

from experiments.osp.claims import last, osp_claims
from experiments.osp.config import Config
from experiments.osp.report import write_report
from experiments.osp.world import HARD, JUDGES, LABELS, MEASURES, ROWS, SMOOTH, train_all
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """One stage, its claims, the report."""
    found = run_stages(job, {"train": lambda: train_all(config)})["train"]
    claims = osp_claims(config, found)
    means = ends(found)
    table = Table(
        f"Means over {config.num_seeds} worlds after {config.updates} updates",
        ("labels, judge", *MEASURES),
        [(name, *row) for name, row in means.items()],
        note="reward and KL of the policy, J = reward - beta KL, distance: total variation to "
        "pi_ref exp(r / beta) / Z",
    )
    write_report(job, config, found, claims, table)
    numbers = {name: dict(zip(MEASURES, row, strict=True)) for name, row in means.items()}
    about = {"worlds ahead in J": worlds_ahead(found), "spurious judge": fallen_gold(found)}
    return Outcome(claims, numbers | about, table)


def worlds_ahead(found: Mapping[str, np.ndarray]) -> dict[str, int]:
    """In how many worlds soft labels end with a higher J."""
    return {
        f"{judge}, {rival}": int(
            np.sum(last(found, f"soft, {judge}", "J") > last(found, f"{rival}, {judge}", "J"))
        )
        for judge in JUDGES[:2]
        for rival in (HARD, SMOOTH)
    }


def fallen_gold(found: Mapping[str, np.ndarray]) -> dict[str, dict[str, float]]:
    """Labels -> the highest mean reward of the curve under the spurious judge, its KL, the last."""
    numbers = {}
    for labels in LABELS:
        reward, kl = found[f"{labels}, spurious"].mean(axis=0)[:, :2].T
        top = int(reward.argmax())
        numbers[labels] = {"highest": reward[top], "at KL": kl[top], "at the end": reward[-1]}
    return {name: {key: float(x) for key, x in row.items()} for name, row in numbers.items()}


def ends(found: Mapping[str, np.ndarray]) -> dict[str, list[float]]:
    """Mean of each measure at the end."""
    return {
        name: (found[name] if found[name].ndim == 2 else found[name][:, -1]).mean(axis=0).tolist()
        for name in (*ROWS, "optimum")
    }
