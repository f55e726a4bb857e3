"""This library's side: log-probabilities of the committed answers under its tabular policy."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.parity.batches import load, states
from benchmarks.parity.draw import GROUP, VOCABULARY
from rlhf_jax.losses.preference import sft_loss
from rlhf_jax.ops.logprobs import mean_logps, sequence_logps
from rlhf_jax.policies.tabular import tabular_policy

POLICY = tabular_policy(VOCABULARY, VOCABULARY)


class Answers(NamedTuple):
    """Answers as one policy sees them: logits [B, T, V], then [B, T] twice, then [B] twice."""

    logits: jax.Array
    token_logps: jax.Array
    mask: jax.Array
    logps: jax.Array
    means: jax.Array

    @property
    def lengths(self) -> jax.Array:
        """[B] int."""
        return jnp.sum(self.mask, axis=-1, dtype=jnp.int32)


class Pair(NamedTuple):
    """Chosen and rejected answers under the policy and under the reference."""

    chosen: Answers
    rejected: Answers
    ref_chosen: Answers
    ref_rejected: Answers

    @property
    def logps(self) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """The four [B] summed log-probs that start every pairwise loss."""
        chosen, rejected, ref_chosen, ref_rejected = (answers.logps for answers in self)
        return chosen, rejected, ref_chosen, ref_rejected

    @property
    def means(self) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """The same, averaged over tokens."""
        chosen, rejected, ref_chosen, ref_rejected = (answers.means for answers in self)
        return chosen, rejected, ref_chosen, ref_rejected


def answers(params: jax.Array, prompt_ids: np.ndarray, ids: np.ndarray, mask) -> Answers:
    """Answers to prompts under the table `params`."""
    params, mask = jnp.asarray(params), jnp.asarray(mask)
    previous = jnp.asarray(states(prompt_ids, ids))
    token_logps = POLICY.logps(params, previous, jnp.asarray(ids))
    sums, means = sequence_logps(token_logps, mask), mean_logps(token_logps, mask)
    return Answers(POLICY.logits(params, previous), token_logps, mask, sums, means)


def pair_answers(params: jax.Array, name: str) -> Answers:
    """`chosen`, `rejected` or `gold` of the committed pairs."""
    pairs = load("pairs")
    ids, mask = getattr(pairs, f"{name}_ids"), getattr(pairs, f"{name}_mask")
    return answers(params, pairs.prompt_ids, ids, mask)


def pair(params: jax.Array) -> Pair:
    """The committed pairs under `params` and under the committed reference."""
    reference = load("weights").reference
    names = ("chosen", "rejected")
    policy = [pair_answers(params, name) for name in names]
    anchor = [pair_answers(reference, name) for name in names]
    return Pair(*policy, *anchor)


def pooled_nll(*parts: Answers) -> jax.Array:
    """`sft_loss` per token, the tokens of all answers and all parts pooled."""
    losses = jnp.concatenate([sft_loss(part.logps) for part in parts])
    return jnp.sum(losses) / jnp.sum(jnp.concatenate([part.lengths for part in parts]))


def prompt_answers(params: jax.Array) -> Answers:
    """The prompts of the pairs as if they were answers: each word after the first."""
    pairs = load("pairs")
    ids, mask = pairs.prompt_ids, pairs.prompt_mask
    return answers(params, ids[:, :1], ids[:, 1:], mask[:, 1:] & mask[:, :-1])


def group_answers(params: jax.Array) -> Answers:
    """The committed answers of all groups, flat."""
    data = load("groups")
    prompts = data.prompt_ids.repeat(GROUP, axis=0)
    return answers(params, prompts, data.completion_ids, data.completion_mask)
