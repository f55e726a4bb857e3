"""The language panel: a small transformer on the text phone, curriculum against mixed tasks.

Its start is fitted to the solver's episodes of short tasks. From there GRPO is paid for tasks that
are done and for nothing else, by both schedules with as many episodes.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from experiments.craft_gui.config import Config, LanguagePanel
from experiments.craft_gui.phone import solver_rates
from rlhf_jax.envs import gui
from rlhf_jax.labs.phone import phone_horizons, phone_lab, phone_task, solver_episodes
from rlhf_jax.labs.size import Size
from rlhf_jax.ops.kl import k3
from rlhf_jax.recipes import (
    Fit,
    LanguageLab,
    Penalty,
    Task,
    adamw_cosine,
    array_rows,
    curriculum_rows,
    grpo,
    measure,
    online,
    prompt_rows,
    stage_key,
    supervised,
    task_reward,
)
from rlhf_jax.training import Run, Stage, UserError, read_metrics, run_stage
from rlhf_jax.types import Params

ARMS = ("curriculum", "mixed")
WORDS_READ = 20  # room for a screen, in the mean over an episode


class Place(NamedTuple):
    """held: numbers of the held-out tasks. horizons: theirs."""

    config: Config
    lab: LanguageLab
    task: Task
    held: np.ndarray
    horizons: np.ndarray


def open_place(config: Config, seed: int = 0) -> Place:
    """The lab and its tasks; another seed trains otherwise on the same tasks."""
    sizes = config.language
    shape = Size(
        d_model=sizes.d_model,
        num_layers=sizes.layers,
        num_kv_heads=4,
        d_ff=2 * sizes.d_model,
        remat="everything",
    )
    lab = phone_lab(shape, seed=config.seed)._replace(seed=config.seed + seed)
    about = {"count": sizes.tasks, "heldout": sizes.heldout, "longest": sizes.longest}
    task = phone_task(config.seed, **about, dense=0.0)
    held = np.array(task.splits["heldout"])
    return Place(config, lab, task, held, phone_horizons(held, longest=sizes.longest))


def language_study(config: Config, job: Run) -> dict[str, np.ndarray]:
    """Success [seeds, held-out tasks, episodes] of the start and of both schedules by name;
    "<schedule>/equal" groups [seeds, steps]; "horizons" of the tasks; solver and random by horizon.
    """
    runs = [seed_study(config, job, seed) for seed in range(config.language.seeds)]
    found = {name: np.stack([each[name] for each in runs]) for name in runs[0]}
    place = open_place(config)
    return found | {"horizons": place.horizons} | baselines(place)


def seed_study(config: Config, job: Run, seed: int) -> dict[str, np.ndarray]:
    """The same of one start and of what both schedules make of it."""
    place, stage = open_place(config, seed), f"phone {seed}"
    base = run_stage(job, f"{stage} start", partial(fit_start, place)).arrays
    found = {"start": success(place, job, f"{stage} start", base)}
    check_start(config.language, found["start"], place.horizons)
    for name in ARMS:
        fit = partial(fit_arm, place, base, name)
        params = run_stage(job, f"{stage} {name}", fit).arrays
        found[name] = success(place, job, f"{stage} {name}", params)
        found[f"{name}/equal"] = equal_groups(job, f"{stage} {name}")
    return found


def check_start(sizes: LanguagePanel, start: np.ndarray, horizons: np.ndarray) -> None:
    """UserError for a start that does too few held-out tasks of one action."""
    easy = float(start[horizons == 1].mean())
    if easy < sizes.gate:
        raise UserError(
            f"the start does {easy:.1%} of held-out tasks of one action, below language.gate = "
            f"{sizes.gate:g}: raise language.base_steps"
        )


def fit_start(place: Place, stage: Stage) -> tuple[Params, dict]:
    """Maximum likelihood of the solver's actions in short tasks."""
    sizes, lab, task = place.config.language, place.lab, place.task
    numbers = np.array(task.splits["train"])
    short = numbers[phone_horizons(numbers, longest=sizes.longest) <= sizes.base_longest]
    episodes = solver_episodes(lab, task, place.config.seed, short)
    rows = array_rows(episodes, batch_size=min(sizes.base_batch, len(short)), seed=lab.seed)
    fit = Fit(adamw_cosine(sizes.base_rate, sizes.base_steps), sizes.base_steps)
    first = lab.policy.init(stage_key(lab, "phone start"))
    return supervised(stage, lab, rows, first, fit), {}


def fit_arm(place: Place, base: Params, name: str, stage: Stage) -> tuple[Params, dict]:
    """GRPO on the outcome of episodes, with the tasks in this order."""
    sizes, lab, task = place.config.language, place.lab, place.task
    rows = prompt_rows(task, batch_size=sizes.prompts, seed=lab.seed)
    if name == "curriculum":
        horizons = phone_horizons(np.array(task.splits["train"]), longest=sizes.longest)
        rows = curriculum_rows(
            task,
            horizons,
            stages=2,
            steps=sizes.steps,
            batch_size=sizes.prompts,
            seed=lab.seed,
            replay=sizes.replay,
        )
    method = grpo(lab, samples=sizes.samples, kl=Penalty(sizes.kl, k3) if sizes.kl else None)
    fit = Fit(adamw_cosine(sizes.rate, sizes.steps), sizes.steps)
    given = (stage, lab, task, method, task_reward(lab, task), base, rows, fit)
    key = stage_key(lab, stage.name)
    return online(*given, key=key, episode_length=episode_length(lab, task)), {}


def episode_length(lab: LanguageLab, task: Task) -> int:
    """Tokens of an episode with all its turns."""
    return task.max_turns * lab.answer_length + (task.max_turns - 1) * WORDS_READ


def success(place: Place, job: Run, stage: str, params: Params) -> np.ndarray:
    """[N, K] 1 where an episode of a held-out task is done."""
    lab, task, key = place.lab, place.task, stage_key(place.lab, "phone held out")
    options = {
        "samples": place.config.language.measured,
        "episode_length": episode_length(lab, task),
        "chunk": min(len(place.held), 64),
    }

    def work(_: Stage) -> tuple[dict, dict]:
        seen = measure(lab, task, params, params, place.held, key, **options)
        return {"done": (seen.named["return"] > 0.5).astype(float)}, {}

    return run_stage(job, f"{stage} held out", work).arrays["done"]


def equal_groups(job: Run, stage: str) -> np.ndarray:
    """[steps] share of groups without a signal."""
    rows = [row for row in read_metrics(job.out) if row["stage"] == stage]
    key = "groups/informative"
    return np.array([1.0 - float(row[key]) for row in rows if key in row])


def baselines(place: Place) -> dict[str, np.ndarray]:
    """Success by horizon of the solver and of random actions on the held-out tasks."""
    longest, seed = place.config.language.longest, place.config.seed
    tasks = [
        gui.gui_task(seed, int(i), (int(h),), heldout=True)
        for i, h in zip(place.held, place.horizons, strict=True)
    ]
    episodes = place.config.phone_episodes
    rates = {
        "solver": solver_rates(tasks),
        "random": gui.success_rates(tasks, episodes=episodes, seed=seed),
    }
    return {
        name: np.array([each[length] for length in range(1, longest + 1)])
        for name, each in rates.items()
    }
