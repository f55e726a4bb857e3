"""A head that says whether an answer follows a principle in words (rlbff), over two of them."""

from dataclasses import replace
from random import Random

import jax.numpy as jnp
import numpy as np

from experiments.shop_rewards.kinds.scoring import Fitted, Scored, answers_of, scored, trained
from experiments.shop_rewards.world import Part, Tools, axes_of
from rlhf_jax.algos.entailment import EntailmentBatch
from rlhf_jax.data.buckets import BucketBatch
from rlhf_jax.envs.shop import AXES
from rlhf_jax.recipes import LanguageLab, on_trunk, principle_model, stage_key
from rlhf_jax.recipes.buckets import bucket_rows
from rlhf_jax.recipes.principles import asked_prompt, asked_records, principle_batch
from rlhf_jax.training import Run, Stage
from rlhf_jax.types import Params

PRINCIPLES = ("helpful", "honest")
FOLLOWED = 0.5  # an axis above this
TEMPLATE = "{prompt} {principle}"


def labelled_by(seed: int, record: dict, principle: str, level: float) -> dict:
    """Whether the answer follows the principle, by an annotator who errs in a share `level`."""
    value = axes_of(seed, record["index"], record["answer"])[AXES.index(principle)]
    rng = Random(f"principle/{principle}/{record['index']}/{record['answer']}")
    right = rng.random() >= level
    return {**record, "principle": principle, "label": bool((value > FOLLOWED) == right)}


def fit_principles(job: Run, tools: Tools, part: Part) -> Fitted:
    """Each answer of the pairs is asked about one principle, in turn."""
    level = tools.config.data.flipped if part.form == "flipped" else 0.0
    lab = part.lab._replace(prompt_length=part.lab.prompt_length + 1)
    buckets = [(prompt + 1, answer) for prompt, answer in part.buckets]

    def work(stage: Stage) -> tuple[Params, dict]:
        given = [
            labelled_by(tools.config.seed, row, PRINCIPLES[i % len(PRINCIPLES)], level)
            for i, row in enumerate(answers_of(part.pairs))
        ]
        records = asked_records(given, template=TEMPLATE)

        def take(narrow: LanguageLab, found: BucketBatch) -> EntailmentBatch:
            batch = principle_batch(narrow, [records[int(i)] for i in found.rows])
            return replace(batch, weights=jnp.asarray(found.kept, jnp.float32))

        size = 2 * tools.config.training.batch_size  # the answers of as many pairs
        rows = bucket_rows(lab, records, buckets, take, batch_size=size)
        first = on_trunk(lab, tools.sft, stage_key(lab, "reward"))
        return principle_model(stage, lab, rows, first, tools.heads), {}

    found = trained(job, tools, f"{part.name}_principles", work, tools.lab.reward.init)

    def scores(records: list[dict]) -> Scored:
        each = []
        for principle in PRINCIPLES:
            asked = [
                {**row, "prompt": asked_prompt(row["prompt"], principle, template=TEMPLATE)}
                for row in records
            ]
            each.append(scored(lambda own, x: own.scores(found.arrays, x), lab, asked))
        return Scored({"principles, mean": np.mean(each, 0), "principles, worst": np.min(each, 0)})

    return Fitted(scores, {}, found.seconds)
