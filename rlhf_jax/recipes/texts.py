"""Answers of a policy as texts, to prompts that are in no task."""

import zlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from rlhf_jax.checks import check_range
from rlhf_jax.recipes.lab import LanguageLab, chunk_of, decode_texts, make_prompts
from rlhf_jax.recipes.task import Task
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.sharding import on_host
from rlhf_jax.types import Params, Rollout


def sample_texts(
    lab: LanguageLab,
    params: Params,
    prompts: Sequence[Any],
    key: jax.Array,
    *,
    samples: int,
    sampling: SamplingConfig | None = None,
) -> list[list[str]]:
    """`samples` answers in text to each prompt.

    Draws are counted by a checksum of the prompt, so they do not depend on the other prompts.

    Args:
      sampling: how answers are drawn, the lab's way if None.
    """
    found: list[list[str]] = []
    for rollout in sample_rollouts(lab, params, prompts, key, samples=samples, sampling=sampling):
        actions = np.asarray(on_host(rollout.trajectory.actions))
        columns = [decode_texts(lab, actions[:, k]) for k in range(samples)]
        found += [list(texts) for texts in zip(*columns, strict=True)]
    return found[: len(prompts)]


def sample_rollouts(
    lab: LanguageLab,
    params: Params,
    prompts: Sequence[Any],
    key: jax.Array,
    *,
    samples: int,
    sampling: SamplingConfig | None = None,
) -> Iterator[Rollout]:
    """The same as rollouts [B, samples], of equal size: the last one goes round to the front."""
    check_range("[1, inf)", samples=samples)
    if not prompts:
        return
    task = Task(lambda indices: [prompts[i] for i in indices], {}, None, "")
    size = chunk_of(lab, len(prompts))
    options: dict[str, Any] = {} if sampling is None else {"sampling": sampling}
    for start in range(0, len(prompts), size):
        numbers = np.arange(start, start + size) % len(prompts)
        asked = make_prompts(lab, task, numbers)
        sums = [zlib.crc32(repr(prompts[i]).encode()) & 0x7FFFFFFF for i in numbers]
        asked = asked._replace(indices=np.array(sums, np.int32))
        yield lab.draw(params, asked, key, samples, **options)
