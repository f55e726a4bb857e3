"""Updates on single answers with a label or a score: APO-zero, KTO, BCO, DRO.

    loss = partial(kto_loss, beta=0.1)
    update = unpaired.make_update(policy, optax.adam(1e-3), loss, mismatched=True)
    state, metrics = update(gradient.init_state(params, optax.adam(1e-3)), batch)

| method | function | beside the answers |
|---|---|---|
| APO-zero, point-wise DPO | `make_update` | labels |
| KTO | `make_update` with `mismatched=True` | labels, mismatched answers |
| BCO | `make_bco_update` | labels; a running mean in its state |
| DRO | `make_dro_update` | scores; a value function |

Rows of weight 0 have no effect, even if they are NaN. Shared argument and metrics:
  parts: micro-batches, as in `gradient.accumulate`. The numbers that a loss takes from the batch
    (KTO's KL, BCO's mean) are those of the whole batch.
  "loss", "grad_norm", "logps/answer" and, means of log pi - log pi_ref in nats, "rewards/desirable"
    and "rewards/undesirable" (DRO has no labels: "rewards/answer").
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rlhf_jax.algos.gradient import (
    Diagnostics,
    Penalise,
    accumulate,
    check_losses,
    init_state,
    map_parts,
)
from rlhf_jax.algos.ppo import ActorCritic
from rlhf_jax.algos.preference import trajectory_logps
from rlhf_jax.losses.preference import bco_loss, bco_shift, dro_loss, kto_kl
from rlhf_jax.ops.masking import Mean, keep_weighted, weighted_mean
from rlhf_jax.types import (
    Params,
    Policy,
    Scalar,
    TrainState,
    Trajectory,
    UnpairedLoss,
    Update,
    ValueFn,
    record,
)


@record
class UnpairedBatch:
    """Single answers and what is known of each.

    answers: trajectory with leading axes [*B].
    labels: [*B] bool, True for good answers; for DRO float scores.
    ref_logps: [*B] float32 summed log-probs under the reference policy.
    mismatched: each prompt with the answer to another one, for KTO. ref_mismatched_logps: [*B].
    weights: [*B] float32, non-negative weight of each row in every mean; None means 1.
    """

    answers: Trajectory
    labels: Array
    ref_logps: Array
    mismatched: Trajectory | None = None
    ref_mismatched_logps: Array | None = None
    weights: Array | None = None


class BCOState(NamedTuple):
    """train: of the policy. shift: total and weight of beta u over the answers of all steps."""

    train: TrainState
    shift: Mean


def make_objective(policy: Policy, loss: UnpairedLoss) -> Callable[..., tuple[Mean, Diagnostics]]:
    """`(params, batch, point) -> (Mean over the answers, diagnostics)`.

    point: keyword arguments of the loss that are one number for the batch, e.g. {"kl": 0.3} for
    KTO or {"shift": 0.1} for BCO; {} for none.
    """

    def objective(
        params: Params, batch: UnpairedBatch, point: dict[str, Scalar]
    ) -> tuple[Mean, Diagnostics]:
        logps, refs = _answer_logps(policy, params, batch)
        losses = loss(logps, refs, batch.labels, **point)
        check_losses(losses, logps.shape, loss=loss, per="answer")
        weights = jnp.ones_like(logps) if batch.weights is None else batch.weights
        diagnostics = {
            "logps/answer": weighted_mean(logps, weights),
            "rewards/desirable": weighted_mean(logps - refs, weights * batch.labels),
            "rewards/undesirable": weighted_mean(logps - refs, weights * ~batch.labels),
        }
        return weighted_mean(losses, weights), diagnostics

    return objective


def make_update(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    loss: UnpairedLoss,
    *,
    mismatched: bool = False,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, UnpairedBatch]:
    """Update on a loss of labelled answers, averaged over them with the batch's weights.

    Args:
      loss: `(logps [*B], ref_logps [*B], labels [*B]) -> [*B]`, e.g.
        `partial(apo_zero_unpaired_loss, beta=0.1)`.
      mismatched: whether the loss also takes `kl`, KTO's estimate from the mismatched answers of
        the batch (`kto_kl`) under the params before the step; it becomes the metric "kl".
    Returns:
      Pure `update(state, batch) -> (state, metrics)`. At trace time it raises ValueError for a
      batch without the mismatched answers, or a loss that is not one value per answer.
    """
    step = accumulate(make_objective(policy, loss), optimizer, parts=parts, penalty=penalty)

    def update(state: TrainState, batch: UnpairedBatch) -> tuple[TrainState, Diagnostics]:
        if not mismatched:
            return step(state, batch, {})
        kl = _mismatched_kl(policy, state.params, batch, parts=parts)
        state, metrics = step(state, batch, {"kl": kl})
        return state, metrics | {"kl": Mean(kl, jnp.ones(()))}

    return update


def init_bco(params: Params, optimizer: optax.GradientTransformation) -> BCOState:
    """Step 0, before any answer."""
    return BCOState(init_state(params, optimizer), Mean(jnp.zeros(()), jnp.zeros(())))


def make_bco_update(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    beta: Scalar,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[BCOState, UnpairedBatch]:
    """Update on `bco_loss`; the shift is the mean of beta u over all answers up to this batch.

    Returns:
      Pure `update(state, batch) -> (state, metrics)`, from `init_bco`; the metric "shift" is the
      mean that the loss was given.
    Reference: Jung et al. 2024, arXiv:2404.04656; the batch's own answers are in the mean, as in
      the TRL trainer.
    """
    loss: Any = partial(bco_loss, beta=beta)
    step = accumulate(make_objective(policy, loss), optimizer, parts=parts, penalty=penalty)

    def update(state: BCOState, batch: UnpairedBatch) -> tuple[BCOState, Diagnostics]:
        def answer_logps(part: UnpairedBatch) -> tuple[Array, Array]:
            return _answer_logps(policy, state.train.params, part)

        both = map_parts(answer_logps, batch, parts=parts)
        shift = bco_shift(state.shift, *both, batch.weights, beta=beta)
        train, metrics = step(state.train, batch, {"shift": shift.value()})
        return BCOState(train, shift), metrics | {"shift": shift}

    return update


def make_dro_objective(
    policy: Policy, value_fn: ValueFn, *, beta: Scalar
) -> Callable[[ActorCritic, UnpairedBatch], tuple[Mean, Diagnostics]]:
    """`dro_loss`, V(x) being the value before an answer's first step: `(params, batch) -> ...`."""

    def objective(params: ActorCritic, batch: UnpairedBatch) -> tuple[Mean, Diagnostics]:
        logps, refs = _answer_logps(policy, params.policy, batch)
        answers = batch.answers
        first = jnp.argmax(answers.mask, axis=-1)[..., None]
        values = jnp.take_along_axis(value_fn.values(params.value, answers.inputs), first, -1)
        values = keep_weighted(values[..., 0], batch.weights)
        scores = keep_weighted(batch.labels, batch.weights)
        losses = dro_loss(logps, refs, scores, values, beta=beta)
        diagnostics = {
            "logps/answer": weighted_mean(logps, batch.weights),
            "rewards/answer": weighted_mean(logps - refs, batch.weights),
            "values/prompt": weighted_mean(values, batch.weights),
        }
        return weighted_mean(losses, batch.weights), diagnostics

    return objective


