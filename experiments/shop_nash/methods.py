"""The methods that are compared, all drawn from SFT's params and judged by the same population."""

from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from experiments.shop_nash.config import Config
from experiments.shop_nash.population import judged
from rlhf_jax.algos.selfplay import (
    egpo,
    inpo,
    iterative_dpo,
    nash_ema_pg,
    nash_md_pg,
    nash_mp_pg,
    onpo,
    spo,
    td_mnpo_regression,
)
from rlhf_jax.labs.shop import SPLITS, shop_task
from rlhf_jax.recipes import Fit, LanguageLab, make_prompts, stage_key
from rlhf_jax.recipes.lab import decode_texts
from rlhf_jax.recipes.selfplay import MakeMethod, mixed_draw, selfplay, tempered_draw
from rlhf_jax.training import Stage
from rlhf_jax.types import Judge, Params

CURVE_PROMPTS, CURVE_POINTS = 64, 12


class Entry(NamedTuple):
    """A method: its printed name, how it is made, and its answers per prompt and round."""

    name: str
    make: MakeMethod
    draws: int


def entries(lab: LanguageLab, config: Config) -> dict[str, Entry]:
    """Every game method by the name of its stage.

    Nash-MD-PG plays the token-level mixture with SFT; EGPO draws its pairs at a higher temperature,
    in place of uniform ones.
    """
    game, beta = config.game, config.game.beta
    solved = {"eta": game.eta, "steps": game.steps}
    mixed = mixed_draw(lab, weight=game.mixture_weight)
    warm = tempered_draw(lab, temperature=game.pair_temperature)
    nash_md = partial(nash_md_pg, beta=beta, mixed_draw=mixed)
    nash_mp = partial(nash_mp_pg, eta=game.eta, beta=beta, steps=game.inner_steps)
    td_mnpo = partial(td_mnpo_regression, beta=beta, history_weights=(0.5, 0.5), **solved)
    dpo = partial(iterative_dpo, beta=config.dpo_beta, steps=game.steps)
    return {
        "iterative_dpo": Entry("iterative DPO", dpo, 2),
        "nash_md_pg": Entry("Nash-MD-PG", nash_md, 2),
        "nash_md_pg_learned": Entry("Nash-MD-PG, learned judge", nash_md, 2),
        "nash_ema_pg": Entry(
            "Nash-EMA-PG", partial(nash_ema_pg, beta=beta, decay=game.ema_decay), 2
        ),
        "nash_mp": Entry("Nash-MP", nash_mp, 4 * game.inner_steps),
        "egpo": Entry("EGPO", partial(egpo, beta=game.ipo_beta, pair_draw=warm), 6),
        "inpo": Entry("INPO", partial(inpo, beta=beta, **solved), 2),
        "onpo": Entry("ONPO", partial(onpo, **solved), 2),
        "td_mnpo": Entry("TD-MNPO", td_mnpo, 2),
        "spo": Entry("SPO", partial(spo, beta=beta, samples=game.samples), game.samples),
    }


def fit_method(
    stage: Stage, lab: LanguageLab, config: Config, judge: Judge, sft: Params, entry: Entry
) -> tuple[Params, dict[str, Any]]:
    """All rounds; mean style and gold on validation prompts along the way."""
    game = config.game
    count = max(1, game.answers // (game.rounds * entry.draws))
    marks = {round(game.rounds * (i + 1) / CURVE_POINTS) for i in range(CURVE_POINTS)}

    def measure(params: Params, i: int) -> dict[str, float]:
        return curve_point(lab, params) if i + 1 in marks else {}

    # No schedule: regressions begin their optimiser anew each round.
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(game.rate))
    played = selfplay(
        stage,
        lab,
        shop_task(lab.seed),
        entry.make,
        judge,
        sft,
        [prompt_numbers(i, count) for i in range(game.rounds)],
        Fit(optimizer, game.rounds, save_every=25, measure=measure),
        key=stage_key(lab, stage.name),
    )
    drawn = game.rounds * count * entry.draws
    return played.state.train.params, {"rounds": game.rounds, "answers": drawn}


def prompt_numbers(step: int, count: int) -> np.ndarray:
    """Numbers of a step's training prompts."""
    prompts = SPLITS["train"]
    return prompts.start + (step * count + np.arange(count)) % len(prompts)


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
