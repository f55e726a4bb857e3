"""Seq2seq reward model: what do corrections teach that comparisons do not, and is length paid?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.seq2seq_rm.claims import all_claims, average, final
from experiments.seq2seq_rm.config import Config
from experiments.seq2seq_rm.learners import ARMS, MODELS, study
from experiments.seq2seq_rm.lengths import length_study
from experiments.seq2seq_rm.report import write_report
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.training import Run, run_stages


def run(config: Config, job: Run) -> Outcome:
    """Policies trained on each reward model, then the length panel."""
    works = {"policies": partial(study, config), "lengths": partial(length_study, config)}
    found, lengths = run_stages(job, works).values()
    claims = all_claims(config, found, lengths)
    table = shares_table(config, found)
    write_report(job, config, found, lengths, claims, table)
    return Outcome(claims, numbers=summary(config, found, lengths), table=table)


def shares_table(config: Config, found: Mapping[str, np.ndarray]) -> Table:
    """Rewards as rows."""
    rows = [
        (
            arm,
            *(
                f"{end:.3f} ({over:.3f})"
                for end, over in zip(
                    final(found, arm).mean(0), average(found, arm).mean(0), strict=True
                )
            ),
        )
        for arm in ARMS
    ]
    return Table(
        "Share of right tokens at the end, and mean over training",
        ("reward", *(f"{size} pairs" for size in config.sizes)),
        rows,
        note=f"mean over {config.num_seeds} seeds; uniform policy: {1 / config.vocabulary:.3f}",
    )


def summary(
    config: Config, found: Mapping[str, np.ndarray], lengths: Mapping[str, np.ndarray]
) -> dict:
    """Means over seeds."""
    accuracy, credit = found["accuracy"].mean(0), found["credit"].mean(0)
    return {
        "sizes": list(config.sizes),
        "accuracy": dict(zip(("agreements", "scalar"), accuracy.T.tolist(), strict=True)),
        "credit": dict(zip(MODELS, credit.T.tolist(), strict=True)),
        "credit, lowest seed": found["credit"][:, :, 0].min(0).tolist(),
        "lengths": {name: values.mean(0).tolist() for name, values in lengths.items()},
    }
