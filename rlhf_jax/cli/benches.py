"""Scores of a file of RewardBench, by whatever scores whole answers."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rlhf_jax.cli.measures import Numbers, bench_quality
from rlhf_jax.cli.reward_folders import open_reward, text_scores
from rlhf_jax.cli.segments import has_segments
from rlhf_jax.cli.steps import read_separator
from rlhf_jax.data.messages import as_user
from rlhf_jax.data.reward_bench import BenchItem, is_bench, read_bench
from rlhf_jax.data.templates import ChatTemplate
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import TextReward

Score = Callable[[Sequence[Any], Sequence[str]], np.ndarray]  # prompts, answers -> [N]


def is_bench_file(data: Path | None) -> bool:
    """Whether it is a file of RewardBench."""
    with reading_input():
        return data is not None and is_bench(data)


def bench_prompts(items: Sequence[BenchItem], chat: ChatTemplate | None) -> list[Any]:
    """The prompt of each item as the model reads it."""
    if chat is None:
        return [item.prompt for item in items]
    return [list(as_user(item.prompt)) for item in items]


def all_scores(reward: TextReward, prompts: Sequence[Any], answers: Sequence[str]) -> np.ndarray:
    """Scores of all answers.

    Raises:
      UserError: an answer has none.
    """
    scores = reward(prompts, answers)
    if missing := sum(score is None for score in scores):
        raise UserError(f"{missing} of {len(scores)} answers of the benchmark have no score")
    return np.array(scores, float)


def bench_by_model(folder: Path, data: Path) -> Numbers:
    """A benchmark's score by a model of one score for each answer.

    Raises:
      UserError: a model that has a name of its own in --reward.
    """
    try:
        lab, params = open_reward(folder)
    except UserError as error:
        if not (has_segments(folder) or read_separator(folder) is not None):
            raise
        raise UserError(f"{data} is a benchmark of whole answers, for --reward: {error}") from error
    return bench_numbers(data, lab.chat, partial(text_scores, lab, params))


def bench_numbers(data: Path, chat: ChatTemplate | None, score: Score) -> Numbers:
    """A benchmark's items, scored by subset and in all."""
    with reading_input():
        items = read_bench(data)
        prompts, answers = [], []
        for item in items:
            prompt = item.prompt if chat is None else list(as_user(item.prompt))
            sides = (*item.chosen, *item.rejected)
            prompts += [prompt] * len(sides)
            answers += [answer or " " for answer in sides]
        scores = score(prompts, answers)
        ends = np.cumsum([len(item.chosen) + len(item.rejected) for item in items])[:-1]
        return bench_quality(items, np.split(scores.astype(float), ends))
