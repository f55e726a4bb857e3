"""The safety test of a trained policy: it is released if its mean costs are low with confidence.

    result, looks = safety_test(Looks(delta=0.1), {"harm": costs}, {"harm": Limit(0.0)})
    found = release(params, result)          # the params, or NoSolution

If the costs are independent of the policy's training, an unsafe policy is released with probability
delta at most (`upper_bounds` says which bounds hold for every number of costs). A second look at
fresh answers is a second chance to fail, so the number of looks is fixed before the first.
"""

import warnings
from collections.abc import Mapping
from typing import NamedTuple, TypeVar

import numpy as np
import scipy
from numpy.typing import ArrayLike

from rlhf_jax.checks import check_range
from rlhf_jax.exact.upper_bounds import BoundKind, Bounds, mean_upper_bound, t_failure

_Policy = TypeVar("_Policy")
EXCESS = 0.25  # of delta: a t bound that is expected to fail more often is warned about


class Limit(NamedTuple):
    """E c <= threshold. kind: of the confidence bound. bounds: (a, b) of all possible costs; for
    clopper_pearson they are (0, 1)."""

    threshold: float
    kind: BoundKind = "t"
    bounds: Bounds | None = None


class Looks(NamedTuple):
    """Tests that share one probability of releasing an unsafe policy.

    delta: of all together. count: planned before the first, each at delta / count. used: so far.
    """

    delta: float
    count: int = 1
    used: int = 0


class SafetyResult(NamedTuple):
    """passed: whether every upper bound is at most its threshold.

    means, uppers, thresholds: of each constraint by name. sizes: costs of each.
    delta: of each bound, after the split over constraints and looks. warnings: what weakens it.
    """

    passed: bool
    means: dict[str, float]
    uppers: dict[str, float]
    thresholds: dict[str, float]
    sizes: dict[str, int]
    delta: float
    warnings: tuple[str, ...] = ()


class NoSolution(NamedTuple):
    """No solution found: no policy is returned. result: of the test that failed."""

    result: SafetyResult


def safety_test(
    looks: Looks, costs: Mapping[str, ArrayLike], limits: Mapping[str, Limit]
) -> tuple[SafetyResult, Looks]:
    """One look: every constraint's upper bound at delta / (M looks) against its limit.

    The union bound over M constraints and all looks keeps delta for any of them to fail.

    Args:
      looks: what is left; give the returned one to the next look.
      costs: name -> [N], one answer of the policy to each of N prompts that training never saw.
      limits: the same names.
    Raises:
      ValueError: no look is left, names differ, a cost is not finite or out of its bounds, or a
        threshold is outside the range of the costs.
    """
    check_range("(0, 1/2]", delta=looks.delta)
    check_range("[1, inf)", looks=looks.count)
    if looks.used >= looks.count:
        raise ValueError(
            f"all planned looks are used ({looks.count}): another one would raise the probability "
            f"of releasing an unsafe policy above delta = {looks.delta}. Plan more looks before "
            "the first one, which splits delta, or take a new safety set"
        )
    if set(costs) != set(limits) or not limits:
        raise ValueError(f"costs and limits must have the same names, got {[*costs]}, {[*limits]}")
    delta = looks.delta / (looks.count * len(limits))
    arrays = {name: np.asarray(values, np.float64) for name, values in costs.items()}
    uppers, notes = {}, []
    for name, limit in limits.items():
        _check_sample(name, arrays[name], limit)
        bound = mean_upper_bound(arrays[name], delta=delta, kind=limit.kind, bounds=limit.bounds)
        uppers[name] = float(bound)
        notes += [] if limit.kind != "t" else _t_warnings(name, arrays[name], delta)
    for note in notes:
        warnings.warn(note, stacklevel=2)
    thresholds = {name: float(limit.threshold) for name, limit in limits.items()}
    result = SafetyResult(
        passed=all(uppers[name] <= thresholds[name] for name in limits),
        means={name: float(array.mean()) for name, array in arrays.items()},
        uppers=uppers,
        thresholds=thresholds,
        sizes={name: array.size for name, array in arrays.items()},
        delta=delta,
        warnings=tuple(notes),
    )
    return result, looks._replace(used=looks.used + 1)


def release(policy: _Policy, result: SafetyResult) -> _Policy | NoSolution:
    """The policy, e.g. its params, if it passed, or `NoSolution`."""
    return policy if result.passed else NoSolution(result)


def t_doubts(costs: ArrayLike, *, delta: float) -> np.ndarray:
    """[*B] how often the t bound of costs [*B, N] is likely to fail, by their skewness.

    0 where that is not much more than delta; 1 where all costs are equal, for then the bound is
    their mean.
    """
    costs = np.asarray(costs, np.float64)
    same = np.ptp(costs, axis=-1) == 0.0
    spread = np.where(same[..., None], np.arange(costs.shape[-1]), costs)
    failure = t_failure(scipy.stats.skew(spread, axis=-1), costs.shape[-1], delta=delta)
    return np.asarray(np.where(same, 1.0, np.where(failure > (1.0 + EXCESS) * delta, failure, 0.0)))


def _t_warnings(name: str, costs: np.ndarray, delta: float) -> list[str]:
    """What makes a t bound of these costs [N] fail more often than delta, in words."""
    failure = float(t_doubts(costs, delta=delta))
    if failure == 1.0:
        return [
            f"{name}: all {costs.size} costs are {costs[0]:g}, and the t bound is that number; "
            "rarer costs cannot be seen: use clopper_pearson or hoeffding"
        ]
    if failure == 0.0:
        return []
    return [
        f"{name}: {costs.size} costs are skewed, so that the t bound fails with probability "
        f"{failure:.2g} or more, where {delta:.2g} is asked: use hoeffding, bernstein or "
        "clopper_pearson, or more costs"
    ]


def _check_sample(name: str, costs: np.ndarray, limit: Limit) -> None:
    """ValueError for costs that are no list of numbers, or a limit that always or never holds."""
    if costs.ndim != 1:
        raise ValueError(f"costs of {name!r} must be [N], got shape {costs.shape}")
    if not np.isfinite(limit.threshold):
        raise ValueError(f"the threshold of {name!r} must be finite, got {limit.threshold}")
    low, high = (0.0, 1.0) if limit.kind == "clopper_pearson" else limit.bounds or (-np.inf, np.inf)
    if not low < limit.threshold < high:
        raise ValueError(
            f"the threshold of {name!r} must be inside the range of its costs ({low:g}, {high:g}), "
            f"got {limit.threshold:g}"
        )
