"""The game methods: all from SFT's params, on the same prompts, with equally many bits."""

import zlib
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.shop_nash.bits import BitCounter, bit_judge
from experiments.shop_nash.config import Config, Game
from experiments.shop_nash.world import VoiceShares, game_prompts, game_task
from rlhf_jax.algos.selfplay import (
    AnswerMethod,
    AnswerState,
    Arena,
    egpo,
    inpo,
    iterative_dpo,
    nash_md_pg,
    nash_mp_pg,
    spo,
    td_mnpo_regression,
)
from rlhf_jax.recipes import Fit, LanguageLab, mixed_draw, selfplay, stage_key, tempered_draw
from rlhf_jax.recipes.lab import wrapped
from rlhf_jax.recipes.selfplay import MakeMethod
from rlhf_jax.training import Stage
from rlhf_jax.types import Judge, Metrics, Params, Prompts, PyTree

DECAY = 6.0  # of the rate of methods of which the last policy is to converge


class Entry(NamedTuple):
    """A method.

    name: printed. make: of `algos.selfplay`. bits: labels per prompt and round. optimizer: of its
    gradient steps. beta: its KL weight. seeds: training runs. keeps: whether its average is played
    against, which takes the params of every point.
    """

    name: str
    make: MakeMethod
    bits: int
    optimizer: optax.GradientTransformation
    beta: float
    seeds: int = 1
    keeps: bool = False


class Kept(NamedTuple):
    """The memory of a method, the bits it has spent, and what was recorded at each point."""

    inner: Any
    bits: jax.Array
    history: PyTree


def entries(lab: LanguageLab, config: Config) -> dict[str, Entry]:
    """Every game method by the name of its stage.

    Nash-MD plays the token-level mixture with SFT; EGPO draws its pairs at a higher temperature,
    in place of uniform ones.
    """
    game, control, many = config.game, config.control, config.seeds
    beta, low = game.beta, game.low_beta
    solved = {"eta": game.eta, "beta": beta, "steps": game.steps}
    mixed = mixed_draw(lab, weight=game.mixture_weight)
    warm = tempered_draw(lab, temperature=game.pair_temperature)
    pairs = game.samples * (game.samples - 1) // 2
    # Regressions begin their optimiser anew in each round, and almost unregularised play is Hedge
    # at a fixed step; where the last policy is to converge, the steps decrease.
    fixed, far = plain_adam(game.low_rate), plain_adam(game.regression_rate)
    near, prox = (plain_adam(game.rate, game.rounds * n) for n in (1, game.inner_steps))
    dpo_adam = plain_adam(control.dpo_rate)

    def spo_at(weight: float) -> MakeMethod:
        return partial(spo, beta=weight, samples=game.samples)

    nash_mp = partial(nash_mp_pg, eta=game.prox_eta, beta=beta, steps=game.inner_steps)
    nash_md = partial(nash_md_pg, beta=beta, mixed_draw=mixed)
    td_mnpo = partial(td_mnpo_regression, history_weights=(0.5, 0.5), **solved)
    found = {
        "spo_low": Entry("SPO", spo_at(low), pairs, fixed, low, many, True),
        "nash_mp": Entry("Nash-MP", nash_mp, 2 * game.inner_steps, prox, beta, many),
        "nash_md": Entry("Nash-MD", nash_md, 1, near, beta, many),
        "spo": Entry("SPO", spo_at(beta), pairs, near, beta),
        "egpo": Entry("EGPO", partial(egpo, beta=beta, pair_draw=warm), 4, near, beta),
        "inpo": Entry("INPO", partial(inpo, **solved), 1, far, beta),
        "td_mnpo": Entry("TD-MNPO", td_mnpo, 1, far, beta),
    }
    for i, weight in enumerate(control.dpo_betas):
        dpo = partial(iterative_dpo, beta=weight, steps=game.steps)
        found[f"dpo_{i}"] = Entry("iterative DPO", dpo, 1, dpo_adam, weight)
    return found


