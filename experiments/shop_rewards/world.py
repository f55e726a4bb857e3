"""The pairs in their three forms, and what every stage works with."""

from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments.shop_rewards.config import Config
from rlhf_jax.envs import shop
from rlhf_jax.envs.shop.spurious import MARKERS, with_marker
from rlhf_jax.labs.shop import gold_teacher, shop_lab, shop_task
from rlhf_jax.labs.shop_models import shipped
from rlhf_jax.recipes import (
    Fit,
    LanguageLab,
    Task,
    adamw_cosine,
    implicit_lab,
    sample_pairs,
    stage_key,
)
from rlhf_jax.recipes.buckets import Bucket, length_buckets
from rlhf_jax.recipes.lab import check_batches
from rlhf_jax.recipes.pairs import open_pairs
from rlhf_jax.recipes.task import Labels, Teacher
from rlhf_jax.training import Run, Stage, StageResult, UserError, run_stage
from rlhf_jax.types import Params

FORMS = ("clean", "flipped", "spurious")
FEATURES = ("length", "greeting")
SIDES = ("chosen", "rejected")
ROOM = max(len(line.split()) for feature in FEATURES for line in MARKERS[feature])
BUCKETS, LEAST = 2, 8  # at most, and one for what is longer; batches of each, at least
READ = 1 << 16  # answers whose scores are remembered


class Tools(NamedTuple):
    """What every stage works with, whose compiled functions all stages share.

    lab: its reward is a scalar head. judged: the same, its reward implied by two policies. Both
    have room for a marked answer. heads, direct: how long and by which rule a head and a policy
    are trained. kept: finished trainings by stage, for kinds that share them.
    """

    config: Config
    task: Task
    lab: LanguageLab
    judged: LanguageLab
    sft: Params
    heads: Fit
    direct: Fit
    kept: dict[str, StageResult]


class Part(NamedTuple):
    """What a kind is trained on. lab: of this seed, so that heads and orders are its own.

    pairs: in this form; "index" is the number of the prompt, "mark" of spurious pairs the feature
    that was added. clean: the same as they were.
    buckets: columns of a batch, the same for all seeds and forms, so that a step compiles once for
    each.
    """

    form: str
    seed: int
    lab: LanguageLab
    pairs: list[dict[str, Any]]
    clean: list[dict[str, Any]]
    buckets: list[Bucket]

    @property
    def name(self) -> str:
        """First words of the names of its stages."""
        return f"{self.form}_{self.seed}"


def make_tools(config: Config, job: Run) -> Tools:
    """Nothing is compiled before it is called."""
    lab = shop_lab(config.size, job.out / "data", seed=config.seed)
    check_batches(lab, config)
    lab = lab._replace(answer_length=lab.answer_length + ROOM)
    data, training = config.data, config.training
    teacher = gold_teacher(config.seed, beta=data.teacher_beta, tie_gap=data.tie_gap)
    task = shop_task(config.seed, teacher=numbered(teacher))
    sft = lab.policy.init(stage_key(lab, "start")) if config.from_scratch else shipped(lab, "sft")
    rates = (training.learning_rate, training.direct_rate)
    fits = [Fit(adamw_cosine(rate, training.steps), training.steps) for rate in rates]
    return Tools(config, task, lab, implicit_lab(lab, beta=training.beta), sft, *fits, {})


def numbered(teacher: Teacher) -> Teacher:
    """The teacher with the numbers of the prompts as one more column."""

    def label(
        key: jax.Array, indices: np.ndarray, first: Sequence[str], second: Sequence[str]
    ) -> Labels:
        found = teacher(key, indices, first, second)
        return found._replace(columns={**found.columns, "index": np.asarray(indices)})

    return label


