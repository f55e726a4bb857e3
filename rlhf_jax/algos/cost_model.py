"""Fitting a cost model: scores that rise with harm, with a zero of their own or without one.

    update = cost_model.make_update(cost, optimizer)  # signed: comparisons and two labels
    update = cost_model.make_update(cost, optimizer, zero="comparisons")
    tau = cost_threshold("comparisons", -0.5, ref_costs=costs_of_reference_answers)

In a batch the chosen answer is the less harmful one. A signed model reads a cost above 0 as unsafe,
so that a limit on the mean cost is a number. Comparisons leave the zero of each prompt free: their
limit is set relative to the costs of reference answers.
"""

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float
from numpy.typing import ArrayLike

from rlhf_jax.algos import reward_model
from rlhf_jax.algos.gradient import Diagnostics, Penalise, accumulate
from rlhf_jax.checks import check_range
from rlhf_jax.losses.feedback import cost_model_loss
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.masking import Mean
from rlhf_jax.types import Params, PreferenceBatch, RewardFn, TrainState, Update

CostZero = Literal["signed", "comparisons"]
LABELS = ("chosen_unsafe", "rejected_unsafe")


def make_objective(
    cost: RewardFn, *, zero: CostZero = "signed"
) -> Callable[[Params, PreferenceBatch], tuple[Mean, Diagnostics]]:
    """The objective of `make_update`: `(params, batch) -> (Mean over the pairs, diagnostics)`."""
    loss = _signed if zero == "signed" else _compared
    # A cost is a score with the other sign.
    scores = RewardFn(cost.init, lambda params, answers: -cost.scores(params, answers))
    objective = reward_model.make_objective(scores, loss=loss)

    def checked(params: Params, batch: PreferenceBatch) -> tuple[Mean, Diagnostics]:
        known = batch.columns or {}
        missing = [name for name in LABELS if name not in known]
        if zero == "signed" and missing:
            raise ValueError(
                f"a signed cost model needs the column {missing[0]!r} (1 or 0): comparisons only "
                "leave the zero of a cost free. Label both answers, or choose zero='comparisons' "
                "and set the limit by cost_threshold on reference answers"
            )
        found, diagnostics = objective(params, batch)
        return found, {name.replace("scores/", "costs/"): x for name, x in diagnostics.items()}

    return checked


def make_update(
    cost: RewardFn,
    optimizer: optax.GradientTransformation,
    *,
    zero: CostZero = "signed",
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, PreferenceBatch]:
    """Update on `cost_model_loss` (signed) or on `bradley_terry_loss` of costs (comparisons).

    Args:
      zero: signed reads the columns "chosen_unsafe" and "rejected_unsafe" [*B], 1 or 0; any other
        label gives NaN.
      parts, penalty: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)` with metrics "loss", "grad_norm",
      "costs/accuracy" (the chosen answer has the lower cost; ties count one half) and
      "costs/margin" (the rejected cost less the chosen one). It raises ValueError at trace time for
      a signed model without the labels.
    Reference: Dai et al. 2023, arXiv:2310.12773 (signed); HC-RLHF, arXiv:2506.08266, scripts.
    Departs: no penalty on the squares of the costs.
    """
    return accumulate(make_objective(cost, zero=zero), optimizer, parts=parts, penalty=penalty)


def cost_threshold(zero: CostZero, value: float, *, ref_costs: ArrayLike | None = None) -> float:
    """The limit tau on a mean cost.

    signed: tau = value.   comparisons: tau = mean(c_ref) + value sd(c_ref).

    Args:
      ref_costs: [N] of answers of the reference policy; for comparisons, N >= 2.
    Raises:
      ValueError: a model of comparisons without reference answers, or those of a signed one.
    """
    check_range("(-inf, inf)", threshold=value)
    if zero == "signed":
        if ref_costs is not None:
            raise ValueError("a signed cost model has a zero: its limit needs no ref_costs")
        return float(value)
    if ref_costs is None:
        raise ValueError(
            "costs of comparisons have no zero, so a number is no limit: give ref_costs, and the "
            "limit in standard deviations from their mean"
        )
    known = np.asarray(ref_costs, np.float64)
    if known.size < 2 or not np.isfinite(known).all():
        raise ValueError(f"ref_costs must be 2 or more finite numbers, got {known!r:.80}")
    return float(known.mean() + value * known.std(ddof=1))


def _signed(
    chosen_scores: Float[Array, "*B"],
    rejected_scores: Float[Array, "*B"],
    chosen_unsafe: Float[Array, "*B"],
    rejected_unsafe: Float[Array, "*B"],
) -> Float[Array, "*B"]:
    """`cost_model_loss` of scores, which are minus costs; the rejected answer is the worse one."""
    labels = (rejected_unsafe, chosen_unsafe)
    known = jnp.stack([(label == 0) | (label == 1) for label in labels]).all(0)
    unsafe = [label == 1 for label in labels]
    losses = cost_model_loss(-rejected_scores, -chosen_scores, *unsafe)
    return jnp.where(known, losses, jnp.nan)


def _compared(
    chosen_scores: Float[Array, "*B"], rejected_scores: Float[Array, "*B"], **_: Array
) -> Float[Array, "*B"]:
    """`bradley_terry_loss`; labels are not read."""
    return bradley_terry_loss(chosen_scores, rejected_scores)
