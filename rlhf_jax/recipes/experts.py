"""The load-balance loss of a mixture of experts, which every recipe adds to its objective.

    L + w sum_p router_loss_p,   w = `config.moe.load_balance_weight`, p policy and critic.

`penalty` in the metrics is what was added. A model without experts, or with w = 0, has none: its
objective is the one of `algos`, bit for bit.
"""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp

from rlhf_jax.algos.gradient import Penalise
from rlhf_jax.algos.ppo import ActorCritic
from rlhf_jax.models import LoRA, TransformerConfig, read
from rlhf_jax.policies.language import language_router_loss
from rlhf_jax.types import Params, PyTree, Trajectory


def router_losses(config: TransformerConfig, models: dict[str, Any]) -> dict[str, Any]:
    """`(params, inputs) -> ` the weighted router loss of each model by its name; {} for none."""
    if config.moe is None or not config.moe.load_balance_weight:
        return {}
    return {name: language_router_loss(model) for name, model in models.items()}


def adapted_losses(losses: dict[str, Any], part: str, lora: LoRA, held: Params) -> dict[str, Any]:
    """The same of adapters in place of one part's params."""
    if part not in losses:
        return losses
    whole = losses[part]

    def loss(adapter: Params, inputs: PyTree) -> jax.Array:
        return whole(lora.attach(read(held), adapter), inputs)

    return losses | {part: loss}


def balance(losses: dict[str, Any], part: str = "policy") -> Penalise | None:
    """The penalty of a batch for params of this part, or an `ActorCritic`; None without experts.

    Args:
      losses: those of a lab, `lab.router_losses`.
    """
    return _balance(losses[part], losses["value"]) if losses else None


@cache  # one function of a lab, so that its update compiles once
def _balance(own: Any, value: Any) -> Penalise:
    def penalty(params: Params, batch: PyTree) -> jax.Array:
        if isinstance(params, ActorCritic):
            parts = [(own, params.policy), (value, params.value)]
        else:
            parts = [(own, params)]
        inputs = [trajectory.inputs for trajectory in trajectories(batch)]
        found = [loss(each, x) for loss, each in parts for x in inputs]
        return jnp.sum(jnp.stack(found)) / len(inputs)

    return penalty


def trajectories(batch: PyTree) -> list[Trajectory]:
    """Those of a batch of any recipe."""
    parts = jax.tree.leaves(batch, is_leaf=lambda part: isinstance(part, Trajectory))
    return [part for part in parts if isinstance(part, Trajectory)]
