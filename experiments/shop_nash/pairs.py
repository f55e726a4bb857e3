"""Pairs of SFT answers labelled by one judge each, and the two models fitted to them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.shop_nash.config import Config, Fit
from experiments.shop_nash.population import utilities_of
from rlhf_jax.algos import preference_model
from rlhf_jax.data.store import Field, Records, build, open_source
from rlhf_jax.data.tokenizer import BOS_ID
from rlhf_jax.envs import shop
from rlhf_jax.labs.shop import (
    CHUNK,
    ShopLab,
    adamw_cosine,
    answer,
    make_prompts,
    stage_key,
    start_training,
    texts_of,
    wrapped,
)
from rlhf_jax.labs.shop_stages import (
    TEXT,
    check_any_left,
    fit_reward,
    halves,
    pair_batch,
    pair_batches,
    score_moments,
)
from rlhf_jax.ops.statistics import wins
from rlhf_jax.policies.language import language_preference
from rlhf_jax.training import Run, Stage, check_stop, progress_bar, train_stage
from rlhf_jax.types import Params, PreferenceFn


def sample_pairs(
    job: Run, lab: ShopLab, config: Config, params: Params, indices: np.ndarray, split: str
) -> Records:
    """Two answers of the policy to each prompt; a judge drawn from the population says which won.

    Equal answers and empty ones are left out.
    """
    name, folder = f"shop_nash_pairs_{split}", job.out / "data"
    key, texts = stage_key(lab, name), ([], [])
    with progress_bar(f"{split} pairs", len(indices), show=job.progress) as advance:
        for start in range(0, len(indices), CHUNK):
            check_stop(job, f"sampling {split} pairs")
            prompts = make_prompts(lab, wrapped(indices, start, CHUNK))
            actions = jax.device_get(answer(lab, params, prompts, key, np.arange(2)))
            for i, side in enumerate(texts):
                side += texts_of(lab, actions.trajectory.actions[:, i])
            advance(start + CHUNK)
    first, second = (side[: len(indices)] for side in texts)
    utilities = np.stack([utilities_of(lab, indices, side) for side in (first, second)], axis=1)
    prefs = shop.population_prefs(utilities, beta=config.judge_beta)[:, 0, 1]
    won = np.random.default_rng([lab.seed, len(indices)]).random(len(indices)) < prefs
    rows = [
        {
            "prompt": shop.make_prompt(lab.seed, int(index)).text,
            "chosen": pair[1 - int(first_won)],
            "rejected": pair[int(first_won)],
            "pref": pref if first_won else 1.0 - pref,
        }
        for index, *pair, first_won, pref in zip(
            indices, first, second, won, prefs.tolist(), strict=True
        )
        if all(pair) and pair[0] != pair[1]
    ]
    why = "all have an empty answer or two equal ones; raise sft.steps"
    check_any_left(rows, split=split, asked=len(indices), why=why)
    fields = dict.fromkeys(("prompt", "chosen", "rejected"), TEXT) | {"pref": Field("float32")}
    facts = {"seed": lab.seed, "prompts": len(indices), "judge_beta": config.judge_beta}
    build(name, {split: rows}, fields=fields, data_dir=folder, config=facts)
    return open_pairs(folder, split)


def open_pairs(folder: Path, split: str) -> Records:
    """The records that `sample_pairs` wrote."""
    return open_source(folder, f"shop_nash_pairs_{split}", split)


def fit_bradley_terry(
    stage: Stage, lab: ShopLab, config: Fit, sft: Params, pairs: Records, heldout: Records
) -> tuple[Params, dict[str, Any]]:
    """Reward model; its held-out accuracy, and mean and deviation of its scores there."""
    params = fit_reward(stage, lab, sft, pairs, **asdict(config))
    scores = [lab.scores(params, halves(batch)) for batch in in_batches(lab, heldout, config)]
    found = np.concatenate(jax.device_get(scores))[: len(heldout)]
    correct = np.asarray(wins(*jnp.asarray(found).T))
    facts = score_moments(stage.name, found)
    return params, facts | {"correct": correct.tolist(), "best": best_accuracy(heldout)}


def fit_preference_model(
    stage: Stage, lab: ShopLab, config: Fit, sft: Params, pairs: Records, heldout: Records
) -> tuple[Params, dict[str, Any]]:
    """Pairwise model from the SFT trunk, and its held-out accuracy."""
    model = preference_of(lab)
    params = {**model.init(stage_key(lab, "preference")), "trunk": sft["trunk"]}
    optimizer = adamw_cosine(config.rate, config.steps)
    update = preference_model.make_update(model, optimizer)
    state, step = start_training(lab, params, lab.axes["reward"], optimizer, update)
    rows = pair_batches(lab, pairs, config.batch_size)
    state = train_stage(
        stage, lambda state, i: step(state, rows[i]), state, steps=config.steps, save_every=100
    )
    logits = jax.jit(model.logits)
    margins = [
        logits(state.params, batch.chosen, batch.rejected)
        for batch in in_batches(lab, heldout, config)
    ]
    found = np.concatenate(jax.device_get(margins))[: len(heldout)]
    correct = 0.5 + 0.5 * np.sign(found)
    return state.params, {"correct": correct.tolist(), "best": best_accuracy(heldout)}


def preference_of(lab: ShopLab) -> PreferenceFn:
    """The pairwise model: the reward model's transformer, which reads both answers."""
    return language_preference(lab.scorer, separator=BOS_ID)


def in_batches(lab: ShopLab, records: Records, config: Fit):
    """Batches of one shape, the last one filled up from the front."""
    for start in range(0, len(records), config.batch_size):
        numbers = np.arange(start, start + config.batch_size) % len(records)
        yield pair_batch(lab.tokenizer, [records[int(i)] for i in numbers])


def best_accuracy(heldout: Records) -> float:
    """Expected accuracy on labels of one judge each of who knows the population's preferences."""
    prefs = np.array([row["pref"] for row in heldout])
    return float(np.maximum(prefs, 1.0 - prefs).mean())
