"""Prompts from easy to hard: `numbers` of `online`, in stages.

    rows = curriculum_rows(task, horizons, stages=3, steps=240, batch_size=12, seed=0)
    params = online(stage, lab, task, grpo(lab, samples=8), reward, sft, rows, fit, key=key)

A group in which all answers have one score teaches nothing: "groups/informative" in the metrics is
the share of the others, `ops.groups.signal_probability` what to expect of it.

Reference: 2025, arXiv:2508.11360 (CRAFT-GUI), of which the abstract was read; a reconstruction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike

from rlhf_jax.data.curriculum import curriculum_batch, difficulty_bins
from rlhf_jax.recipes.task import Task


@dataclass(frozen=True)
class CurriculumRows:
    """Prompt numbers of each step, [B]; steps beyond the last are of the last stage."""

    bins: Sequence[Int[np.ndarray, "_"]]
    steps: int
    batch_size: int
    seed: int
    replay: float

    def __getitem__(self, step: int) -> Int[np.ndarray, "B"]:
        return curriculum_batch(
            self.bins,
            step,
            steps=self.steps,
            batch_size=self.batch_size,
            seed=self.seed,
            replay=self.replay,
        )


def curriculum_rows(
    task: Task,
    difficulty: ArrayLike,
    *,
    stages: int = 3,
    steps: int,
    batch_size: int,
    seed: int,
    replay: float = 0.2,
) -> CurriculumRows:
    """Training prompts in stages of rising difficulty, each with an equal share of the steps.

    Args:
      difficulty: of each training prompt in order, a number, the harder the higher.
      replay: share of prompts of earlier stages.
    Raises:
      ValueError: another number of difficulties than of prompts, or one that is not finite.
    """
    prompts, values = task.splits["train"], np.asarray(difficulty, float)
    if values.shape != (len(prompts),):
        raise ValueError(
            f"difficulty must be one number for each of {len(prompts)} training prompts, got shape "
            f"{values.shape}"
        )
    bins = [prompts.start + each for each in difficulty_bins(values, stages=stages)]
    rows = CurriculumRows(bins, steps, batch_size, seed, replay)
    rows[0]  # refuses numbers out of range before any step
    return rows
