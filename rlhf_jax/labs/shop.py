"""The shop as a task: prompts by number, six axes and gold for any answer, a teacher by gold."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rlhf_jax.data.tokenizer import save_tokenizer, standard_vocabulary, train_word_tokenizer
from rlhf_jax.envs import shop
from rlhf_jax.feedback import teachers
from rlhf_jax.labs.size import Size
from rlhf_jax.recipes.lab import LanguageLab, device_mesh, make_lab
from rlhf_jax.recipes.task import Labels, Task, Teacher
from rlhf_jax.training import UserError

# Prompts are numbered; disjoint ranges are disjoint sets of texts.
SPLITS = {
    "sft": range(600_000),
    "pairs": range(600_000, 850_000),
    "train": range(850_000, 950_000),
    "validation": range(950_000, 1_000_000),
    "heldout": range(1_000_000, 1_100_000),
    "heldout_pairs": range(1_100_000, 1_350_000),
}


def shop_task(seed: int, *, teacher: Teacher | None = None) -> Task:
    """The world of this seed; the objective is gold."""

    def texts(indices: np.ndarray) -> list[str]:
        return [shop.make_prompt(seed, int(i)).text for i in indices]

    def score(indices: np.ndarray, answers: Sequence[str]) -> dict[str, Any]:
        rows = zip(indices, answers, strict=True)
        found = [shop.score(shop.make_prompt(seed, int(i)), text) for i, text in rows]
        axes = np.array([one.vector() for one in found]).reshape(len(found), len(shop.AXES))
        columns = dict(zip(shop.AXES, axes.T, strict=True))
        return columns | {"gold": [one.overall for one in found]}

    return Task(texts, SPLITS, score, "gold", teacher)


def gold_teacher(seed: int, *, beta: float, tie_gap: float) -> Teacher:
    """A Bradley-Terry teacher by gold; answers within `tie_gap` of each other are ties to it.

    Args:
      beta: inverse temperature, in units of 1 / gold.
    Returns:
      A teacher with the columns "gold_chosen" and "gold_rejected".
    """

    def label(
        key: jax.Array, indices: np.ndarray, first: Sequence[str], second: Sequence[str]
    ) -> Labels:
        prompts = [shop.make_prompt(seed, int(i)) for i in indices]
        rows = zip(prompts, first, second, strict=True)
        gold = np.array([[shop.score(p, text).overall for text in both] for p, *both in rows])
        values = jnp.asarray(gold, jnp.float32)
        winners = np.asarray(teachers.bt_labels(key, values, beta=beta))
        at = np.arange(len(gold))
        columns = {
            "gold_chosen": gold[at, winners],
            "gold_rejected": gold[at, 1 - winners],
        }
        return Labels(winners, np.abs(gold[:, 0] - gold[:, 1]) > tie_gap, columns)

    return label


def shop_mesh(model_parallel: int) -> Mesh | None:
    """All devices, each copy of the parameters split over `model_parallel`; None if there is one.

    Raises:
      UserError: model_parallel does not divide the number of devices.
    """
    devices = jax.device_count()
    if devices % model_parallel:
        raise UserError(
            f"model_parallel must divide the number of devices, {devices}, got {model_parallel}"
        )
    return device_mesh({"fsdp": 1, "model": model_parallel})


def shop_lab(
    size: Size,
    folder: Path,
    *,
    seed: int,
    model_parallel: int = 1,
    prompt_words: int = shop.MAX_PROMPT_WORDS,
    answer_words: int = shop.MAX_ANSWER_WORDS,
) -> LanguageLab:
    """A transformer with one id for each word of the world; the tokenizer is saved in `folder`.

    Args:
      prompt_words, answer_words: at most, e.g. more for dialogues; parameters don't depend on them.
    """
    tokenizer = train_word_tokenizer(shop.words())
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(tokenizer, folder / "tokenizer.json")
    vocabulary = standard_vocabulary(tokenizer)
    return make_lab(
        size.transformer(vocab_size=vocabulary.size),
        vocabulary,
        prompt_length=prompt_words + 1,  # the <bos>
        answer_length=answer_words + 1,  # the <eos>
        seed=seed,
        mesh=shop_mesh(model_parallel),
    )
