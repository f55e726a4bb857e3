"""Pairs kept, turned round or dropped by a model of verified pairs, the raw one and a judge."""

from collections.abc import Sequence
from functools import partial
from random import Random

import numpy as np
from jaxtyping import Float

from experiments.shop_rewards.kinds.heads import fit_head, fitted_head, head, head_scores
from experiments.shop_rewards.kinds.scoring import Fitted, answers_of, margins, trained
from experiments.shop_rewards.world import Part, Tools
from rlhf_jax.data.curation import curated_pairs, pair_confidences
from rlhf_jax.data.records import Pair
from rlhf_jax.recipes import curate
from rlhf_jax.training import Run, Stage
from rlhf_jax.types import Params


def fit_curated(job: Run, tools: Tools, part: Part) -> Fitted:
    """The first `verified` pairs are as they were; of the others, what the curation leaves."""
    config = tools.config.kind
    count = config.verified
    verified, rest = part.clean[:count], part.pairs[count:]
    raw = head(job, tools, part)
    gold = trained(
        *(job, tools, f"{part.name}_gold_set"),
        lambda stage: (fit_head(stage, tools, part, verified), {}),
        tools.lab.reward.init,
    )

    def work(stage: Stage) -> tuple[Params, dict]:
        pool = [Pair(row["prompt"], row["chosen"], row["rejected"]) for row in rest]
        models = (partial(confidences, tools, one.arrays) for one in (gold, raw))
        found = curate(pool, *models, [partial(judged, config.judge, answers_gold(part))])
        kept = [pair._asdict() for pair in curated_pairs(pool, found)]
        return fit_head(stage, tools, part, [*verified, *kept]), found.counts

    found = trained(job, tools, f"{part.name}_curated", work, tools.lab.reward.init)
    seconds = found.seconds + raw.seconds + gold.seconds
    return fitted_head(tools, "curated", found.arrays, seconds, **found.info)


def confidences(tools: Tools, params: Params, pairs: Sequence[Pair]) -> Float[np.ndarray, " N"]:
    """[N] how sure a model is of each label."""
    gaps = margins(head_scores(tools, params, answers_of([pair._asdict() for pair in pairs])))
    return pair_confidences(gaps, np.zeros_like(gaps))


def answers_gold(part: Part) -> dict[tuple[str, str], float]:
    """(prompt, answer) -> gold of the answer without its marks."""
    found = {}
    for row, clean in zip(part.pairs, part.clean, strict=True):
        sides = ("rejected", "chosen") if row["wrong"] else ("chosen", "rejected")
        for side, true in zip(sides, ("chosen", "rejected"), strict=True):
            found[row["prompt"], row[side]] = clean[f"gold_{true}"]
    return found


def judged(
    accuracy: float,
    gold: dict[tuple[str, str], float],
    prompts: Sequence[str],
    first: Sequence[str],
    second: Sequence[str],
) -> list[float | None]:
    """1 where the judge thinks the first answer better, 0 where it does not; it errs at random."""
    found: list[float | None] = []
    for prompt, *both in zip(prompts, first, second, strict=True):
        pair = sorted(both)  # whichever is shown first, it is the same verdict
        right = Random(f"judge/{prompt}/{pair}").random() < accuracy
        better = gold[prompt, both[0]] > gold[prompt, both[1]]
        found.append(float(better == right))
    return found
