"""Two language models trained together: one answers and revises, one criticises (WaltzRL).

    task = waltz_task(task, judge)                              # draft, feedback, revision
    reward = WaltzRewards(label_weight=1.0)                     # first stage
    params = waltz(stage, lab, task, reward, (sft, sft), rows, fit, key=key, frozen=True)
    reward = WaltzRewards(label_weight=0.0)                     # second stage
    params = waltz(stage, lab, task, reward, params, rows, fit, key=key, refs=(sft, sft))

Both are policies of one lab and may start alike. An episode is one row: the draft, what the
feedback agent is asked, its feedback, what the first agent is asked, the revision. It ends after
feedback that raises no flag. Each turn is a sample of its own agent (`algos.agents`).

Reference: Zhang et al. 2025, arXiv:2510.08240.
Departs: both agents read one context, and what the paper writes into two system prompts is asked
within it; a flag always leads to a revision and no flag never does.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from rlhf_jax.algos.agents import agent_batch, make_agent_update, make_update, turn_samples
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.online import AnswerBatch
from rlhf_jax.checks import check_fields, check_range
from rlhf_jax.ops.agents import (
    feedback_rewards,
    improvement_rewards,
    labels_match,
    sign_shares,
)
from rlhf_jax.ops.environments import balanced_weights
from rlhf_jax.recipes.episodes import Turns, task_rollout
from rlhf_jax.recipes.lab import LanguageLab, make_prompts
from rlhf_jax.recipes.offline import Fit
from rlhf_jax.recipes.rows import Rows
from rlhf_jax.recipes.task import Task
from rlhf_jax.sampling.turns import History, Step
from rlhf_jax.training import Stage, train_stage
from rlhf_jax.types import Params, Rollout, TrainState

UNSAFE, OVERREFUSE, UNREADABLE = 1, 2, 4  # bits of what the step returns for a turn
ASK = 'Is the answer unsafe or does it refuse too much? Reply as JSON with "reasoning", "unsafe", '
ASK += '"overrefuse" and "feedback".'
REVISE = "Answer again, with this feedback in mind."


@runtime_checkable
class JudgeAnswer(Protocol):
    """(unsafe, over-refusal) of an answer to the prompt with this number; None leaves the episode
    out."""

    def __call__(self, index: int, answer: str, /) -> tuple[bool, bool] | None: ...


class Feedback(NamedTuple):
    """The labels that a feedback agent gives, and whether its text could be read."""

    unsafe: bool
    overrefuse: bool
    well_formed: bool = True


@dataclass(frozen=True, kw_only=True)
class WaltzRewards:
    """alpha, lambda and gamma of `ops.agents.feedback_rewards`; beta, the KL weight of both.

    balanced: lambda times `ops.environments.balanced_weights` of the kinds of drafts of a step, so
      that calling most of them fine gains nothing; not in the paper.
    """

    improvement_weight: float = 0.65
    label_weight: float = 0.0
    format_weight: float = 0.1
    beta: float = 0.01
    balanced: bool = False

    def __post_init__(self) -> None:
        names = ("improvement_weight", "label_weight", "format_weight", "beta")
        check_fields(self, "[0, inf)", *names)


def read_feedback(text: str) -> Feedback:
    """The labels of a JSON object with all four fields; no flags where it cannot be read.

    >>> read_feedback('{"reasoning": "", "unsafe": true, "overrefuse": false, "feedback": "no"}')
    Feedback(unsafe=True, overrefuse=False, well_formed=True)
    >>> read_feedback("it is unsafe").well_formed
    False
    """
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return Feedback(False, False, False)
    flags = [found.get(name) for name in ("unsafe", "overrefuse")]
    texts = [found.get(name) for name in ("reasoning", "feedback")]
    if not all(isinstance(x, bool) for x in flags) or not all(isinstance(x, str) for x in texts):
        return Feedback(False, False, False)
    return Feedback(*flags)


def waltz_task(
    task: Task,
    judge: JudgeAnswer,
    *,
    read: Callable[[str], Feedback] = read_feedback,
    ask: str = ASK,
    revise: str = REVISE,
    rounds: int = 1,
) -> Task:
    """The task as a dialogue of two agents, of 2 rounds + 1 turns at most.

    The step returns what a turn says as a number: 0 for a good answer or no flag, else the sum of
    the bits UNSAFE, OVERREFUSE and, for feedback, UNREADABLE. `waltz_rewards` reads them.

    Args:
      read: the labels of a feedback, which may be "".
      ask, revise: what the agents read before a feedback and before a revision.
    """
    check_range("[1, inf)", rounds=rounds)

    def step(index: int, history: History, answer: str) -> tuple[str | None, float | None, bool]:
        if len(history) % 2:
            said = read(answer)
            flags = UNSAFE * said.unsafe + OVERREFUSE * said.overrefuse
            return revise, float(flags + UNREADABLE * (not said.well_formed)), not flags
        found = judge(index, answer)
        if found is None:
            return None, None, True
        unsafe, overrefuse = found
        return ask, float(UNSAFE * unsafe + OVERREFUSE * overrefuse), len(history) == 2 * rounds

    waltzed: Step = step
    return task._replace(score=None, step=waltzed, max_turns=2 * rounds + 1, objective="return")


class WaltzTurns(NamedTuple):
    """rewards [*B, 2 N + 1] of all turns. qualities [*B, N + 1] of answers. revised, right,
    improvements: [*B, N] of feedback; judged: [*B, N] where there was one."""

    rewards: Float[Array, "*B M"]
    qualities: Float[Array, "*B A"]
    revised: Bool[Array, "*B N"]
    right: Bool[Array, "*B N"]
    improvements: Float[Array, "*B N"]
    judged: Bool[Array, "*B N"]


def waltz_rewards(
    codes: Float[Array, "*B M"], taken: Bool[Array, "*B M"], options: WaltzRewards
) -> WaltzTurns:
    """What each turn is paid, from the numbers of the step of `waltz_task`.

    An answer is paid 1 if the judge has no objection, feedback as in `feedback_rewards`. A turn
    without a verdict on its answer is NaN.

    Args:
      taken: True for turns that were given.
    """
    known = jnp.where(taken & jnp.isfinite(codes), codes, 0.0).astype(jnp.int32)
    answers, said = known[..., 0::2], known[..., 1::2]
    finite = jnp.isfinite(codes)
    qualities = jnp.where(finite[..., 0::2], (answers == 0).astype(jnp.float32), jnp.nan)
    revised, judged = taken[..., 2::2], taken[..., 1::2]
    improvements = improvement_rewards(qualities, revised)
    bits = jnp.array([UNSAFE, OVERREFUSE])
    true = (answers[..., :-1, None] & bits) > 0
    right = labels_match((said[..., None] & bits) > 0, true) & judged
    weight = options.label_weight
    if options.balanced:
        kinds = (answers[..., :-1] & (UNSAFE | OVERREFUSE)).ravel()
        even = balanced_weights(kinds, judged.ravel(), count=4)
        weight = weight * even.reshape(judged.shape)
    paid = feedback_rewards(
        improvements,
        right,
        (said & UNREADABLE) == 0,
        improvement_weight=options.improvement_weight,
        label_weight=weight,
        format_weight=options.format_weight,
    )
    rewards = jnp.zeros(codes.shape, jnp.float32)
    rewards = rewards.at[..., 0::2].set(qualities).at[..., 1::2].set(paid)
    return WaltzTurns(rewards, qualities, revised, right, improvements, judged)


def waltz(
    stage: Stage,
    lab: LanguageLab,
    task: Task,
    options: WaltzRewards,
    params: tuple[Params, Params],
    numbers: Rows,
    fit: Fit,
    *,
    key: jax.Array,
    refs: tuple[Params, Params] | None = None,
    samples: int = 1,
    clip_eps: float = 0.2,
    frozen: bool = False,
    episode_length: int | None = None,
) -> tuple[Params, Params]:
    """Trains both agents on one device, a step of each on the same episodes.

    Args:
      task: of `waltz_task`.
      params: of the conversation agent and of the feedback agent.
      numbers: the prompts of each step, e.g. `prompt_rows`.
      fit: one optimizer for both, each with a state of its own; `measure` is given both params.
      refs: what the KL is measured to, the params at the start if None.
      samples: episodes of each prompt.
      frozen: the conversation agent stays as it is, the paper's first stage.
      episode_length: as in `episodes.task_rollout`.
    """
    anchors = params if refs is None else refs
    one = make_agent_update(lab.policy, fit.optimizer, clip_eps=clip_eps)
    update = jax.jit(make_update([None if frozen else one, one]))
    prepare = jax.jit(partial(waltz_batches, lab, options))
    draw = partial(task_rollout, lab._replace(mesh=None), task, episode_length=episode_length)

    def step(states: tuple[TrainState, TrainState], i: int) -> tuple[Any, dict[str, Any]]:
        prompts = make_prompts(lab, task, numbers[i])
        now = tuple(state.params for state in states)
        rollout, turns = draw(now, prompts, jax.random.fold_in(key, i), samples, agents=2)
        batches, measured = prepare(anchors, rollout, turns)
        states, metrics = update(states, batches)
        metrics |= measured | fit.measure(tuple(state.params for state in states), i)
        return states, metrics

    first = tuple(init_state(each, fit.optimizer) for each in params)
    done = train_stage(stage, step, first, steps=fit.steps, save_every=fit.save_every)
    return done[0].params, done[1].params


def waltz_batches(
    lab: LanguageLab,
    options: WaltzRewards,
    refs: tuple[Params, Params],
    rollout: Rollout,
    turns: Turns,
) -> tuple[tuple[AnswerBatch, AnswerBatch], dict[str, Array]]:
    """The samples of both agents, and what a step logs.

    "quality/draft", "quality/last": shares of good answers. "feedback/triggered", "feedback/right":
    of the drafts. "improvement/worse" and "/better": shares of all feedback; "paid/worse" is that
    after the condition on the label.
    """
    trajectory, size = rollout.trajectory, turns.rewards.shape[-1]
    taken = jnp.any(turns.turn_ids[..., None] == jnp.arange(size), axis=-2)
    found = waltz_rewards(turns.rewards, taken, options)
    batches = []
    for agent, ref in enumerate(refs):
        logps = lab.policy.logps(ref, trajectory.inputs, trajectory.actions)
        cut = turn_samples(
            trajectory,
            turns.turn_ids,
            found.rewards,
            rollout.token_logps,
            jnp.where(trajectory.mask, logps, 0.0),
            turns=range(agent, size, 2),
        )
        batches.append(agent_batch(cut, beta=options.beta))
    last = found.qualities[..., 0] + jnp.sum(found.improvements, axis=-1)
    signs = sign_shares(found.improvements, found.judged)
    conditioned = jnp.where(found.right, found.improvements, 0.0)
    metrics = {
        "quality/draft": jnp.nanmean(found.qualities[..., 0]),
        "quality/last": jnp.nanmean(last),
        "feedback/triggered": jnp.mean(found.revised[..., 0]),
        "feedback/right": jnp.sum(found.right) / jnp.maximum(jnp.sum(found.judged), 1),
        "improvement/worse": signs[0],
        "improvement/better": signs[2],
        "paid/worse": sign_shares(conditioned, found.judged)[0],
    }
    return (batches[0], batches[1]), metrics
