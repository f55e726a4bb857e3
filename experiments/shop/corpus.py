"""The data of the shop job: base answers for SFT, labelled pairs of the SFT policy's answers."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from experiments.shop.config import Config
from experiments.shop.tools import (
    ANSWER_LENGTH,
    PROMPT_LENGTH,
    SFT_PROMPTS,
    Tools,
    answer,
    make_prompts,
    stage_key,
    texts_of,
)
from rlhf_jax import PreferenceBatch, Trajectory
from rlhf_jax.data.padding import pad_left, pad_right
from rlhf_jax.data.store import Field, Records, build, open_source
from rlhf_jax.data.tokenizer import (
    encode_completions,
    encode_prompts,
    save_tokenizer,
    train_word_tokenizer,
)
from rlhf_jax.envs import shop, teachers
from rlhf_jax.policies.language import language_trajectory
from rlhf_jax.training import Run, check_stop, progress_bar
from rlhf_jax.types import Params

TEXT = Field("text")
CHUNK = 128  # prompts answered at a time


def make_tokenizer(folder: Path) -> Tokenizer:
    """One id for each word of the world, saved beside the results."""
    tokenizer = train_word_tokenizer(shop.words())
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(tokenizer, folder / "tokenizer.json")
    return tokenizer


def base_corpus(config: Config, folder: Path) -> Records:
    """One answer of the stochastic grammar to each SFT prompt, as records on disk."""

    def rows():
        for i in range(SFT_PROMPTS, SFT_PROMPTS + config.sft.rows):
            prompt = shop.make_prompt(config.seed, i)
            yield {"prompt": prompt.text, "answer": shop.sample_answer(config.seed, prompt, i)}

    facts = {"seed": config.seed, "rows": config.sft.rows}
    fields = {"prompt": TEXT, "answer": TEXT}
    build("shop_base", {"train": rows()}, fields=fields, data_dir=folder, config=facts)
    return open_source(folder, "shop_base", "train")


def sample_pairs(
    job: Run, tools: Tools, params: Params, indices: np.ndarray, folder: Path, split: str
) -> Records:
    """Two answers of the policy to each prompt, labelled by a Bradley-Terry teacher on gold.

    Pairs closer than `tie_gap` are ties to the teacher and left out, equal answers among them.
    """
    config = tools.config
    name = f"shop_pairs_{split}"
    first, second, gold = [], [], []
    prompts = make_prompts(tools, indices)
    with progress_bar(f"{split} pairs", len(indices), show=job.progress) as advance:
        for start in range(0, len(indices), CHUNK):
            check_stop(job, f"sampling {split} pairs")
            part = make_prompts(tools, wrapped(indices, start, CHUNK))
            rollout = answer(tools, params, part, stage_key(tools, name), np.arange(2))
            actions = rollout.trajectory.actions
            first += texts_of(tools, actions[:, 0])
            second += texts_of(tools, actions[:, 1])
            advance(start + len(part.prompts))
    for prompt, *texts in zip(prompts.prompts, first, second, strict=False):
        gold.append([shop.score(prompt, text).overall for text in texts])
    values = jnp.asarray(gold, jnp.float32)
    key = stage_key(tools, f"{name} labels")
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
    fields = dict.fromkeys(("prompt", "chosen", "rejected"), TEXT)
    fields |= {k: Field("float32") for k in ("gold_chosen", "gold_rejected")}
    facts = {"seed": config.seed, "prompts": len(indices), **asdict(config.reward)}
    build(name, {split: rows}, fields=fields, data_dir=folder, config=facts)
    return open_source(folder, name, split)


def wrapped(indices: np.ndarray, start: int, size: int) -> np.ndarray:
    """`size` entries from `start`, going round at the end: every chunk has one shape."""
    return np.take(indices, np.arange(start, start + size), mode="wrap")


def trajectories(tokenizer: Tokenizer, prompts: Sequence[str], answers: Sequence[str]) -> Any:
    """Texts as the policy reads them: a Trajectory with leading axis [B]."""
    ids, mask = pad_left(encode_prompts(tokenizer, prompts), PROMPT_LENGTH)
    rows = pad_right(encode_completions(tokenizer, answers), ANSWER_LENGTH)
    return language_trajectory(*map(jnp.asarray, (ids, mask, rows.ids, rows.mask)))


def sft_batch(tokenizer: Tokenizer, records: Sequence[dict]) -> Trajectory:
    """Records of the base corpus as one batch."""
    return trajectories(
        tokenizer, [row["prompt"] for row in records], [row["answer"] for row in records]
    )


def pair_batch(tokenizer: Tokenizer, records: Sequence[dict]) -> PreferenceBatch:
    """Records of pairs as one batch, without reference log-probs."""
    prompts = [row["prompt"] for row in records]
    return PreferenceBatch(
        chosen=trajectories(tokenizer, prompts, [row["chosen"] for row in records]),
        rejected=trajectories(tokenizer, prompts, [row["rejected"] for row in records]),
    )


def halves(pairs: PreferenceBatch) -> Trajectory:
    """Chosen and rejected side by side, [B, 2]."""
    return jax.tree.map(lambda a, b: jnp.stack([a, b], 1), pairs.chosen, pairs.rejected)
