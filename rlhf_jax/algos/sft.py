"""Supervised fine-tuning: maximum likelihood of the demonstrated actions."""

from collections.abc import Callable

import optax

from rlhf_jax.algos.gradient import Diagnostics, Penalise, accumulate
from rlhf_jax.ops.masking import Mean, token_weights, weighted_mean
from rlhf_jax.types import Params, Policy, TrainState, Trajectory, Update


def make_objective(
    policy: Policy,
) -> Callable[[Params, Trajectory], tuple[Mean, Diagnostics]]:
    """The token mean of -log pi(a_t | s_t): `(params, trajectory) -> (Mean in nats, {})`."""

    def objective(params: Params, batch: Trajectory) -> tuple[Mean, Diagnostics]:
        token_logps = policy.logps(params, batch.inputs, batch.actions)
        return weighted_mean(-token_logps, token_weights(batch.mask)), {}

    return objective


def make_update(
    policy: Policy,
    optimizer: optax.GradientTransformation,
    *,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, Trajectory]:
    """Update on the token mean of -log pi(a_t | s_t) over every counted step of the batch.

    Args:
      parts, penalty: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, trajectory) -> (state, metrics)`; the metric "loss" is in nats per token,
      so exp(loss) is the perplexity.
    """
    objective = make_objective(policy)
    return accumulate(objective, optimizer, parts=parts, penalty=penalty)
