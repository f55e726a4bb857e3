"""Rows of the reduction tables: their arrays, their check, what a side puts around a loss.

An adapter turns a loss into one of other arrays; there is no formula of an objective here.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.losses import answer_policy_gradient as answer
from rlhf_jax.losses import group_policy_gradient as group
from rlhf_jax.losses import policy_gradient
from rlhf_jax.losses import preference as p
from rlhf_jax.ops import groups, masking, returns

BETA, H, EPS, N, INF = 0.3, 0.2, 0.25, 3, float("inf")

rng = np.random.default_rng(0)
PAIR = tuple(rng.standard_normal((4, 6)))
PREFS, LABELS = rng.random(6), rng.random(6) < 0.5
TOKENS = tuple(-np.exp(rng.standard_normal((4, 6, 5))))
MASKS = tuple(np.arange(5) < rng.integers(1, 6, (2, 6, 1)))
EVEN = (np.broadcast_to(np.arange(5) < N, (6, 5)),) * 2  # both answers of a pair have N tokens
LISTS = tuple(rng.standard_normal((3, 6, 4)))
WHOLE = np.ones((6, 4), bool)  # lists without padding
ANSWERS, OLD, REF = -np.exp(rng.standard_normal((3, 2, 3, 5)))  # two prompts, three answers each
SCORES = rng.standard_normal((2, 3))
STEPS = np.arange(5) < np.array([[1, 3, 5], [2, 4, 5]])[..., None]
FULL = np.ones_like(STEPS)


class Row(NamedTuple):
    """loss(*inputs) = other(*inputs); only their gradients where `value` is False."""

    loss: Callable
    other: Callable
    inputs: tuple
    rtol: float = 1e-9
    value: bool = True


def assert_reduces(row: Row, *, to_nothing: bool = False):
    """Equal in value and in the gradient to every real array, which is 0 only if it should be."""
    inputs = tuple(jnp.asarray(x) for x in row.inputs)
    places = tuple(i for i, x in enumerate(inputs) if x.dtype != bool)

    def total(loss, inputs):
        losses = loss(*inputs)
        return jnp.sum(losses * (1.0 + jnp.arange(losses.size).reshape(losses.shape))), losses

    @jax.jit
    def sides(*real):
        arrays = dict(enumerate(inputs)) | dict(zip(places, real, strict=True))
        slope = jax.grad(total, argnums=1, has_aux=True, allow_int=True)
        return [slope(loss, tuple(arrays.values())) for loss in (row.loss, row.other)]

    (grads, losses), (other_grads, other_losses) = sides(*(inputs[i] for i in places))
    assert losses.shape == other_losses.shape
    if row.value:
        np.testing.assert_allclose(losses, other_losses, rtol=row.rtol, atol=1e-12)
    for i in places:
        np.testing.assert_allclose(grads[i], other_grads[i], rtol=row.rtol, atol=1e-12)
    assert any(jnp.any(grads[i] != 0) for i in places) != to_nothing


def full(value):
    """The fifth array of a pairwise loss, all of one value."""
    return lambda loss: lambda *pair: loss(*pair, jnp.full_like(pair[0], value))


def swap(loss):
    """The loss of a pair with its label turned around."""
    return lambda *x: loss(*(x[i] for i in ((1, 0) if len(x) == 2 else (1, 0, 3, 2))))


def over(pool, loss):
    """The loss of answers whose log-probs `pool` makes from four arrays of tokens, two masks."""
    return lambda *x: loss(*(pool(y, x[4 + i % 2]) for i, y in enumerate(x[:4])))


def no_reference(loss):
    """A loss with a reference, where the reference gives every answer the same log-prob."""
    return lambda chosen, rejected, *_: loss(chosen, rejected, 0.0 * chosen, 0.0 * rejected)


def only_policy(loss):
    """A loss without a reference, handed one."""
    return lambda chosen, rejected, *_: loss(chosen, rejected)


def both_answers(loss):
    """An unpaired loss: of the chosen answer as desirable plus of the rejected one as not."""
    return lambda chosen, rejected, ref_chosen, ref_rejected: (
        loss(chosen, ref_chosen, jnp.ones(chosen.shape, bool))
        + loss(rejected, ref_rejected, jnp.zeros(chosen.shape, bool))
    )


def listed(loss):
    """A loss of lists [B, 2], of the pair chosen, rejected (and its reference)."""

    def of_pair(*x):
        lists = (jnp.stack(x[i : i + 2], -1) for i in range(0, len(x), 2))
        return loss(*lists, jnp.ones((*x[0].shape, 2), bool))

    return of_pair


def in_a_batch_of_one(loss):
    return lambda *pair: loss(*(x[:, None] for x in pair), beta=BETA, label_smoothing=H)[:, 0]


def ld_dpo(alpha):
    def loss(*x):
        shared = jnp.minimum(jnp.sum(x[4], -1), jnp.sum(x[5], -1))
        pool = partial(p.ld_logps, shared_lengths=shared, alpha=alpha)
        return over(pool, partial(p.dpo_loss, beta=BETA))(*x)

    return loss


def pro_one_contrast_at_a_time(mean_logps, mask):
    """Scores 1, 0, ..., 0 give the contrast of the first W = 1; the n ties below cost log n!."""
    total, size = 0.0, mask.shape[1]
    for k in range(size):
        scores = 0.0 * mean_logps[:, k:] + (jnp.arange(size - k) == 0)
        ties = jax.lax.lgamma(float(size - k))
        total += p.pro_loss(mean_logps[:, k:], scores, mask[:, k:]) - ties
    return total


def first_update(loss):
    """A loss of new and old log-probs, at the policy that sampled: every ratio is 1."""
    return lambda logps, *data: loss(logps, logps, *data)


def ppo_with_the_others_as_critic(logps, ref_logps, scores, mask):
    """lambda = gamma = 1, V the others' mean score, KL in the score, summed over the tokens."""
    token_kl = jax.lax.stop_gradient(logps - ref_logps)
    scores = scores - BETA * masking.masked_sum(token_kl, mask, axis=-1)
    others = scores - groups.leave_one_out_advantages(scores)
    values = jnp.broadcast_to(others[..., None], mask.shape)
    rewards = returns.answer_rewards(scores, 0.0 * token_kl, mask, beta=0.0)
    discounts = returns.answer_discounts(mask)
    advantages = returns.gae(rewards, values, discounts, 0.0 * others, gae_lambda=1.0)
    losses = policy_gradient.ppo_clip_loss(logps, logps, advantages, clip_eps=INF)
    return masking.masked_sum(losses, mask, axis=-1)


