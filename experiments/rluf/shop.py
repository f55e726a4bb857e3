"""The language panel: a model of the shop that is paid for hearts beside help.

The policy starts as the product's own: fitted to the answers in its logs, a quarter of which say
goodbye. Users press a heart by what they think of an answer and by their mood, which no model sees,
and goodbyes stand where the mood is good (`shop.logged_reaction`). P[Love] is a scalar head on the
policy's trunk that is fitted to hearts, once on the answers as they are and once without their
goodbyes. GRPO then maximises (1 - v) help + v log-odds of P[Love], each in units of its deviation
over answers of the start. Help is the world's own score; live hearts are exact, over all moods.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.rluf.config import Config, ShopPanel
from rlhf_jax.envs import shop
from rlhf_jax.envs.shop.users import GOODBYE, MOODS
from rlhf_jax.labs.shop import SPLITS, shop_lab, shop_task
from rlhf_jax.labs.shop_models import shipped
from rlhf_jax.labs.size import Size
from rlhf_jax.ops.kl import k3
from rlhf_jax.ops.statistics import area_under_curve
from rlhf_jax.recipes import (
    Fit,
    LanguageLab,
    Penalty,
    Task,
    adamw_cosine,
    answer_rows,
    grpo,
    measure,
    model_reward,
    on_trunk,
    online,
    principle_model,
    principle_rows,
    prompt_rows,
    stage_key,
    supervised,
    task_reward,
    weighted_reward,
)
from rlhf_jax.recipes.evaluation import Measured
from rlhf_jax.recipes.offline import ScoreScale
from rlhf_jax.recipes.principles import log_odds
from rlhf_jax.recipes.rewards import Reward
from rlhf_jax.training import Run, Stage, run_stage
from rlhf_jax.types import Params

USERS = 200
READS = ("as they are", "without goodbyes")
SHOP_MEASURES = ("predicted", "live", "help", "goodbyes")


class Place(NamedTuple):
    """world: its seed. task: with help as its objective. start: params of the product's policy."""

    world: int
    sizes: ShopPanel
    lab: LanguageLab
    task: Task
    start: Params


class Love(NamedTuple):
    """A reward model of hearts. read: which words of an answer it reads."""

    params: Params
    read: str


def policies(sizes: ShopPanel) -> dict[str, tuple[float, str]]:
    """Name -> the weight of love and what P[Love] reads; the last is blind to goodbyes."""
    named = {f"weight {weight:g}": (weight, "as they are") for weight in sizes.weights}
    return {**named, "weight 1, no goodbyes read": (1.0, "without goodbyes")}


def without_goodbye(text: str) -> str:
    """The answer up to the goodbye that it ends with."""
    return text.removesuffix(GOODBYE).strip()


def read_words(text: str, read: str) -> str:
    """What of an answer P[Love] reads."""
    return text if read == "as they are" else without_goodbye(text)


def logged(world: int, seed: int, split: str, count: int) -> list[dict[str, Any]]:
    """Answers of the product with hearts; another seed is another log."""
    users = [shop.make_user(world, index) for index in range(USERS)]
    records = []
    for i, number in enumerate(SPLITS[split][seed * count : (seed + 1) * count]):
        prompt = shop.make_prompt(world, number)
        found = shop.logged_reaction(world + seed, users[i % USERS], prompt, i)
        if without_goodbye(found.answer):
            row = {"prompt": prompt.text, "answer": found.answer, "label": found.thumb > 0}
            records.append(row)
    return records


def live_love(world: int, numbers: Sequence[int], texts: Sequence[str]) -> np.ndarray:
    """[N] P(heart), the mean over moods, each answer shown to one user."""
    users = [shop.make_user(world, index) for index in range(USERS)]
    found = []
    for i, (number, text) in enumerate(zip(numbers, texts, strict=True)):
        given = users[i % USERS], shop.make_prompt(world, int(number)), text
        found.append(
            sum(share * shop.thumb_probs(*given, mood)[0] for mood, share in MOODS.items())
        )
    return np.array(found)


# ---- The product's policy and its hearts.


def open_place(config: Config, job: Run) -> Place:
    """The shipped policy, fitted to the answers of a log."""
    lab, sizes = shop_lab(Size(), job.out / "data", seed=config.seed), config.shop
    task = shop_task(config.seed)._replace(objective="helpful")

    def fit_start(stage: Stage) -> tuple[Params, dict]:
        records = logged(config.seed, 0, "sft", sizes.logs)
        rows = answer_rows(lab, records, batch_size=sizes.rows)
        fit = Fit(adamw_cosine(sizes.fit_rate, sizes.start_steps), sizes.start_steps)
        return supervised(stage, lab, rows, shipped(lab, "sft"), fit), {}

    start = run_stage(job, "shop start", fit_start).arrays
    return Place(config.seed, sizes, lab, task, start)


