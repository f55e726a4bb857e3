"""The frame of the commands on data that is there: open, measure, train, measure, write."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import optax

from rlhf_jax.cli.data import Chat, split_rows
from rlhf_jax.cli.measures import Quality, compared, middles
from rlhf_jax.cli.options import Optimizer
from rlhf_jax.cli.session import finish, measured, open_lab, open_model, open_session
from rlhf_jax.data.buckets import BucketBatches
from rlhf_jax.data.loader import steps_in
from rlhf_jax.hf import Pretrained
from rlhf_jax.recipes import Fit, LanguageLab, adamw_cosine, at_points, guarded
from rlhf_jax.recipes.meta import MetaRows
from rlhf_jax.recipes.rows import Records, Rows
from rlhf_jax.training import UserError, run_stage
from rlhf_jax.types import Params

POINTS = 5  # held-out measurements in a training
Arrays = dict[str, Any] | None


class Opened(NamedTuple):
    """A model, and the records to train on and to measure."""

    base: Pretrained
    lab: LanguageLab
    records: Records
    held: Records


class Training(NamedTuple):
    """What differs between the commands.

    lab: of `first`, the params at the start.
    recipe: `(stage, lab, rows, first, fit) -> params`.
    rows: what `reference` gives -> the batch of each step.
    quality: params -> held-out numbers.
    reference: computes what the start says of the records, once in a run; None if nothing needs it.
    first_loss: rows -> what the loss of the first step must be.
    compare: trained params -> more of the summary, see `finish`.
    export: trained params -> params of the model that is written.
    files, trained_files: beside the model's own, and those that depend on the trained params.
    total: rows of an epoch, if they are neither the records nor in buckets.
    """

    lab: LanguageLab
    first: Params
    recipe: Callable[..., Params]
    rows: Callable[[Arrays], Rows]
    quality: Quality
    reference: Callable[[], dict[str, Any]] | None = None
    first_loss: Callable[[Rows], float] | None = None
    compare: Callable[[Params], dict[str, Any]] = lambda params: {}
    export: Callable[[Params], Params] = lambda params: params
    files: Mapping[str, bytes] = MappingProxyType({})
    trained_files: Callable[[Params], Mapping[str, bytes]] = lambda params: {}
    total: int | None = None


def train_offline(
    command: str,
    options: Any,
    read: Callable[[Path, Chat, Path], Sequence[dict]],
    make: Callable[[Opened], Training],
) -> None:
    """Trains, with held-out numbers before, at POINTS of the steps and after, and writes the model.

    Args:
      options: with parts `model`, `rows`, `optimizer` and `output`.
      read: the records of a file; those of a large one are written next to OUT.
    """
    batch, parts = options.optimizer.batch_size, options.optimizer.micro_batches
    if batch % parts:
        raise UserError(f"--batch-size {batch} must be a multiple of --micro-batches {parts}")
    base = open_model(options.model)
    paths = [path for path in (options.rows.data, options.rows.heldout_data) if path is not None]
    out = options.output.out
    lab, files = open_lab(options, base, [(path, read(path, base.chat, out)) for path in paths])
    whole, seed = len(files) == 1, options.model.seed
    records, held = split_rows(options.rows, *files, seed=seed) if whole else files
    training = make(Opened(base, lab, records, held))
    with open_session(command, options, options.output) as run:
        known = None
        if (reference := training.reference) is not None:
            known = run_stage(run, "reference", lambda stage: (reference(), {})).arrays
        rows = training.rows(known)
        before = measured(run, "before", lambda: training.quality(training.first))
        size, total = options.optimizer.batch_size, training.total or len(records)
        total = epoch_size(rows, total, batch_size=size)
        fit = make_fit(options.optimizer, total=total, quality=training.quality)
        if training.first_loss is not None:
            fit = fit._replace(first_loss=training.first_loss(rows))
        given = (training.lab, rows, training.first, fit)
        # Read back as the first params lie, which may be split over devices of many hosts.
        work = run_stage(
            run, command, lambda stage: (training.recipe(stage, *given), {}), like=training.first
        )
        after = measured(run, "after", lambda: training.quality(work.arrays))
        beside = measured(run, "beside", lambda: training.compare(work.arrays))
        params = training.export(work.arrays)
        files = {**base.files, **training.files, **training.trained_files(work.arrays)}
        base = base._replace(files=files)
        numbers = compared(before, after)
        finish(run, base, params, numbers=numbers, beside=beside, stage=command)


def epoch_size(rows: Rows, total: int, *, batch_size: int) -> int:
    """Rows of an epoch: `total`, or all batches if the rows, or their pairs, have buckets."""
    counted = rows.pairs if isinstance(rows, MetaRows) else rows
    return counted.steps_per_epoch * batch_size if isinstance(counted, BucketBatches) else total


def make_fit(
    options: Optimizer,
    *,
    total: int,
    quality: Quality,
    updates: int = 1,
    make_optimizer: Callable[[float, int], optax.GradientTransformation] = adamw_cosine,
) -> Fit:
    """The fit of a command, with held-out numbers at POINTS of its steps.

    Args:
      total: rows that are trained on in one epoch. updates: gradient steps in each step.
      make_optimizer: `(learning rate, gradient steps) -> optimizer`.
    """
    steps = options.steps or steps_in(options.epochs, rows=total, batch_size=options.batch_size)
    heldout = at_points(lambda params, _: middles(quality(params)), steps=steps, points=POINTS)
    optimizer = guarded(make_optimizer(options.learning_rate, steps * updates))
    return Fit(optimizer, steps, options.save_every, heldout, options.micro_batches)