def learned_entry(lab: LanguageLab, config: Config) -> Entry:
    """Nash-MD before a learned judge, which costs no bits beyond those of its data."""
    mixed = mixed_draw(lab, weight=config.game.mixture_weight)
    make = partial(nash_md_pg, beta=config.game.beta, mixed_draw=mixed)
    optimizer = plain_adam(config.game.rate, config.game.rounds)
    return Entry("Nash-MD on a pairwise model", make, 1, optimizer, config.game.beta)


def counter_of(config: Config, stage_name: str) -> BitCounter:
    """The counter of a training run, with labels of its own."""
    return BitCounter(stage_name, config.game.bits, (config.seed, zlib.crc32(stage_name.encode())))


def fit_method(
    stage: Stage,
    lab: LanguageLab,
    config: Config,
    sft: Params,
    shares: VoiceShares,
    *,
    entry: Entry,
    learned: Judge | None = None,
) -> tuple[PyTree, dict[str, Any]]:
    """All rounds of one training run, before the population or a learned judge.

    Returns:
      {"params": of the last policy, "shares": [points, N, 4]} and, for an entry that keeps them,
      "policies", params with a leading axis of points; {"bits": that were asked for}.
    """
    game = config.game
    counter = counter_of(config, stage.name)
    judge = bit_judge(lab, counter, beta=game.judge_beta) if learned is None else learned
    count, rest = divmod(game.bits, game.rounds * entry.bits)
    if rest:
        raise ValueError(
            f"{entry.name}: rounds x {entry.bits} must divide bits, got {game.rounds} rounds and "
            f"{game.bits} bits"
        )
    prompts = game_prompts(config)

    def record(params: Params) -> PyTree:
        return {"shares": shares(params)} | ({"policies": params} if entry.keeps else {})

    every = game.rounds // game.points
    played = selfplay(
        stage,
        lab,
        game_task(lab.seed),
        kept(entry.make, counter, record, every=every, points=game.points),
        judge,
        sft,
        [wrapped(prompts, i * count, count) for i in range(game.rounds)],
        Fit(entry.optimizer, game.rounds, save_every=game.rounds),
        key=stage_key(lab, stage.name),
    )
    train, memory, _ = played.state
    return {"params": train.params, **memory.history}, {"bits": int(memory.bits)}


def plain_adam(rate: float, steps: int | None = None) -> optax.GradientTransformation:
    """Adam without momentum, which drives a game outwards, gradients clipped to norm 1.

    Args:
      steps: in which the rate falls to a seventh, as rate / (1 + 6 t / steps); None keeps it.
    """
    schedule = rate if steps is None else lambda t: rate / (1.0 + DECAY * t / steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adam(schedule, b1=0.0))


def kept(
    make: MakeMethod,
    counter: BitCounter,
    record: Callable[[Params], PyTree],
    *,
    every: int,
    points: int,
) -> MakeMethod:
    """The same method; its memory also has the bits spent and a record of every so many rounds.

    A resumed run goes on with the counter and the records of its checkpoint.
    """

    def made(arena: Arena) -> AnswerMethod:
        method = make(arena)

        def init(params: Params) -> AnswerState:
            state = method.init(params)
            shapes = jax.eval_shape(record, params)
            empty = jax.tree.map(lambda x: jnp.zeros((points, *x.shape), x.dtype), shapes)
            return state._replace(memory=Kept(state.memory, jnp.zeros((), jnp.int32), empty))

        def play(
            state: AnswerState, prompts: Prompts, key: jax.Array
        ) -> tuple[AnswerState, Metrics]:
            inner, bits, history = state.memory
            counter.restore(int(bits))
            state, metrics = method.round(state._replace(memory=inner), prompts, key)
            place, rest = divmod(int(state.round), every)
            if rest == 0:
                now = record(state.train.params)
                history = jax.tree.map(lambda room, x: room.at[place - 1].set(x), history, now)
            return state._replace(
                memory=Kept(state.memory, jnp.asarray(counter.spent, jnp.int32), history)
            ), metrics

        return AnswerMethod(init, play)

    return made


def bits_at_points(game: Game) -> np.ndarray:
    """[points] bits spent at each point of a curve."""
    return game.bits // game.points * np.arange(1, game.points + 1)
