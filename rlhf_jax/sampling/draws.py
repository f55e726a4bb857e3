"""Draws: several answers to each prompt by one call, for any kind of policy.

    draw(params, prompts: Prompts, key, samples, first=0) -> Rollout [B, samples]

Methods of `algos.selfplay` get their answers from such a function. Answer k of a prompt is drawn
with the counters (prompts.indices, first + k), so it does not depend on the batch or on the number
of samples. A prompt that occurs twice gets the same answers twice; a larger `first` draws others.
An array `first` [B, 1] gives each prompt its own.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from rlhf_jax.checks import check_range
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.policies.language import LanguageDecoder
from rlhf_jax.sampling.decode import SamplingConfig, sample_many
from rlhf_jax.sampling.rollout import sample_actions
from rlhf_jax.types import Draw, Params, Policy, Prompts, Rollout

First = int | Int[np.ndarray, "B 1"]  # number of a prompt's first answer


def language_draw(decoder: LanguageDecoder, config: SamplingConfig) -> Draw:
    """Answers of a language model. Compiled once per shape.

    Args:
      decoder: `language_decoder(model)`, or a `mixture_decoder` (its params are a pair).
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
      A draw; prompts.inputs are states [B]; actions are [B, samples, 1], and all of them count.
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

    For answers of one step this is the mixture of answers; for longer ones it mixes each step, like
    `policies.language.mixture_decoder`, which has a cache.

    Args:
      policy: the policy of both params.
      weight: w in [0, 1], the weight of the second.
    Returns:
      Policy with params `(params, ref_params)`.
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
    """Prompt and sample indices of every answer."""
    indices = jnp.asarray(prompts.indices)[:, None]
    shape = (indices.shape[0], samples)
    return jnp.broadcast_to(indices, shape), jnp.broadcast_to(first + jnp.arange(samples), shape)
