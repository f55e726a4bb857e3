"""An online method as data, and what is compiled of it: from rollout to batch, and the update."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from rlhf_jax.algos import sft
from rlhf_jax.algos.epochs import make_epochs
from rlhf_jax.algos.gradient import Diagnostics, accumulate
from rlhf_jax.losses.policy_gradient import truncated_importance_weights
from rlhf_jax.ops.kl import adapted_beta
from rlhf_jax.ops.logprobs import sequence_logps
from rlhf_jax.ops.masking import Mean
from rlhf_jax.recipes.constraints import CostLimits, weigh
from rlhf_jax.recipes.episodes import mask_unrewarded, turn_metrics
from rlhf_jax.recipes.experts import balance
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.recipes.rewards import Reward
from rlhf_jax.recipes.rows import Rows
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.types import Params, PyTree, Rollout, Scalar, TrainState, Trajectory

MAX_SAMPLER_RATIO = 2.0  # of an answer's pi / pi_sampler, where the two differ


@runtime_checkable
class ReferenceLogits(Protocol):
    """Logits of the reference at the steps of answers."""

    def __call__(self, answers: Trajectory, /) -> Float[Array, "*B T V"]: ...


class Scored(NamedTuple):
    """K answers to each of B prompts and what they are worth.

    rollout: [B, K]. scores: [B, K], NaN where an answer is left out.
    ref_token_logps: [B, K, T] under the reference, 0 where the mask is False.
    beta: the KL weight of this step.
    weights: [B, K] of each answer in the mean, pi / pi_sampler truncated; None where the policy
      itself was sampled, for ones.
    turn_ids, turn_rewards: [B, K, T] and [B, K, N] of episodes as in `episodes.Turns`, or None; the
      scores are those of whole episodes, so the rewards need not sum to them.
    step_rewards: [B, K, T] of tokens, where the reward has `steps`.
    reference: for methods that read the reference's whole vocabulary; call it on few answers.
    prefs: [B, K, K] P(row beats column), where the reward has `prefs`.
    """

    rollout: Rollout
    scores: Float[Array, "B K"]
    ref_token_logps: Float[Array, "B K T"]
    beta: Scalar = 0.0
    weights: Float[Array, "B K"] | None = None
    turn_ids: Int[Array, "B K T"] | None = None
    turn_rewards: Float[Array, "B K N"] | None = None
    step_rewards: Float[Array, "B K T"] | None = None
    reference: ReferenceLogits | None = None
    prefs: Float[Array, "B K K"] | None = None


class OnlineMethod(NamedTuple):
    """A way to learn from scored rollouts.

    samples: K, answers to each prompt.
    start: policy params -> the params that are trained. policy: those -> the policy's.
    axes: logical axis names of the trained params.
    prepare: pure `(trained params, Scored) -> (batch, metrics)`.
    objective: pure `(trained params, batch) -> (loss as a Mean, diagnostics)`.
    beta: the KL weight that `prepare` finds in `Scored`, at first if it is adapted.
    passes: (epochs, minibatches) over each batch in shuffled order; None is one step on all of it.
    rounds: dynamic sampling, at most so many rounds of prompts for a batch without groups of equal
      scores; None takes the groups as they come.
    divisible: whether the objective's total is a sum over rows, which micro-batches need.
    """

    samples: int
    start: Callable[[Params], Params]
    policy: Callable[[Params], Params]
    axes: PyTree
    prepare: Callable[[Params, Scored], tuple[PyTree, dict[str, Any]]]
    objective: Callable[[Params, PyTree], tuple[Mean, Diagnostics]]
    beta: Scalar = 0.0
    passes: tuple[int, int] | None = None
    rounds: int | None = None
    divisible: bool = True


class KLTarget(NamedTuple):
    """The KL to the reference, in nats per answer, that beta is steered to (`adapted_beta`)."""

    kl: float
    gain: float = 0.1


class Mix(NamedTuple):
    """A supervised loss on given rows beside the method's own (PPO-ptx).

    rows: `rows[i]`, a Trajectory [M], goes into every gradient step on the batch of step i.
    weight: of its token mean; the method's loss has 1.
    Reference: Ouyang et al. 2022, arXiv:2203.02155, Section 3.5.
    """

    rows: Rows
    weight: float


def make_prepare(
    lab: LanguageLab,
    method: OnlineMethod,
    reward: Reward,
    *,
    sampling: SamplingConfig | None = None,
    kl_target: KLTarget | None = None,
    keep_scores: bool = False,
    compare: bool = False,
    stale: bool = False,
    limits: CostLimits | None = None,
) -> Callable[..., tuple[PyTree, dict[str, Any], dict[str, Any]]]:
    """From a rollout to the method's batch, with the numbers that every method logs.

    Its last result holds the next "beta" if there is a target, the next "dual" state if there are
    limits, and the "scores" to be kept: no other array leaves the compiled step. With `compare`
    "sampler/gap" is the largest difference of log-probs between sampler and trainer. With `stale`
    the answers are of an older policy: the log-probs of the one that is trained take the place of
    theirs, and each answer has a weight. With limits the last argument is a `DualState` and costs
    [M, B, K].
    """

    def prepare(
        params,
        ref_params,
        reward_params,
        given,
        rollout: Rollout,
        beta,
        turns=None,
        dual: Any = (),
    ):
        trajectory, sampled = rollout.trajectory, rollout
        if stale:
            logps = lab.policy.logps(method.policy(params), trajectory.inputs, trajectory.actions)
            rollout = rollout._replace(token_logps=jnp.where(trajectory.mask, logps, 0.0))
        scores = reward.scores(reward_params, given, trajectory)
        if turns is not None:
            scores = mask_unrewarded(scores, turns)
        ref = lab.policy.logps(ref_params, trajectory.inputs, trajectory.actions)
        ref = jnp.where(trajectory.mask, ref, 0.0)
        beta = method.beta if kl_target is None else beta
        weights = answer_weights(rollout) if stale else sampler_weights(rollout, sampling)
        graded, now, held, more = scores, beta, {}, {}
        if limits is not None:
            graded, now, more["dual"], held = weigh(limits, dual[0], scores, dual[1], beta)
        scored = Scored(rollout, graded, ref, now, weights, *(turns or ())[:2])
        scored = scored._replace(reference=partial(_reference_logits, lab, ref_params))
        if reward.steps is not None:
            steps = reward.steps(reward_params, given, trajectory)
            scored = scored._replace(step_rewards=steps)
        if reward.prefs is not None:
            scored = scored._replace(prefs=reward.prefs(reward_params, given, trajectory))
        batch, metrics = method.prepare(params, scored)
        finite = jnp.isfinite(scores)
        metrics |= held | {
            "scores/mean": jnp.sum(jnp.where(finite, scores, 0.0)) / jnp.maximum(finite.sum(), 1),
            "scores/finite": finite.mean(),
        }
        metrics |= answer_metrics(rollout, ref)
        metrics |= {} if turns is None else turn_metrics(turns)
        if compare:
            metrics |= sampler_metrics(lab, method.policy(params), sampled)
        more |= {"scores": scores} if keep_scores else {}
        if kl_target is not None:
            metrics["kl/beta"], (kl, gain) = beta, kl_target
            more["beta"] = adapted_beta(beta, metrics["kl/ref"], target=kl, gain=gain)
        return batch, metrics, more

    return prepare


def answer_metrics(rollout: Rollout, ref_token_logps: Array) -> dict[str, Array]:
    """KL to the reference, length, and the share that ended with a stop token."""
    trajectory = rollout.trajectory
    gap = jnp.where(trajectory.mask, rollout.token_logps - ref_token_logps, 0.0)
    return {
        "kl/ref": jnp.sum(gap, -1).mean(),
        "answers/length": jnp.sum(trajectory.mask, -1).mean(),
        "answers/finished": rollout.finished.mean(),
    }


def _reference_logits(
    lab: LanguageLab, ref_params: Params, answers: Trajectory
) -> Float[Array, "*B T V"]:
    """Of `Scored.reference`."""
    return lab.policy.logits(ref_params, answers.inputs)


def sampler_metrics(lab: LanguageLab, params: Params, rollout: Rollout) -> dict[str, Array]:
    """The largest difference of log-probs between sampler and trainer, and the sampled tokens."""
    trajectory = rollout.trajectory
    gaps = lab.policy.logps(params, trajectory.inputs, trajectory.actions) - rollout.token_logps
    return {
        "sampler/gap": jnp.max(jnp.abs(jnp.where(trajectory.mask, gaps, 0.0))),
        "sampler/tokens": jnp.sum(trajectory.mask),
    }


def sampler_weights(
    rollout: Rollout, sampling: SamplingConfig | None
) -> Float[Array, "B K"] | None:
    """min(pi / pi_sampler, 2) of each answer; None where the policy itself is sampled."""
    if sampling is None or (sampling.temperature, sampling.top_k, sampling.top_p) == (1, 0, 1):
        return None
    return answer_weights(rollout)


def answer_weights(rollout: Rollout) -> Float[Array, "B K"]:
    """min(pi / pi_sampler, 2) of each answer."""
    mask = rollout.trajectory.mask
    logps = sequence_logps(rollout.token_logps, mask)
    sampler = sequence_logps(rollout.sampling_token_logps, mask)
    return truncated_importance_weights(logps, sampler, max_ratio=MAX_SAMPLER_RATIO)


def make_step(
    lab: LanguageLab,
    method: OnlineMethod,
    optimizer: optax.GradientTransformation,
    *,
    mix_weight: float | None = None,
    parts: int = 1,
) -> Callable[..., tuple[TrainState, Diagnostics]]:
    """Pure `step(state, (batch, rows of the mix), key) -> (state, metrics)`: all passes of a batch.

    Args:
      mix_weight: None where there is no mix, and then the rows are ().
      parts: micro-batches of each gradient step, as in `gradient.accumulate`.
    Raises:
      ValueError: micro-batches of an objective that is not a sum over rows.
    """
    supervised = sft.make_objective(lab.policy)
    if parts > 1 and not (method.divisible and mix_weight is None):
        cause = "whitened advantages" if mix_weight is None else "a mix"
        raise ValueError(f"Fit.parts must be 1 with {cause}: that loss is no sum over rows")

    def objective(params, batch, rows):
        loss, diagnostics = method.objective(params, batch)
        if mix_weight is None:
            return loss, diagnostics
        other, _ = supervised(method.policy(params), rows)
        both = loss.value() + mix_weight * other.value()
        return Mean(both, jnp.ones(())), diagnostics | {"loss/mix": other}

    one = accumulate(objective, optimizer, parts=parts, penalty=balance(lab.router_losses))

    def step(state: TrainState, given: tuple[PyTree, PyTree], key: jax.Array):
        batch, rows = given

        def update(state, batch):
            return one(state, batch, rows)

        if method.passes is None:
            return update(state, batch)
        epochs, minibatches = method.passes
        return make_epochs(update, epochs=epochs, minibatches=minibatches)(state, batch, key)

    return step


def flat(tree: PyTree) -> PyTree:
    """[B, K, ...] as [B K, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), tree)


def same(params: Params) -> Params:
    """A method that trains the policy and nothing else."""
    return params
