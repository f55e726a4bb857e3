"""Think-RM: do long right judgements make a judge, and are its comparisons better than scores?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.think_rm.bandits import bandit_study, identity_study
from experiments.think_rm.claims import all_claims
from experiments.think_rm.config import Config
from experiments.think_rm.judges import KEPT, MEASURES, SHUFFLED, judge_study
from experiments.think_rm.report import write_report
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]
POINTS = (50, 100, 300)  # steps whose regret is kept, where the run has them


def run(config: Config, job: Run) -> Outcome:
    """Three stages, their claims, the report."""
    works = {
        "identities": partial(identity_study, config),
        "bandits": partial(bandit_study, config),
        "judges": partial(judge_study, config),
    }
    stages = run_stages(job, works)
    claims = all_claims(config, stages)
    table = judge_table(config, stages["judges"])
    write_report(job, config, stages, claims, table)
    return Outcome(claims, numbers=summary(config, stages), table=table)


def judge_table(config: Config, found: Arrays) -> Table:
    """Each judge before and after RL."""
    rows = []
    for name in (*KEPT, SHUFFLED):
        for stage, title in (("sft", "SFT"), ("rl", "then RL")):
            if f"{name}/{stage}/accuracy" in found:
                each = [found[f"{name}/{stage}/{measure}"].mean() for measure in MEASURES]
                rows.append((f"{name}, {title}", *(f"{x:.3f}" for x in each)))
    return Table(
        f"Judges, {config.judge.num_seeds} seeds",
        (
            "right judgements fitted to",
            "accuracy",
            f"vote of {config.judge.votes}",
            "tokens thought",
            "without verdict",
        ),
        rows,
        note="strict: a judgement without a verdict counts as wrong, an even vote as half",
    )


def summary(config: Config, stages: Mapping[str, Arrays]) -> dict:
    """Means over seeds."""
    bandits, judges = stages["bandits"], stages["judges"]
    points = [step for step in POINTS if step <= config.bandit.steps]
    names = [name for name in judges if judges[name].ndim == 1]
    return {
        "regret": {
            name: {str(step): x[:, step].mean() for step in points} for name, x in bandits.items()
        },
        "shrunk": stages["identities"]["shrunk"].mean(),
        "judges": {name: judges[name].mean() for name in names},
        "forced": {
            name: x.mean(0).tolist()
            for name, x in judges.items()
            if name.endswith(("/forced", "/borrowed"))
        },
    }
