"""Data and first stages on the shop world: base corpus, batches of text, SFT, reward model."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tokenizers import Tokenizer

from rlhf_jax.algos import preference, reward_model, sft
from rlhf_jax.data.loader import batches
from rlhf_jax.data.padding import pad_left, pad_right
from rlhf_jax.data.store import Field, Records, build, open_source
from rlhf_jax.data.tokenizer import (
    encode_completions,
    encode_prompts,
    save_tokenizer,
    standard_vocabulary,
    train_word_tokenizer,
)
from rlhf_jax.envs import shop
from rlhf_jax.labs.shop import (
    ANSWER_LENGTH,
    PROMPT_LENGTH,
    ShopLab,
    adamw_cosine,
    stage_key,
    start_training,
)
from rlhf_jax.policies.language import language_trajectory
from rlhf_jax.training import Stage, UserError, train_stage
from rlhf_jax.types import Params, PreferenceBatch, Trajectory

TEXT = Field("text")


def make_tokenizer(folder: Path) -> Tokenizer:
    """One id for each word of the world, saved beside the results."""
    tokenizer = train_word_tokenizer(shop.words())
    folder.mkdir(parents=True, exist_ok=True)
    save_tokenizer(tokenizer, folder / "tokenizer.json")
    return tokenizer


def base_corpus(seed: int, rows: int, folder: Path) -> Records:
    """One answer of the stochastic grammar to each of prompts 0 .. rows - 1, as records on disk."""

    def answers():
        for i in range(rows):
            prompt = shop.make_prompt(seed, i)
            yield {"prompt": prompt.text, "answer": shop.sample_answer(seed, prompt, i)}

    facts = {"seed": seed, "rows": rows}
    fields = {"prompt": TEXT, "answer": TEXT}
    build("shop_base", {"train": answers()}, fields=fields, data_dir=folder, config=facts)
    return open_source(folder, "shop_base", "train")


def trajectories(tokenizer: Tokenizer, prompts: Sequence[str], answers: Sequence[str]) -> Any:
    """Texts as the policy reads them: a Trajectory with leading axis [B]."""
    ids, mask = pad_left(encode_prompts(standard_vocabulary(tokenizer), prompts), PROMPT_LENGTH)
    rows = pad_right(encode_completions(standard_vocabulary(tokenizer), answers), ANSWER_LENGTH)
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


def pair_batches(lab: ShopLab, pairs: Records, batch_size: int):
    """Batches of pairs by step."""
    encode = partial(pair_batch, lab.tokenizer)
    return batches(pairs, batch_size=batch_size, seed=lab.seed, batch_fn=encode)


def check_any_left(rows: Sequence[dict], *, split: str, asked: int, why: str) -> None:
    """Raises UserError if none of the sampled pairs is of any use.

    Args:
      asked: how many were sampled.
      why: what the others have in common, and which option changes it.
    """
    if not rows:
        raise UserError(f"pairs: none of the {asked} {split} pairs is left: {why}")


def score_moments(stage: str, scores: np.ndarray) -> dict[str, float]:
    """Mean and standard deviation, by which scores are normalised.

    Raises:
      UserError: the reward model tells no two answers apart.
    """
    mean, std = float(scores.mean()), float(scores.std())
    # Not std > 0: the rounding of a mean of equal numbers is no spread.
    if not (scores.min() < scores.max() and std < np.inf):
        raise UserError(
            f"{stage}: the {scores.size} held-out scores have standard deviation {std}: "
            "raise the steps or the learning rate of this stage"
        )
    return {"mean": mean, "std": std}


def halves(pairs: PreferenceBatch) -> Trajectory:
    """Chosen and rejected side by side, [B, 2]."""
    return jax.tree.map(lambda a, b: jnp.stack([a, b], 1), pairs.chosen, pairs.rejected)


def fit_sft(
    stage: Stage, lab: ShopLab, corpus: Records, *, steps: int, batch_size: int, rate: float
) -> Params:
    """Maximum likelihood on the base corpus, from random weights."""
    params = lab.policy.init(stage_key(lab, "sft"))
    optimizer = adamw_cosine(rate, steps)
    update = sft.make_update(lab.policy, optimizer)
    state, step = start_training(lab, params, lab.axes["policy"], optimizer, update)
    encode = partial(sft_batch, lab.tokenizer)
    rows = batches(corpus, batch_size=batch_size, seed=lab.seed, batch_fn=encode)
    state = train_stage(
        stage, lambda state, i: step(state, rows[i]), state, steps=steps, save_every=250
    )
    return state.params


def fit_reward(
    stage: Stage,
    lab: ShopLab,
    start: Params,
    pairs: Records,
    *,
    steps: int,
    batch_size: int,
    rate: float,
) -> Params:
    """Bradley-Terry on the pairs, from the trunk of a policy."""
    params = {**lab.reward.init(stage_key(lab, "reward")), "trunk": start["trunk"]}
    optimizer = adamw_cosine(rate, steps)
    update = reward_model.make_update(lab.reward, optimizer)
    state, step = start_training(lab, params, lab.axes["reward"], optimizer, update)
    rows = pair_batches(lab, pairs, batch_size)
    state = train_stage(
        stage, lambda state, i: step(state, rows[i]), state, steps=steps, save_every=100
    )
    return state.params


def begin_preference(lab: ShopLab, params: Params, optimizer: Any, loss: Callable):
    """First state and compiled `(state, batch, ref_params) -> (state, metrics)` of a pairwise loss
    `(chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps) -> [B]`."""
    update = preference.make_update(lab.policy, optimizer, loss)

    def with_reference(state, batch: PreferenceBatch, ref_params: Params):
        return update(state, preference.attach_reference(lab.policy, ref_params, batch))

    return start_training(lab, params, lab.axes["policy"], optimizer, with_reference)
