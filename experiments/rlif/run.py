"""RLIF: can the decision to step in teach more than the one who steps in knows?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.rlif.config import Config
from experiments.rlif.learners import MAIN, VARIANTS, dagger_scores, rlif_scores
from experiments.rlif.report import write_report
from experiments.rlif.worlds import TEACHERS, exact_scores
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.intervals import mean_claim, share_claim
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]
JUDGES = TEACHERS[:2]  # the teachers who look at values
PAPER = "previous, last"  # the variant of the official code
BAD = 0.25  # from this share of bad states on, the claims compare with the expert


def run(config: Config, job: Run) -> Outcome:
    """Exact scores and guarantees, HG-DAgger, RLIF in all its variants."""
    stages = {"exact": exact_scores, "dagger": dagger_scores, "rlif": rlif_scores}
    found = run_stages(job, {name: partial(work, config) for name, work in stages.items()})
    claims = make_claims(config, found["exact"], found["rlif"])
    table = scores_table(config, found)
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers=summary(config, found), table=table)


def make_claims(config: Config, exact: Arrays, rlif: Arrays) -> list[Claim]:
    """Who gets the -1 decides: ours on the rejected proposal, the paper's on the step before it.
    Means over states that live; the unit is a grid."""
    expert, levels = exact["expert"], {name: each[..., -1] for name, each in rlif.items()}
    ours, paper = levels[MAIN], levels[PAPER]
    claims = []
    for i, bad in enumerate(config.bads):
        place = f"{bad:.0%} bad states"
        for j, judge in enumerate(JUDGES):
            if bad < BAD:
                continue
            case = f"{place}, teacher judges by {judge}"
            claims += [
                share_claim(
                    f"RLIF, -1 on the proposal, {case}: grids on which it beats the expert",
                    ours[i, :, j] > expert[i],
                    ">=",
                    0.9,
                    kind="ours",
                    source="the label that a table can learn from",
                    baseline=("teacher at random", np.mean(ours[i, :, -1] > expert[i])),
                ),
                mean_claim(
                    f"RLIF, -1 on the previous step, {case}: lead over the expert",
                    paper[i, :, j] - expert[i],
                    ">",
                    0.0,
                    kind="paper",
                    source="label of the official code",
                ),
            ]
        claims.append(
            mean_claim(
                f"RLIF, -1 on the proposal, {place}, teacher judges by {JUDGES[0]}: V / V*",
                ours[i, :, 0],
                ">=",
                0.9,
                kind="ours",
                source="near-optimal whatever the expert",
                baseline=("uniform actions", exact["uniform"][i].mean()),
            )
        )
    return claims


def scores_table(config: Config, found: Mapping[str, Arrays]) -> Table:
    """Means over seeds: rows are teacher and share of bad states."""
    exact, cloned, learned = found["exact"], found["dagger"]["HG-DAgger"], found["rlif"]
    rows = []
    for j, teacher in enumerate(TEACHERS):
        for i, bad in enumerate(config.bads):
            better = np.sum(learned[MAIN][i, :, j, -1] > exact["expert"][i])
            rows.append(
                (
                    f"{teacher}, bad {bad:g}",
                    exact["expert"][i].mean(),
                    cloned[i, :, j, -1].mean(),
                    *(learned[name][i, :, j, -1].mean() for name in VARIANTS),
                    exact["planned"][i, :, j].mean(),
                    f"{better}/{config.num_seeds}",
                )
            )
    return Table(
        "V / V*, mean over live states and seeds",
        ("teacher judges by", "expert", "HG-DAgger", *VARIANTS, "exact planning", "beats expert"),
        rows,
        note="RLIF: who gets the -1, and which transitions of the expert are learned from; "
        f"'beats expert' counts seeds of '{MAIN}'",
    )


def summary(config: Config, found: Mapping[str, Arrays]) -> dict:
    """Means over seeds, by share of bad states (outer) and teacher or margin (inner)."""
    exact = found["exact"]
    return {
        "bads": list(config.bads),
        "expert": exact["expert"].mean(1).tolist(),
        "uniform": exact["uniform"].mean(1).tolist(),
        "planned": exact["planned"].mean(1).tolist(),
        "worst tied optimum": exact["worst"].mean(1).tolist(),
        "HG-DAgger": found["dagger"]["HG-DAgger"][..., -1].mean(1).tolist(),
        **{f"RLIF, {name}": found["rlif"][name][..., -1].mean(1).tolist() for name in VARIANTS},
    }
