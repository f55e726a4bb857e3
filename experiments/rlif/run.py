"""RLIF: can the decision to step in teach more than the one who steps in knows?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.rlif.claims import JUDGES, best_rival, last_scores, make_claims
from experiments.rlif.config import Config
from experiments.rlif.learners import MAIN, VARIANTS, dagger_scores, rival_scores, rlif_scores
from experiments.rlif.panel import run_pendulum
from experiments.rlif.report import write_report
from experiments.rlif.worlds import TEACHERS, exact_scores
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """Exact scores and guarantees, HG-DAgger, other imitators, RLIF in all its variants.

    With `panel`, the pendulum alone.
    """
    if config.panel:
        return run_pendulum(config, job)
    stages = {
        "exact": exact_scores,
        "dagger": dagger_scores,
        "rivals": rival_scores,
        "rlif": rlif_scores,
    }
    found = run_stages(job, {name: partial(work, config) for name, work in stages.items()})
    claims = make_claims(config, last_scores(found))
    table = scores_table(config, found)
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers=summary(config, found), table=table)


def scores_table(config: Config, found: Mapping[str, Arrays]) -> Table:
    """Means over seeds: rows are teacher and share of bad states."""
    exact, levels = found["exact"], last_scores(found)
    rows = []
    for j, teacher in enumerate(TEACHERS):
        for i, bad in enumerate(config.bads):
            better = np.sum(levels.rlif[MAIN][i, :, j] > exact["expert"][i])
            rival = best_rival(levels.rivals, i, j)
            rows.append(
                (
                    f"{teacher}, bad {bad:g}",
                    exact["expert"][i].mean(),
                    levels.rivals["HG-DAgger"][i, :, j].mean(),
                    f"{levels.rivals[rival][i, :, j].mean():.3f} ({rival})",
                    *(levels.rlif[name][i, :, j].mean() for name in VARIANTS),
                    exact["planned"][i, :, j].mean(),
                    f"{better}/{config.num_seeds}",
                )
            )
    names = ("expert", "HG-DAgger", "best imitator")
    return Table(
        "V / V*, mean over live states and seeds",
        ("teacher judges by", *names, *VARIANTS, "exact planning", "beats expert"),
        rows,
        note="RLIF: who gets the -1, and which transitions of the expert are learned from; 'late': "
        "the teacher reacts to where an action led; 'beats expert' counts seeds of "
        f"'{MAIN}'",
    )


def summary(config: Config, found: Mapping[str, Arrays]) -> dict:
    """Means over seeds, by share of bad states (outer) and teacher or margin (inner)."""
    exact, levels = found["exact"], last_scores(found)
    led = {
        name: x[..., -1].mean(1).tolist()
        for stage in ("dagger", "rivals", "rlif")
        for name, x in found[stage].items()
        if name.endswith(", led")
    }
    leads = {
        f"bad {bad:g}, {judge}": {
            name: (levels.rlif[name][i, :, j] - exact["expert"][i]).mean() for name in VARIANTS
        }
        for i, bad in enumerate(config.bads)
        for j, judge in enumerate(JUDGES)
    }
    return {
        "bads": list(config.bads),
        "expert": exact["expert"].mean(1).tolist(),
        "uniform": exact["uniform"].mean(1).tolist(),
        "planned": exact["planned"].mean(1).tolist(),
        "worst tied optimum": exact["worst"].mean(1).tolist(),
        "least slack": exact["slack"].min((1, 3)).tolist(),
        **{name: x.mean(1).tolist() for name, x in levels.rivals.items()},
        **{f"RLIF, {name}": x.mean(1).tolist() for name, x in levels.rlif.items()},
        "share of steps led by the expert": led,
        "RLIF less expert": leads,
    }
