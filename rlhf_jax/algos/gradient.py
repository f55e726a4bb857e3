"""The gradient step that every algorithm shares."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from rlhf_jax.ops.masking import Mean
from rlhf_jax.types import Params, TrainState

Diagnostics = dict[str, Mean]
Objective = Callable[[Params], tuple[Mean, Diagnostics]]


def init_state(params: Params, optimizer: optax.GradientTransformation) -> TrainState:
    """TrainState at step 0 for these params."""
    return TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))


def check_losses(
    losses: Array, shape: tuple[int, ...], *, loss: Callable[..., Array], per: str
) -> None:
    """ValueError unless a loss returned one value per example; a mean over tokens counts padding.

    Args:
      losses: output of `loss`.
      shape: the expected shape, one value per `per`, e.g. "pair".
    """
    if jnp.shape(losses) != shape:
        function = loss.func if isinstance(loss, partial) else loss
        raise ValueError(
            f"{getattr(function, '__name__', function)} returned losses of shape "
            f"{list(jnp.shape(losses))}; this update needs one loss per {per}, {list(shape)}. "
            "For a loss per token pass a reduction of ops.masking, e.g. make_answer_update(..., "
            "reduction=token_mean); a loss per answer needs none"
        )


def gradient_step(
    state: TrainState, objective: Objective, optimizer: optax.GradientTransformation
) -> tuple[TrainState, Diagnostics]:
    """One optimiser step on `objective(params) -> (loss as a Mean, diagnostics)`.

    The gradient is taken of total / weight. "loss" and "grad_norm" (global 2-norm of the gradient,
    before the optimiser) are added to the diagnostics; each is a `Mean` of two scalars.
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
