"""Any loss of pairs against a reference that follows the policy: TR-DPO, and sDPO by slices.

    update = make_moving_reference_update(policy, optimizer, partial(dpo_loss, beta=0.1), rate=0.01)
    state, metrics = update(init_moving_reference(params, ref_params, optimizer), batch)

The reference is run in every update, so the batch carries no reference log-probs. What the optimum
is tied to moves with it: the end depends on the number of steps, and a long run forgets the first
reference.
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from rlhf_jax.algos.gradient import Diagnostics, Penalise, accumulate, init_state
from rlhf_jax.algos.preference import attach_reference, make_objective
from rlhf_jax.checks import check_range
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.types import (
    AnswerLogps,
    PairLoss,
    Params,
    Policy,
    PreferenceBatch,
    Scalar,
    TrainState,
    Update,
)


class MovingReference(NamedTuple):
    """train: of the policy. ref_params: of the reference after as many steps."""

    train: TrainState
    ref_params: Params


def init_moving_reference(
    params: Params, ref_params: Params, optimizer: optax.GradientTransformation
) -> MovingReference:
    """Step 0; the two sets of params are usually the same."""
    return MovingReference(init_state(params, optimizer), ref_params)


def make_moving_reference_update(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    loss: PairLoss,
    *,
    rate: Scalar,
    every: int = 1,
    logps: AnswerLogps = sequence_logps,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[MovingReference, PreferenceBatch]:
    """Trust-region DPO (TR-DPO): one step on the loss, then the reference moves.

    ref <- rate * params + (1 - rate) * ref   after every `every`-th step.

    Args:
      loss, logps: as in `preference.make_update`, with a reference.
      rate: alpha in [0, 1]. Below 1 it is the paper's soft update; 1 is the hard one, and with
        `every` the steps of a slice of the data, sDPO.
      every: tau >= 1, steps between two moves.
      parts, penalty: as in `gradient.accumulate`; micro-batches share the step's reference.
    Returns:
      Pure `update(state, batch) -> (state, metrics)` from `init_moving_reference`; metrics as in
      `preference.make_update`, against the reference before the move.
    Reduces to: `preference.make_update` at rate = 0.
    Reference: Gorbatovski et al. 2024, arXiv:2404.09656; Kim et al. 2024, arXiv:2403.19270, sDPO.
    """
    check_range("[0, 1]", rate=rate)
    check_range("[1, inf)", every=every)
    objective = make_objective(policy, loss, logps=logps)
    step = accumulate(objective, optimizer, parts=parts, penalty=penalty)

    def update(
        state: MovingReference, batch: PreferenceBatch
    ) -> tuple[MovingReference, Diagnostics]:
        bare = replace(batch, ref_chosen_logps=None, ref_rejected_logps=None)
        anchored = attach_reference(policy, state.ref_params, bare, logps=logps)
        train, metrics = step(state.train, anchored)
        share = jnp.where(train.step % every == 0, rate, 0.0)

        def move(new: Array, ref: Array) -> Array:
            # In bfloat16 the two shares would not sum to 1, and the reference would shrink.
            wide = jnp.promote_types(ref.dtype, jnp.float32)
            kept = (1.0 - share).astype(wide)
            # Not ref + share (params - ref): at share 1 the sum would round.
            return (share.astype(wide) * new + kept * ref).astype(ref.dtype)

        return MovingReference(train, jax.tree.map(move, train.params, state.ref_params)), metrics

    return update
