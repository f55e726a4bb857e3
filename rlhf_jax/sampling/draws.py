"""Draws: several answers to each prompt by one call, whatever the policy is.

    draw(params, prompts: Prompts, key, samples, first=0) -> Rollout [B, samples]

is what the methods of `algos.selfplay` ask their answers from. Answer k of a prompt is drawn
with the counters (prompts.indices, first + k), so it depends neither on the batch nor on how many
are drawn with it: a prompt given twice gets the same answers twice, and `first` draws further ones.
With an array [B, 1] for `first`, each prompt has its own.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from rlhf_jax.checks import check_range
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.policies.language import LanguageDecoder
from rlhf_jax.sampling.decode import Rollout, SamplingConfig, sample_many
from rlhf_jax.sampling.rollout import sample_actions
from rlhf_jax.types import Params, Policy, Prompts

Draw = Callable[..., Rollout]
First = int | Int[np.ndarray, "B 1"]  # number of a prompt's first answer


def language_draw(decoder: LanguageDecoder, config: SamplingConfig) -> Draw:
    """Answers of a language model. Compiled once per shape.

    Args:
      decoder: `language_decoder(model)`, or a `mixture_decoder`, whose params are a pair.
    Returns:
      A draw; prompts.inputs are ids and mask [B, P].
    """
    run = jax.jit(partial(sample_many, decoder, config=config))

    def draw(
        params: Params, prompts: Prompts, key: Key[Array, ""], samples: int, first: First = 0
    ) -> Rollout:
        ids, mask = (jnp.asarray(x) for x in prompts.inputs)
        indices, numbers = _counters(prompts, samples, first)
        return run(params, ids, mask, key, prompt_indices=indices[:, 0], sample_indices=numbers)

    return draw


def policy_draw(policy: Policy) -> Draw:
    """Actions of a table or a linear policy, one step each. Compiled once per shape.

    Returns:
      A draw; prompts.inputs are states [B], actions are [B, samples, 1] and all count.
    """
    run = jax.jit(partial(sample_actions, policy))

    def draw(
        params: Params, prompts: Prompts, key: Key[Array, ""], samples: int, first: First = 0
    ) -> Rollout:
        indices, numbers = _counters(prompts, samples, first)
        states = jnp.broadcast_to(jnp.asarray(prompts.inputs)[:, None, None], (*numbers.shape, 1))
        trajectory, logps = run(params, states, key, prompt_indices=indices, sample_indices=numbers)
        return Rollout(trajectory, logps, logps, jnp.ones(numbers.shape, bool))

    return draw


def mixture_policy(policy: Policy, *, weight: float | int) -> Policy:
    """Geometric mixture of two policies, pi_1^(1 - w) pi_2^w, normalised over the actions.

    On answers of one step it is the mixture of answers; on longer ones, that of each step, which
    `policies.language.mixture_decoder` draws from with a cache.

    Args:
      policy: of both.
      weight: w in [0, 1] on the second.
    Returns:
      Policy whose params are `(params, ref_params)`.
    Raises:
      ValueError: a weight outside [0, 1].
    """
    check_range("[0, 1]", weight=weight)

    def init(key):
        return policy.init(key), policy.init(key)

    def logits(params, inputs):
        own, ref = (policy.logits(each, inputs) for each in params)
        return (1 - weight) * own + weight * ref

    def logps(params, inputs, actions):
        return token_logps(logits(params, inputs), actions)

    return Policy(init, logits, logps)


def _counters(
    prompts: Prompts, samples: int, first: First
) -> tuple[Int[Array, "B K"], Int[Array, "B K"]]:
    """Prompt and sample numbers of every answer."""
    indices = jnp.asarray(prompts.indices)[:, None]
    shape = (indices.shape[0], samples)
    return jnp.broadcast_to(indices, shape), jnp.broadcast_to(first + jnp.arange(samples), shape)
