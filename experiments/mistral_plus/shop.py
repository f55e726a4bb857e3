"""The language panel: the shipped `base` of the shop by direct RL, by SFT, and by both.

The reward is a Bradley-Terry head on the trunk of `base`, trained on pairs of two answers of the
corpus, or of one and an answer of `base`, that a teacher labels by gold; no policy sees gold.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from experiments.mistral_plus.config import Config, ShopPanel
from rlhf_jax.envs import shop
from rlhf_jax.labs.forgetting import watch_forgetting
from rlhf_jax.labs.shop import SPLITS, gold_teacher, shop_lab, shop_task
from rlhf_jax.labs.shop_models import shipped
from rlhf_jax.labs.size import Size
from rlhf_jax.labs.train_shop import ideal_text
from rlhf_jax.ops.kl import k3
from rlhf_jax.recipes import (
    Fit,
    LanguageLab,
    Penalty,
    Task,
    adamw_cosine,
    answer_rows,
    at_points,
    grpo,
    heldout_means,
    make_prompts,
    measure,
    model_reward,
    on_trunk,
    online,
    pair_rows,
    prompt_rows,
    reward_model,
    stage_key,
    supervised,
)
from rlhf_jax.recipes.lab import CHUNK, decode_texts, wrapped
from rlhf_jax.recipes.offline import ScoreScale, pair_scores, score_scale
from rlhf_jax.training import Run, Stage, read_metrics, run_stage
from rlhf_jax.types import Params

KEPT = ("kept/corpus loss", "kept/look-up", "kept/harm")
READ = {"reward": "heldout/scores/mean", "gold": "heldout/gold", "kl": "heldout/kl/ref"}


class Shop(NamedTuple):
    """world: its seed. base: params. watch: what is kept of it, for `Fit.measure`."""

    world: int
    sizes: ShopPanel
    lab: LanguageLab
    task: Task
    base: Params
    watch: Any


def open_shop(config: Config, job: Run) -> Shop:
    """The shipped base and its prompts."""
    lab = shop_lab(Size(), job.out / "data", seed=config.seed)
    sizes = config.shop
    counts = {"corpus": sizes.corpus, "probes": sizes.probes, "attacks": sizes.attacks}
    watch = watch_forgetting(lab, **counts, world=config.seed)
    task = shop_task(config.seed)
    return Shop(config.seed, sizes, lab, task, shipped(lab, "base"), watch)


def cold_start(place: Shop) -> dict[str, float]:
    """Gold of four answers of `base` to each held-out prompt: mean, highest, and the share of
    prompts whose answers differ by more than 0.02."""
    numbers, key = np.array(SPLITS["heldout"][: place.sizes.prompts]), stage_key(place.lab, "cold")
    given = (place.lab, place.task, place.base, place.base, numbers, key)
    gold = measure(*given, samples=4).named["gold"]
    differ = np.mean(np.ptp(gold, axis=1) > 0.02)
    return {"gold": float(gold.mean()), "highest": float(gold.max()), "differ": float(differ)}


def shop_study(config: Config, job: Run) -> tuple[dict[str, dict[str, np.ndarray]], dict]:
    """method -> curves [points + 1], the first point of which is `base`; and its `cold_start`.

    step; reward, of the head in units of its spread on pairs; gold; kl to `base`; `KEPT`.
    """
    place, sizes = open_shop(config, job), config.shop
    cold = run_stage(job, "shop cold start", lambda _: ({}, cold_start(place))).info
    head = run_stage(job, "shop head", partial(fit_head, place))
    scale = ScoreScale(head.info["mean"], head.info["std"])
    looks = partial(seen, place, head.arrays, scale)
    first = run_stage(job, "shop base", lambda _: ({}, looks(place.base, -1))).info

    def stage(name: str, fit: Callable[[Stage], Params]) -> Params:
        return run_stage(job, name, lambda each: (fit(each), {})).arrays

    def rl(each: Stage, start: Params) -> Params:
        return fit_rl(each, place, head.arrays, scale, start, looks)

    stage("shop SFT", lambda each: fit_sft(each, place, sizes.sft_steps, looks))
    warm = stage("shop warm", lambda each: fit_sft(each, place, sizes.warm_steps, looks))
    stage("shop direct RL", lambda each: rl(each, place.base))
    stage("shop SFT + RL", lambda each: rl(each, warm))
    found = {name: curves(job, [f"shop {name}"], first) for name in ("direct RL", "SFT")}
    return found | {"SFT + RL": curves(job, ["shop warm", "shop SFT + RL"], first)}, dict(cold)


def seen(
    place: Shop, head: Params, scale: ScoreScale, params: Params, step: int
) -> dict[str, float]:
    """Held-out reward, gold and KL to `base`, and what is kept of it."""
    numbers, key = np.array(SPLITS["heldout"][: place.sizes.prompts]), stage_key(place.lab, "seen")
    found = measure(place.lab, place.task, params, place.base, numbers, key, reward=head)
    means = heldout_means(found)
    means["heldout/scores/mean"] = (means["heldout/scores/mean"] - scale.mean) / scale.std
    return means | place.watch(params, step)


def curves(job: Run, stages: list[str], first: Mapping[str, float]) -> dict[str, np.ndarray]:
    """What was measured along these trainings, one after the other, after `first`."""
    rows, before = [{"step": 0, **first}], 0
    for stage in stages:
        mine = [row for row in read_metrics(job.out) if row["stage"] == stage and KEPT[0] in row]
        rows += [{**row, "step": row["step"] + before} for row in mine]
        before = rows[-1]["step"]
    names = {"step": "step", **READ, **dict(zip(KEPT, KEPT, strict=True))}
    return {name: np.array([float(row[key]) for row in rows]) for name, key in names.items()}


def fit_sft(each: Stage, place: Shop, steps: int, looks: Any) -> Params:
    """Ideal answers in all their phrasings."""
    sizes = place.sizes
    records = [ideal_text(place.world, index) for index in range(sizes.demos)]
    rows = answer_rows(place.lab, records, batch_size=sizes.batch_size)
    fit = Fit(
        adamw_cosine(sizes.sft_rate, steps),
        steps,
        measure=at_points(looks, steps=steps, points=sizes.points),
    )
    return supervised(each, place.lab, rows, place.base, fit)


def fit_rl(
    each: Stage, place: Shop, head: Params, scale: ScoreScale, start: Params, looks: Any
) -> Params:
    """GRPO on the head; the start is also the reference."""
    sizes, lab = place.sizes, place.lab
    method = grpo(lab, samples=sizes.samples, kl=Penalty(sizes.kl, k3) if sizes.kl else None)
    fit = Fit(
        adamw_cosine(sizes.rl_rate, sizes.rl_steps),
        sizes.rl_steps,
        measure=at_points(looks, steps=sizes.rl_steps, points=sizes.points),
    )
    rows = prompt_rows(place.task, batch_size=sizes.batch_size, seed=lab.seed)
    reward = model_reward(lab, head, scale)
    return online(
        each, lab, place.task, method, reward, start, rows, fit, key=stage_key(lab, each.name)
    )


def fit_head(place: Shop, each: Stage) -> tuple[Params, dict[str, float]]:
    """Bradley-Terry on the trunk of `base`; accuracy and scale on held-out pairs."""
    sizes, lab = place.sizes, place.lab
    train, held = (
        labelled_pairs(place, split, sizes.pairs) for split in ("pairs", "heldout_pairs")
    )
    fit = Fit(adamw_cosine(sizes.head_rate, sizes.head_steps), sizes.head_steps)
    rows = pair_rows(lab, train, batch_size=sizes.batch_size)
    head = reward_model(each, lab, rows, on_trunk(lab, place.base, stage_key(lab, "head")), fit)
    scores = pair_scores(lab, head, held, batch_size=sizes.batch_size)
    accuracy = {"accuracy": float(np.mean(scores[:, 0] > scores[:, 1]))}
    return head, accuracy | score_scale(each.name, scores)._asdict()


def labelled_pairs(place: Shop, split: str, count: int) -> list[dict[str, str]]:
    """Of every two prompts one has two answers of the corpus, the other one of `base`."""
    numbers = np.array(SPLITS[split][:count])
    prompts = [shop.make_prompt(place.world, int(number)) for number in numbers]
    first = [shop.sample_answer(place.world, prompt, 0) for prompt in prompts]
    own = base_answers(place, numbers)
    second = [
        own[i] if i % 2 else shop.sample_answer(place.world, prompt, 1)
        for i, prompt in enumerate(prompts)
    ]
    label = gold_teacher(place.world, beta=place.sizes.teacher_beta, tie_gap=0.0)
    labels = label(stage_key(place.lab, f"labels of {split}"), numbers, first, second)
    rows = zip(prompts, first, second, labels.winners, labels.kept, strict=True)
    return [
        {"prompt": prompt.text, "chosen": (a, b)[won], "rejected": (a, b)[1 - won]}
        for prompt, a, b, won, kept in rows
        if kept and a.strip() and b.strip()
    ]


def base_answers(place: Shop, numbers: np.ndarray) -> list[str]:
    """An answer of `base` to each prompt."""
    lab, texts = place.lab, []
    for start in range(0, len(numbers), CHUNK):
        prompts = make_prompts(lab, place.task, wrapped(numbers, start, CHUNK))
        rollout = lab.draw(place.base, prompts, stage_key(lab, "base answers"), 1)
        texts += decode_texts(lab, np.asarray(rollout.trajectory.actions)[:, 0])
    return texts[: len(numbers)]
