"""A reward model from pairs with a contrastive term on two dropout views of its last hidden state.

contrast = partial(simcse_loss, temperature=0.1)
params = contrastive_reward_model(stage, lab, rows, params, fit, contrast=contrast, weight=1.0)
"""

from collections.abc import Callable
from typing import Any

import jax
from jaxtyping import Array, Float

from rlhf_jax.algos import contrastive_reward as contrastive_update
from rlhf_jax.algos.contrastive_reward import ContrastiveBatch, ContrastiveParams
from rlhf_jax.algos.gradient import Diagnostics
from rlhf_jax.losses.contrastive import pair_items
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.models import make_reward_parts
from rlhf_jax.policies.language import language_features
from rlhf_jax.recipes.lab import LanguageLab, stage_key, start_training
from rlhf_jax.recipes.offline import Fit, fit_state
from rlhf_jax.recipes.rows import Rows
from rlhf_jax.training import Stage, UserError
from rlhf_jax.types import Params, PreferenceBatch, TrainState


def contrastive_reward_model(
    stage: Stage,
    lab: LanguageLab,
    rows: Rows,
    params: Params,
    fit: Fit,
    *,
    contrast: Callable[..., Float[Array, "N"]],
    weight: float,
    items: Callable[[Array, Array], Array] = pair_items,
    dropout: float = 0.05,
    prototypes: int = 0,
    loss: Any = bradley_terry_loss,
) -> Params:
    """A score per answer; params from `on_trunk`, and those that come back have no prototypes.

    Args:
      rows: of `pair_rows`.
      contrast, weight, items, loss: as in `algos.contrastive_reward.make_update`.
      dropout: rate of the views. prototypes: K of `swav_loss`, 0 for `simcse_loss`.
    Raises:
      UserError: micro-batches, since items are compared across the whole batch, or a mixture of
        experts.
    """
    if fit.parts > 1:
        raise UserError("a contrastive term compares all pairs of a batch: no micro-batches")
    if lab.router_losses:
        raise UserError("a contrastive term is not for a mixture of experts: its routers drift")
    model = language_features(make_reward_parts(lab.scorer.config, lab.mesh), dropout=dropout)
    step = contrastive_update.make_update(
        model, fit.optimizer, contrast=contrast, weight=weight, items=items, loss=loss
    )
    key, shape = stage_key(lab, "views"), (prototypes, lab.scorer.config.d_model)
    centres = jax.random.normal(stage_key(lab, "prototypes"), shape) if prototypes else None

    def update(state: TrainState, pairs: PreferenceBatch) -> tuple[TrainState, Diagnostics]:
        return step(state, ContrastiveBatch(pairs, jax.random.fold_in(key, state.step)))

    first = ContrastiveParams(params, centres)
    names: Any = (None, None) if prototypes else None
    axes = ContrastiveParams(lab.axes["reward"], names)
    state, compiled = start_training(lab, first, axes, fit.optimizer, update)
    return fit_state(stage, compiled, state, rows, fit, lambda state: state.params.reward)
