"""The language panel: the shop's base model looks things up, and is told when it is wrong.

A question is a few lines of a catalogue and one of QUESTIONS about them; the answer is checked
exactly. The shipped base model has read such drills, no dialogue and no feedback, and gets about a
quarter of these kinds right. GRPO then trains it on single answers, or on episodes of several tries
after each of which it reads FEEDBACK and nothing else (`recipes.retry_task`); single answers are as
many as all tries of the episodes could be.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from experiments.ufo.config import Config, ShopPanel
from rlhf_jax.data.tokenizer import decode_rows
from rlhf_jax.envs import shop
from rlhf_jax.labs.shop import shop_lab
from rlhf_jax.labs.shop_models import shipped
from rlhf_jax.labs.size import Size
from rlhf_jax.recipes import (
    Fit,
    LanguageLab,
    Task,
    adamw_cosine,
    grpo,
    make_prompts,
    online,
    prompt_rows,
    retry_task,
    stage_key,
    task_reward,
)
from rlhf_jax.recipes.episodes import task_rollout
from rlhf_jax.recipes.lab import CHUNK
from rlhf_jax.recipes.retries import solved_within
from rlhf_jax.recipes.rows import in_chunks
from rlhf_jax.training import Run, Stage, run_stage
from rlhf_jax.types import Params

QUESTIONS = ("price", "stars", "cheapest", "dearest", "best")  # kinds of drills
FEEDBACK = "question : try again . answer :"
PROMPT_WORDS, ANSWER_WORDS = 70, 8
POLICIES = ("before", "single turn", "UFO")


class Place(NamedTuple):
    """single: the task of one answer. tries: of several, with the return that is trained on;
    counted: the same, 1 if it is solved. base: params at the start."""

    sizes: ShopPanel
    lab: LanguageLab
    single: Task
    tries: Task
    counted: Task
    base: Params
    episode_length: int


def drills(world: int, count: int, *, held: bool) -> list[shop.Drill]:
    """The first drills of QUESTIONS, or probes, which the base model has not read."""
    make, found, index = (shop.probe if held else shop.drill), [], 0
    while len(found) < count:
        asked = make(world, index)
        found += [asked] if asked.kind in QUESTIONS else []
        index += 1
    return found


def lookup_task(world: int, train: int, held: int) -> Task:
    """Questions by number, those to train on first; 1 for the right answer."""
    asked = drills(world, train, held=False) + drills(world, held, held=True)

    def texts(numbers: np.ndarray) -> list[str]:
        return [asked[int(i)].question for i in numbers]

    def score(numbers: np.ndarray, answers: Sequence[str]) -> dict[str, Any]:
        rows = zip(numbers, answers, strict=True)
        return {"right": [float(shop.probe_right(asked[int(i)], text)) for i, text in rows]}

    splits = {"train": range(train), "heldout": range(train, train + held)}
    return Task(texts, splits, score, "right", None)


def open_place(config: Config, job: Run) -> Place:
    """The base model and its questions."""
    sizes, words = config.shop, {"prompt_words": PROMPT_WORDS, "answer_words": ANSWER_WORDS}
    lab = shop_lab(Size(), job.out / "data", seed=config.seed, **words)
    single = lookup_task(config.seed, sizes.questions, sizes.heldout)
    make = partial(retry_task, single, turns=sizes.turns, feedback=FEEDBACK)
    tasks = make(decay=sizes.decay, repetition=sizes.repetition), make()
    between = len(FEEDBACK.split()) + 1
    length = sizes.turns * lab.answer_length + (sizes.turns - 1) * between
    return Place(sizes, lab, single, *tasks, shipped(lab, "base"), length)


def shop_study(config: Config, job: Run) -> dict[str, np.ndarray]:
    """succ: [S, POLICIES, turns], Succ@k on held-out questions. unique: [S, POLICIES] different
    answers over tries, of episodes whose first one is wrong. again: [S] Succ@1 of the start in
    another draw."""
    place = open_place(config, job)
    found = [seed_study(place, job, seed) for seed in range(config.shop.seeds)]
    return {name: np.stack([each[name] for each in found]) for name in found[0]}


def seed_study(place: Place, job: Run, seed: int) -> dict[str, np.ndarray]:
    """The same of one seed."""
    rows = [tried(place, place.base, f"measured {seed}")]
    for name in POLICIES[1:]:
        work = partial(fit_policy, place, seed, name == "UFO")
        params = run_stage(job, f"shop {name} {seed}", work).arrays
        rows.append(tried(place, params, f"measured {seed}"))
    again = tried(place, place.base, f"again {seed}")
    succ, unique = zip(*rows, strict=True)
    return {"succ": np.array(succ), "unique": np.array(unique), "again": again[0][0]}


def fit_policy(place: Place, seed: int, several: bool, stage: Stage) -> tuple[Params, dict]:
    """GRPO from the base model on episodes of several tries, or on as many single answers."""
    sizes, lab = place.sizes, place.lab
    task = place.tries if several else place.single
    samples = sizes.samples if several else sizes.samples * sizes.turns
    rows = prompt_rows(task, batch_size=sizes.batch_size, seed=seed)
    fit = Fit(adamw_cosine(sizes.rl_rate, sizes.rl_steps), sizes.rl_steps)
    method, key = grpo(lab, samples=samples), stage_key(lab, f"tries {seed}")
    given = (stage, lab, task, method, task_reward(lab, task), place.base, rows, fit)
    length = place.episode_length if several else None
    return online(*given, key=key, episode_length=length), {}


def tried(place: Place, params: Params, name: str) -> tuple[np.ndarray, float]:
    """Succ@k [turns], and different answers over tries where the first one is wrong."""
    lab, key = place.lab, stage_key(place.lab, name)
    numbers = list(place.single.splits["heldout"])

    def chunk(part: list[Any]) -> tuple[Any, ...]:
        prompts = make_prompts(lab, place.counted, np.array(part))
        given = (lab, place.counted, params, prompts, key, 1)
        rollout, turns = task_rollout(*given, episode_length=place.episode_length)
        assert turns is not None
        return rollout.trajectory.actions[:, 0], turns.turn_ids[:, 0], turns.rewards[:, 0]

    ids, turn_ids, rewards = in_chunks(chunk, numbers, size=CHUNK)
    wins = solved_within(rewards)
    results = [turn_results(lab, *row) for row in zip(ids, turn_ids, strict=True)]
    wrong = [each for each, first in zip(results, wins[:, 0], strict=True) if not first]
    shares = [len(set(each)) / len(each) for each in wrong]
    return wins.mean(0), float(np.mean(shares)) if shares else 1.0


def turn_results(lab: LanguageLab, ids: np.ndarray, turn_ids: np.ndarray) -> list[str]:
    """The answer of each turn of an episode."""
    turns = [ids[turn_ids == turn].tolist() for turn in range(turn_ids.max() + 1)]
    return decode_rows(lab.vocabulary, turns)
