"""Limits on the mean costs of a policy in training, for `online`.

    limits = CostLimits({"harm": 0.0}, inflation=cost_inflation(256, 1000, delta=0.1))
    params = online(stage, lab, task, method, reward, sft, rows, fit, key=key, limits=limits)

A cost is a score of the task by its name, which the objective leaves out. An answer is worth its
reward less the multiplier times its cost; the multiplier is part of the train state.
"""

from functools import partial
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_entries, check_range
from rlhf_jax.exact.upper_bounds import BoundKind as BoundKind
from rlhf_jax.ops.constraints import (
    PIDState,
    cost_moments,
    lagrangian_beta,
    lagrangian_scores,
    log_gradient_multipliers,
    mirror_multipliers,
    pessimistic_violations,
    pid_multipliers,
    pid_start,
    projected_multipliers,
    shaped_costs,
)
from rlhf_jax.recipes.task import Scores
from rlhf_jax.training import UserError
from rlhf_jax.types import Scalar

DualRule = Literal["pid", "projected", "log_gradient", "mirror"]
RULES = {
    "projected": projected_multipliers,
    "log_gradient": log_gradient_multipliers,
    "mirror": mirror_multipliers,
}


class CostLimits(NamedTuple):
    """E c_m <= tau_m for each constraint m.

    thresholds: name of a score of the task -> tau.
    inflation: k; the mean plus k standard deviations stays below the limit
      (`exact.upper_bounds.cost_inflation`), 0 for the mean alone.
    rule, rate, proportional: how multipliers move; eta, and K_p of "pid", which has no derivative.
    start, largest: first and largest multiplier. buffer: past costs that moments are taken of.
    """

    thresholds: dict[str, float]
    inflation: float = 0.0
    rule: DualRule = "pid"
    rate: float = 0.02
    proportional: float = 1.0
    start: float = 1.0
    largest: float = 100.0
    buffer: int = 256


class DualState(NamedTuple):
    """multipliers: [M]. pid: of the controller, or (). costs: [M, buffer] the last costs, the
    oldest first, 0 where known is False: an answer had none, or there were not so many yet."""

    multipliers: Float[Array, " M"]
    pid: PIDState | tuple[()]
    costs: Float[Array, "M N"]
    known: Bool[Array, "M N"]


class Weighed(NamedTuple):
    """What a step learns from: scores less costs, the KL weight beside them, the next state, and
    "cost/<name>", the batch's mean cost, "multiplier/<name>", of this step."""

    scores: Float[Array, "B K"]
    beta: Scalar | Float[Array, ""]
    state: DualState
    metrics: dict[str, Any]


def first_multipliers(limits: CostLimits) -> DualState:
    """Before any cost was seen.

    Raises:
      ValueError: no limit, or a setting that is out of range.
    """
    if not limits.thresholds:
        raise ValueError("limits must name a score of the task and its threshold")
    check_entries("(-inf, inf)", thresholds=[*limits.thresholds.values()])
    check_range("[0, inf)", inflation=limits.inflation, proportional=limits.proportional)
    check_range("(0, inf)", rate=limits.rate, start=limits.start)
    check_range(f"[{limits.start}, inf)", largest=limits.largest)
    check_range("[2, inf)", buffer=limits.buffer)
    multipliers = jnp.full(len(limits.thresholds), limits.start, jnp.float32)
    pid = pid_start(multipliers) if limits.rule == "pid" else ()
    shape = (len(multipliers), limits.buffer)
    return DualState(multipliers, pid, jnp.zeros(shape), jnp.zeros(shape, bool))


def named_costs(limits: CostLimits, named: Scores) -> np.ndarray:
    """[M, B, K] of the task's scores.

    Raises:
      UserError: the task has no score of that name.
    """
    missing = [name for name in limits.thresholds if name not in named]
    if missing:
        raise UserError(f"limits has {missing[0]!r}, and the task's scores are {sorted(named)}")
    return np.stack([named[name] for name in limits.thresholds]).astype(np.float32)


def weigh(
    limits: CostLimits,
    state: DualState,
    scores: Float[Array, "B K"],
    costs: Float[Array, "M B K"],
    beta: Scalar,
) -> Weighed:
    """One step of the Lagrangian; an answer without a cost is left out.

    Reference: HC-RLHF, arXiv:2506.08266; Dai et al. 2023, arXiv:2310.12773.
    Departs: reward, cost and KL are divided by 1 + sum_m lambda_m; HC-RLHF's code divides nothing.
    """
    flat = costs.reshape(len(costs), -1)
    size = min(flat.shape[1], limits.buffer)
    past = jnp.where(state.known, state.costs, jnp.nan)
    seen = jnp.concatenate([past[:, size:], flat[:, flat.shape[1] - size :]], axis=1)
    moments, known = cost_moments(seen), jnp.isfinite(seen)
    thresholds = jnp.asarray([*limits.thresholds.values()], jnp.float32)
    violations = pessimistic_violations(moments, thresholds, inflation=limits.inflation)
    multipliers, pid = _moved(limits, state, violations)
    shaped = shaped_costs(costs, moments, inflation=limits.inflation)
    means = cost_moments(costs).means
    metrics = {}
    for i, name in enumerate(limits.thresholds):
        metrics |= {f"cost/{name}": means[i], f"multiplier/{name}": state.multipliers[i]}
    return Weighed(
        scores=lagrangian_scores(scores, shaped, state.multipliers),
        beta=lagrangian_beta(beta, state.multipliers),
        state=DualState(multipliers, pid, jnp.where(known, seen, 0.0), known),
        metrics=metrics,
    )


def _moved(
    limits: CostLimits, state: DualState, violations: Float[Array, " M"]
) -> tuple[Float[Array, " M"], PIDState | tuple[()]]:
    """The next multipliers by the rule of the limits."""
    options = {"rate": limits.rate, "largest": limits.largest}
    if isinstance(state.pid, PIDState):
        move = partial(pid_multipliers, proportional=limits.proportional, **options)
        return move(state.pid, violations)
    return RULES[limits.rule](state.multipliers, violations, **options), ()
