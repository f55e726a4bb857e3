"""Best-of-K fine-tuning: maximum likelihood of selected answers (RAFT), with a prior (SuperHF).

An answer without a score or without a word before its stop token is never selected; a prompt where
none is left has weight 0. Only the order of the scores matters. The sampler is not read, so that
answers of any `sampling` count the same.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from rlhf_jax.algos.best_of import best_rows, make_prior_objective
from rlhf_jax.algos.online import AnswerBatch, make_answer_objective
from rlhf_jax.checks import check_range
from rlhf_jax.losses.supervised import superhf_loss
from rlhf_jax.ops.kl import forward_kl
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.ops.masking import token_mean, weighted_mean
from rlhf_jax.ops.selection import Best, best_answers, kl_ranking_scores, top_answers
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.methods.answers import passes, per_token, reinforce_steps
from rlhf_jax.recipes.online_method import OnlineMethod, Scored, same
from rlhf_jax.types import Params


@runtime_checkable
class Divergence(Protocol):
    """Between two policies at each step: `forward_kl`, `exact_kl`."""

    def __call__(
        self, logits: Float[Array, "*B A"], ref_logits: Float[Array, "*B A"], /
    ) -> Float[Array, "*B"]: ...


def best_of(
    lab: LanguageLab, *, samples: int, kl: float = 0.0, epochs: int = 1, minibatches: int = 1
) -> OnlineMethod:
    """RAFT: maximum likelihood of the best of K answers to each prompt (local ranking).

    Args:
      samples: K >= 2. kl: beta of `kl_ranking_scores`, >= 0.
      epochs, minibatches: as in `answer_method`; rows are prompts.
    Reference: Dong et al. 2023, arXiv:2304.06767.
    Departs: one optimiser for all rounds, and not a new one for each.
    """
    check_range("[2, inf)", samples=samples)

    def prepare(params: Params, scored: Scored) -> tuple[AnswerBatch, dict[str, Any]]:
        best = best_answers(ranking_scores(scored))
        rollout = scored.rollout
        rows = best_rows((rollout.trajectory, rollout.token_logps, scored.scores), best)
        return _kept(*rows, best.keep.astype(jnp.float32), tie_metrics(best, samples))

    method = _supervised(lab, prepare, kl=kl, epochs=epochs, minibatches=minibatches)
    return method._replace(samples=samples)


def top_of_batch(
    lab: LanguageLab, *, samples: int, kl: float = 0.0, epochs: int = 1, minibatches: int = 1
) -> OnlineMethod:
    """RAFT with global ranking: each prompt is answered once, the best 1 / K of a batch are kept.

    Prompts with high scores are kept more often than good answers to others.

    Args:
      samples: K >= 2; a step has at least as many prompts.
    Others, Reference, Departs: as in `best_of`.
    """
    check_range("[2, inf)", samples=samples)

    def prepare(params: Params, scored: Scored) -> tuple[AnswerBatch, dict[str, Any]]:
        scores = ranking_scores(scored)[:, 0]
        if len(scores) < samples:
            raise ValueError(
                f"top_of_batch keeps one of {samples} prompts, and a step has {len(scores)}: give "
                "it more prompts or fewer samples"
            )
        top = top_answers(scores, count=len(scores) // samples)
        rollout = scored.rollout
        given = (rollout.trajectory, rollout.token_logps, scored.scores)
        rows = jax.tree.map(lambda x: x[top.index, 0], given)
        return _kept(*rows, top.keep.astype(jnp.float32), {"groups/kept": top.keep.mean()})

    method = _supervised(lab, prepare, kl=kl, epochs=epochs, minibatches=minibatches)
    return method._replace(samples=1)


def superhf(
    lab: LanguageLab,
    *,
    samples: int,
    beta: float,
    divergence: Divergence = forward_kl,
    epochs: int = 1,
    minibatches: int = 1,
) -> OnlineMethod:
    """SuperHF: `best_of`, and a prior KL(pi_0 || pi) on the selected answers, over the vocabulary.

    The reference reads the B selected answers once more. Its logits [B, T, V] are part of the
    batch, in float32: 16 answers of 64 tokens with 32,000 words are 131 MB.

    Args:
      samples: the size of a superbatch, >= 2; the paper's 16.
      beta: weight of the prior, as in `superhf_loss`; the paper's 0.35. A rare answer with the
        highest score is amplified to order 1 in the end unless beta > samples - 1
        (`exact.best_of.top_mass`): it is the number of steps that limits this.
      divergence: `forward_kl`, or `exact_kl` for the reverse direction.
      epochs, minibatches: as in `best_of`.
    Reference: Mukobi et al. 2023, arXiv:2310.16763, read in its code.
    Departs: as `superhf_loss`; steps whose loss is not finite or negative are not skipped.
    """
    check_range("[2, inf)", samples=samples)
    check_range("[0, inf)", beta=beta)

    def prepare(params: Params, scored: Scored) -> tuple[AnswerBatch, dict[str, Any]]:
        if scored.reference is None:
            raise ValueError("superhf needs Scored.reference, logits of the reference model")
        best = best_answers(ranking_scores(scored))
        answers, scores = best_rows((scored.rollout.trajectory, scored.scores), best)
        weights = best.keep.astype(jnp.float32)
        highest = weighted_mean(jnp.where(best.keep, scores, 0.0), weights)
        columns = {"ref_logits": scored.reference(answers)}
        metrics = tie_metrics(best, samples) | {"scores/best": highest}
        return AnswerBatch(answers, columns, weights), metrics

    loss = partial(superhf_loss, beta=beta, divergence=divergence)
    return OnlineMethod(
        samples=samples,
        start=same,
        policy=same,
        axes=lab.axes["policy"],
        prepare=prepare,
        objective=make_prior_objective(lab.policy, loss),
        passes=passes(epochs, minibatches),
    )


def ranking_scores(scored: Scored) -> Float[Array, "B K"]:
    """The scores that are ranked: penalised by `Scored.beta`, NaN for an answer without a word."""
    rollout, mask = scored.rollout, scored.rollout.trajectory.mask
    words = jnp.sum(mask, axis=-1) - rollout.finished
    logps, ref = (sequence_logps(x, mask) for x in (rollout.token_logps, scored.ref_token_logps))
    ranked = scored.scores
    if not (isinstance(scored.beta, float | int) and scored.beta == 0):
        ranked = kl_ranking_scores(ranked, logps, ref, beta=scored.beta)
    return jnp.where(words > 0, ranked, jnp.nan)


def tie_metrics(best: Best, samples: int) -> dict[str, Any]:
    """Shares of the prompts: "groups/kept" with an answer that can be selected, "groups/tied" where
    several share the highest score, "groups/equal" where all K do."""
    return {
        "groups/kept": best.keep.mean(),
        "groups/tied": (best.ties > 1).mean(),
        "groups/equal": (best.ties == samples).mean(),
    }


def _kept(
    answers: Any, old: Array, scores: Array, weights: Array, metrics: dict[str, Any]
) -> tuple[AnswerBatch, dict[str, Any]]:
    """The batch of the selected answers, and the mean of their scores, which is biased upwards."""
    columns = {"old_token_logps": old, "advantages": jnp.ones_like(weights)}
    best = weighted_mean(jnp.where(weights > 0, scores, 0.0), weights)
    return AnswerBatch(answers, columns, weights), metrics | {"scores/best": best}


def _supervised(
    lab: LanguageLab,
    prepare: Callable[[Params, Scored], tuple[AnswerBatch, dict[str, Any]]],
    *,
    kl: float,
    epochs: int,
    minibatches: int,
) -> OnlineMethod:
    """Maximum likelihood of what `prepare` keeps: the token mean over all of it."""
    check_range("[0, inf)", kl=kl)
    return OnlineMethod(
        samples=1,
        start=same,
        policy=same,
        axes=lab.axes["policy"],
        prepare=prepare,
        objective=make_answer_objective(
            lab.policy, per_token(reinforce_steps), reduction=token_mean
        ),
        beta=kl,
        passes=passes(epochs, minibatches),
    )
