"""Labelled pairs of the SFT policy's answers, as records on disk."""

from dataclasses import asdict
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from experiments.shop.tools import Tools
from rlhf_jax.data.store import Field, Records, build, open_source
from rlhf_jax.envs import shop
from rlhf_jax.feedback import teachers
from rlhf_jax.labs.shop import CHUNK, answer, make_prompts, stage_key, texts_of, wrapped
from rlhf_jax.labs.shop_stages import TEXT, check_any_left
from rlhf_jax.training import Run, check_stop, progress_bar
from rlhf_jax.types import Params


def sample_pairs(
    job: Run, tools: Tools, params: Params, indices: np.ndarray, folder: Path, split: str
) -> Records:
    """Two answers of the policy to each prompt, labelled by a Bradley-Terry teacher on gold.

    Pairs closer than `tie_gap` are ties to the teacher and left out, equal answers among them.
    """
    config = tools.config
    name = f"shop_pairs_{split}"
    first, second, gold = [], [], []
    prompts = make_prompts(tools.lab, indices)
    with progress_bar(f"{split} pairs", len(indices), show=job.progress) as advance:
        for start in range(0, len(indices), CHUNK):
            check_stop(job, f"sampling {split} pairs")
            part = make_prompts(tools.lab, wrapped(indices, start, CHUNK))
            rollout = answer(tools.lab, params, part, stage_key(tools.lab, name), np.arange(2))
            actions = rollout.trajectory.actions
            first += texts_of(tools.lab, actions[:, 0])
            second += texts_of(tools.lab, actions[:, 1])
            advance(start + len(part.prompts))
    for prompt, *texts in zip(prompts.prompts, first, second, strict=False):
        gold.append([shop.score(prompt, text).overall for text in texts])
    values = jnp.asarray(gold, jnp.float32)
    key = stage_key(tools.lab, f"{name} labels")
    winners = np.asarray(teachers.bt_labels(key, values, beta=config.reward.teacher_beta))
    rows = [
        {
            "prompt": prompt.text,
            "chosen": texts[winner],
            "rejected": texts[1 - winner],
            "gold_chosen": scores[winner],
            "gold_rejected": scores[1 - winner],
        }
        for prompt, *texts, scores, winner in zip(
            prompts.prompts, first, second, gold, winners.tolist(), strict=False
        )
        if all(texts) and abs(scores[0] - scores[1]) > config.reward.tie_gap
    ]
    gap = config.reward.tie_gap
    why = f"all are empty or within tie_gap = {gap} in gold score; raise sft.steps or lower tie_gap"
    check_any_left(rows, split=split, asked=len(indices), why=why)
    fields = dict.fromkeys(("prompt", "chosen", "rejected"), TEXT)
    fields |= {k: Field("float32") for k in ("gold_chosen", "gold_rejected")}
    facts = {"seed": config.seed, "prompts": len(indices), **asdict(config.reward)}
    build(name, {split: rows}, fields=fields, data_dir=folder, config=facts)
    return open_source(folder, name, split)
