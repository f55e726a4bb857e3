"""A judge that thinks in words before its verdict (think_rm).

It reads two answers, writes how it rates both on one axis after another, and ends with "yes" if the
first is better, else "no". Its examples are noisy judgements of annotators who rate as many axes as
they like; of several of a pair the longest with the right verdict is kept. The score of an answer
is the log-odds of the verdict over the anchor of `pairwise`, in both orders.
"""

from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import NamedTuple

import numpy as np

from experiments.shop_rewards.kinds.pairwise import WORDS, anchors_of
from experiments.shop_rewards.kinds.scoring import BATCH, MANY, Fitted, Scored, rounded, trained
from experiments.shop_rewards.world import Part, Tools, axes_of
from rlhf_jax.data.tokenizer import verdict_ids
from rlhf_jax.data.traces import select_traces
from rlhf_jax.envs.shop import AXES
from rlhf_jax.recipes import LanguageLab, Task, answer_rows, stage_key, supervised
from rlhf_jax.recipes.buckets import by_length, length_buckets
from rlhf_jax.recipes.lab import make_prompts
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.sharding import on_host
from rlhf_jax.training import Run, Stage
from rlhf_jax.types import Params, Rollout

QUESTION = "{prompt} {first} better than {second} ?"
TRACES, NOISE = 4, 0.15
LONGEST = 3 * len(AXES) + 2  # words of a judgement and its end
LIMIT = 20.0  # log-odds, of a verdict that is certain


class Judgement(NamedTuple):
    """One annotator's text about a pair. z: 1 where its verdict is for the first, else -1."""

    text: str
    z: float
    axes: int


def judgement(seed: int, index: int, first: str, second: str, number: int) -> Judgement:
    """The judgement of the annotator with this number, who rates 1 to 6 axes of both answers."""
    rng = Random(f"judgement/{seed}/{index}/{number}/{first}/{second}")
    count = rng.randint(1, len(AXES))
    rated = [
        [int(np.clip(round(5 * (x + NOISE * rng.gauss(0.0, 1.0))), 0, 5)) for x in axes[:count]]
        for axes in (axes_of(seed, index, text) for text in (first, second))
    ]
    gap = sum(rated[0]) - sum(rated[1]) or rng.choice((-1, 1))
    words = [f"{AXES[i]} {rated[0][i]} {rated[1][i]}" for i in range(count)]
    return Judgement(" ".join([*words, WORDS[gap < 0]]), 1.0 if gap > 0 else -1.0, count)


def judged_pairs(seed: int, pairs: Sequence[dict], shown: int) -> tuple[list[dict], dict[str, int]]:
    """Questions with the longest right judgement, and counts of what was kept.

    Args:
      seed: of the world. shown: of which answer comes first.
    """
    swaps = np.random.default_rng(shown).integers(2, size=len(pairs)).astype(bool)
    orders = [
        (row["rejected"], row["chosen"]) if swap else (row["chosen"], row["rejected"])
        for row, swap in zip(pairs, swaps, strict=True)
    ]
    traces = [
        [judgement(seed, row["index"], *both, number) for number in range(TRACES)]
        for row, both in zip(pairs, orders, strict=True)
    ]
    found = select_traces(
        [[one.z for one in each] for each in traces],
        [[one.axes for one in each] for each in traces],
        np.where(swaps, -1.0, 1.0),
    )
    records = []
    for i, k in found.chosen.tolist():
        first, second = orders[i]
        asked = QUESTION.format(prompt=pairs[i]["prompt"], first=first, second=second)
        records.append({"prompt": asked, "answer": traces[i][k].text})
    return records, found.counts


def judge_lab(tools: Tools, lab: LanguageLab) -> LanguageLab:
    """The lab with room for a question and a judgement."""
    room = lab.prompt_length + 2 * tools.lab.answer_length + len(QUESTION.split())
    return lab._replace(prompt_length=room, answer_length=LONGEST)


