"""Kinds of reward model on the same pairs of the shop, in three forms, with several seeds."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from experiments.shop_rewards.config import Config
from experiments.shop_rewards.curve import fit_curve
from experiments.shop_rewards.density import train_arms
from experiments.shop_rewards.findings import Findings
from experiments.shop_rewards.kinds import KINDS
from experiments.shop_rewards.kinds.scoring import Fitted, MakeReward
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
    found = Findings({}, {}, {}, [], {}, [], [])
    rewards: dict[int, dict[str, MakeReward]] = {seed: {} for seed in range(config.seeds)}
    for form in FORMS:
        for name, part in trainings(config.chosen(), parts, form):
            fitted = measured(job, tools, sets, part, name, found)
            if form == "flipped":
                rewards[part.seed].update(fitted.rewards)
        if form == "clean":
            clean = [parts["clean", seed] for seed in range(config.seeds)]
            if "users" in config.chosen():
                found.users.extend(fit_users(job, tools, part, sets) for part in clean)
            if {"scalar", "features"} <= {*config.chosen()}:
                found.curves.extend(fit_curve(job, tools, part, sets) for part in clean)
    if config.policies:
        flipped = [parts["flipped", seed] for seed in range(config.seeds)]
        if "spans" in config.chosen():
            made = (rewards[part.seed]["spans"]() for part in flipped)
            each = zip(flipped, made, strict=True)
            found.density.extend(train_arms(job, tools, part, reward) for part, reward in each)
        train_policies(job, tools, flipped, rewards, found)
    return write_report(job, found, sets, config.data)


def trainings(
    chosen: Sequence[str], parts: Mapping[tuple[str, int], Part], form: str
) -> Iterator[tuple[str, Part]]:
    """Each chosen kind with each part of the form, if it is trained on that."""
    for name, kind in KINDS.items():
        if name in chosen:
            for (of, seed), part in parts.items():
                if of == form and (form in kind.forms or (form in kind.once and seed == 0)):
                    yield name, part


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
        add(found.numbers, (part.form, reading), numbers_of(scores, sets.gold, sets.lengths))
        add(found.seconds, reading, fitted.seconds)
    if "members" in arrays:
        members, half = arrays["members"], len(arrays["members"]) // 2
        add(found.errors, name, shared_errors(members, sets.gold))
        if name == "separate":
            halves = [shared_errors(each, sets.gold) for each in (members[:half], members[half:])]
            add(found.errors, "halves", halves[0] - halves[1])
    return fitted


def train_policies(
    job: Run,
    tools: Tools,
    parts: Sequence[Part],
    rewards: Mapping[int, Mapping[str, MakeReward]],
    found: Findings,
) -> None:
    """GRPO on those rewards of each seed that are compared."""
    for name in POLICIES:
        for part in parts:
            if name in rewards[part.seed]:
                start = start_numbers(job, tools)
                train_policy(job, tools, part, name, rewards[part.seed][name]())
                add(found.policies, name, path_of(job, stage_name(part, name), start))


def add(found: dict[Any, list], name: Any, value: float | Path | Numbers) -> None:
    """One more seed."""
    found.setdefault(name, []).append(value)
