"""RLIF: can the decision to step in teach more than the one who steps in knows?"""

from collections.abc import Mapping

import numpy as np

from experiments.rlif.config import Config
from experiments.rlif.learners import MAIN, VARIANTS, dagger_scores, rlif_scores
from experiments.rlif.report import write_report
from experiments.rlif.worlds import TEACHERS, exact_scores
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.training import Run, run_stage

Arrays = Mapping[str, np.ndarray]
JUDGES = TEACHERS[:2]  # the teachers who look at values
BAD = 0.25  # from this share of bad states on, the claims compare with the expert


def run(config: Config, job: Run) -> Outcome:
    """Exact scores and guarantees, HG-DAgger, RLIF in all its variants."""
    stages = {"exact": exact_scores, "dagger": dagger_scores, "rlif": rlif_scores}
    found = {
        name: run_stage(job, name, lambda _, work=work: (work(config), {})).arrays
        for name, work in stages.items()
    }
    claims = make_claims(config, found["exact"], found["dagger"], found["rlif"])
    table = scores_table(config, found)
    write_report(job, config, found, claims, table)
    return Outcome(claims, numbers=summary(config, found), table=table)


def make_claims(config: Config, exact: Arrays, dagger: Arrays, rlif: Arrays) -> list[Claim]:
    """RLIF against the expert and HG-DAgger seed by seed, its level, and the exact guarantee."""
    expert, cloned, learned = exact["expert"], dagger["HG-DAgger"][..., -1], rlif[MAIN][..., -1]
    claims = []
    for i, bad in enumerate(config.bads):
        for j, judge in enumerate(JUDGES):
            name = f"bad {bad:g}, {judge}"
            if bad >= BAD:
                for rival, scores in {"HG-DAgger": cloned[i, :, j], "expert": expert[i]}.items():
                    wins = np.mean(learned[i, :, j] > scores)
                    claims.append(Claim(f"{name}: seeds with RLIF > {rival}", wins, ">=", 0.9))
            away = np.abs(cloned[i, :, j] - expert[i]).max()
            claims.append(Claim(f"{name}: |HG-DAgger - expert|, at most", away, "<=", 0.02))
        level = learned[i, :, 0].mean()
        claims.append(Claim(f"bad {bad:g}, {JUDGES[0]}: RLIF, mean", level, ">=", 0.9))
    slack = exact["slack"].min((0, 1, 3))
    return [
        *claims,
        *(
            Claim(f"{judge}, no errors: worst tied optimum above its bound", least, ">=", -1e-6)
            for judge, least in zip(JUDGES, slack, strict=True)
        ),
    ]


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
