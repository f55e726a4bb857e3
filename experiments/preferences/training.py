"""SFT, reward model and DPO of one fold, by the recipes, from rows of token ids."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.preferences.config import Config
from experiments.preferences.data import PairRows
from experiments.preferences.tools import Tools, in_batches, pair_batch
from rlhf_jax.recipes import array_rows, on_trunk, preference, reward_model, supervised
from rlhf_jax.training import Run, Stage, run_stage
from rlhf_jax.types import Params, PyTree


class Models(NamedTuple):
    """Parameters of one fold: before training, after each stage."""

    untrained: Params
    sft: Params
    reward: Params
    dpo: Params


def fit_models(
    job: Run, fold: str, tools: Tools, rows: PairRows, config: Config, key: jax.Array
) -> Models:
    """The three fits of a fold, each a stage of the run.

    The reward model and DPO both start from the SFT parameters, which are DPO's reference too.
    """
    policy_key, head_key, *order_keys = jax.random.split(key, 5)
    seeds = [int(jax.random.bits(order_key)) for order_key in order_keys]

    def fit(name: str, recipe, data: PyTree, params: Params, seed: int) -> Params:
        batches = array_rows(jax.device_get(data), batch_size=config.batch, seed=seed)

        def work(stage: Stage):
            return recipe(stage, tools.lab, batches, params, tools.fits[name]), {}

        return jax.tree.map(jnp.asarray, run_stage(job, f"{fold}-{name}", work).arrays)

    def reference(answers) -> np.ndarray:
        parts = (rows.prompts, answers)
        return in_batches(partial(tools.logps, tuned), parts, size=config.batch)

    pairs = pair_batch(rows)
    untrained = tools.trunk or jax.jit(tools.lab.policy.init)(policy_key)
    tuned = fit("sft", supervised, pairs.chosen, untrained, seeds[0])
    reward = fit("reward", reward_model, pairs, on_trunk(tools.lab, tuned, head_key), seeds[1])
    known = pair_batch(rows, (reference(rows.chosen), reference(rows.rejected)))
    dpo = fit("dpo", partial(preference, loss=tools.loss), known, tuned, seeds[2])
    return Models(untrained, tuned, reward, dpo)
