"""Preference games: every method of `algos.selfplay` on a lab, a task and a judge.

    judge = task_judge(lab, task, beta=10.0)    # or texts_judge(lab, task, chat_pairs(model))
    method = partial(nash_md_pg, beta=0.05, mixed_draw=mixed_draw(lab, weight=0.125))
    played = selfplay(stage, lab, task, method, judge, sft, rows, fit, key=stage_key(lab, "nash"))

A method is a function from an arena to an `AnswerMethod`. The judge may be anything: texts of a
task, a reward model (`rewards.reward_judge`), a preference model (`rewards.preference_judge`). The
opponent is the method's: a mixture with the reference in `nash_md_pg` with `mixed_draw`, a moving
average in `nash_ema_pg`, past answers in `spo_queue`, and the policy itself in all others.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy

from rlhf_jax.algos.selfplay import AnswerMethod, AnswerState, Arena
from rlhf_jax.checks import check_range
from rlhf_jax.policies.language import LanguageDecoder, language_trajectory, mixture_decoder
from rlhf_jax.recipes.completions import CompletionRow, make_append
from rlhf_jax.recipes.experts import balance
from rlhf_jax.recipes.guards import LateChecks
from rlhf_jax.recipes.lab import LanguageLab, decode_texts, make_draw, make_prompts
from rlhf_jax.recipes.offline import Fit
from rlhf_jax.recipes.online_method import answer_metrics, sampler_metrics, sampler_weights
from rlhf_jax.recipes.rows import Rows
from rlhf_jax.recipes.task import Task, check_single_turn, overall, score_answers
from rlhf_jax.rewards import ComparePairs, JudgeError, pairs_judge
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.sharding import batch_ways
from rlhf_jax.training import Stage, train_stage
from rlhf_jax.training.processes import by_rows
from rlhf_jax.types import Draw, Judge, Params, Prompts, Rollout, Trajectory

MakeMethod = Callable[[Arena], AnswerMethod]


class Played(NamedTuple):
    """What a game left.

    state: of the method; `state.memory` has e.g. the moving average of `nash_ema_pg`.
    comparisons: that the judge was asked for in the rounds which led to the state.
    """

    state: AnswerState
    comparisons: int


class JudgeCall(NamedTuple):
    """What a judge was asked, N comparisons at once, and its reply."""

    indices: np.ndarray
    first: Trajectory
    second: Trajectory
    prefs: Any


class _Seen(NamedTuple):
    """What a round has drawn from the policy, with its params, and asked so far."""

    draws: list[tuple[Params, Rollout]]
    verdicts: list[JudgeCall]


def selfplay(
    stage: Stage,
    lab: LanguageLab,
    task: Task,
    method: MakeMethod,
    judge: Judge,
    ref_params: Params,
    numbers: Rows,
    fit: Fit,
    *,
    key: jax.Array,
    budget: int | None = None,
    sampling: SamplingConfig | None = None,
    completions_every: int = 0,
    sampler_gap: float | None = None,
) -> Played:
    """Plays rounds from the reference policy; the policy is `played.state.train.params`.

    Logs "judge/comparisons", all of them so far, beside the method's metrics. A judge that raises
    ends the run; resumed, it goes on from its last checkpoint. One without a verdict on anything
    in the first round is a JudgeError: nothing would be learned from it.

    Args:
      ref_params: of the policy, where training starts and what KL is measured to.
      numbers: the prompts of each round, `numbers[i]` [B], e.g. `prompt_rows(task, ...)`.
      fit: rounds, not gradient steps. Regressions begin its optimizer anew each round, so that a
        schedule would begin anew too.
      key: of this run's draws and labels.
      budget: comparisons after which no further round is played: methods are compared at equal
        questions to the judge. The round that reaches it is finished. None for no limit.
      sampling, completions_every, sampler_gap: as in `online`. The method's other draws have a
        sampling of their own, e.g. of `mixed_draw`. The score of a completion is its win rate over
        the answers that it was compared with. The gap is that of the first draw of a round.
    """
    check_single_turn(task, "selfplay")
    limit = math.inf if budget is None else budget
    check_range("[1, inf]", budget=limit)
    if fit.parts != 1:
        raise ValueError(f"selfplay has no micro-batches: Fit.parts must be 1, got {fit.parts}")
    seen, checks = _Seen([], []), LateChecks(stage, sampler_gap)
    ref_params = jax.tree.map(jnp.asarray, ref_params)  # of a stage: NumPy, for each round anew
    arena = make_arena(lab, _seen_judge(judge, seen), ref_params, fit.optimizer, sampling=sampling)
    game = method(arena._replace(draw=_seen_draw(arena.draw, seen)))
    append = make_append(stage, every=completions_every) if completions_every else None
    compare = jax.jit(partial(_compared, lab))

    def one(played: Played, i: int) -> tuple[Played, dict[str, Any]]:
        seen.draws.clear(), seen.verdicts.clear()
        prompts = make_prompts(lab, task, numbers[i])
        state, metrics = game.round(played.state, prompts, jax.random.fold_in(key, i))
        if played.comparisons == 0:
            _check_verdicts(seen.verdicts)
        if append is not None and i % completions_every == 0:
            append(i, _judged_rows(lab, task, seen.verdicts))
        if sampler_gap is not None:
            params, rollout = seen.draws[0]
            metrics = compare(params, ref_params, rollout) | metrics
        given = (state, state.train.params, _round_arrays(seen), metrics["loss"], i)
        checks.see(*given, metrics.get("sampler/gap"))
        played = Played(state, played.comparisons + sum(len(v.indices) for v in seen.verdicts))
        counted = {"judge/comparisons": played.comparisons}
        return played, metrics | counted | fit.measure(state.train.params, i)

    return train_stage(
        stage,
        one,
        Played(game.init(ref_params), 0),
        steps=fit.steps,
        save_every=fit.save_every,
        until=lambda played: played.comparisons >= limit,
        settle=lambda played: checks.settle(played.state.train.params),
    )


def _check_verdicts(calls: Sequence[JudgeCall]) -> None:
    """JudgeError if no comparison has a verdict."""
    prefs = [np.ravel(np.array(call.prefs, float)) for call in calls]
    if prefs and not np.isfinite(found := np.concatenate(prefs)).any():
        raise JudgeError(f"the judge gave no verdict on any of {found.size} pairs")


def _compared(
    lab: LanguageLab, params: Params, ref_params: Params, rollout: Rollout
) -> dict[str, jax.Array]:
    """The metrics of `online` for answers of this policy."""
    trajectory = rollout.trajectory
    ref = lab.policy.logps(ref_params, trajectory.inputs, trajectory.actions)
    return answer_metrics(rollout, ref) | sampler_metrics(lab, params, rollout)


def _round_arrays(seen: _Seen) -> dict[str, Any]:
    """The answers and verdicts of a round, as the batch that its update was made of."""
    asked = [verdict._replace(prefs=np.array(verdict.prefs, float)) for verdict in seen.verdicts]
    return {"answers": [rollout for _, rollout in seen.draws], "judge": asked}


def make_arena(
    lab: LanguageLab,
    judge: Judge,
    ref_params: Params,
    optimizer: optax.GradientTransformation,
    *,
    sampling: SamplingConfig | None = None,
) -> Arena:
    """The lab's policy in a game; None samples the lab's way."""
    draw = lab.draw if sampling is None else partial(lab.draw, sampling=sampling)
    if lab.mesh is not None:
        draw = _game_draw(lab, lab.decoder, sampling)
    weigh = partial(sampler_weights, sampling=sampling)
    penalty = balance(lab.router_losses)
    return Arena(lab.policy, optimizer, draw, judge, ref_params, weigh=weigh, penalty=penalty)


def _game_draw(lab: LanguageLab, decoder: LanguageDecoder, sampling: SamplingConfig | None) -> Draw:
    """A draw that uses one device where the mesh cannot share the prompts evenly.

    Methods that may draw equally many answers in all need different numbers of prompts per round,
    which need not be multiples of the devices.
    """
    whole, split = (make_draw(decoder, sampling or lab.sampling, mesh) for mesh in (None, lab.mesh))
    ways = batch_ways(lab.mesh)

    def draw(
        params: Params, prompts: Prompts, key: jax.Array, samples: int, first: int = 0
    ) -> Rollout:
        chosen = whole if np.size(prompts.indices) % ways else split
        return chosen(params, prompts, key, samples, first)

    return draw


def mixed_draw(lab: LanguageLab, *, weight: float, sampling: SamplingConfig | None = None) -> Draw:
    """Draws from the token-level mixture with the reference at this weight, for `nash_md_pg`."""
    return _game_draw(lab, mixture_decoder(lab.decoder, weight=weight), sampling)


def tempered_draw(lab: LanguageLab, *, temperature: float) -> Draw:
    """Draws at another temperature: pairs for `online_ipo` and `egpo` in place of uniform ones."""
    return _game_draw(lab, lab.decoder, replace(lab.sampling, temperature=temperature))


def answer_shapes(lab: LanguageLab, samples: int) -> Trajectory:
    """Shapes of the answers to a prompt, [1, samples]: the `like` of `spo_queue`."""
    shapes = [
        jax.ShapeDtypeStruct((1, samples, length), kind)
        for length in (lab.prompt_length, lab.answer_length)
        for kind in (jnp.int32, jnp.bool_)
    ]
    return jax.eval_shape(language_trajectory, *shapes)


def _seen_draw(draw: Draw, seen: _Seen) -> Draw:
    """The same draw, kept in `seen`."""

    def drawn(
        params: Params, prompts: Prompts, key: jax.Array, samples: int, first: int = 0
    ) -> Rollout:
        rollout = draw(params, prompts, key, samples, first)
        seen.draws.append((params, rollout))
        return rollout

    return drawn


def _seen_judge(judge: Judge, seen: _Seen) -> Judge:
    """The same judge; what it is asked and replies is kept in `seen`."""

    def ask(indices: np.ndarray, first: Trajectory, second: Trajectory) -> Any:
        prefs = judge(indices, first, second)
        seen.verdicts.append(JudgeCall(indices, first, second, prefs))
        return prefs

    return ask


def _judged_rows(
    lab: LanguageLab, task: Task, verdicts: Sequence[JudgeCall]
) -> list[CompletionRow]:
    """Each answer of a round with its win rate over those that it was compared with."""
    wins: dict[tuple[int, str], list[float]] = {}
    for indices, first, second, prefs in verdicts:
        known = np.array(prefs, float)
        for side, wanted in ((first, known), (second, 1.0 - known)):
            texts = decode_texts(lab, side.actions)
            for index, text, won in zip(indices.tolist(), texts, wanted.tolist(), strict=True):
                wins.setdefault((index, text), []).append(won)
    rows = []
    prompts = task.texts(np.array([index for index, _ in wins]))
    for prompt, ((index, text), found) in zip(prompts, wins.items(), strict=True):
        known = [won for won in found if not math.isnan(won)]
        score = sum(known) / len(known) if known else None
        rows.append(CompletionRow(index, prompt, text, score, {"comparisons": float(len(known))}))
    return rows


def decoded_judge(
    lab: LanguageLab, compare: Callable[[np.ndarray, Sequence[str], Sequence[str]], Any]
) -> Judge:
    """A judge of texts, all at once; `rewards.text_judge` asks about one comparison at a time.

    Args:
      compare: `(prompts' numbers [N], first texts, second texts) -> P(first beats second) [N]`.
    """

    def judge(indices: np.ndarray, first: Trajectory, second: Trajectory) -> Any:
        return compare(indices, decode_texts(lab, first.actions), decode_texts(lab, second.actions))

    return judge


def task_judge(lab: LanguageLab, task: Task, *, beta: float) -> Judge:
    """P(first beats second) = sigmoid(beta (s - s')), s the task's objective.

    An answer that the task leaves out has no win rate: the verdict is None.

    Args:
      beta: rationality > 0, in units of 1 / s.
    """
    check_range("(0, inf)", beta=beta)

    def compare(indices: np.ndarray, *sides: Sequence[str]) -> list[float | None]:
        first, second = (overall(task, score_answers(task, indices, side)) for side in sides)
        prefs = scipy.special.expit(beta * (first - second))
        return [None if math.isnan(pref) else pref for pref in prefs.tolist()]

    return decoded_judge(lab, compare)


def texts_judge(lab: LanguageLab, task: Task, compare: ComparePairs) -> Judge:
    """A judge of two answers at a time to the task's prompts, e.g. `rewards.chat_pairs`."""
    return pairs_judge(
        partial(by_rows, compare),
        prompt_texts=task.texts,
        answer_texts=lambda answers: decode_texts(lab, answers.actions),
    )
