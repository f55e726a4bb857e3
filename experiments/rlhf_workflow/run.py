"""Who draws the pairs of DPO: the reference, the policy, or one that looks for what is unknown."""

from functools import partial

import numpy as np

from experiments.rlhf_workflow.claims import promise_claims, round_claims, trap_claims
from experiments.rlhf_workflow.config import Config
from experiments.rlhf_workflow.guarantee import promise
from experiments.rlhf_workflow.methods import methods, play, variants
from experiments.rlhf_workflow.report import write_report
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """Rounds of every method, and the offline guarantee."""
    works = {
        "rounds": partial(play, config, methods(config), num_seeds=config.num_seeds),
        "variants": partial(play, config, variants(config), num_seeds=config.few_seeds),
        "promise": lambda: {k: np.asarray(v) for k, v in promise(config).items()},
    }
    compared, varied, found = run_stages(job, works).values()
    stored = compared | varied  # in alphabetical order
    paths = {name: stored[name] for name in methods(config) | variants(config)}
    claims = [
        *round_claims(config, paths),
        *trap_claims(config, paths),
        *promise_claims(config, found),
    ]
    table = gap_table(config, paths)
    write_report(job, config, paths, found, claims, table)
    numbers = {"rows": table.rows, "promise": {k: v.mean(1).tolist() for k, v in found.items()}}
    return Outcome(claims, numbers=numbers, table=table)


def gap_table(config: Config, paths: dict) -> Table:
    """The end of every method."""
    rows = []
    for name, path in paths.items():
        offline = paths["offline, soft" if name.endswith("soft") else "offline"]
        wins = path["gap"][:, -1] < offline["gap"][: len(path["gap"]), -1]
        ends = [path[key][:, -1].mean() for key in ("gap", "kl", "rare")]
        rows.append((name, *ends, "" if path is offline else wins.mean()))
    return Table(
        f"After {config.rounds * config.pairs} labels, means of {config.num_seeds} bandits, of the "
        f"variants {config.few_seeds}",
        ("pairs", "gap in J", "KL", "rare", "below offline"),
        rows,
        note=f"eta {config.eta:g}; of those called soft {config.soft_eta:g}",
    )