def make_parts(job: Run, tools: Tools) -> dict[tuple[str, int], Part]:
    """The pairs of each form and seed; seeds have prompts of their own."""
    config = tools.config
    data, splits = config.data, tools.task.splits
    indices = np.array(splits["pairs"][: data.prompts * config.seeds])
    rows = labelled(job, tools, indices, "train")
    parts: dict[tuple[str, int], Part] = {}
    buckets: list[Bucket] | None = None
    for seed in range(config.seeds):
        low, high = (splits["pairs"].start + data.prompts * (seed + i) for i in (0, 1))
        clean = [row for row in rows if low <= row["index"] < high][: data.pairs]
        if len(clean) < data.pairs:
            raise UserError(
                f"seed {seed} has {len(clean)} pairs after ties are dropped, fewer than "
                f"data.pairs = {data.pairs}: raise data.prompts"
            )
        lab = tools.lab._replace(seed=1000 * (1 + seed) + config.seed)
        if buckets is None:  # few pairs go to the lab's own columns
            count = min(BUCKETS, len(clean) // (LEAST * config.training.batch_size))
            buckets = length_buckets(lab, clean, count=count) if count else []
        for form in FORMS:
            pairs = in_form(clean, form, data.flipped if form == "flipped" else data.rho, seed)
            parts[form, seed] = Part(form, seed, lab, pairs, clean, buckets)
    return parts


def labelled(job: Run, tools: Tools, indices: np.ndarray, split: str) -> list[dict[str, Any]]:
    """Pairs of the SFT policy's answers with the teacher's labels, sampled once."""
    name, data = f"shop_rewards_{split}", tools.config.data
    facts = {"beta": data.teacher_beta, "tie_gap": data.tie_gap}
    short = tools.lab._replace(answer_length=tools.lab.answer_length - ROOM)

    def sample(stage: Stage) -> tuple[Any, dict]:
        about = {"name": name, "split": split, "facts": facts, "remedy": "lower data.tie_gap"}
        found = sample_pairs(job, short, tools.task, tools.sft, indices, **about)
        return {}, {"pairs": len(found)}

    run_stage(job, f"pairs_{split}", sample)
    rows = open_pairs(job.out / "data", name, split)
    return [{**rows[i], "index": int(rows[i]["index"])} for i in range(len(rows))]


def in_form(
    pairs: Sequence[dict[str, Any]], form: str, level: float, seed: int
) -> list[dict[str, Any]]:
    """The pairs as they are, with a share `level` of wrong labels, or with marks.

    A mark is at the chosen answer with probability (1 + level) / 2 and at the other one with
    (1 - level) / 2, so that `level` is its correlation with the label; it is more words in one half
    of the pairs, a greeting in the other. Labels are those of the answers without marks.
    """
    found = []
    for i, given in enumerate(pairs):
        rng = Random(f"shop_rewards/{form}/{seed}/{i}/{given['index']}")
        row: dict[str, Any] = {**given, "wrong": form == "flipped" and rng.random() < level}
        if row["wrong"]:
            row |= {"chosen": row["rejected"], "rejected": row["chosen"]}
        if form == "spurious":
            row["mark"] = feature = FEATURES[i % len(FEATURES)]
            for side, sign in zip(SIDES, (1.0, -1.0), strict=True):
                present, wording = rng.random() < 0.5 * (1.0 + sign * level), rng.randrange(2)
                if present:
                    row[side] = with_marker(row[side], feature, wording)
        found.append(row)
    return found


def first_share(pairs: Sequence[dict[str, Any]], share: int) -> list[dict[str, Any]]:
    """One pair in `share`, at least two."""
    return list(pairs[: max(2, len(pairs) // share)])


@lru_cache(maxsize=READ)
def axes_of(seed: int, index: int, text: str) -> np.ndarray:
    """[6] the axes of an answer to the prompt with this number; the same answer is read once."""
    return np.asarray(score_of(seed, index, text).vector())


def score_of(seed: int, index: int, text: str) -> shop.Score:
    """All that the gold scorer says of an answer to the prompt with this number."""
    return shop.score(shop.make_prompt(seed, index), text)