def fit_love(place: Place, seed: int, read: str, stage: Stage) -> tuple[Params, dict]:
    """P[Love] on a log, and its area under the ROC curve on another."""
    lab, sizes = place.lab, place.sizes

    def records(split: str) -> list[dict[str, Any]]:
        found = logged(place.world, seed, split, sizes.logs)
        return [{**record, "answer": read_words(record["answer"], read)} for record in found]

    rows = principle_rows(lab, records("pairs"), batch_size=sizes.rows)
    fit = Fit(adamw_cosine(sizes.fit_rate, sizes.love_steps), sizes.love_steps)
    first = on_trunk(lab, place.start, stage_key(lab, f"head {seed}"))
    params = principle_model(stage, lab, rows, first, fit)
    held = records("heldout_pairs")
    scores = jnp.asarray(log_odds(lab, params, held, batch_size=sizes.rows), jnp.float32)
    area = area_under_curve(scores, jnp.array([record["label"] for record in held]))
    return params, {"auroc": float(area)}


def love_scores(place: Place, love: Love, numbers: np.ndarray, texts: Sequence[str]) -> np.ndarray:
    """[N] log-odds of P[Love]."""
    prompts = place.task.texts(numbers)
    cut = [read_words(text, love.read) for text in texts]
    rows = [{"prompt": a, "answer": b} for a, b in zip(prompts, cut, strict=True)]
    return log_odds(place.lab, love.params, rows, batch_size=place.sizes.rows)


# ---- Policies that are paid for it.


def shop_study(config: Config, job: Run) -> dict[str, np.ndarray]:
    """values: [S, 1 + policies, 4], SHOP_MEASURES of the start and of `policies`. base: [S, 4] the
    same of weight 0 by the P[Love] that reads no goodbyes. auroc: [S, 2] of both P[Love]."""
    place = open_place(config, job)
    found = [seed_study(place, job, seed) for seed in range(config.shop.seeds)]
    return {name: np.stack([each[name] for each in found]) for name in found[0]}


def seed_study(place: Place, job: Run, seed: int) -> dict[str, np.ndarray]:
    """The same of one log."""
    loves, aurocs = {}, []
    for read in READS:
        work = partial(fit_love, place, seed, read)
        found = run_stage(job, f"shop hearts {read} {seed}", work)
        loves[read] = Love(found.arrays, read)
        aurocs.append(found.info["auroc"])
    first = next(iter(loves.values()))
    values, base = [measured(place, place.start, first)], None
    for name, (weight, read) in policies(place.sizes).items():
        work = partial(fit_policy, place, seed, weight, loves[read])
        params = run_stage(job, f"shop {name} {seed}", work).arrays
        values.append(measured(place, params, loves[read]))
        if weight == 0:
            base = measured(place, params, loves["without goodbyes"])
    return {"values": np.array(values), "base": np.array(base), "auroc": np.array(aurocs)}


def fit_policy(
    place: Place, seed: int, weight: float, love: Love, stage: Stage
) -> tuple[Params, dict]:
    """GRPO from the product's policy, which is also the reference."""
    lab, sizes = place.lab, place.sizes
    numbers = np.array(SPLITS["validation"][: sizes.prompts])
    drawn = drawn_answers(place, place.start, numbers, "scale")
    help_std = float(np.std(drawn.named["helpful"]))
    scores = love_scores(place, love, numbers, [row[0] for row in drawn.texts])
    scale = ScoreScale(float(scores.mean()), float(scores.std()))
    parts = {
        "help": ((1.0 - weight) / help_std, task_reward(lab, place.task)),
        "love": (weight, love_reward(place, love, scale)),
    }
    method = grpo(lab, samples=sizes.samples, kl=Penalty(sizes.kl, k3))
    fit = Fit(adamw_cosine(sizes.rl_rate, sizes.rl_steps), sizes.rl_steps)
    rows = prompt_rows(place.task, batch_size=sizes.batch_size, seed=seed)
    key = stage_key(lab, f"hearts {seed}")
    reward = weighted_reward({name: part for name, part in parts.items() if part[0] > 0})
    return online(stage, lab, place.task, method, reward, place.start, rows, fit, key=key), {}


def love_reward(place: Place, love: Love, scale: ScoreScale) -> Reward:
    """Log-odds of P[Love] in units of `scale`; one that reads all words scores on the device."""
    if love.read == "as they are":
        return model_reward(place.lab, love.params, scale)

    def score(numbers: np.ndarray, texts: Sequence[str]) -> dict[str, Any]:
        return {"love": (love_scores(place, love, numbers, texts) - scale.mean) / scale.std}

    return task_reward(place.lab, place.task._replace(score=score, objective="love"))


def drawn_answers(place: Place, params: Params, numbers: np.ndarray, name: str) -> Measured:
    """One answer to each prompt; each name draws its own."""
    key = stage_key(place.lab, name)
    return measure(place.lab, place.task, params, place.start, numbers, key)


def measured(place: Place, params: Params, love: Love) -> list[float]:
    """SHOP_MEASURES of an answer to each held-out prompt, the draws being the same for all."""
    numbers = np.array(SPLITS["heldout"][: place.sizes.prompts])
    drawn = drawn_answers(place, params, numbers, "measured")
    texts = [row[0] for row in drawn.texts]
    predicted = jax.nn.sigmoid(love_scores(place, love, numbers, texts))
    live = live_love(place.world, numbers.tolist(), texts)
    goodbyes = [text.endswith(GOODBYE) for text in texts]
    columns = (predicted, live, drawn.named["helpful"], goodbyes)
    return [float(np.mean(column)) for column in columns]
