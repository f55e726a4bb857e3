"""`python -m rlhf_jax.labs.train_shop OUT`: remakes the shipped models of the shop.

Three stages of maximum likelihood on packed rows: `base` on drills and general text, from random
weights; `ideal` on paraphrased ideal answers to the prompts of the split "sft"; `sft` on such
answers and on those of the corpus, `shop.sample_answer`, in which one in five has a fault. It
writes `base.safetensors` and `sft.safetensors` into OUT, prints what `sft` reaches held out,
and ends with exit code 3 if a gate of `shop_models.GATES` is missed. A run that was stopped goes on
with `--resume`.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import tyro

from rlhf_jax.checks import check_fields
from rlhf_jax.envs import shop
from rlhf_jax.labs.forgetting import TEXT_WORDS, drill_text, wide_lab
from rlhf_jax.labs.shop import SPLITS, shop_lab, shop_task
from rlhf_jax.labs.shop_models import GATES, SHIPPED, competence, ship, shipped
from rlhf_jax.labs.size import Size
from rlhf_jax.recipes import Fit, LanguageLab, adamw_cosine, answer_rows, stage_key, supervised
from rlhf_jax.recipes.packing import pack_records
from rlhf_jax.training import (
    Interrupted,
    Run,
    Stage,
    UserError,
    open_run,
    run_stage,
    stop_on_signals,
)
from rlhf_jax.types import Params

COLUMNS = 2 * TEXT_WORDS  # of a packed row: three or four prompts with their answers


class TextStage(NamedTuple):
    """A stage: its texts by number, how many of them, and the training."""

    text: Callable[[int, int], dict[str, str]]
    rows: int
    steps: int
    learning_rate: float


def ideal_text(seed: int, index: int) -> dict[str, str]:
    """An ideal answer in one of its phrasings."""
    prompt = shop.make_prompt(seed, SPLITS["sft"][index])
    return {"prompt": prompt.text, "answer": shop.ideal_variant(seed, prompt, index)}


def corpus_text(seed: int, index: int) -> dict[str, str]:
    """Three answers of the corpus, with its faults, to seven ideal ones."""
    prompt = shop.make_prompt(seed, SPLITS["sft"][-1 - index])
    write = shop.sample_answer if index % 10 < 3 else shop.ideal_variant
    return {"prompt": prompt.text, "answer": write(seed, prompt, index)}


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """Texts and steps of each stage.

    batch_size: packed rows of a step. learning_rate: of `base` and `ideal`; of `sft` two thirds.
    """

    batch_size: int = 16
    base_rows: int = 80_000
    base_steps: int = 1600
    ideal_rows: int = 160_000
    ideal_steps: int = 3600
    sft_rows: int = 140_000
    sft_steps: int = 2400
    learning_rate: float = 0.003

    def __post_init__(self):
        check_fields(self, "[1, inf)", "batch_size", "base_steps", "ideal_steps", "sft_steps")
        check_fields(self, "[1, 300000]", "base_rows", "ideal_rows", "sft_rows")
        check_fields(self, "(0, 1]", "learning_rate")


@dataclass(frozen=True, kw_only=True)
class ShopModels:
    """seed: of the world, the weights and the order of texts. heldout: prompts to judge by."""

    seed: int = 0
    size: Size = field(default_factory=Size)
    schedule: Schedule = field(default_factory=Schedule)
    heldout: int = 2048


def parts(schedule: Schedule) -> dict[str, TextStage]:
    """The stages in their order."""
    rate = schedule.learning_rate
    return {
        "base": TextStage(drill_text, schedule.base_rows, schedule.base_steps, rate),
        "ideal": TextStage(ideal_text, schedule.ideal_rows, schedule.ideal_steps, rate),
        "sft": TextStage(corpus_text, schedule.sft_rows, schedule.sft_steps, rate * 2 / 3),
    }


def train_models(job: Run, lab: LanguageLab, schedule: Schedule) -> dict[str, Params]:
    """The parameters after each stage, from random weights."""
    wide = wide_lab(lab)
    params, found = lab.policy.init(stage_key(lab, "base")), {}
    for name, part in parts(schedule).items():

        def fit(stage: Stage, part=part, start=params) -> tuple[Params, dict]:
            records = [part.text(lab.seed, index) for index in range(part.rows)]
            packs = pack_records(wide, records, columns=COLUMNS)
            rows = answer_rows(wide, records, batch_size=schedule.batch_size, packs=packs)
            optimizer = adamw_cosine(part.learning_rate, part.steps)
            fit = Fit(optimizer, part.steps, save_every=500)
            return supervised(stage, lab, rows, start, fit), {"filled": packs.filled}

        like = jax.eval_shape(lab.policy.init, jax.random.key(0))
        params = found[name] = run_stage(job, name, fit, like=like).arrays
    return found


def remake(job: Run, config: ShopModels) -> dict[str, float]:
    """Trains and ships both models; the means of `competence` that the shipped `sft` reaches."""
    lab = shop_lab(config.size, job.out / "data", seed=config.seed)
    found = train_models(job, lab, config.schedule)
    for name in SHIPPED:
        ship(job.out / f"{name}.safetensors", found[name])
    return _means(lab, shipped(lab, "sft", job.out), config)


def _means(lab: LanguageLab, params: Params, config: ShopModels) -> dict[str, float]:
    indices = np.array(SPLITS["heldout"][: config.heldout])
    task = shop_task(config.seed)
    found = competence(lab, task, params, indices, world=config.seed)
    return {name: round(float(np.nanmean(values)), 4) for name, values in found.items()}


def train_command(
    out: tyro.conf.Positional[Path], config: ShopModels, *, resume: bool = False
) -> int:
    """Remakes the shipped models of the shop in the folder OUT."""
    with (
        stop_on_signals() as stop,
        open_run(
            out,
            slug="train_shop",
            config=config,
            resume=resume,
            sources=[Path(__file__).parent],
            stop=stop,
            progress=True,
        ) as job,
    ):
        reached = remake(job, config)
    print(json.dumps(reached))
    missed = {name: gate for name, gate in GATES.items() if reached[name] < gate}
    for name, gate in missed.items():
        print(f"{name} is {reached[name]}, below its gate of {gate}", file=sys.stderr)
    return 3 if missed else 0


if __name__ == "__main__":
    try:
        sys.exit(tyro.cli(train_command, config=(tyro.conf.OmitArgPrefixes,)))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Interrupted as stopped:
        print(f"stopped {stopped}; to go on, add --resume", file=sys.stderr)
        sys.exit(128 + stopped.signum)
