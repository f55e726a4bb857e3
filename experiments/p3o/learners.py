"""Methods on a table: P3O on groups, and clipped policy gradients with three baselines."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from experiments.p3o.config import Config
from rlhf_jax.algos import ppo
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.online import AnswerBatch, GroupBatch, make_answer_update, make_group_update
from rlhf_jax.losses.answer_policy_gradient import rloo_loss
from rlhf_jax.losses.pairwise_gradient import p3o_v1_loss, p3o_v2_loss
from rlhf_jax.ops.groups import leave_one_out_advantages
from rlhf_jax.ops.masking import centred, whiten
from rlhf_jax.policies.tabular import tabular_policy, tabular_value
from rlhf_jax.types import GroupLoss, TrainState, Trajectory, Update


class Learner(NamedTuple):
    """A method on a table.

    start: `(ref_logits) -> state`. logits: `(state) -> [X, A]`.
    prepare: `(state, answers, paid, old_logps) -> batch`, all [N, K]; the KL is taken off `paid`.
    update: `(state, batch) -> (state, metrics)`.
    """

    start: Callable[[Array], TrainState]
    logits: Callable[[TrainState], Array]
    prepare: Callable[[TrainState, Trajectory, Array, Array], Any]
    update: Update


def optimizer_of(config: Config) -> optax.GradientTransformation:
    """SGD whose rate is that of a prompt: losses are means over prompts."""
    return optax.adam(config.rate) if config.adam else optax.sgd(config.rate * config.prompts)


def pair_learner(loss: GroupLoss, config: Config) -> Learner:
    """P3O."""
    policy, optimizer = tabular_policy(config.prompts, config.answers), optimizer_of(config)

    def prepare(
        state: TrainState, answers: Trajectory, paid: Array, old_logps: Array
    ) -> GroupBatch:
        del state
        return GroupBatch(answers, {"old_logps": old_logps, "scores": paid})

    return Learner(
        start=lambda ref_logits: init_state(ref_logits, optimizer),
        logits=lambda state: state.params,
        prepare=prepare,
        update=make_group_update(policy, optimizer, partial(loss, clip_eps=config.clip_eps)),
    )


def answer_learner(advantages: Callable[[Array], Array], config: Config) -> Learner:
    """The clipped policy gradient of single answers, without a critic."""
    policy, optimizer = tabular_policy(config.prompts, config.answers), optimizer_of(config)

    def prepare(
        state: TrainState, answers: Trajectory, paid: Array, old_logps: Array
    ) -> AnswerBatch:
        del state
        columns = {"old_token_logps": old_logps[..., None], "advantages": advantages(paid)}
        return AnswerBatch(answers, columns)

    return Learner(
        start=lambda ref_logits: init_state(ref_logits, optimizer),
        logits=lambda state: state.params,
        prepare=prepare,
        update=make_answer_update(policy, optimizer, partial(rloo_loss, clip_eps=config.clip_eps)),
    )


def critic_learner(config: Config) -> Learner:
    """PPO with the value of each prompt in a table, which learns as the policy does."""
    policy, value = tabular_policy(config.prompts, config.answers), tabular_value(config.prompts)
    optimizer = optimizer_of(config)
    own = ppo.PPOConfig(
        beta=0.0,  # the penalty is in the score
        clip_eps=config.clip_eps,
        value_clip_eps=jnp.inf,
        value_coef=1.0,
        whiten_advantages=False,
    )

    def prepare(
        state: TrainState, answers: Trajectory, paid: Array, old_logps: Array
    ) -> ppo.PPOBatch:
        old = old_logps[..., None]
        values = value.values(state.params.value, answers.inputs)
        return ppo.make_batch(
            answers, paid, old_logps=old, ref_logps=old, old_values=values, config=own
        )

    def start(ref_logits: Array) -> TrainState:
        params = ppo.ActorCritic(ref_logits, jnp.zeros(config.prompts, ref_logits.dtype))
        return init_state(params, optimizer)

    return Learner(
        start=start,
        logits=lambda state: state.params.policy,
        prepare=prepare,
        update=ppo.make_update(policy, value, optimizer, own),
    )


def batch_centred(paid: Float[Array, "N K"]) -> Float[Array, "N K"]:
    """Minus the mean of the batch."""
    return centred(paid, jnp.ones_like(paid))


def batch_whitened(paid: Float[Array, "N K"]) -> Float[Array, "N K"]:
    """The same, over the deviation of the batch."""
    return whiten(paid, jnp.ones(paid.shape, bool))


LEARNERS: dict[str, Callable[[Config], Learner]] = {
    "P3O-V1": partial(pair_learner, p3o_v1_loss),
    "P3O-V2": partial(pair_learner, p3o_v2_loss),
    "RLOO": partial(answer_learner, leave_one_out_advantages),
    "PPO, batch mean": partial(answer_learner, batch_centred),
    "PPO, whitened": partial(answer_learner, batch_whitened),
    "PPO, V(x)": critic_learner,
}
GROUPED = ("P3O-V1", "P3O-V2", "RLOO")
