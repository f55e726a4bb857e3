"""Kinds of reward model on the same pairs of the shop, in three forms, with several seeds."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from experiments.shop_rewards.config import Config
from experiments.shop_rewards.findings import Findings
from experiments.shop_rewards.kinds import KINDS
from experiments.shop_rewards.kinds.scoring import Fitted
from experiments.shop_rewards.measure import Numbers, numbers_of, score_sets, shared_errors
from experiments.shop_rewards.policies import (
    POLICIES,
    Path,
    path_of,
    stage_name,
    start_numbers,
    train_policy,
)
from experiments.shop_rewards.report import write_report
from experiments.shop_rewards.sets import Sets, make_sets
from experiments.shop_rewards.users import fit_users
from experiments.shop_rewards.world import FORMS, Part, Tools, make_parts, make_tools
from rlhf_jax.reports.claims import Outcome
from rlhf_jax.training import Run, run_stage


def run(config: Config, job: Run) -> Outcome:
    """Trains and measures every kind on its forms; then policies on the flipped pairs."""
    tools = make_tools(config, job)
    parts, sets = make_parts(job, tools), make_sets(job, tools)
    found = Findings({}, {}, {}, [], {})
    for seed in range(config.seeds):
        for form in FORMS:
            part = parts[form, seed]
            fitted = {
                name: measured(job, tools, sets, part, name, found)
                for name, kind in KINDS.items()
                if name in config.chosen() and form in kind.forms
            }
            if config.policies and form == "flipped":
                train_policies(job, tools, part, fitted, found)
        if "users" in config.chosen():
            found.users.append(fit_users(job, tools, parts["clean", seed], sets))
    return write_report(job, found, sets, config.data.pairs)


def measured(
    job: Run,
    tools: Tools,
    sets: Sets,
    part: Part,
    name: str,
    found: Findings,
) -> Fitted:
    """A trained kind, with what is measured of it added to the findings."""
    fitted = KINDS[name].fit(job, tools, part)
    work = partial(score_sets, fitted=fitted, part=part, sets=sets)
    arrays = run_stage(job, f"{part.name}_{name}_scores", work).arrays
    for reading, scores in arrays["readings"].items():
        add(found.numbers, (part.form, reading), numbers_of(scores, sets.gold))
        add(found.seconds, reading, fitted.seconds)
    if "members" in arrays:
        members, half = arrays["members"], len(arrays["members"]) // 2
        add(found.errors, name, shared_errors(members, sets.gold))
        if name == "separate":
            halves = [shared_errors(each, sets.gold) for each in (members[:half], members[half:])]
            add(found.errors, "halves", halves[0] - halves[1])
    return fitted


def train_policies(
    job: Run, tools: Tools, part: Part, fitted: Mapping[str, Fitted], found: Findings
) -> None:
    """GRPO on the rewards of this part that are compared."""
    rewards = {name: make for kind in fitted.values() for name, make in kind.rewards.items()}
    chosen = [name for name in POLICIES if name in rewards]
    if not chosen:
        return
    start = start_numbers(job, tools)
    for name in chosen:
        train_policy(job, tools, part, name, rewards[name]())
        add(found.policies, name, path_of(job, stage_name(part, name), start))


def add(found: dict[Any, list], name: Any, value: float | Path | Numbers) -> None:
    """One more seed."""
    found.setdefault(name, []).append(value)
