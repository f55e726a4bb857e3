"""MetaRM: a reward model whose loss is taken one step after its scores were spread.

    update = meta_reward.make_update(reward, optax.adam(1e-3), eta=0.1)
    state, metrics = update(state, MetaBatch(pairs, answers))

Answers are unlabelled, K to each prompt, drawn from the policy that the model will judge next.
"""

from functools import partial

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rlhf_jax.algos import reward_model
from rlhf_jax.algos.gradient import Diagnostics, Penalise, accumulate
from rlhf_jax.checks import check_range
from rlhf_jax.losses.reward import bradley_terry_loss
from rlhf_jax.ops.groups import score_spread
from rlhf_jax.ops.masking import Mean
from rlhf_jax.types import (
    Params,
    PreferenceBatch,
    RewardFn,
    Scalar,
    TrainState,
    Trajectory,
    Update,
    record,
)


@record
class MetaBatch:
    """pairs: labelled. answers: leading axes [*B, K], K >= 2 unlabelled answers to each prompt."""

    pairs: PreferenceBatch
    answers: Trajectory


def mean_spread(reward: RewardFn, params: Params, answers: Trajectory) -> Float[Array, ""]:
    """J averaged over the prompts of answers [*B, K], see `ops.groups.score_spread`."""
    return jnp.mean(score_spread(reward.scores(params, answers)))


def make_update(
    reward: RewardFn,
    optimizer: optax.GradientTransformation,
    *,
    eta: Scalar,
    loss=bradley_terry_loss,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, MetaBatch]:
    """First-order MetaRM.

    theta' = theta + eta grad J(theta);   theta <- theta - alpha grad L(theta').

    alpha grad L stands for the optimiser's step. The loss at theta' is L + eta <grad L, grad J> +
    O(eta^2). Its gradient is taken at theta' without the derivative of the inner step, so to first
    order it is grad L + eta H_L grad J. The deployed model is theta: nothing asks J(theta) to grow.

    Args:
      eta: step of the ascent on J, >= 0; 0 is `reward_model.make_update`. May be traced.
      loss, parts, penalty: as in `reward_model.make_update`; the ascent reads all answers.
    Returns:
      Pure `update(state, batch) -> (state, metrics)` with the metrics of `reward_model.make_update`
      at theta', and "spread", J(theta). It raises ValueError at trace time with fewer than two
      answers to a prompt.
    Reference: Wang et al. 2024, arXiv:2401.06080, Eq. 11 to 14, Algorithm 1.
    Departs: the paper's Eq. 15 and 17 also have eta H_J grad L; its Algorithm 1 does not.
    """
    check_range("[0, inf)", eta=eta)
    objective = reward_model.make_objective(reward, loss=loss)

    def ahead(params: Params, pairs: PreferenceBatch, moved: Params) -> tuple[Mean, Diagnostics]:
        return objective(jax.tree.map(jnp.add, params, moved), pairs)

    spread_of = partial(mean_spread, reward)
    step = accumulate(ahead, optimizer, parts=parts, penalty=penalty)

    def update(state: TrainState, batch: MetaBatch) -> tuple[TrainState, Diagnostics]:
        _check_answers(batch.answers)
        spread, slope = jax.value_and_grad(spread_of)(state.params, batch.answers)
        moved = jax.tree.map(lambda x: eta * x, slope)
        state, metrics = step(state, batch.pairs, moved)
        return state, metrics | {"spread": Mean(spread, jnp.ones_like(spread))}

    return update


def _check_answers(answers: Trajectory) -> None:
    """ValueError with fewer than two answers to a prompt."""
    shape = answers.mask.shape[:-1]
    if not shape or shape[-1] < 2:
        raise ValueError(f"MetaRM needs answers [*B, K] with K >= 2, got {list(shape)}")
