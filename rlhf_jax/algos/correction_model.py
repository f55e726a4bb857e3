"""A reward model that rewrites: given a prompt and either answer of a pair, it writes the chosen.

    rewrite = language_rewriting(separator)                    # or tabular_rewriting(num_actions)
    update = make_update(policy, rewrite, optimizer)           # batches are pairs
    rewards = make_token_rewards(policy, rewrite)(params, sampled)      # [*B, T]

`rewrite(read, write)` gives what the policy is shown of two answers to the same prompts: inputs
that hold `read` whole, with the actions and the mask of `write`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rlhf_jax.algos.gradient import Diagnostics, Penalise, accumulate
from rlhf_jax.checks import check_range
from rlhf_jax.ops.corrections import seq2seq_token_rewards
from rlhf_jax.ops.masking import Mean, token_weights, weighted_mean
from rlhf_jax.types import Params, Policy, PreferenceBatch, Scalar, TrainState, Trajectory, Update

Rewrite = Callable[[Trajectory, Trajectory], Trajectory]  # (read, write) -> [*B, T]
TokenRule = Callable[[Array, Array, Array], Array]  # (logits, actions, mask) -> rewards [*B, T]


def correction_maps(pairs: PreferenceBatch, rewrite: Rewrite) -> Trajectory:
    """rejected -> chosen (the correction) and chosen -> chosen (the identity): [*B, 2, T]."""
    maps = [rewrite(read, pairs.chosen) for read in (pairs.rejected, pairs.chosen)]
    axis = pairs.chosen.mask.ndim - 1
    return jax.tree.map(lambda *x: jnp.stack(x, axis), *maps)


def make_objective(
    policy: Policy, rewrite: Rewrite, *, identity_weight: Scalar = 1.0
) -> Callable[[Params, PreferenceBatch], tuple[Mean, Diagnostics]]:
    """The objective of `make_update`: `(params, pairs) -> (Mean over tokens, diagnostics)`."""
    check_range("[0, inf)", identity_weight=identity_weight)

    def objective(params: Params, pairs: PreferenceBatch) -> tuple[Mean, Diagnostics]:
        maps = correction_maps(pairs, rewrite)
        losses = -policy.logps(params, maps.inputs, maps.actions)
        weights = _map_weights(pairs, maps, identity_weight)
        weights = token_weights(maps.mask, weights)
        each = {
            f"loss/{name}": weighted_mean(losses[..., i, :], weights[..., i, :])
            for i, name in enumerate(("correction", "identity"))
        }
        return weighted_mean(losses, weights), each

    return objective


def make_update(
    policy: Policy,
    rewrite: Rewrite,
    optimizer: optax.GradientTransformation,
    *,
    identity_weight: Scalar = 1.0,
    parts: int = 1,
    penalty: Penalise | None = None,
) -> Update[TrainState, PreferenceBatch]:
    """Update on the token mean over both maps of -log pi(y_w,t | x, y, y_w,<t), y = y_l and y_w.

    L = (L_C + w L_I) / ((1 + w) sum of |y_w|),   L_C = -sum_t log pi(y_w,t | x, y_l, y_w,<t).

    Args:
      identity_weight: w >= 0, of the identity map; without it, good answers are rewritten too.
      parts, penalty: as in `gradient.accumulate`.
    Returns:
      Pure `update(state, pairs) -> (state, metrics)`; the metrics "loss", "loss/correction" and
      "loss/identity" are in nats per token.
    Reference: Zhou et al. 2024, arXiv:2409.00162.
    Departs: equal weights and the mean over tokens; those of the paper are not known here.
    """
    objective = make_objective(policy, rewrite, identity_weight=identity_weight)
    return accumulate(objective, optimizer, parts=parts, penalty=penalty)


def make_token_rewards(
    policy: Policy, rewrite: Rewrite, *, rule: TokenRule = seq2seq_token_rewards
) -> Callable[[Params, Trajectory], Float[Array, "*B T"]]:
    """`(params, sampled) -> rewards [*B, T]`: one pass over (x, y, y), no gradient.

    Args:
      rule: of `ops.corrections`, e.g. `partial(seq2seq_token_rewards, by_length=False)`.
    """

    def rewards(params: Params, sampled: Trajectory) -> Array:
        twice = rewrite(sampled, sampled)
        logits = policy.logits(params, twice.inputs)
        return jax.lax.stop_gradient(rule(logits, sampled.actions, sampled.mask))

    return rewards


def fit_correction_table(
    pairs: PreferenceBatch,
    rewrite: Rewrite,
    *,
    num_states: int,
    num_actions: int,
    backoff: Scalar = 0.0,
    identity_weight: Scalar = 1.0,
) -> Float[Array, "SA A"]:
    """Maximum likelihood of a table by counting, for `tabular_rewriting`.

    pi(v | s, u) = (n(s, u, v) + k n(s, v)) / sum over v; uniform where nothing was counted.

    n(s, u, v): how often v was to be written in state s where u was read, over both maps;
    n(s, v) = sum_u n(s, u, v).

    Args:
      pairs: their inputs are states [*B, T], the same for both answers.
      rewrite: `tabular_rewriting(num_actions)`.
      backoff: k >= 0, weight of counts that ignore the answer that was read.
      identity_weight: as in `make_update`, whose minimum this is at backoff 0.
    Returns:
      [S A, A] logits, -inf where nothing was counted; params of `tabular_policy(S A, A)`.
    """
    check_range("[0, inf)", backoff=backoff, identity_weight=identity_weight)
    maps = correction_maps(pairs, rewrite)
    weights = token_weights(maps.mask, _map_weights(pairs, maps, identity_weight))
    seen = _count(maps.inputs, maps.actions, weights, num_states * num_actions, num_actions)
    plain = seen.reshape(num_states, num_actions, num_actions).sum(1)
    counts = seen + backoff * jnp.repeat(plain, num_actions, axis=0)
    empty = counts.sum(-1, keepdims=True) == 0
    return jnp.log(jnp.where(empty, 1.0, counts))


def _map_weights(pairs: PreferenceBatch, maps: Trajectory, identity_weight: Scalar) -> Array:
    """[*B, 2] weight of each map."""
    both = jnp.stack([jnp.ones(()), jnp.asarray(identity_weight, float)])
    lead = maps.mask.shape[:-2]
    weights = jnp.ones(lead) if pairs.weights is None else jnp.asarray(pairs.weights)
    return weights[..., None] * both


def _count(states: Any, actions: Array, weights: Array, rows: int, columns: int) -> Array:
    """Sums [rows, columns] of the weights; ids outside are left out."""
    # A negative index would count from the end.
    states = jnp.where(states < 0, rows, states)
    table = jnp.zeros((rows, columns), weights.dtype)
    return table.at[states, jnp.where(actions < 0, columns, actions)].add(weights, mode="drop")


def only_identity(pairs: PreferenceBatch) -> PreferenceBatch:
    """The pairs with the chosen answer on both sides: a model of them copies what it reads."""
    return replace(pairs, rejected=pairs.chosen)
