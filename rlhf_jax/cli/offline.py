"""Commands on data that is there: sft, preference and reward."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from rlhf_jax.cli.data import read_answers, read_both, read_pairs
from rlhf_jax.cli.losses import named_loss
from rlhf_jax.cli.measures import answer_loss, compared, pair_accuracy, reward_quality, side_logps
from rlhf_jax.cli.options import Adapter, Model, Optimizer, Output, Rows
from rlhf_jax.cli.session import (
    Counted,
    finish,
    make_fit,
    measured,
    open_lab,
    open_model,
    open_session,
    start_policy,
)
from rlhf_jax.recipes import (
    answer_rows,
    known_first_loss,
    on_trunk,
    pair_rows,
    preference,
    reward_model,
    stage_key,
    supervised,
)
from rlhf_jax.training import run_stage

SIDES = ("chosen", "rejected")


@dataclass(frozen=True, kw_only=True)
class SFT:
    """Supervised fine-tuning: maximum likelihood of the answers, given their prompts.

    Data: rows of a prompt and an answer, dialogues, or a text file, the documents of which are
    separated by blank lines or <|endoftext|>.
    """

    model: Model
    rows: Rows
    adapter: Adapter = field(default=Adapter())
    optimizer: Optimizer = field(default=Optimizer(learning_rate=3e-4))
    output: Output


def sft(command: str, options: SFT) -> None:
    """Trains, measures the held-out loss before and after, and writes the model."""
    base = open_model(options.model)
    records, held = read_both(options.rows, read_answers, base.chat, options.model.seed)
    lab = open_lab(options, base, [*records, *held])
    lab, first, merge = start_policy(options.adapter, lab, base)
    batch = options.optimizer.batch_size
    with open_session(command, options, options.output) as run:
        loss = partial(answer_loss, lab, held, batch_size=batch)
        before = measured(run, "before", lambda: loss(first))
        rows = Counted(answer_rows(lab, records, batch_size=batch))
        fit = make_fit(options.optimizer, rows, total=len(records), quality=loss)
        params = run_stage(
            run, "sft", lambda stage: (supervised(stage, lab, rows, first, fit), {})
        ).arrays
        after = measured(run, "after", lambda: loss(params))
        finish(run, base, merge(params), numbers=compared(before, after), stage="sft")


@dataclass(frozen=True, kw_only=True)
class Preference:
    """DPO, IPO, SimPO or any other loss of pairs of answers.

    Data: pairs of a chosen and a rejected answer; see docs/commands.md for the formats.
    """

    model: Model
    rows: Rows
    loss: str = "dpo"
    """Name of the loss, as in docs/losses.md without _loss."""
    loss_options: dict[str, float] = field(default_factory=dict)
    """Settings of the loss, as names and numbers: beta 0.1 label_smoothing 0.1."""
    adapter: Adapter = field(default=Adapter())
    optimizer: Optimizer = field(default=Optimizer(learning_rate=5e-5))
    output: Output


def train_preference(command: str, options: Preference) -> None:
    """Trains, measures how often the held-out chosen answer is preferred, and writes the model."""
    chosen = named_loss(options.loss, options.loss_options)
    base = open_model(options.model)
    records, held = read_both(options.rows, read_pairs, base.chat, options.model.seed)
    lab = open_lab(options, base, [*records, *held])
    lab, first, merge = start_policy(options.adapter, lab, base)
    batch = options.optimizer.batch_size
    with open_session(command, options, options.output) as run:

        def reference(stage: Any) -> Any:
            given = (lab, first, records, SIDES)
            return side_logps(*given, batch_size=batch, logps=chosen.logps), {}

        known = run_stage(run, "reference", reference).arrays if chosen.reference else None
        known = known and {side: known[side] for side in SIDES}
        rows = Counted(pair_rows(lab, records, batch_size=batch, reference=known))
        quality = partial(pair_accuracy, lab, held, chosen, first, batch_size=batch)
        before = measured(run, "before", lambda: quality(first))
        fit = make_fit(
            options.optimizer,
            rows,
            total=len(records),
            quality=quality,
            first_loss=known_first_loss(chosen.loss, rows) if chosen.reference else None,
        )

        def work(stage: Any) -> Any:
            given = (stage, lab, rows, first, fit)
            return preference(*given, **chosen._asdict()), {}

        params = run_stage(run, "preference", work).arrays
        after = measured(run, "after", lambda: quality(params))
        finish(run, base, merge(params), numbers=compared(before, after), stage="preference")


@dataclass(frozen=True, kw_only=True)
class Reward:
    """A reward model: Bradley-Terry on pairs, a new head on the model's trunk.

    Data: pairs, as of preference. The result is a sequence classifier with one label.
    """

    model: Model
    rows: Rows
    optimizer: Optimizer = field(default=Optimizer(learning_rate=1e-4))
    output: Output


def reward(command: str, options: Reward) -> None:
    """Trains, measures held-out accuracy and calibration, and writes the model."""
    base = open_model(options.model)
    records, held = read_both(options.rows, read_pairs, base.chat, options.model.seed)
    lab = open_lab(options, base, [*records, *held])
    batch = options.optimizer.batch_size
    with open_session(command, options, options.output) as run:
        first = on_trunk(lab, base.params, stage_key(lab, "reward"))
        quality = partial(reward_quality, lab, held, batch_size=batch)
        before = measured(run, "before", lambda: quality(first))
        rows = Counted(pair_rows(lab, records, batch_size=batch))
        fit = make_fit(options.optimizer, rows, total=len(records), quality=quality)
        params = run_stage(
            run, "reward", lambda stage: (reward_model(stage, lab, rows, first, fit), {})
        ).arrays
        # Scores of one model are compared with each other only: a classifier has no bias.
        head = {**params["head"], "bias": np.zeros_like(params["head"]["bias"])}
        after = measured(run, "after", lambda: quality(params))
        finish(run, base, {**params, "head": head}, numbers=compared(before, after), stage="reward")
