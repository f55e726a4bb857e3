"""A policy that reads two answers and writes which is better (pairwise_rl).

The score of an answer is its margin over an anchor, the first answer to its prompt among those that
are scored together, asked in both orders; of a pair that is the margin of the pair itself.
"""

from collections.abc import Mapping, Sequence
from functools import cache, partial

import jax

from experiments.shop_rewards.kinds.heads import rows_of
from experiments.shop_rewards.kinds.scoring import Fitted, Scored, scored, trained
from experiments.shop_rewards.world import Part, Tools
from rlhf_jax.losses.feedback import verdict_margins
from rlhf_jax.recipes import LanguageLab, verdict_model, verdicts_of
from rlhf_jax.recipes.rows import pair_batch
from rlhf_jax.training import Run, Stage
from rlhf_jax.types import Params, PreferenceBatch, VerdictFn

WORDS = ("yes", "no")  # whether the first answer is better; a token each


@cache
def margins_of(judge: VerdictFn):
    """The margins of pairs, compiled once."""
    return jax.jit(lambda params, x: verdict_margins(judge.logps(params, x.chosen, x.rejected)))


def anchors_of(records: Sequence[dict]) -> dict[str, str]:
    """The first answer to each prompt."""
    found: dict[str, str] = {}
    for row in records:
        found.setdefault(row["prompt"], row["answer"])
    return found


def against(
    anchors: Mapping[str, str], longest: int, lab: LanguageLab, rows: Sequence[dict]
) -> PreferenceBatch:
    """Each answer beside the anchor of its prompt, which may be longer than the lab's columns."""
    pairs = [
        {"prompt": row["prompt"], "chosen": row["answer"], "rejected": anchors[row["prompt"]]}
        for row in rows
    ]
    return pair_batch(lab._replace(answer_length=longest), pairs)


def fit_pairwise(job: Run, tools: Tools, part: Part) -> Fitted:
    """A generative judge from the pairs in both orders."""
    judge = verdicts_of(tools.lab, WORDS)

    def work(stage: Stage) -> tuple[Params, dict]:
        rows = rows_of(tools, part, part.pairs)
        return verdict_model(stage, part.lab, rows, tools.sft, tools.direct, judge=judge), {}

    found = trained(job, tools, f"{part.name}_pairwise", work, tools.lab.policy.init)

    margin = margins_of(judge)

    def score(_: LanguageLab, pairs: PreferenceBatch) -> jax.Array:
        return margin(found.arrays, pairs)

    def scores(records: list[dict]) -> Scored:
        batch = partial(against, anchors_of(records), tools.lab.answer_length)
        return Scored({"pairwise": scored(score, tools.lab, records, batch=batch)})

    return Fitted(scores, {}, found.seconds)
