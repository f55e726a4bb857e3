"""Policy gradients of K answers scored once: advantages, a loss and an average make a method.

`methods.groups` has those of the literature; a new one is a call of `answer_method`. An answer
without a score has advantage 0 and weight 0.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.algos.online import AnswerBatch, make_answer_objective
from rlhf_jax.checks import check_range
from rlhf_jax.losses.policy_gradient import reinforce_loss
from rlhf_jax.ops.groups import informative_groups
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.ops.masking import Mean, keep_weighted
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.online_method import OnlineMethod, Scored, flat, same
from rlhf_jax.types import AnswerLoss, Params


@runtime_checkable
class KLSurrogate(Protocol):
    """A loss of samples: `k2`, `k3`, `reverse_kl_surrogate` and the others of `ops.kl`."""

    def __call__(
        self, logps: Float[Array, "*S"], ref_logps: Float[Array, "*S"], /
    ) -> Float[Array, "*S"]: ...


class Penalty(NamedTuple):
    """KL to the reference.

    beta: weight >= 0.
    surrogate: None subtracts beta (log pi_old - log pi_ref) of each answer from its score. Else
      beta times it is added to the loss: of each token for a loss of tokens, of the whole answer
      for a loss of answers.
    """

    beta: float
    surrogate: KLSurrogate | None = None


@runtime_checkable
class GroupAdvantages(Protocol):
    """Advantages [B, K] of scores [B, K], 0 where a score is not finite."""

    def __call__(self, scores: Float[Array, "B K"], /) -> Float[Array, "B K"]: ...


@runtime_checkable
class Credit(Protocol):
    """Advantages of tokens [B, K, T] from scored episodes and the advantages of groups of scores:
    `methods.turn_advantages`."""

    def __call__(self, scored: Scored, advantages: GroupAdvantages, /) -> Float[Array, "B K T"]: ...


@runtime_checkable
class AnswerFilter(Protocol):
    """Weights [B, K] of scores [B, K], 0 for answers that are not learned from, such as
    `best_worst_weights` and the others of `ops.filtration`."""

    def __call__(self, scores: Float[Array, "B K"], /) -> Float[Array, "B K"]: ...


def answer_method(
    lab: LanguageLab,
    loss: AnswerLoss,
    *,
    samples: int,
    advantages: GroupAdvantages,
    credit: Credit | None = None,
    reduction: Callable[..., Mean] | None = None,
    kl: Penalty | None = None,
    shaping: Callable[[Bool[Array, "B K T"]], Float[Array, "B K"]] | None = None,
    keep: AnswerFilter | None = None,
    epochs: int = 1,
    minibatches: int = 1,
    rounds: int | None = None,
) -> OnlineMethod:
    """A policy gradient of single answers.

    Args:
      loss: `(token_logps [N, T], old_token_logps=, advantages=[N], mask=)` -> one value per answer,
        or per token with a `reduction`, as in `algos.online.make_answer_update`.
      samples: K.
      credit: None gives every token the advantage of its answer, and the loss [N] of them; else the
        loss gets [N, T], e.g. one of `per_token`.
      kl: None for no penalty.
      shaping: mask -> what is added to the scores after dynamic sampling has looked at them.
      keep: a filter on the scores of each group; advantages are those of all its answers. None
        keeps them all.
      epochs, minibatches: as in `algos.epochs.make_epochs`; a minibatch is of answers. 1 and 1 is
        one step on all of them.
      rounds: as in `OnlineMethod`.
    """
    check_range("[1, inf)", samples=samples)
    surrogate = None if kl is None else kl.surrogate

    def prepare(params: Params, scored: Scored) -> tuple[AnswerBatch, dict[str, Any]]:
        rollout = scored.rollout
        scores = _graded(scored, shaping, penalised=kl is not None and surrogate is None)
        graded = scored._replace(scores=scores)
        found = advantages(scores) if credit is None else credit(graded, advantages)
        columns = {"old_token_logps": rollout.token_logps, "advantages": found}
        if surrogate is not None:
            columns["ref_token_logps"] = scored.ref_token_logps
            columns["betas"] = jnp.full_like(scores, scored.beta)
        weights, kept = filtered_weights(scored, keep)
        batch = AnswerBatch(*flat((rollout.trajectory, columns, weights)))
        return batch, kept | {"groups/informative": informative_groups(scored.scores).mean()}

    penalised = loss if surrogate is None else _with_kl(loss, surrogate)
    return OnlineMethod(
        samples=samples,
        start=same,
        policy=same,
        axes=lab.axes["policy"],
        prepare=prepare,
        objective=make_answer_objective(lab.policy, penalised, reduction=reduction),
        beta=0.0 if kl is None else kl.beta,
        passes=passes(epochs, minibatches),
        rounds=rounds,
    )


def _graded(
    scored: Scored,
    shaping: Callable[[Bool[Array, "B K T"]], Float[Array, "B K"]] | None,
    *,
    penalised: bool,
) -> Float[Array, "B K"]:
    """Scores with what `shaping` adds and, if penalised, less beta (log pi_old - log pi_ref)."""
    rollout, scores = scored.rollout, scored.scores
    mask = rollout.trajectory.mask
    if shaping is not None:
        scores = scores + shaping(mask)
    if not penalised:
        return scores
    gap = rollout.token_logps - scored.ref_token_logps
    return scores - scored.beta * sequence_logps(gap, mask)


def filtered_weights(
    scored: Scored, keep: AnswerFilter | None
) -> tuple[Float[Array, "B K"], dict[str, Any]]:
    """Weight of each answer in the mean, 0 where it has no score, and "filter/kept": the share of
    answers that a filter leaves any weight. Its weights are times the answers with a score, so that
    a uniform one changes none."""
    finite = jnp.isfinite(scored.scores).astype(jnp.float32)
    weights = finite if scored.weights is None else keep_weighted(scored.weights, finite)
    if keep is None:
        return weights, {}
    weights = weights * keep(scored.scores) * jnp.sum(finite, axis=-1, keepdims=True)
    return weights, {"filter/kept": jnp.mean(weights > 0)}


def passes(epochs: int, minibatches: int) -> tuple[int, int] | None:
    """What `OnlineMethod` calls passes: None for one step on the whole batch, unshuffled."""
    check_range("[1, inf)", epochs=epochs, minibatches=minibatches)
    return None if epochs == minibatches == 1 else (epochs, minibatches)


def reinforce_answers(
    token_logps: Float[Array, "*B T"],
    old_token_logps: Float[Array, "*B T"],
    advantages: Float[Array, "*B"],
    mask: Bool[Array, "*B T"],
) -> Float[Array, "*B"]:
    """`reinforce_loss` of whole answers; it has no ratio, so the old log-probs are not read."""
    del old_token_logps
    return reinforce_loss(sequence_logps(token_logps, mask), advantages)


def reinforce_steps(
    logps: Float[Array, "*S"], old_logps: Float[Array, "*S"], advantages: Float[Array, "*S"]
) -> Float[Array, "*S"]:
    """`reinforce_loss` of single tokens, for `per_token`."""
    del old_logps
    return reinforce_loss(logps, advantages)


def per_token(loss: Callable[..., Array]) -> AnswerLoss:
    """A loss `(logps, old_logps, advantages)` of steps for tokens with advantages of their own, or
    with their answer's."""

    def tokens(token_logps, old_token_logps, advantages, mask):
        if advantages.ndim < mask.ndim:
            advantages = jnp.broadcast_to(advantages[..., None], mask.shape)
        arrays = (token_logps, old_token_logps, advantages)
        return loss(*(jnp.where(mask, x, 0.0) for x in arrays))

    return tokens


def _with_kl(loss: AnswerLoss, surrogate: KLSurrogate) -> AnswerLoss:
    """The loss plus beta times the surrogate, of tokens or of answers as the loss is."""

    def penalised(token_logps, ref_token_logps, betas, mask, **columns):
        losses = loss(token_logps, mask=mask, **columns)
        if losses.ndim == mask.ndim:
            kl = surrogate(*(jnp.where(mask, x, 0.0) for x in (token_logps, ref_token_logps)))
            return losses + betas[..., None] * kl
        kl = surrogate(*(sequence_logps(x, mask) for x in (token_logps, ref_token_logps)))
        return losses + betas * kl

    return penalised
