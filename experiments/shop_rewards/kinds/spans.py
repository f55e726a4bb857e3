"""Heads that score the sentences of an answer, from marked spans (fine_grained_rlhf).

"false" marks a sentence with a claim that is not true, "flawed" one that costs points on another
axis. The score of an answer is the sum over its sentences and heads of 1 or -1.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache, partial
from random import Random

import jax
import jax.numpy as jnp

from experiments.shop_rewards.kinds.scoring import Fitted, Scored, answers_of, scored, trained
from experiments.shop_rewards.world import Part, Tools, score_of
from rlhf_jax.algos.process_model import StepBatch
from rlhf_jax.data.buckets import BucketBatch
from rlhf_jax.data.spans import MarkedSpan, segment_labels, sentences
from rlhf_jax.models.heads import ScalarModel
from rlhf_jax.ops.segments import sign_rewards
from rlhf_jax.recipes import (
    LanguageLab,
    Reward,
    SegmentHead,
    first_heads,
    head_of,
    segment_model,
    segment_reward,
)
from rlhf_jax.recipes.buckets import bucket_rows
from rlhf_jax.recipes.segments import HeadLabels, heads_scores, segment_batch
from rlhf_jax.training import Run, Stage
from rlhf_jax.types import Params

MARKS = ("false", "flawed")
HEADS = tuple(HeadLabels(sentences, (mark,)) for mark in MARKS)


def marked(seed: int, record: dict, level: float) -> dict:
    """The record with the spans that an annotator marks, who errs on a share of the sentences.

    Args:
      seed: of the world. level: that share.
    """
    text = record["answer"]
    found, whole = score_of(seed, record["index"], text), (0, len(text))
    spans = [MarkedSpan(x.start, x.end, "false") for x in found.claims if x.status != "true"]
    spans += [
        MarkedSpan(x.start, x.end, "flawed")
        for x in found.reasons
        if x.axis != "honest" and x.start < x.end and (x.start, x.end) != whole
    ]
    rng = Random(f"spans/{record['index']}/{text}")
    seen = []
    for mark in MARKS:
        free = segment_labels(sentences(text), spans, (mark,))
        for (start, end), right in zip(sentences(text), free, strict=True):
            if bool(right) == (rng.random() < level):
                seen.append(MarkedSpan(start, end, mark))
    return {**record, "spans": seen}


@cache
def total_of(scorer: ScalarModel):
    """`(params, batch) -> [B]` sums over sentences and heads, compiled once."""
    read = heads_scores(scorer)

    @jax.jit
    def total(params: Params, batch: StepBatch) -> jax.Array:
        signs = sign_rewards(read(params, batch.trajectory))
        return jnp.where(batch.ends, signs, 0.0).sum((-2, -1))

    return total


def fit_spans(job: Run, tools: Tools, part: Part) -> Fitted:
    """Both heads on one trunk, from the marks of all answers of the pairs."""
    first = first_heads(part.lab, tools.sft, members=len(HEADS))
    level = tools.config.data.flipped if part.form == "flipped" else 0.0

    def work(stage: Stage) -> tuple[Params, dict]:
        records = [marked(tools.config.seed, each, level) for each in answers_of(part.pairs)]

        def take(narrow: LanguageLab, found: BucketBatch) -> StepBatch:
            batch = segment_batch(narrow, [records[int(i)] for i in found.rows], HEADS)
            return replace(batch, ends=batch.ends & jnp.asarray(found.kept)[:, None, None])

        size = 2 * tools.config.training.batch_size  # the answers of as many pairs
        rows = bucket_rows(part.lab, records, part.buckets, take, batch_size=size)
        return segment_model(stage, part.lab, rows, first, tools.heads), {}

    found = trained(job, tools, f"{part.name}_spans", work, lambda _: first)
    total = total_of(tools.lab.scorer)

    def batch_of(narrow: LanguageLab, rows: Sequence[dict]) -> StepBatch:
        return segment_batch(narrow, [{**row, "spans": []} for row in rows], HEADS)

    def scores(records: list[dict]) -> Scored:
        sums = scored(lambda _, x: total(found.arrays, x), tools.lab, records, batch=batch_of)
        return Scored({"spans": sums})

    rewards = {"spans": partial(span_reward, tools, found.arrays)}
    return Fitted(scores, rewards, found.seconds)


def span_reward(tools: Tools, params: Params) -> Reward:
    """The same score with its parts at the ends of the sentences."""
    heads = {
        mark: SegmentHead(sentences, 1.0, params=head_of(params, number))
        for number, mark in enumerate(MARKS)
    }
    return segment_reward(tools.lab, tools.task, heads)
