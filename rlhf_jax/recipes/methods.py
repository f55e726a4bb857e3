"""Online methods as data: each is a function from a scored rollout to a batch, and an update."""

from typing import Any

import jax
import jax.numpy as jnp

from rlhf_jax.algos import ppo as ppo_update
from rlhf_jax.algos import preference
from rlhf_jax.algos.ppo import ActorCritic, PPOConfig
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.offline import ScoreScale
from rlhf_jax.recipes.online import OnlineMethod, Scored, flat, same
from rlhf_jax.types import AnswerLogps, PairLoss, Params, TrainState


def ppo(
    lab: LanguageLab, config: PPOConfig, critic: Params, *, epochs: int = 1, minibatches: int = 1
) -> OnlineMethod:
    """PPO with a critic, one answer to each prompt.

    Args:
      critic: first parameters of the value model, e.g. `critic_of` a reward model.
      epochs, minibatches: as in `algos.ppo.make_epochs`.
    """

    def prepare(params: ActorCritic, scored: Scored) -> tuple[Any, dict[str, Any]]:
        rollout = scored.rollout
        trajectory = flat(rollout.trajectory)
        batch = ppo_update.make_batch(
            trajectory,
            flat(scored.scores),
            old_logps=flat(rollout.token_logps),
            ref_logps=flat(scored.ref_token_logps),
            old_values=lab.value.values(params.value, trajectory.inputs),
            config=config,
        )
        return batch, {}

    def make_update(optimizer):
        one = ppo_update.make_update(lab.policy, lab.value, optimizer, config)
        return ppo_update.make_epochs(one, epochs=epochs, minibatches=minibatches)

    return OnlineMethod(
        samples=1,
        start=lambda params: ActorCritic(params, critic),
        policy=lambda params: params.policy,
        axes=ActorCritic(lab.axes["policy"], lab.axes["value"]),
        prepare=prepare,
        make_update=make_update,
        shuffles=True,
    )


def online_pairs(
    lab: LanguageLab,
    loss: PairLoss,
    *,
    logps: AnswerLogps = sequence_logps,
    reference: bool = True,
) -> OnlineMethod:
    """Any loss of pairs on two fresh answers to each prompt, the one with the higher score chosen.

    Args:
      loss, logps, reference: as in `algos.preference.make_update`; `dpo_loss` gives online DPO.
    """

    def prepare(params: Params, scored: Scored) -> tuple[Any, dict[str, Any]]:
        trajectory = scored.rollout.trajectory
        ref_logps = logps(scored.ref_token_logps, trajectory.mask)
        pairs = preference.rank_pairs(trajectory, scored.scores, ref_logps)
        return pairs, {"pairs/decided": jnp.asarray(pairs.weights).mean()}

    def make_update(optimizer):
        update = preference.make_update(
            lab.policy, optimizer, loss, logps=logps, reference=reference
        )

        def step(state: TrainState, batch: Any, key: jax.Array) -> tuple[TrainState, Any]:
            return update(state, batch)

        return step

    return OnlineMethod(2, same, same, lab.axes["policy"], prepare, make_update)


def critic_of(reward_params: Params, scale: ScoreScale) -> Params:
    """A critic that starts as the reward model, its head rescaled to predict scaled scores."""
    head = reward_params["head"]
    return {
        **reward_params,
        "head": {
            "weight": head["weight"] / scale.std,
            "bias": (head["bias"] - scale.mean) / scale.std,
        },
    }
