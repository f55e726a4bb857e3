"""What the methods of one seed learn from: its labels in every form, and its reward model."""

from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.shop_methods.config import CRITICS, SINGLE, Data
from experiments.shop_methods.labels import (
    CHOICES,
    Answers,
    answers_of,
    draw_answers,
    first_labels,
    labelled,
    marked,
    pairs_of,
    rankings_of,
)
from experiments.shop_methods.world import Tools, rated, seeded
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.ops.statistics import wins
from rlhf_jax.recipes import (
    Fit,
    LanguageLab,
    Reward,
    critic_of,
    model_reward,
    on_trunk,
    pair_rows,
    preference,
    reference_logps,
    reward_model,
    stage_key,
    with_mismatched,
)
from rlhf_jax.recipes.buckets import Bucket, by_length, length_buckets
from rlhf_jax.recipes.offline import ScoreScale, pair_scores, score_scale
from rlhf_jax.recipes.rows import Records
from rlhf_jax.training import Run, Stage, StageResult, run_stage
from rlhf_jax.types import Params

BUCKETS, LEAST = 2, 8  # at most; batches of each, at least


class Part(NamedTuple):
    """A seed. lab: with its order and draws. pairs, rankings, answers: its labels in three forms.

    reference: log-probs under SFT of the pairs and, as "answer" and "mismatched", of the answers
    where a method reads them.
    buckets: columns of a batch of pairs, the same for all seeds. model, scale: the implied reward,
    and its mean and deviation on held-out pairs. critic: the first one, None where no method has
    one. quality: accuracy of the implied reward and of the critic's head, and how many pairs there
    are.
    """

    seed: int
    lab: LanguageLab
    pairs: list[dict[str, Any]]
    rankings: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    reference: dict[str, np.ndarray]
    buckets: list[Bucket]
    model: Params
    scale: ScoreScale
    critic: Params | None
    quality: dict[str, float]

    def reward(self, tools: Tools) -> Reward:
        """What online methods are paid."""
        return model_reward(tools.judged, self.model, self.scale)


def make_part(
    job: Run, tools: Tools, seed: int, *, heldout: Records, before: Part | None = None
) -> Part:
    """The labels and the reward model of a seed.

    Args:
      heldout: pairs that measure the reward. before: another seed, whose columns are taken.
    """
    config, lab = tools.config, seeded(tools.lab, seed)
    data, size = config.data, config.offline.batch_size
    work = partial(labelled, tools=tools, lab=lab, seed=seed)
    found = answers_of(run_stage(job, f"labels_{seed}", work).info)
    pairs, rankings = labels_of(found, data, seed)
    answers = with_mismatched(marked(pairs))
    buckets = before.buckets if before else pair_buckets(lab, pairs, size)

    def refer(_: Stage) -> tuple[Any, dict]:
        logps = partial(by_length, lab=lab, batch_size=size)
        given = {"pairs": pairs} | ({"answers": answers} if reads_single(tools) else {})
        return {
            name: logps(partial(reference_of, params=tools.start, size=size), records=records)
            for name, records in given.items()
        }, {}

    known = run_stage(job, f"reference_{seed}", refer).arrays
    reference = {name: x for part in known.values() for name, x in part.items()}
    given = {"tools": tools, "lab": lab, "heldout": heldout, "pairs": pairs, "buckets": buckets}
    done = run_stage(job, f"reward_{seed}", partial(fit_implied, **given, reference=reference))
    critic, quality = None, {"implied": done.info["accuracy"], "pairs": float(len(pairs))}
    if has_critic(tools):
        head = run_stage(job, f"critic_{seed}", partial(fit_head, **given))
        critic, quality["head"] = critic_of(head.arrays, scale_of(head)), head.info["accuracy"]
    return Part(
        seed=seed,
        lab=lab,
        pairs=pairs,
        rankings=rankings,
        answers=answers,
        reference=reference,
        buckets=buckets,
        model={"policy": done.arrays, "reference": tools.start},
        scale=scale_of(done),
        critic=critic,
        quality=quality,
    )


