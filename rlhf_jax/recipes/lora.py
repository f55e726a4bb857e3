"""A lab that trains adapters: any recipe on it trains low-rank changes of a frozen base.

    lora = make_lora(LoRAConfig(rank=8, alpha=16, targets=("*/attention/*",)), lab.axes["policy"])
    small = lora_lab(lab, lora, base)
    adapter = small.policy.init(key)
    adapter = online(stage, small, task, grpo(small, ...), reward, adapter, rows, fit, key=key)
    params = lora.merge(base, adapter)

The adapter at the start is the reference: as params of `small` it is the base, bit for bit.
"""

from typing import Any, Literal

import jax

from rlhf_jax.models import LoRA, adapt, hold, read
from rlhf_jax.policies.language import LanguageDecoder, language_reward
from rlhf_jax.recipes.experts import adapted_losses
from rlhf_jax.recipes.lab import LanguageLab, make_draw
from rlhf_jax.sharding import shard_params
from rlhf_jax.types import Params, Trajectory


def lora_lab(
    lab: LanguageLab,
    lora: LoRA,
    base: Params,
    *,
    part: Literal["policy", "reward", "value"] = "policy",
) -> LanguageLab:
    """The lab with adapters as the params of one part; call it again for another part.

    Args:
      lora: made with `lab.axes[part]`.
      base: params of that part. They are copied, so that yours may go.
    """
    axes = lab.axes | {part: lora.axes()}
    if lab.mesh is not None:
        base = jax.device_put(base, shard_params(lab.axes[part], lab.mesh))
    held = hold(base)
    lab = lab._replace(router_losses=adapted_losses(lab.router_losses, part, lora, held))
    if part == "value":
        return lab._replace(value=adapt(lab.value, lora, held, layerwise=True), axes=axes)
    if part == "reward":
        return _reward_lab(lab, lora, held, axes)
    policy = adapt(lab.policy, lora, held, layerwise=True)
    decoder = _decoder(lab.decoder, lora, held)

    def token_logps(params: Params, trajectory: Trajectory) -> jax.Array:
        return policy.logps(params, trajectory.inputs, trajectory.actions)

    return lab._replace(
        policy=policy,
        decoder=decoder,
        axes=axes,
        draw=make_draw(decoder, lab.sampling, lab.mesh),
        token_logps=jax.jit(token_logps),
    )


def _reward_lab(lab: LanguageLab, lora: LoRA, held: Params, axes: dict[str, Any]) -> LanguageLab:
    """Adapters as the params of the reward model, and of a preference model on its transformer."""
    functions = lab.reward._replace(scores=lab.scorer.scalars)  # of the transformer below
    scalars = adapt(functions, lora, held, layerwise=True)
    scorer = lab.scorer._replace(init=scalars.init, scalars=scalars.scores, axes=lora.axes)
    reward = language_reward(scorer)
    return lab._replace(scorer=scorer, reward=reward, axes=axes, scores=jax.jit(reward.scores))


def _decoder(decoder: LanguageDecoder, lora: LoRA, held: Params) -> LanguageDecoder:
    """Decoding with the weights of an adapter summed up once."""

    def merged(adapter):
        base = read(held)
        return decoder.read(base if adapter is None else lora.merge(base, adapter))

    return decoder._replace(read=merged)
