"""The gradient step that every algorithm shares, and its sum over micro-batches."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from rlhf_jax.checks import check_range
from rlhf_jax.ops.masking import Mean
from rlhf_jax.types import Params, PyTree, TrainState

Diagnostics = dict[str, Mean]
Objective = Callable[[Params], tuple[Mean, Diagnostics]]
BatchObjective = Callable[..., tuple[Mean, Diagnostics]]
Penalise = Callable[[Any, Any], Array]  # (params, batch) -> a scalar, added to any objective
Step = Callable[..., tuple[TrainState, Diagnostics]]


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
    return _apply(state, grads, loss, diagnostics, optimizer)


def accumulate(
    objective: BatchObjective,
    optimizer: optax.GradientTransformation,
    *,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Step:
    """One optimiser step per batch, its gradient summed over micro-batches.

    g = sum_k grad total_k / sum_k weight_k: one division by the weight of the whole batch, so that
    a token of a micro-batch with few tokens counts as much as any other.

    Args:
      objective: `(params, batch, *rest) -> (loss as a Mean, diagnostics)`. Its weight must not
        depend on the params, nor its total on other rows of the batch (whitening does).
      parts: micro-batches in a batch, >= 1; the memory is that of one of them.
      penalty: added to the objective by `add_penalty`; None adds nothing.
    Returns:
      Pure `update(state, batch, *rest) -> (state, metrics)`, the step of `gradient_step` on the
      whole batch up to rounding. `rest` reaches each micro-batch whole. It raises ValueError at
      trace time if `parts` does not divide the rows.
    """
    check_range("[1, inf)", parts=parts)
    if penalty is not None:
        objective = add_penalty(objective, penalty)

    def update(state: TrainState, batch: PyTree, *rest: Any) -> tuple[TrainState, Diagnostics]:
        if parts == 1:
            return gradient_step(state, lambda params: objective(params, batch, *rest), optimizer)

        def total(params: Params, part: PyTree) -> tuple[Array, tuple[Mean, Diagnostics]]:
            loss, diagnostics = objective(params, part, *rest)
            return loss.total, (loss, diagnostics)

        def slope(part: PyTree) -> PyTree:
            return jax.grad(total, has_aux=True)(state.params, part)

        def add(sums: PyTree, part: PyTree) -> tuple[PyTree, None]:
            return jax.tree.map(jnp.add, sums, slope(part)), None

        split = _split(batch, parts)
        like = jax.eval_shape(slope, jax.tree.map(lambda x: x[0], split))
        # At least float32: a bfloat16 sum of equal terms stops growing at 256 of them.
        zeros = jax.tree.map(
            lambda x: jnp.zeros(x.shape, jnp.promote_types(x.dtype, jnp.float32)), like
        )
        (grads, (loss, diagnostics)), _ = jax.lax.scan(add, zeros, split)
        # Without weight the totals and their gradients are 0 already.
        weight = jnp.where(loss.weight == 0, 1.0, loss.weight)
        grads = jax.tree.map(lambda g, x: (g / weight).astype(x.dtype), grads, state.params)
        return _apply(state, grads, loss, diagnostics, optimizer)

    return update


def add_penalty(objective: BatchObjective, penalty: Penalise) -> BatchObjective:
    """objective(params, batch) + penalty(params, batch), e.g. the load-balance loss of experts.

    Args:
      objective: `(params, batch, *rest) -> (loss as a Mean, diagnostics)`.
      penalty: `(params, batch) -> ` a scalar. Over micro-batches it is averaged with their weights.
    Returns:
      The same kind of function; "penalty" is added to the diagnostics.
    """

    def penalised(params: Params, batch: PyTree, *rest: Any) -> tuple[Mean, Diagnostics]:
        loss, diagnostics = objective(params, batch, *rest)
        added = Mean(loss.weight * penalty(params, batch), loss.weight)
        diagnostics = {**diagnostics, "penalty": added}
        return Mean(loss.total + added.total, loss.weight), diagnostics

    return penalised


def map_parts(function: Callable[[PyTree], PyTree], batch: PyTree, *, parts: int) -> PyTree:
    """`function` of a batch, one result [B] per row, computed on micro-batches one by one."""
    if parts == 1:
        return function(batch)
    found = jax.lax.map(function, _split(batch, parts))
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(-1, *x.shape[2:]), found)


def _split(batch: PyTree, parts: int) -> PyTree:
    """[B, ...] as [parts, B / parts, ...]; micro-batch k has the rows k, k + parts, ...

    Raises:
      ValueError: `parts` does not divide B.
    """
    rows = jax.tree.leaves(batch)[0].shape[0]
    if rows % parts:
        raise ValueError(f"{rows} rows do not divide into {parts} micro-batches of equal size")
    # Strided, not contiguous: devices that share the rows in blocks all work on each micro-batch.
    return jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1), batch)


def _apply(
    state: TrainState,
    grads: Params,
    loss: Mean,
    diagnostics: Diagnostics,
    optimizer: optax.GradientTransformation,
) -> tuple[TrainState, Diagnostics]:
    """The optimiser's step along these gradients, and the metrics."""
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    norm = Mean(optax.tree.norm(grads), jnp.ones(()))
    metrics = {"loss": loss, "grad_norm": norm} | diagnostics
    return TrainState(params, opt_state, state.step + 1), metrics