def rloo(logps, ref_logps, scores, mask, *, beta=BETA):
    """RLOO of a first update."""
    penalty = masking.masked_sum(logps - ref_logps, mask, axis=-1)
    advantages = groups.leave_one_out_advantages(scores - beta * penalty)
    return answer.rloo_loss(logps, logps, advantages, mask, clip_eps=EPS)


def grpo(logps, old_logps, advantages, mask):
    """GRPO without KL."""
    return group.grpo_loss(logps, old_logps, logps, advantages, mask, clip_eps=EPS, beta=0.0)


def centred_grpo(logps, old_logps, scores, mask):
    """GRPO without the deviation."""
    return grpo(logps, old_logps, groups.group_centred_advantages(scores), mask)


def dr_grpo(logps, old_logps, scores, mask, *, max_length=7.0):
    advantages = groups.group_centred_advantages(scores)
    return group.dr_grpo_loss(
        logps, old_logps, advantages, mask, clip_eps=EPS, max_length=max_length
    )


def gspo_token(logps, old_logps, advantages, mask):
    """The token mean of GSPO-token, with the advantage of the answer for every token."""
    advantages = jnp.broadcast_to(advantages[..., None], mask.shape)
    losses = answer.gspo_token_loss(
        logps, old_logps, advantages, mask, clip_eps_low=EPS, clip_eps_high=EPS
    )
    return masking.masked_mean(losses, mask, axis=-1)


def reinforce_each(logps, scores):
    """REINFORCE of each answer with the others' mean as its baseline, averaged over the group."""
    advantages = groups.leave_one_out_advantages(scores)
    return jnp.mean(policy_gradient.reinforce_loss(logps, advantages), axis=-1)


def self_play(logps, margins):
    """REINFORCE of two answers, each scored by its win over the other less a half."""
    wins = jax.nn.sigmoid(jnp.stack([margins, -margins], axis=-1))
    return jnp.sum(policy_gradient.reinforce_loss(logps, wins - 0.5), axis=-1)


def shifted(loss):
    """The loss with a number added to all scores, the last array, of each prompt."""
    return lambda *x: loss(*x[:-1], x[-1] + jnp.arange(x[-1].shape[0] * 1.0)[:, None])


def tied(loss):
    """The loss with equal scores."""
    return lambda *x: loss(*x, 0.0 * x[0] + 2.0)
