"""What every reward is measured on: held-out pairs, shifted pairs and one pool of samples."""

from typing import Any, NamedTuple

import numpy as np

from experiments.shop_rewards.world import ROOM, Tools, in_form, labelled
from rlhf_jax.recipes import stage_key
from rlhf_jax.recipes.evaluation import measure
from rlhf_jax.training import Run, run_stage

CHUNK = 8  # prompts of the pool at a time


class Sets(NamedTuple):
    """What is measured. heldout, shifted: pairs with the teacher's labels, the latter with marks
    that point the wrong way. pool: P x K answers as records; gold, lengths: [P, K] their scores
    and words."""

    heldout: list[dict[str, Any]]
    shifted: list[dict[str, Any]]
    pool: list[dict[str, Any]]
    gold: np.ndarray
    lengths: np.ndarray


def make_sets(job: Run, tools: Tools) -> Sets:
    """Held-out pairs as they are and marked the other way, and the pool of samples."""
    config, splits = tools.config, tools.task.splits
    indices = np.array(splits["heldout_pairs"][: config.data.heldout])
    heldout = labelled(job, tools, indices, "heldout")
    shifted = in_form(heldout, "spurious", -config.data.rho, -1)
    pool = run_stage(job, "pool", lambda stage: draw_pool(tools)).info
    gold = np.array(pool["gold"])
    lengths = np.array([len(row["answer"].split()) for row in pool["records"]])
    return Sets(heldout, shifted, pool["records"], gold, lengths.reshape(gold.shape))


def draw_pool(tools: Tools) -> tuple[Any, dict]:
    """Answers of the SFT policy to each prompt of the pool, drawn and scored once."""
    data, key = tools.config.data, stage_key(tools.lab, "pool")
    indices = np.array(tools.task.splits["heldout"][: data.pool_prompts])
    short = tools.lab._replace(answer_length=tools.lab.answer_length - ROOM)
    found = measure(
        *(short, tools.task, tools.sft, tools.sft, indices, key),
        samples=data.pool_answers,
        chunk=CHUNK,
    )
    texts = tools.task.texts(indices)
    records = [
        {"prompt": prompt, "answer": answer, "index": int(index)}
        for index, prompt, answers in zip(indices, texts, found.texts, strict=True)
        for answer in answers
    ]
    return {}, {"records": records, "gold": found.named["gold"].tolist()}
