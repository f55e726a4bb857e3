"""Fitting a pairwise preference model to comparisons."""

from collections.abc import Callable

import jax.numpy as jnp
import optax

from rlhf_jax.algos.gradient import Diagnostics, Penalise, accumulate, check_losses
from rlhf_jax.losses.links import logistic
from rlhf_jax.ops.masking import Mean, keep_weighted, weighted_mean
from rlhf_jax.types import Params, PreferenceBatch, PreferenceFn, TrainState, Update


def make_objective(
    preference: PreferenceFn, *, loss=logistic
) -> Callable[[Params, PreferenceBatch], tuple[Mean, Diagnostics]]:
    """The objective of `make_update`: `(params, batch) -> (Mean over the pairs, diagnostics)`."""

    def objective(params: Params, batch: PreferenceBatch) -> tuple[Mean, Diagnostics]:
        logits = preference.logits(params, batch.chosen, batch.rejected)
        margins = keep_weighted(logits, batch.weights)
        losses = loss(margins)
        check_losses(losses, batch.chosen.mask.shape[:-1], loss=loss, per="pair")
        accuracy = weighted_mean(0.5 + 0.5 * jnp.sign(margins), batch.weights)
        return weighted_mean(losses, batch.weights), {"prefs/accuracy": accuracy}

    return objective


def make_update(
    preference: PreferenceFn,
    optimizer: optax.GradientTransformation,
    *,
    loss=logistic,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, PreferenceBatch]:
    """Update on `loss(margins [*B]) -> [*B]`, averaged over the pairs; margins are logits of chosen
    over rejected.

    With the logistic link the loss is -log P(chosen beats rejected). For a soft label p, give the
    pair in both orders, with weights p and 1 - p.

    Args:
      preference: any parametrisation.
      optimizer: optax.
      loss: a link from `losses.links`.
      parts, penalty: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)` with metrics "loss", "grad_norm" and
      "prefs/accuracy" (ties count one half). It raises ValueError at trace time if the loss does
      not return one value per pair.
    Reference: Munos et al. 2023, arXiv:2312.00886, the same cross-entropy.
    Departs: logits are antisymmetric, so the order of a pair does not matter; in the paper they
      come from one token of a prompted model.
    """
    objective = make_objective(preference, loss=loss)
    return accumulate(objective, optimizer, parts=parts, penalty=penalty)