def make_dro_update(
    policy: Policy,
    value_fn: ValueFn,
    optimizer: optax.GradientTransformation,
    *,
    beta: Scalar,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, UnpairedBatch]:
    """Update of policy and values together on `dro_loss`.

    Returns:
      Pure `update(state, batch) -> (state, metrics)`; state.params is an `ActorCritic`. Another
      metric is "values/prompt".
    """
    objective = make_dro_objective(policy, value_fn, beta=beta)
    return accumulate(objective, optimizer, parts=parts, penalty=penalty)


def _answer_logps(
    policy: Policy, params: Params, batch: UnpairedBatch
) -> tuple[Float[Array, "*B"], Float[Array, "*B"]]:
    """Log-probs of the answers under the policy and the reference, 0 where the weight is 0."""
    logps = trajectory_logps(policy, params, batch.answers)
    return keep_weighted(logps, batch.weights), keep_weighted(batch.ref_logps, batch.weights)


def _mismatched_kl(
    policy: Policy, params: Params, batch: UnpairedBatch, *, parts: int
) -> Float[Array, ""]:
    """KTO's reference point of the whole batch."""
    if batch.mismatched is None or batch.ref_mismatched_logps is None:
        raise ValueError(
            "the batch has no mismatched answers: give it `mismatched` and `ref_mismatched_logps`"
        )

    def mismatched_logps(part: Any) -> Array:
        return trajectory_logps(policy, params, part)

    logps = map_parts(mismatched_logps, batch.mismatched, parts=parts)
    return kto_kl(logps, batch.ref_mismatched_logps, batch.weights)
