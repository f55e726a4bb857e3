"""The step every algorithm shares: differentiate, update, report."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from rlhf_jax.ops.masking import Mean
from rlhf_jax.types import Params, TrainState

Diagnostics = dict[str, Mean]
Objective = Callable[[Params], tuple[Mean, Diagnostics]]


def init_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """TrainState at step 0 for these params."""
    return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def gradient_step(
    state: TrainState, objective: Objective, optimizer: optax.GradientTransformation
) -> tuple[TrainState, Diagnostics]:
    """One optimiser step on `objective(params) -> (loss as a Mean, diagnostics)`.

    The gradient is that of total / weight. Diagnostics come back with "loss" and "grad_norm" (the
    global 2-norm before the optimiser touches it) added; each is a `Mean` of two scalars.
    """

    def loss_fn(params):
        loss, diagnostics = objective(params)
        return loss.value(), (loss, diagnostics)

    grads, (loss, diagnostics) = jax.grad(loss_fn, has_aux=True)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    norm = Mean(optax.tree.norm(grads), jnp.ones(()))
    metrics = {"loss": loss, "grad_norm": norm} | diagnostics
    return TrainState(params, opt_state, state.step + 1), metrics
