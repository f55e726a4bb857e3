"""Does GRPO on long tasks need short ones first, or rewards of single steps?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.craft_gui.chains import schedules, study
from experiments.craft_gui.claims import all_claims, hard
from experiments.craft_gui.config import Config
from experiments.craft_gui.phone import phone_study
from experiments.craft_gui.report import REWARDS, write_report
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.reports.intervals import mean_interval
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """Chains of skills under every schedule and reward, and baselines on the text phone."""
    works = {
        "full": partial(study, config, config.updates),
        "short": partial(study, config, config.short_updates),
        "phone": partial(phone_study, config),
    }
    stages = run_stages(job, works)
    claims = all_claims(config, stages)
    table = schedule_table(config, stages)
    write_report(job, config, stages, claims, [table, phone_table(stages["phone"])])
    return Outcome(claims, numbers=summary(config, stages), table=table)


def schedule_table(config: Config, stages: Mapping[str, Arrays]) -> Table:
    """Success and equal groups of each schedule."""
    full, short = stages["full"], stages["short"]
    rows = [
        (
            name,
            hard(short, "outcome", name).mean(),
            hard(full, "outcome", name).mean(),
            full[f"outcome/{name}/equal"].mean(),
            hard(short, "steps", name).mean(),
            hard(full, "steps", name).mean(),
            full[f"steps/{name}/equal"].mean(),
        )
        for name in schedules(config)
    ]
    some, all_ = config.short_updates, config.updates
    headers = (
        *("schedule", f"outcome, {some}", f"outcome, {all_}", "equal groups"),
        *(f"steps, {some}", f"steps, {all_}", "equal groups"),
    )
    phone = stages["phone"]
    return Table(
        f"Hard tasks right after so many updates, mean of {config.num_seeds} seeds",
        headers,
        rows,
        note="text phone, tasks of 1 to 8 actions: the solver finishes "
        f"{phone['solver'].min():.0%} of each horizon; random actions "
        f"{phone['random'][0, 0]:.1%} of one action, {phone['random'][0, 1]:.1%} of two, "
        f"{phone['random'][0, 2:].mean():.1%} of longer ones",
    )


def phone_table(phone: Arrays) -> Table:
    """Baselines on the text phone by horizon."""
    rows = [
        (
            length + 1,
            *(int(phone["tasks"][split, length]) for split in (0, 1)),
            *(phone[who][split, length] for who in ("solver", "random") for split in (0, 1)),
        )
        for length in range(phone["tasks"].shape[1])
    ]
    headers = (
        *("horizon", "tasks", "held out", "solver", "solver, held out"),
        *("random", "random, held out"),
    )
    return Table("The text phone: share of tasks done", headers, rows)


def summary(config: Config, stages: Mapping[str, Arrays]) -> dict:
    """Means and 95% intervals over seeds, and the phone's rates."""

    def each(x: np.ndarray) -> list[float]:
        return [float(x.mean()), *mean_interval(x)]

    return {
        size: {
            reward: {
                name: {
                    "hard": each(hard(stages[size], reward, name)),
                    "equal": each(stages[size][f"{reward}/{name}/equal"].mean(1)),
                }
                for name in schedules(config)
            }
            for reward in REWARDS
        }
        for size in ("full", "short")
    } | {"phone": {name: x.tolist() for name, x in stages["phone"].items()}}