def reads_single(tools: Tools) -> bool:
    """Whether a method of the run reads answers one by one."""
    return bool({*SINGLE} & {*tools.config.chosen()})


def has_critic(tools: Tools) -> bool:
    """Whether a method of the run has a critic, or a control that PPO must fail."""
    return bool({*CRITICS} & {*tools.config.chosen(), *tools.config.changes()})


def scale_of(done: StageResult) -> ScoreScale:
    """Of the scores of a reward that a stage has fitted."""
    return ScoreScale(done.info["mean"], done.info["std"])


def labels_of(found: Answers, data: Data, seed: int) -> tuple[list[dict], list[dict]]:
    """As many choices of the teacher as pairs and as rankings."""
    pairs = first_labels(pairs_of(found, data), data.labels, f"pairs of seed {seed}")
    count = max(2, len(pairs) // CHOICES)
    rankings = first_labels(rankings_of(found, data), count, f"rankings of seed {seed}")
    return pairs, rankings


def reference_of(
    lab: LanguageLab, records: Records, *, params: Params, size: int
) -> dict[str, np.ndarray]:
    """Log-probs under SFT."""
    return reference_logps(lab, params, records, batch_size=size)


def pair_buckets(lab: LanguageLab, pairs: Records, batch_size: int) -> list[Bucket]:
    """Short and long pairs, if there are enough of both."""
    count = min(BUCKETS, len(pairs) // (LEAST * batch_size))
    return length_buckets(lab, pairs, count=max(1, count))


def heldout_pairs(job: Run, tools: Tools) -> list[dict[str, Any]]:
    """Pairs that measure reward models, the same for all seeds."""

    def work(_: Stage) -> tuple[Any, dict]:
        return {}, draw_answers(tools, tools.lab, "heldout_pairs", 0, tools.config.data.heldout)

    found = answers_of(run_stage(job, "labels_heldout", work).info)
    return first_labels(pairs_of(found, tools.config.data), 2 * len(found.texts), "held-out pairs")


def fit_implied(
    stage: Stage,
    *,
    tools: Tools,
    lab: LanguageLab,
    heldout: Records,
    pairs: Records,
    buckets: list[Bucket],
    reference: dict[str, np.ndarray],
) -> tuple[Params, dict[str, float]]:
    """DPO, whose log-ratios are the reward."""
    config, size = tools.config.reward, tools.config.offline.batch_size
    sides = {side: reference[side] for side in ("chosen", "rejected")}
    rows = pair_rows(lab, pairs, batch_size=size, reference=sides, buckets=buckets)
    fit = Fit(rated(config.rate, config.steps), config.steps, save_every=config.steps)
    loss = partial(dpo_loss, beta=config.beta)
    params = preference(stage, lab, rows, tools.start, fit, loss=loss)
    model = {"policy": params, "reference": tools.start}
    return params, quality_of(stage.name, tools.judged, model, heldout, size)


def fit_head(
    stage: Stage,
    *,
    tools: Tools,
    lab: LanguageLab,
    heldout: Records,
    pairs: Records,
    buckets: list[Bucket],
) -> tuple[Params, dict[str, float]]:
    """A scalar head on the trunk of SFT, which critics start from."""
    config, size = tools.config.reward, tools.config.offline.batch_size
    rows = pair_rows(lab, pairs, batch_size=size, buckets=buckets)
    fit = Fit(rated(config.rate, config.steps), config.steps, save_every=config.steps)
    first = on_trunk(lab, tools.start, stage_key(lab, "reward"))
    params = reward_model(stage, lab, rows, first, fit)
    return params, quality_of(stage.name, tools.lab, params, heldout, size)


def quality_of(
    name: str, lab: LanguageLab, params: Params, heldout: Records, size: int
) -> dict[str, float]:
    """Accuracy on held-out pairs, and the scale of the scores on their answers."""
    found = pair_scores(lab, params, heldout, batch_size=size)
    right = wins(*jnp.asarray(found).T)
    return {"accuracy": float(right.mean()), **score_scale(name, found)._asdict()}
