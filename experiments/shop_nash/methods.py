"""The methods that are compared, all drawn from SFT's params and judged by the same population."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments.shop_nash.config import Config, Game
from experiments.shop_nash.population import judged
from rlhf_jax import dpo_loss
from rlhf_jax.algos import selfplay as methods
from rlhf_jax.algos.online import PairBatch, make_pair_update
from rlhf_jax.algos.preference import trajectory_logps
from rlhf_jax.algos.selfplay import AnswerMethod, AnswerState, Arena
from rlhf_jax.algos.selfplay.regressions import labelled_pairs
from rlhf_jax.algos.selfplay.rounds import start_rounds
from rlhf_jax.labs.shop import SPLITS, shop_task
from rlhf_jax.policies.language import mixture_decoder
from rlhf_jax.recipes import LanguageLab, make_prompts, stage_key
from rlhf_jax.recipes.lab import decode_texts
from rlhf_jax.sampling.draws import language_draw
from rlhf_jax.training import Stage, train_stage
from rlhf_jax.types import Judge, Params, Prompts

CURVE_PROMPTS, CURVE_POINTS = 64, 12


class Entry(NamedTuple):
    """A method: its printed name, how it is made, and its answers per prompt and round."""

    name: str
    make: Callable[[LanguageLab, Arena, Game], AnswerMethod]
    draws: Callable[[Game], int]


def make_arena(lab: LanguageLab, config: Config, sft: Params, judge: Judge) -> Arena:
    """Where all methods play. No schedule: regressions begin their optimiser anew each round."""
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(config.game.rate))
    return Arena(lab.policy, optimizer, lab.draw, judge, sft)


def nash_md_pg(lab: LanguageLab, arena: Arena, game: Game) -> AnswerMethod:
    """Against the token-level mixture with SFT."""
    decoder = mixture_decoder(lab.decoder, weight=game.mixture_weight)
    mixed = language_draw(decoder, lab.sampling)
    return methods.nash_md_pg(arena, beta=game.beta, mixed_draw=mixed)


def egpo(lab: LanguageLab, arena: Arena, game: Game) -> AnswerMethod:
    """Pairs at a higher temperature, as a stand-in for uniform ones."""
    config = replace(lab.sampling, temperature=game.pair_temperature)
    pairs = language_draw(lab.decoder, config)
    return methods.egpo(arena, beta=game.ipo_beta, pair_draw=pairs)


def iterative_dpo(arena: Arena, *, beta: float, steps: int) -> AnswerMethod:
    """Iterative DPO: fresh pairs, labelled, and DPO with SFT as the reference for ever."""
    loss = partial(dpo_loss, beta=beta)
    update = arena.compile(make_pair_update(arena.policy, arena.optimizer, loss))
    logps = arena.compile(partial(trajectory_logps, arena.policy))

    def play(state: AnswerState, prompts: Prompts, key: jax.Array) -> tuple[AnswerState, Any]:
        winner, loser, prefs = labelled_pairs(arena, state.train.params, prompts, key)
        columns = {
            "ref_chosen_logps": logps(arena.ref_params, winner),
            "ref_rejected_logps": logps(arena.ref_params, loser),
        }
        train, metrics = state.train, {}
        for _ in range(steps):
            train, metrics = update(train, PairBatch(winner, loser, columns))
        return AnswerState(train, (), state.round + 1), metrics | prefs

    return AnswerMethod(partial(start_rounds, arena), play)


def entries(config: Config) -> dict[str, Entry]:
    """Every game method by the name of its stage."""
    history = (0.5, 0.5)

    def regression(make, **more):
        return lambda lab, arena, game: make(arena, eta=game.eta, steps=game.steps, **more)

    beta, dpo_beta = config.game.beta, config.dpo_beta
    return {
        "iterative_dpo": Entry(
            "iterative DPO",
            lambda lab, arena, game: iterative_dpo(arena, beta=dpo_beta, steps=game.steps),
            lambda game: 2,
        ),
        "nash_md_pg": Entry("Nash-MD-PG", nash_md_pg, lambda game: 2),
        "nash_md_pg_learned": Entry("Nash-MD-PG, learned judge", nash_md_pg, lambda game: 2),
        "nash_ema_pg": Entry(
            "Nash-EMA-PG",
            lambda lab, arena, game: methods.nash_ema_pg(arena, beta=beta, decay=game.ema_decay),
            lambda game: 2,
        ),
        "nash_mp": Entry(
            "Nash-MP",
            lambda lab, arena, game: methods.nash_mp_pg(
                arena, eta=game.eta, beta=beta, steps=game.inner_steps
            ),
            lambda game: 4 * game.inner_steps,
        ),
        "egpo": Entry("EGPO", egpo, lambda game: 6),
        "inpo": Entry("INPO", regression(methods.inpo, beta=beta), lambda game: 2),
        "onpo": Entry("ONPO", regression(methods.onpo), lambda game: 2),
        "td_mnpo": Entry(
            "TD-MNPO",
            regression(methods.td_mnpo_regression, beta=beta, history_weights=history),
            lambda game: 2,
        ),
        "spo": Entry(
            "SPO",
            lambda lab, arena, game: methods.spo(arena, beta=beta, samples=game.samples),
            lambda game: game.samples,
        ),
    }


def fit_method(
    stage: Stage, lab: LanguageLab, config: Config, arena: Arena, entry: Entry
) -> tuple[Params, dict[str, Any]]:
    """All rounds; mean style and gold on validation prompts along the way."""
    game, key = config.game, stage_key(lab, stage.name)
    method = entry.make(lab, arena, game)
    count = max(1, game.answers // (game.rounds * entry.draws(game)))
    marks = {round(game.rounds * (i + 1) / CURVE_POINTS) for i in range(CURVE_POINTS)}

    def one(state: AnswerState, i: int) -> tuple[AnswerState, Any]:
        state, metrics = method.round(
            state, round_prompts(lab, i, count), jax.random.fold_in(key, i)
        )
        seen = curve_point(lab, state.train.params) if i + 1 in marks else {}
        return state, metrics | seen

    state = train_stage(stage, one, method.init(arena.ref_params), steps=game.rounds, save_every=25)
    drawn = game.rounds * count * entry.draws(game)
    return state.train.params, {"rounds": game.rounds, "answers": drawn}


def prompt_numbers(step: int, count: int) -> np.ndarray:
    """Numbers of a step's training prompts."""
    prompts = SPLITS["train"]
    return prompts.start + (step * count + np.arange(count)) % len(prompts)


def round_prompts(lab: LanguageLab, step: int, count: int) -> Prompts:
    """A round's prompts as the sampler reads them."""
    return make_prompts(lab, shop_task(lab.seed), prompt_numbers(step, count))


def curve_point(lab: LanguageLab, params: Params) -> dict[str, float]:
    """Mean style and gold of one answer to each of the first validation prompts."""
    indices = np.array(SPLITS["validation"][:CURVE_PROMPTS])
    prompts = make_prompts(lab, shop_task(lab.seed), indices)
    drawn = lab.draw(params, prompts, stage_key(lab, "curve"), 1)
    texts = decode_texts(lab, jax.device_get(drawn.trajectory.actions[:, 0]))
    found = judged(lab, indices, texts)
    brief, warm, thorough = found.styles.mean(0)
    return {
        "heldout/gold": found.gold.mean(),
        "heldout/brief": brief,
        "heldout/warm": warm,
        "heldout/thorough": thorough,
    }
