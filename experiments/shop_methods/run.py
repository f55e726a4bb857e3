"""All methods from one policy at one budget, in two leagues, and what each is worth."""

from functools import partial
from typing import Any

from experiments.shop_methods.config import SEVERAL, Config
from experiments.shop_methods.controls import control_changes, last_control
from experiments.shop_methods.filters import filter_golds, last_filtered
from experiments.shop_methods.findings import Findings, empty_findings
from experiments.shop_methods.measure import (
    OBJECTIVE,
    best_of_arrays,
    numbers_of,
    policy_arrays,
)
from experiments.shop_methods.parts import Part, heldout_pairs, make_part
from experiments.shop_methods.report import write_report
from experiments.shop_methods.train import measured, swept, train
from experiments.shop_methods.world import Tools, make_tools
from rlhf_jax.recipes.evaluation import prompt_win_rates
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import Run, run_stage


def run(config: Config, job: Run, *, finished: bool = False) -> Outcome:
    """Labels and a reward model of each seed; then every method, the main ones with all seeds.

    Args:
      finished: leaves out every method and seed that an earlier session has not finished.
    """

    def ready(stage: str | None) -> bool:
        if stage is None:
            return False
        return not finished or (job.out / "stages" / stage / "result").is_dir()

    tools, found = make_tools(config, job), empty_findings()
    heldout = heldout_pairs(job, tools)
    first = make_part(job, tools, 0, heldout=heldout)
    start = start_arrays(job, tools, first, found)
    several = [name for name in config.chosen() if name in SEVERAL]
    for name in several:
        if ready(f"heldout_{name}_0"):
            first_seed(job, tools, first, name, start, found)
    for seed in range(1, config.seeds if several else 1):
        if not ready(f"best_of_{seed}"):
            break
        part = make_part(job, tools, seed, heldout=heldout, before=first)
        here = start_arrays(job, tools, part, found)
        for name in found.numbers:
            if not ready(f"heldout_{name}_{seed}"):
                continue
            done = train(job, tools, part, name, found.rates[name])
            found.numbers[name].append(measured(job, tools, part, name, done, here))
    if ready(last_control(config)):
        found.controls.update(control_changes(job, tools, first))
    if ready(last_filtered(config)):
        found.filters.update(filter_golds(job, tools, first))
    for name in config.chosen():
        if name not in several and ready(f"heldout_{name}_0"):
            first_seed(job, tools, first, name, start, found)
    return write_report(job, config, found)


def start_arrays(job: Run, tools: Tools, part: Part, found: Findings) -> dict[str, Any]:
    """SFT itself, best-of-n of it and the base model, measured as every policy of the seed."""
    own = partial(policy_arrays, tools=tools, part=part)
    work = partial(own, params=tools.start, ref=tools.start)
    start = run_stage(job, f"heldout_start_{part.seed}", work)
    if tools.base is not None:
        work = partial(own, params=tools.base, ref=tools.base)
        base = run_stage(job, f"heldout_base_{part.seed}", work)
        found.base.append(numbers_of(base.arrays, base.info, start.arrays))
    work = partial(best_of_arrays, tools=tools, part=part)
    best = run_stage(job, f"best_of_{part.seed}", work).arrays
    found.start.append(numbers_of(start.arrays, start.info, start.arrays))
    wins = prompt_win_rates(*(x["named"][OBJECTIVE] for x in (best, start.arrays)))
    found.best_of.append({**best, "wins": wins})
    found.quality.append(part.quality)
    return start.arrays


def first_seed(
    job: Run, tools: Tools, part: Part, name: str, start: dict[str, Any], found: Findings
) -> None:
    """A method on the first seed, with the rate that it is given or that the sweep chooses."""
    rate, done, sweep = swept(job, tools, part, name, found.rates)
    found.rates[name], found.sweep[name] = rate, sweep
    found.numbers[name] = [measured(job, tools, part, name, done, start)]
