"""Does GRPO on long tasks need short ones first, or rewards of single steps?"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from experiments.craft_gui.chains import schedules, study
from experiments.craft_gui.claims import all_claims, hard
from experiments.craft_gui.config import Config
from experiments.craft_gui.language import ARMS, language_study
from experiments.craft_gui.phone import phone_study
from experiments.craft_gui.report import REWARDS, write_report
from rlhf_jax.reports.claims import Outcome, Table
from rlhf_jax.reports.intervals import mean_interval
from rlhf_jax.training import Run, run_stages

Arrays = Mapping[str, np.ndarray]


def run(config: Config, job: Run) -> Outcome:
    """Chains under every schedule and reward, baselines on the text phone, with `panel` a model."""
    works = {
        "full": partial(study, config, config.updates),
        "short": partial(study, config, config.short_updates),
        "phone": partial(phone_study, config),
    }
    stages = run_stages(job, works)
    if config.panel:
        stages = {**stages, "language": language_study(config, job)}
    claims = all_claims(config, stages)
    table = schedule_table(config, stages)
    tables = [table, phone_table(stages["phone"])]
    if config.panel:
        tables.append(language_table(stages["language"]))
    write_report(job, config, stages, claims, tables)
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


def language_table(found: Arrays) -> Table:
    """A model on the phone: success on held-out tasks by horizon."""
    rows = []
    for length in range(1, len(found["solver"]) + 1):
        here = found["horizons"] == length
        rows.append(
            (
                length,
                int(here.sum()),
                *(found[name][:, here].mean() for name in ("start", *ARMS)),
                *(found[name][length - 1] for name in ("solver", "random")),
            )
        )
    equal = ", ".join(f"{name} {found[f'{name}/equal'].mean():.0%}" for name in ARMS)
    seeds = len(found["start"])
    headers = ("horizon", "tasks", "start", *ARMS, "solver", "random")
    return Table(
        f"A transformer on the text phone: tasks done on unseen layouts, mean of {seeds} seeds",
        headers,
        rows,
        note=f"groups with equal rewards in training: {equal}",
    )


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
    } | {
        size: {name: x.tolist() for name, x in stages[size].items()}
        for size in ("phone", "language")
        if size in stages
    }
