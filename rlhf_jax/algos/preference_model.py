"""Fitting a pairwise preference model to comparisons."""

from collections.abc import Callable

import jax.numpy as jnp
import optax

from rlhf_jax.algos.gradient import Diagnostics, check_losses, gradient_step
from rlhf_jax.losses.links import logistic
from rlhf_jax.ops.masking import Mean, keep_weighted, weighted_mean
from rlhf_jax.types import Params, PreferenceBatch, PreferenceFn, TrainState


def make_objective(
    preference: PreferenceFn, *, loss=logistic
) -> Callable[[Params, PreferenceBatch], tuple[Mean, Diagnostics]]:
    """What `make_update` minimises and reports, as `objective(params, batch)`.

    Returns:
      Pure `objective(params, batch) -> (loss as a Mean over the pairs, diagnostics)`.
    """

    def objective(params: Params, batch: PreferenceBatch) -> tuple[Mean, Diagnostics]:
        logits = preference.logits(params, batch.chosen, batch.rejected)
        margins = keep_weighted(logits, batch.weights)
        losses = loss(margins)
        check_losses(losses, batch.chosen.mask.shape[:-1], loss=loss, per="pair")
        accuracy = weighted_mean(0.5 + 0.5 * jnp.sign(margins), batch.weights)
        return weighted_mean(losses, batch.weights), {"prefs/accuracy": accuracy}

    return objective


def make_update(
    preference: PreferenceFn, optimizer: optax.GradientTransformation, *, loss=logistic
) -> Callable[[TrainState, PreferenceBatch], tuple[TrainState, Diagnostics]]:
    """Update on `loss(margins [*B]) -> [*B]` of the logits of chosen over rejected.

    With the logistic link it is the negative log-likelihood -log P(chosen beats rejected), averaged
    over the pairs; a soft label p is the pair both ways round with weights p and 1 - p.

    Args:
      preference: any parametrisation.
      optimizer: optax.
      loss: a link from `losses.links`.
    Returns:
      Pure `update(state, batch) -> (state, metrics)` with metrics "loss", "grad_norm" and
      "prefs/accuracy" (ties count one half). The batch's reference log-probs are not read. It
      raises ValueError, at trace time, for a loss that does not return one value per pair.
    Reference: Munos et al. 2023, arXiv:2312.00886, whose preference model is fitted by the same
      cross-entropy.
    Departs: logits are antisymmetric, where the paper's come from one token of a prompted model; so
      which answer of a pair stands first never matters.
    """
    objective = make_objective(preference, loss=loss)

    def update(state: TrainState, batch: PreferenceBatch) -> tuple[TrainState, Diagnostics]:
        return gradient_step(state, lambda params: objective(params, batch), optimizer)

    return update
