"""The policy gradients of K answers by name.

`options` are those of `answer_method`: kl, keep, epochs, minibatches, rounds.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.checks import check_range
from rlhf_jax.losses.answer_policy_gradient import gspo_loss, rloo_loss
from rlhf_jax.losses.group_policy_gradient import dapo_loss
from rlhf_jax.losses.policy_gradient import cispo_loss
from rlhf_jax.ops.groups import (
    group_centred_advantages,
    group_normalised_advantages,
    leave_one_out_advantages,
    overlong_penalty,
)
from rlhf_jax.ops.masking import (
    constant_denominator,
    sequence_mean_of_token_mean,
    token_mean,
)
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.methods.answers import (
    answer_method,
    per_token,
    reinforce_answers,
)
from rlhf_jax.recipes.online_method import OnlineMethod
from rlhf_jax.types import AnswerLoss


def reinforce(lab: LanguageLab, *, samples: int = 1, **options: Any) -> OnlineMethod:
    """REINFORCE; the baseline of an answer is the mean score of all others in the batch.

    Passes after the first step are off-policy, without a ratio that would correct for it.
    """

    def advantages(scores: Float[Array, "B K"]) -> Float[Array, "B K"]:
        if scores.size < 2:
            raise ValueError("the baseline of reinforce needs at least 2 answers in a batch, got 1")
        return leave_one_out_advantages(scores.reshape(-1)).reshape(scores.shape)

    return answer_method(lab, reinforce_answers, samples=samples, advantages=advantages, **options)


def rloo(
    lab: LanguageLab, *, samples: int, clip_eps: float = jnp.inf, **options: Any
) -> OnlineMethod:
    """RLOO: the baseline of an answer is the mean score of the others to its prompt."""
    return _group_method(
        lab,
        partial(rloo_loss, clip_eps=clip_eps),
        samples=samples,
        advantages=leave_one_out_advantages,
        **options,
    )


def grpo(lab: LanguageLab, *, samples: int, clip_eps: float = 0.2, **options: Any) -> OnlineMethod:
    """GRPO; with kl=Penalty(beta, k3) its loss is `grpo_loss`, whose token form this is."""
    return _group_method(
        lab,
        partial(dapo_loss, clip_eps_low=clip_eps, clip_eps_high=clip_eps),
        samples=samples,
        advantages=group_normalised_advantages,
        reduction=sequence_mean_of_token_mean,
        **options,
    )


def dr_grpo(
    lab: LanguageLab, *, samples: int, clip_eps: float = 0.2, **options: Any
) -> OnlineMethod:
    """Dr. GRPO: `dr_grpo_loss` in its token form, L_max being the lab's answer_length."""
    return _group_method(
        lab,
        partial(dapo_loss, clip_eps_low=clip_eps, clip_eps_high=clip_eps),
        samples=samples,
        advantages=group_centred_advantages,
        reduction=partial(constant_denominator, length=lab.answer_length),
        **options,
    )


def dapo(
    lab: LanguageLab,
    *,
    samples: int,
    clip_eps_low: float = 0.2,
    clip_eps_high: float = 0.28,
    overlong_cache: int | None = None,
    rounds: int | None = 10,
    **options: Any,
) -> OnlineMethod:
    """DAPO: clip-higher, token mean, dynamic sampling, soft over-length penalty.

    Args:
      overlong_cache: over how many tokens before the lab's answer_length the penalty grows
        (`ops.groups.overlong_penalty`); None for no penalty.
    """

    return _group_method(
        lab,
        partial(dapo_loss, clip_eps_low=clip_eps_low, clip_eps_high=clip_eps_high),
        samples=samples,
        advantages=group_normalised_advantages,
        reduction=token_mean,
        shaping=None if overlong_cache is None else _overlong_shaping(lab, overlong_cache),
        rounds=rounds,
        **options,
    )


def _overlong_shaping(
    lab: LanguageLab, cache: int
) -> Callable[[Bool[Array, "B K T"]], Float[Array, "B K"]]:
    """mask -> DAPO's penalty of answers that come near the lab's answer_length."""

    def shaping(mask: Bool[Array, "B K T"]) -> Float[Array, "B K"]:
        return overlong_penalty(jnp.sum(mask, axis=-1), max_length=lab.answer_length, cache=cache)

    return shaping


def gspo(
    lab: LanguageLab,
    *,
    samples: int,
    clip_eps_low: float = 3e-4,
    clip_eps_high: float = 4e-4,
    **options: Any,
) -> OnlineMethod:
    """GSPO: one length-normalised ratio for all tokens of an answer."""
    return _group_method(
        lab,
        partial(gspo_loss, clip_eps_low=clip_eps_low, clip_eps_high=clip_eps_high),
        samples=samples,
        advantages=group_normalised_advantages,
        **options,
    )


def cispo(
    lab: LanguageLab, *, samples: int, max_ratio: float = 5.0, **options: Any
) -> OnlineMethod:
    """CISPO: the importance weight is clipped, so that every token keeps its gradient."""
    return _group_method(
        lab,
        per_token(partial(cispo_loss, max_ratio=max_ratio)),
        samples=samples,
        advantages=group_normalised_advantages,
        reduction=token_mean,
        **options,
    )


def pairwise_grpo(
    lab: LanguageLab, *, samples: int, clip_eps: float = 0.2, **options: Any
) -> OnlineMethod:
    """Pairwise RLHF of Think-RM: GRPO for `judged_advantages`, which are taken as they are.

    A KL penalty needs a surrogate, e.g. Penalty(1e-4, k3): advantages are not scores to subtract
    from.

    Reference: Hong et al. 2025, arXiv:2505.16265.
    Departs: without the second clip of its code where A < 0.
    """
    kl = options.get("kl")
    if kl is not None and kl.surrogate is None:
        raise ValueError("pairwise_grpo has no scores to subtract a KL from: give its Penalty k3")

    def known(scores: Float[Array, "B K"]) -> Float[Array, "B K"]:
        return jnp.where(jnp.isfinite(scores), scores, 0.0)

    return _group_method(
        lab,
        partial(dapo_loss, clip_eps_low=clip_eps, clip_eps_high=clip_eps),
        samples=samples,
        advantages=known,
        reduction=token_mean,
        **options,
    )


def _group_method(
    lab: LanguageLab, loss: AnswerLoss, *, samples: int, **options: Any
) -> OnlineMethod:
    """An `answer_method` that compares the answers to each prompt: two at least."""
    check_range("[2, inf)", samples=samples)
    return answer_method(lab, loss, samples=samples, **options)
