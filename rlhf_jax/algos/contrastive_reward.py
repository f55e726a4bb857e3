"""A reward model with a contrastive term on two views of its features.

update = contrastive_reward.make_update(
    model, optax.adam(1e-3), contrast=partial(simcse_loss, temperature=0.5), weight=1.0)
state = init_state(ContrastiveParams(model.init(key), None), optax.adam(1e-3))
state, metrics = update(state, ContrastiveBatch(pairs, key))
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rlhf_jax.algos.gradient import Diagnostics, gradient_step
from rlhf_jax.algos.reward_model import scored_objective
from rlhf_jax.checks import check_range
from rlhf_jax.losses.contrastive import pair_items
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.masking import Mean, weighted_mean
from rlhf_jax.types import (
    FeatureReward,
    Params,
    PreferenceBatch,
    RewardFn,
    Scalar,
    TrainState,
    Trajectory,
    Update,
    record,
)


class ContrastiveParams(NamedTuple):
    """reward: of the model. prototypes: [K, d] for `swav_loss`, None for `simcse_loss`."""

    reward: Params
    prototypes: Array | None


@record
class ContrastiveBatch:
    """pairs: leading axis [B]. key: of the two dropout masks, a new one at each step."""

    pairs: PreferenceBatch
    key: Array


def whole_reward(model: FeatureReward) -> RewardFn:
    """The model without dropout, as it scores answers."""

    def scores(params: Params, trajectory: Trajectory) -> Float[Array, "*B"]:
        return model.head(params, model.features(params, trajectory, None))

    return RewardFn(model.init, scores)


def make_update(
    model: FeatureReward,
    optimizer: optax.GradientTransformation,
    *,
    contrast: Callable[..., Float[Array, "N"]],
    weight: Scalar,
    items: Callable[[Array, Array], Array] = pair_items,
    loss=bradley_terry_loss,
) -> Update[TrainState, ContrastiveBatch]:
    """L = L_rm + weight L_cl: a reward loss and a contrastive one.

    L_rm is the mean of `loss` over pairs and both views, L_cl that of `contrast` over the items.

    Args:
      contrast: `(features [N, d], views [N, d], *prototypes, mask=[N]) -> [N]`, such as
        `partial(simcse_loss, temperature=0.5)`; prototypes [K, d] are passed if the params have
        any.
      weight: beta of the paper, >= 0. May be traced.
      items: `pair_items` or `difference_items`.
      loss: as in `reward_model.make_update`; it reads the columns of the pairs.
    Returns:
      Pure `update(state, batch) -> (state, metrics)`: those of `reward_model.make_update` with the
      scores of the first view, and "contrast". Pairs of weight 0 are no items, others count once.
    Reference: Wang et al. 2024, arXiv:2401.06080, with Eq. 7 to 9.
    Departs: the views stand for the paper's original and augmented pairs, and the mean is taken.
    """
    check_range("[0, inf)", weight=weight)

    def objective(params: ContrastiveParams, batch: ContrastiveBatch) -> tuple[Mean, Diagnostics]:
        pairs, views = batch.pairs, []
        rows = pairs.chosen.mask.shape[:-1]
        exists = jnp.ones(rows, bool) if pairs.weights is None else pairs.weights > 0
        for key in jax.random.split(batch.key):
            sides = zip(jax.random.split(key), (pairs.chosen, pairs.rejected), strict=True)
            found = [model.features(params.reward, side, one) for one, side in sides]
            # Masked before the head: 0 times a feature that is NaN would be NaN in its gradient.
            views.append([jnp.where(exists[..., None], x, 0.0) for x in found])
        (first, diagnostics), (second, _) = (
            scored_objective(*(model.head(params.reward, x) for x in view), pairs, loss=loss)
            for view in views
        )
        mask = jnp.concatenate([exists, exists])
        extra = () if params.prototypes is None else (params.prototypes,)
        terms = contrast(*(items(*view) for view in views), *extra, mask=mask)
        found = weighted_mean(terms, mask.astype(terms.dtype))
        value = 0.5 * (first.value() + second.value()) + weight * found.value()
        total = Mean(value * first.weight, first.weight)
        return total, diagnostics | {"contrast": found}

    def update(state: TrainState, batch: ContrastiveBatch) -> tuple[TrainState, Diagnostics]:
        return gradient_step(state, lambda params: objective(params, batch), optimizer)

    return update
