"""What `rlhf reward` does with pairs: Bradley-Terry, repaired labels, contrastive terms, MetaRM."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from rlhf_jax.cli.data import read_answers
from rlhf_jax.cli.frame import Opened, Training, epoch_size, make_fit
from rlhf_jax.cli.options import Contrast, Optimizer, Repair, Unlabelled
from rlhf_jax.cli.reward_measures import beside_baselines, reward_quality
from rlhf_jax.cli.session import Start
from rlhf_jax.losses.contrastive import difference_items, pair_items, simcse_loss, swav_loss
from rlhf_jax.losses.reward import bradley_terry_loss, soft_margin_bradley_terry_loss
from rlhf_jax.recipes import (
    contrastive_reward_model,
    meta_reward_model,
    meta_rows,
    pair_rows,
    repaired_columns,
    reward_model,
    voted_strengths,
)
from rlhf_jax.types import Params

ITEMS = {"answers": pair_items, "differences": difference_items}


def pair_training(
    opened: Opened, start: Start, layout: Mapping[str, Any], *, batch_size: int
) -> Training:
    """A score for each answer, from pairs. layout: of `bucketing`."""
    lab, records = start.lab, opened.records
    return Training(
        lab=lab,
        first=start.params,
        recipe=reward_model,
        rows=lambda _: pair_rows(lab, records, batch_size=batch_size, **layout),
        quality=partial(reward_quality, lab, opened.held, batch_size=batch_size),
        compare=partial(beside_baselines, lab, records, opened.held, batch_size=batch_size),
        export=start.merge,
    )


def with_terms(
    training: Training,
    opened: Opened,
    layout: Mapping[str, Any],
    optimizer: Optimizer,
    *,
    repair: Repair,
    contrast: Contrast,
    unlabelled: Unlabelled,
) -> Training:
    """The training of a reward model from pairs, with what the options ask for.

    layout: of `bucketing`.
    """
    loss, recipe = bradley_terry_loss, reward_model
    if repair.repair != "none":
        loss = soft_margin_bradley_terry_loss
        training = repaired_training(training, opened, layout, optimizer, repair)
    if contrast.contrast != "none":
        recipe = contrastive_recipe(contrast)
    if unlabelled.unlabelled is not None:
        recipe = partial(meta_reward_model, eta=unlabelled.eta)
        answers = read_answers(unlabelled.unlabelled, opened.base.chat)
        rows, size = training.rows, optimizer.batch_size
        training = training._replace(
            rows=lambda known: meta_rows(training.lab, rows(known), answers, batch_size=size)
        )
    return training._replace(recipe=partial(recipe, loss=loss))


def repaired_training(
    training: Training,
    opened: Opened,
    layout: Mapping[str, Any],
    optimizer: Optimizer,
    repair: Repair,
) -> Training:
    """The same training on labels repaired by a vote; strengths are computed once in a run."""
    lab, records, size = training.lab, opened.records, optimizer.batch_size
    one_pass = replace(optimizer, steps=None, epochs=1.0)

    def strengths() -> dict[str, np.ndarray]:
        plain = pair_rows(lab, records, batch_size=size, **layout)
        total = epoch_size(plain, len(records), batch_size=size)
        fit = make_fit(one_pass, total=total, quality=lambda params: {})
        sizes = {"voters": repair.voters, "batch_size": size}
        found = voted_strengths(lab, records, opened.base.params, fit, **sizes, **layout)
        print(f"{np.mean(found < 0):.1%} of the pairs have negative strength")
        return {"strengths": found}

    def rows(known: Any) -> Any:
        columns = repaired_columns(
            known["strengths"],
            repair.repair,
            share=repair.repair_share,
            label_smoothing=repair.repair_smoothing,
        )
        return pair_rows(lab, records, batch_size=size, columns=columns, **layout)

    return training._replace(reference=strengths, rows=rows)


def contrastive_recipe(options: Contrast) -> Callable[..., Params]:
    """The recipe with this term."""
    loss = {"simcse": simcse_loss, "swav": swav_loss}[options.contrast]
    return partial(
        contrastive_reward_model,
        contrast=partial(loss, temperature=options.contrast_temperature),
        weight=options.contrast_weight,
        items=ITEMS[options.contrast_items],
        dropout=options.contrast_dropout,
        prototypes=options.contrast_prototypes if options.contrast == "swav" else 0,
    )