def fit_judge(job: Run, tools: Tools, part: Part) -> Fitted:
    """Fitted to judgements, one of each pair that has a right one."""
    lab = judge_lab(tools, part.lab)

    def work(stage: Stage) -> tuple[Params, dict]:
        records, counts = judged_pairs(tools.config.seed, part.pairs, part.lab.seed)
        buckets = length_buckets(lab, records, count=max(1, len(part.buckets)))
        size = tools.config.training.batch_size
        rows = answer_rows(lab, records, batch_size=size, buckets=buckets)
        return supervised(stage, lab, rows, tools.sft, tools.direct), counts

    found = trained(job, tools, f"{part.name}_judge", work, tools.lab.policy.init)
    info = Counter(found.info)  # what is read goes in when answers are scored

    def scores(records: list[dict]) -> Scored:
        anchors = anchors_of(records)
        unique = list(dict.fromkeys((row["prompt"], row["answer"]) for row in records))
        rows = [row for row in unique if anchors[row[0]] != row[1]]
        total = np.zeros(len(rows))
        for sign, order in ((1.0, (0, 1)), (-1.0, (1, 0))):
            asked = []
            for prompt, answer in rows:
                both = (answer, anchors[prompt])
                first, second = (both[i] for i in order)
                asked.append(QUESTION.format(prompt=prompt, first=first, second=second))
            total += sign * log_odds(tools, lab, found.arrays, asked, info)
        known = dict(zip(rows, 0.5 * total, strict=True))
        each = [known.get((row["prompt"], row["answer"]), 0.0) for row in records]
        return Scored({"judge": np.array(each)})

    return Fitted(scores, {}, found.seconds, info)


def log_odds(
    tools: Tools, lab: LanguageLab, params: Params, asked: Sequence[str], counts: Counter
) -> np.ndarray:
    """[N] of "yes" to each question, after what the judge writes; 0 without a verdict, counted."""
    vocabulary = lab.vocabulary
    stops, pad = vocabulary.stop_ids, vocabulary.pad_id
    sampling = SamplingConfig(max_new_tokens=LONGEST, temperature=0.0, stop_ids=stops, pad_id=pad)
    yes, no = verdict_ids(vocabulary, WORDS)
    key, many = stage_key(lab, "judge"), len(asked) >= MANY

    def chunk(narrow: LanguageLab, rows: Sequence[dict]) -> np.ndarray:
        texts, own = [row["prompt"] for row in rows], rounded(narrow if many else lab)
        task = Task(lambda numbers: [texts[i] for i in numbers], {}, None, "label")
        found = []
        for start in range(0, len(texts), BATCH):
            numbers = np.minimum(np.arange(start, start + BATCH), len(texts) - 1)
            prompts = make_prompts(own, task, numbers)
            drawn = on_host(lab.draw(params, prompts, key, 1, sampling=sampling))
            found.append(last_verdicts(drawn, yes, no))
        return np.concatenate(found)[: len(texts)]

    records = [{"prompt": text, "answer": WORDS[0]} for text in asked]  # for their lengths
    each = by_length(chunk, lab, records, batch_size=BATCH)
    counts["judgements"] += len(each)
    counts["unread"] += int(np.isnan(each).sum())
    return np.nan_to_num(each)


def last_verdicts(drawn: Rollout, yes: int, no: int) -> np.ndarray:
    """[B] log-odds of "yes" of the last word before the end; NaN where that is no verdict."""
    actions, logps, mask = (
        np.asarray(x)[:, 0]
        for x in (drawn.trajectory.actions, drawn.token_logps, drawn.trajectory.mask)
    )
    at = np.maximum(mask.sum(-1) - 2, 0)[:, None]
    word, logp = (np.take_along_axis(x, at, -1)[:, 0] for x in (actions, logps))
    odds = np.clip(logp - np.log(-np.expm1(np.minimum(logp, -1e-9))), -LIMIT, LIMIT)
    read = np.where(word == yes, odds, np.where(word == no, -odds, np.nan))
    return np.where(np.asarray(drawn.finished)[:, 0], read, np.nan)
