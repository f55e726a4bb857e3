"""Limits on mean costs from --cost, for commands that train on fresh answers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlhf_jax.algos.cost_model import cost_threshold
from rlhf_jax.checks import check_fields
from rlhf_jax.cli.reward_folders import is_number
from rlhf_jax.recipes import CostLimits, LanguageLab, Task, cost_inflation, measure
from rlhf_jax.recipes.constraints import DualRule
from rlhf_jax.recipes.lab import chunk_of, stage_key
from rlhf_jax.training import UserError
from rlhf_jax.types import Params

REFERENCE = 256  # answers of the first model, for a limit relative to them
SIGNED, RELATIVE, AT_MOST = "signed:", "ref", "<="


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Limits on mean costs, by a Lagrangian."""

    cost: tuple[str, ...] = ()
    """SCORER<=LIMIT, a scorer as of --reward; higher is worse. The limit is a number, or ref-0.5:
    half a standard deviation below the mean of the first model's answers. A reward model's folder
    was trained on comparisons, so its costs have no zero: it needs such a limit, or signed: before
    it where a cost above 0 means unsafe."""
    cost_rule: DualRule = "pid"
    """How a multiplier follows its cost: proportional and integral, or one gradient step."""
    cost_rate: float = 0.02
    """Step of a multiplier."""
    cost_test: int = 0
    """Answers of the safety test that will follow, see rlhf safety: the mean stays below its limit
    by twice the margin of that test. 0: by none."""
    cost_delta: float = 0.1
    """Probability of releasing an unsafe model that the test will ask for."""

    def __post_init__(self) -> None:
        check_fields(self, "(0, 1000]", "cost_rate")
        check_fields(self, "[0, inf)", "cost_test")
        check_fields(self, "(0, 1/2]", "cost_delta")
        if self.cost_test == 1:
            raise ValueError("cost_test must be 0, or 2 and more")
        cost_specs(self)


class CostSpec(NamedTuple):
    """scorer: as of --reward. value: of the limit. relative: in standard deviations from the mean
    of the first model's costs."""

    scorer: str
    value: float
    relative: bool


def cost_of(spec: str) -> CostSpec:
    """SCORER<=LIMIT in parts.

    Raises:
      ValueError: no limit, one that is no number, or a number for costs without a zero.
    """
    scorer, sign, limit = spec.rpartition(AT_MOST)
    relative = limit.startswith(RELATIVE)
    number = limit.removeprefix(RELATIVE) or "0"
    if not (scorer and sign) or not is_number(number) or not np.isfinite(float(number)):
        raise ValueError(f"cost must be SCORER<=NUMBER or SCORER<=ref-NUMBER, got {spec!r}")
    plain = scorer.removeprefix(SIGNED)
    folder = plain.split("*", 1)[-1] if "*" in plain else plain
    if Path(folder).is_dir() and plain == scorer and not relative:
        raise ValueError(
            f"cost {spec!r}: the costs of a model of comparisons have no zero. Write "
            f"{scorer}<=ref-0.5 for a limit relative to the first model, or {SIGNED}{spec} if a "
            "cost above 0 means unsafe"
        )
    return CostSpec(plain, float(number), relative)


def cost_specs(options: Costs) -> dict[str, CostSpec]:
    """Name -> spec of every --cost; a folder's name is its last part.

    Raises:
      ValueError: two of one name, or as `cost_of`.
    """
    found: dict[str, CostSpec] = {}
    for text in options.cost:
        spec = cost_of(text)
        name = spec.scorer.rstrip("/").rsplit("/", 1)[-1]
        if name in found:
            raise ValueError(f"cost has two limits on {name!r}; leave one out")
        found[name] = spec
    return found


def cost_limits(options: Costs, lab: LanguageLab, task: Task, params: Params) -> CostLimits | None:
    """The limits of --cost under the names of the task's scores; None without any.

    Args:
      params: of the first model, which answers training prompts where a limit is relative to it.
    """
    if not options.cost:
        return None
    specs = cost_specs(options)
    seen: dict[str, Any] = {}
    if any(spec.relative for spec in specs.values()):
        indices = np.asarray(task.splits["train"][:REFERENCE])
        key = stage_key(lab, "reference costs")
        chunk = chunk_of(lab, len(indices))
        seen |= measure(lab, task, params, params, indices, key, chunk=chunk).named
    thresholds = {
        name: _threshold(name, spec, np.ravel(seen[name]) if spec.relative else None)
        for name, spec in specs.items()
    }
    buffer, inflation = CostLimits({}).buffer, 0.0
    if options.cost_test:
        delta = options.cost_delta / len(specs)
        inflation = cost_inflation(buffer, options.cost_test, delta=delta)
    return CostLimits(
        thresholds, inflation=inflation, rule=options.cost_rule, rate=options.cost_rate
    )


def _threshold(name: str, spec: CostSpec, ref_costs: np.ndarray | None) -> float:
    """tau; missing costs of the first model do not count."""
    if ref_costs is None:
        return cost_threshold("signed", spec.value)
    known = ref_costs[np.isfinite(ref_costs)]
    if len(known) < 2:
        raise UserError(f"--cost {name}: the first model's answers have no costs to compare with")
    found = cost_threshold("comparisons", spec.value, ref_costs=known)
    print(f"--cost {name}: the limit is {found:.4g}, by {len(known)} answers of the first model")
    return found
