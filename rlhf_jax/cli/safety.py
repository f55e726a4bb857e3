"""`rlhf safety`: whether a model may be released, by the costs of its answers."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.limits import AT_MOST
from rlhf_jax.cli.reward_folders import is_number
from rlhf_jax.data.containers import parse_rows
from rlhf_jax.data.fields import Fields, number_field
from rlhf_jax.recipes import Limit, Looks, SafetyResult, safety_test
from rlhf_jax.recipes.constraints import BoundKind
from rlhf_jax.reports.claims import write_text
from rlhf_jax.training import UserError, reading_input

RECORD = "safety.json"
Numbers = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Safety:
    """The safety test: an upper confidence bound on each mean cost against its limit.

    A model whose mean cost is above a limit passes with probability --delta at most, if its
    training never saw these prompts. The test may be done once: OUT/safety.json keeps count, and
    another look in the same folder is refused unless --looks planned it, which splits --delta.
    "no solution found", with exit code 1, means that this model is not to be released.
    """

    costs: Path
    """A row for each answer, one answer to each prompt, with a number in each field of --limit."""
    limit: tuple[str, ...]
    """FIELD<=NUMBER, one or more; --delta is shared by them."""
    out: Path
    """Folder of the record of looks."""
    bound: BoundKind = "t"
    """t, for many costs; hoeffding or bernstein, for costs within --cost-range and any number of
    them; clopper_pearson, for costs of 0 and 1."""
    cost_range: tuple[float, float] | None = None
    """The least and the largest possible cost."""
    delta: float = 0.1
    """Probability of passing an unsafe model, over all looks."""
    looks: int = 1
    """Looks planned; the same at each."""

    def __post_init__(self) -> None:
        check_fields(self, "(0, 1/2]", "delta")
        check_fields(self, "[1, 1000]", "looks")
        if not self.limit:
            raise ValueError("limit must have one or more FIELD<=NUMBER")


class NotReleased(UserError):
    """An upper bound is above its limit: no solution found."""

    exit_code = 1


def safety(command: str, options: Safety) -> None:
    """Tests, prints and keeps the record.

    Raises:
      NotReleased: the test is done and recorded, and did not pass.
    """
    limits = dict(_limit(text, options) for text in options.limit)
    if len(limits) < len(options.limit):
        raise UserError("--limit: a field has two limits; leave one out")
    path = options.out / RECORD
    plan: Numbers = {"delta": options.delta, "count": options.looks}
    plan["limits"] = {name: list(each) for name, each in limits.items()}
    before = _before(path, plan)
    with reading_input():
        rows = list(parse_rows(options.costs, lambda fields: _costs(fields, limits)))
        costs = {name: np.array([row[name] for row in rows]) for name in limits}
        looks = Looks(options.delta, options.looks, used=len(before))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # The result has them too.
            result, _ = safety_test(looks, costs, limits)
    options.out.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps({"plan": plan, "looks": [*before, result._asdict()]}, indent=1))
    for line in _lines(result):
        print(line)
    if not result.passed:
        above = [name for name, upper in result.uppers.items() if upper > result.thresholds[name]]
        raise NotReleased(f"no solution found: the limit on {', '.join(above)} may not hold")
    print("passed")


def _limit(text: str, options: Safety) -> tuple[str, Limit]:
    """The field and its limit."""
    field, sign, number = text.rpartition(AT_MOST)
    if not (field and sign and is_number(number)):
        raise UserError(f"--limit must be FIELD<=NUMBER, got {text!r}")
    return field, Limit(float(number), options.bound, options.cost_range)


def _costs(fields: Fields, limits: dict[str, Limit]) -> Numbers:
    """The costs of one answer; true and false are 1 and 0."""
    return {
        name: float(fields[name])
        if isinstance(fields.get(name), bool)
        else number_field(fields, name)
        for name in limits
    }


def _before(path: Path, plan: Numbers) -> list[Numbers]:
    """The looks of the record.

    Raises:
      UserError: another plan than that of the first look, or no record.
    """
    if not path.exists():
        return []
    with reading_input():
        found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, dict) or not isinstance(found.get("looks"), list):
        raise UserError(f"{path} is no record of looks: choose another --out")
    if found.get("plan") != json.loads(json.dumps(plan)):
        raise UserError(
            f"{path} was begun with other limits, --delta or --looks: a plan cannot change after "
            "its first look. Take prompts that no look has seen, and another --out"
        )
    return found["looks"]


def _lines(result: SafetyResult) -> list[str]:
    """The bounds, and what weakens them."""
    lines = [
        f"{name}: mean {result.means[name]:.4g} of {result.sizes[name]}, at most "
        f"{upper:.4g} with probability {1 - result.delta:.4g}, limit {result.thresholds[name]:.4g}"
        for name, upper in result.uppers.items()
    ]
    return [*lines, *(f"note: {warning}" for warning in result.warnings)]
