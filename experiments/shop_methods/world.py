"""What every stage works with: the shop and its shipped policy, or a user's model and task."""

import importlib
import os
import sys
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.shop_methods.config import DIRECT, Config
from rlhf_jax.cli.options import Model
from rlhf_jax.cli.session import open_mesh, open_model, vocabulary_of
from rlhf_jax.labs.shop import shop_lab, shop_task
from rlhf_jax.labs.shop_models import shipped
from rlhf_jax.labs.train_shop import Schedule, drill_text
from rlhf_jax.recipes import LanguageLab, Task, adamw_cosine, implicit_lab, make_lab, stage_key
from rlhf_jax.recipes.buckets import token_lengths
from rlhf_jax.training import Run, UserError
from rlhf_jax.types import Params

SHARES = {"pairs": 6, "train": 6, "validation": 2, "heldout_pairs": 2}  # of a task's own prompts


class Tools(NamedTuple):
    """What all seeds share.

    lab: its reward is a scalar head. judged: the same, its reward implied by two policies.
    start: the policy that all methods but DIRECT start from, the reference. base: that of DIRECT,
    None where none is trained. corpus: records that the base model has read, whose loss measures
    forgetting; empty for a user's model.
    """

    config: Config
    task: Task
    lab: LanguageLab
    judged: LanguageLab
    start: Params
    base: Params | None
    corpus: list[dict[str, Any]]

    def start_of(self, name: str) -> Params:
        """What a method starts from, its reference."""
        return self.base if name in DIRECT else self.start


def make_tools(config: Config, job: Run) -> Tools:
    """Nothing is compiled before it is called."""
    if config.model:
        return user_tools(config)
    lab = shop_lab(config.size, job.out / "data", seed=config.seed)

    def policy(name: str) -> Params:
        return lab.policy.init(stage_key(lab, name)) if config.from_scratch else shipped(lab, name)

    base = policy("base") if {*DIRECT} & {*config.chosen()} else None
    first = Schedule().base_rows  # the base model has read those before
    corpus = [drill_text(config.seed, first + i) for i in range(config.evaluation.texts)]
    task = shop_task(config.seed)
    return Tools(config, task, lab, implied(lab, config), policy("sft"), base, corpus)


def user_tools(config: Config) -> Tools:
    """The model of a folder on the task of a module."""
    options = Model(model=Path(config.model))
    base = open_model(options)
    lab = make_lab(
        base.config,
        vocabulary_of(base),
        prompt_length=config.prompt_length,
        answer_length=config.answer_length,
        seed=config.seed,
        mesh=open_mesh(options, base.config),
        chat=base.chat,
    )
    task = with_splits(open_task(config.task))
    return Tools(config, task, lab, implied(lab, config), base.params, None, [])


def implied(lab: LanguageLab, config: Config) -> LanguageLab:
    """The lab with the reward that DPO implies."""
    return implicit_lab(lab, beta=config.reward.beta)


def open_task(name: str) -> Task:
    """The task "module:name", or what a function of that name returns; the current folder has its
    modules.

    Raises:
      UserError: no such module or name, or no task.
    """
    module_name, _, attribute = name.rpartition(":")
    if not module_name:
        raise UserError(f"task {name!r}: expected module:name, e.g. my_task:make")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = getattr(importlib.import_module(module_name), attribute)
        found = found() if callable(found) else found
    except Exception as error:  # the module is the user's code and may raise anything
        raise UserError(f"task {name!r}: {type(error).__name__}: {error}") from error
    if not isinstance(found, Task):
        raise UserError(f"task {name!r} is no recipes.Task but {found!r:.60}")
    return found


def with_splits(task: Task) -> Task:
    """The task with the splits of the shop, cut out of "train" where it has none of that name.

    Raises:
      UserError: too few prompts to train on.
    """
    whole, total = task.splits["train"], sum(SHARES.values())
    if len(whole) < total:
        raise UserError(f"the task needs {total} prompts to train on at least, got {len(whole)}")
    if set(SHARES) <= set(task.splits):
        return task
    ends = np.cumsum([0, *SHARES.values()]) * len(whole) // total
    cut = {
        name: range(whole.start + int(ends[i]), whole.start + int(ends[i + 1]))
        for i, name in enumerate(SHARES)
    }
    kept = {name: part for name, part in task.splits.items() if name != "train"}
    return task._replace(splits={**cut, **kept})


def seeded(lab: LanguageLab, seed: int) -> LanguageLab:
    """The lab with orders, heads and draws of a replication."""
    return lab._replace(seed=1000 * (1 + seed) + lab.seed)


def wide_lab(lab: LanguageLab, records: Sequence[dict]) -> LanguageLab:
    """The lab with columns for these records, whose general texts are longer than answers."""
    prompt, answer = (int(n) for n in token_lengths(lab, records).max(axis=(0, 1)))
    return lab._replace(prompt_length=prompt, answer_length=answer)


@lru_cache(maxsize=16)
def rated(rate: float, steps: int) -> optax.GradientTransformation:
    """`adamw_cosine` with the rate in its state: one compiled program for all rates."""

    def init(params: Params) -> jax.Array:
        return jnp.asarray(rate, jnp.float32)

    def update(updates: Any, state: Any, params: Params | None = None):
        return jax.tree.map(lambda x: (state * x).astype(x.dtype), updates), state

    return optax.chain(adamw_cosine(1.0, steps), optax.GradientTransformation(init, update))
