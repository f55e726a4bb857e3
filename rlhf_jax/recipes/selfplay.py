"""Preference games: every method of `algos.selfplay` on a lab, a task and a judge.

    judge = task_judge(lab, task, beta=10.0)
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
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy.special import expit

from rlhf_jax.algos.selfplay import AnswerMethod, AnswerState, Arena
from rlhf_jax.checks import check_range
from rlhf_jax.policies.language import LanguageDecoder, language_trajectory, mixture_decoder
from rlhf_jax.recipes.lab import LanguageLab, decode_texts, make_draw, make_prompts
from rlhf_jax.recipes.offline import Fit
from rlhf_jax.recipes.rows import Rows
from rlhf_jax.recipes.task import Task, check_single_turn, overall, score_answers
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.training import Stage, train_stage
from rlhf_jax.types import Draw, Judge, Params, Prompts, Rollout, Trajectory

MakeMethod = Callable[[Arena], AnswerMethod]


class Played(NamedTuple):
    """What a game left.

    state: of the method; `state.memory` has e.g. the moving average of `nash_ema_pg`.
    comparisons: that the judge was asked for in the rounds which led to the state.
    """

    state: AnswerState
    comparisons: int


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
) -> Played:
    """Plays rounds from the reference policy; the policy is `played.state.train.params`.

    Logs "judge/comparisons", all of them so far, beside the method's metrics. A judge that raises
    ends the run; resumed, it goes on from its last checkpoint.

    Args:
      ref_params: of the policy, where training starts and what KL is measured to.
      numbers: the prompts of each round, `numbers[i]` [B], e.g. `prompt_rows(task, ...)`.
      fit: rounds, not gradient steps. Regressions begin its optimizer anew each round, so that a
        schedule would begin anew too.
      key: of this run's draws and labels.
      budget: comparisons after which no further round is played: methods are compared at equal
        questions to the judge. The round that reaches it is finished. None for no limit.
    """
    check_single_turn(task, "selfplay")
    limit = math.inf if budget is None else budget
    check_range("[1, inf]", budget=limit)
    if fit.parts != 1:
        raise ValueError(f"selfplay has no micro-batches: Fit.parts must be 1, got {fit.parts}")
    asked: list[int] = []
    arena = make_arena(lab, _counting_judge(judge, asked), ref_params, fit.optimizer)
    game = method(arena)

    def one(played: Played, i: int) -> tuple[Played, dict[str, Any]]:
        asked.clear()
        prompts = make_prompts(lab, task, numbers[i])
        state, metrics = game.round(played.state, prompts, jax.random.fold_in(key, i))
        played = Played(state, played.comparisons + sum(asked))
        counted = {"judge/comparisons": played.comparisons}
        return played, metrics | counted | fit.measure(state.train.params, i)

    return train_stage(
        stage,
        one,
        Played(game.init(ref_params), 0),
        steps=fit.steps,
        save_every=fit.save_every,
        until=lambda played: played.comparisons >= limit,
    )


def make_arena(
    lab: LanguageLab, judge: Judge, ref_params: Params, optimizer: optax.GradientTransformation
) -> Arena:
    """The lab's policy in a game."""
    draw = lab.draw if lab.mesh is None else _game_draw(lab, lab.decoder, lab.sampling)
    return Arena(lab.policy, optimizer, draw, judge, ref_params)


def _game_draw(lab: LanguageLab, decoder: LanguageDecoder, sampling: SamplingConfig) -> Draw:
    """A draw that uses one device where the mesh cannot share the prompts evenly.

    Methods that may draw equally many answers in all need different numbers of prompts per round,
    which need not be multiples of the devices.
    """
    whole, split = (make_draw(decoder, sampling, mesh) for mesh in (None, lab.mesh))
    ways = 1 if lab.mesh is None else lab.mesh.shape["data"]

    def draw(
        params: Params, prompts: Prompts, key: jax.Array, samples: int, first: int = 0
    ) -> Rollout:
        chosen = whole if np.size(prompts.indices) % ways else split
        return chosen(params, prompts, key, samples, first)

    return draw


def mixed_draw(lab: LanguageLab, *, weight: float) -> Draw:
    """Draws from the token-level mixture with the reference at this weight, for `nash_md_pg`."""
    return _game_draw(lab, mixture_decoder(lab.decoder, weight=weight), lab.sampling)


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


def _counting_judge(judge: Judge, asked: list[int]) -> Judge:
    """The same judge; the comparisons of each call are appended to `asked`."""

    def ask(indices: np.ndarray, first: Trajectory, second: Trajectory) -> Any:
        asked.append(len(indices))
        return judge(indices, first, second)

    return ask


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

    An answer that the task leaves out has no win rate: the judge answers NaN, which ends the run
    with the prompt's number.

    Args:
      beta: rationality > 0, in units of 1 / s.
    """
    check_range("(0, inf)", beta=beta)

    def compare(indices: np.ndarray, *sides: Sequence[str]) -> np.ndarray:
        first, second = (overall(task, score_answers(task, indices, side)) for side in sides)
        return expit(beta * (first - second))

    return decoded_judge(lab, compare)
