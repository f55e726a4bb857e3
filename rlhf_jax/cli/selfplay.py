"""Preference games: methods that learn from which of two answers is better, `rlhf selfplay`.

A game is its usual settings and a function that makes the method of `algos.selfplay`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import optax

from rlhf_jax.algos import selfplay as methods
from rlhf_jax.checks import check_fields
from rlhf_jax.cli.arguments import nearest
from rlhf_jax.cli.exclusions import SELF_PLAY
from rlhf_jax.cli.job import Job
from rlhf_jax.cli.online import drawing_options, train_rounds
from rlhf_jax.cli.rewards import scoring_compare
from rlhf_jax.cli.session import sampling_of
from rlhf_jax.recipes import (
    Fit,
    LanguageLab,
    Task,
    adamw_cosine,
    answer_shapes,
    make_arena,
    mixed_draw,
    selfplay,
    stage_key,
    task_judge,
    tempered_draw,
    texts_judge,
)
from rlhf_jax.recipes.rows import Rows
from rlhf_jax.recipes.selfplay import MakeMethod
from rlhf_jax.rewards import JudgeError
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import Judge, Params

MakeGame = Callable[..., MakeMethod]


class Board(NamedTuple):
    """What a game is played on; sampling is that of the policy's answers."""

    lab: LanguageLab
    task: Task
    sampling: SamplingConfig
    kl: float


class Game(NamedTuple):
    """A method by name.

    settings: the usual ones. anew: whether each round begins the optimizer anew, for a regression
    of its own; the learning rate is then constant.
    """

    make: MakeGame  # (board, **settings)
    settings: dict[str, float | int]
    anew: bool = False


def _plain(method: Callable[..., Any]) -> MakeGame:
    """A method with the weight of the KL and its settings as they are."""
    return lambda board, /, **settings: partial(method, beta=board.kl, **settings)


def _nash_md(board: Board, /, *, mixture: float) -> MakeMethod:
    draw = mixed_draw(board.lab, weight=mixture, sampling=board.sampling)
    return partial(methods.nash_md_pg, beta=board.kl, mixed_draw=draw)


def _opposed(method: Callable[..., Any]) -> MakeGame:
    """Pairs at a temperature of their own, which approaches uniform answers."""

    def make(board: Board, /, *, temperature: float) -> MakeMethod:
        draw = tempered_draw(board.lab, temperature=temperature)
        return partial(method, beta=board.kl, pair_draw=draw)

    return make


def _mnpo(board: Board, /, *, eta: float, history: int, steps: int) -> MakeMethod:
    return partial(
        methods.td_mnpo_regression,
        eta=eta,
        beta=board.kl,
        history_weights=(1 / history,) * history,
        steps=steps,
    )


def _spo_queue(board: Board, /, *, samples: int, size: int) -> MakeMethod:
    return partial(
        methods.spo_queue,
        beta=board.kl,
        samples=samples,
        size=size,
        prompt_count=board.task.splits["heldout"].stop,
        like=answer_shapes(board.lab, samples),
    )


GAMES = {
    "nash-md": Game(_nash_md, {"mixture": 0.125}),
    "nash-ema": Game(_plain(methods.nash_ema_pg), {"decay": 0.9}),
    "nash-mp": Game(_plain(methods.nash_mp_pg), {"eta": 1.0, "steps": 4}),
    "online-ipo": Game(_opposed(methods.online_ipo), {"temperature": 2.0}),
    "egpo": Game(_opposed(methods.egpo), {"temperature": 2.0}),
    "iterative-dpo": Game(_plain(methods.iterative_dpo), {"steps": 4}),
    "inpo": Game(_plain(methods.inpo), {"eta": 1.0, "steps": 4}, anew=True),
    "onpo": Game(
        lambda board, /, **settings: partial(methods.onpo, **settings),
        {"eta": 1.0, "steps": 4},
        anew=True,
    ),
    "mnpo": Game(_mnpo, {"eta": 1.0, "history": 2, "steps": 4}, anew=True),
    "spo": Game(_plain(methods.spo), {"samples": 4}),
    "spo-queue": Game(_spo_queue, {"samples": 2, "size": 8}),
}


@dataclass(frozen=True, kw_only=True)
class SelfPlay:
    """A preference game, played in rounds of fresh answers.

    With --judge an answer wins as the judge says; else it beats another with probability
    sigmoid(sharpness (s - s')), s their rewards.
    """

    job: Job
    method: str = "nash-md"
    """nash-md, nash-ema, nash-mp, online-ipo, egpo, iterative-dpo, inpo, onpo, mnpo, spo,
    spo-queue; see docs/games.md."""
    method_options: dict[str, float] = field(default_factory=dict)
    """Settings of the method, as names and numbers: mixture 0.125."""
    kl: float = 0.1
    """Weight of the KL to the model at the start, >= 0; onpo has none."""
    sharpness: float = 10.0
    """Of wins by --reward, in units of 1 / reward."""

    def __post_init__(self) -> None:
        check_fields(self, "[0, inf)", "kl")
        check_fields(self, "(0, inf)", "sharpness")


def train_selfplay(command: str, options: SelfPlay) -> None:
    """Plays rounds."""
    game, job = named_game(options.method, options.method_options), options.job
    compare = scoring_compare(job.scoring)

    def judge_of(lab: LanguageLab, task: Task) -> Judge:
        if compare is None:
            return task_judge(lab, task, beta=options.sharpness)
        return texts_judge(lab, task, compare)

    def play(stage: Any, lab: LanguageLab, task: Task, params: Params, rows: Rows, fit: Fit) -> Any:
        board = Board(lab, task, sampling_of(lab, job.sampling), options.kl)
        try:
            method, judge = game.make(board, **game.settings), judge_of(lab, task)
            with reading_input():  # a setting out of range, before anything is drawn
                method(make_arena(lab, judge, params, fit.optimizer))
            given = (stage, lab, task, method, judge, params, rows, fit)
            key, drawing = stage_key(lab, command), drawing_options(lab, job)
            return selfplay(*given, key=key, **drawing).state.train.params
        except JudgeError as error:
            raise UserError(str(error)) from error

    schedule = _constant if game.anew else adamw_cosine
    updates = int(game.settings.get("steps", 1))
    train_rounds(
        command,
        options,
        job,
        play,
        updates=updates,
        make_optimizer=schedule,
        also=(SELF_PLAY,),
    )


def named_game(name: str, settings: Mapping[str, float]) -> Game:
    """A game of GAMES; `settings` replace its usual ones.

    Raises:
      UserError: no such method or setting, or a fraction where a count is needed.
    """
    if name not in GAMES:
        raise UserError(f"--method {name} is not a method of self-play{nearest(name, list(GAMES))}")
    game = GAMES[name]
    if unknown := [each for each in settings if each not in game.settings]:
        known = ", ".join(f"{each} {value:g}" for each, value in game.settings.items())
        raise UserError(f"--method {name} has no setting {unknown[0]}; it has {known}")
    found = {}
    for each, usual in game.settings.items():
        value = settings.get(each, usual)
        if isinstance(usual, int) and (value != int(value) or value < 1):
            raise UserError(f"--method {name}: {each} must be a whole number >= 1, got {value:g}")
        found[each] = type(usual)(value)
    return game._replace(settings=found)


def _constant(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """`adamw_cosine` without its schedule, which would begin anew in each round."""
    del steps
    return optax.chain(
        optax.clip_by_global_norm(1.0), optax.adamw(learning_rate, weight_decay=0.01)
    )
