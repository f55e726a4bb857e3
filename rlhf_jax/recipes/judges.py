"""A language model as a judge: it thinks in text and ends with a verdict (Think-RM).

    rows = judge_records(pairs, QUESTIONS["binary"], seed=0)         # questions and their labels
    traces = sample_traces(lab, params, rows, samples=8)             # judgements in text
    best, found = trace_records(rows, traces, BINARY)                # right ones, the longest
    params = supervised(stage, lab, answer_rows(lab, best, batch_size=16), params, fit)

The judge is then trained by a rule: `online` with `grpo` on its own questions, a task of which the
score is `verdict_reward`. `generative_judge` makes it a `ComparePairs`, which every recipe takes.

Reference: Hong et al. 2025, arXiv:2505.16265 (Think-RM).
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from rlhf_jax.checks import check_range
from rlhf_jax.data.messages import as_user
from rlhf_jax.data.traces import Keep, TraceSelection, select_traces
from rlhf_jax.ops.verdicts import verdict_rewards
from rlhf_jax.recipes.lab import LanguageLab, stage_key
from rlhf_jax.recipes.texts import sample_texts
from rlhf_jax.recipes.tokens import answer_text
from rlhf_jax.rewards import ComparePairs
from rlhf_jax.rewards.verdicts import (
    BINARY,
    GRADED,
    JudgeQuestion,
    VerdictScale,
    asked_text,
    check_question,
    label_value,
    verdict_in,
    verdicts_in,
)
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.training import UserError
from rlhf_jax.types import Params, TextReward


def judge_records(
    pairs: Sequence[dict], question: JudgeQuestion, *, seed: int, as_messages: bool = False
) -> list[dict]:
    """The question about each pair as a "prompt", with the right verdict as its "label".

    The chosen answer is shown first or second at random. Of a scale with more than two verdicts the
    label has the size of the pair's margin, rounded up and cut to the largest.

    Args:
      pairs: "prompt", "chosen", "rejected", and "margin" where the scale needs it; answers may be
        messages.
      as_messages: for a lab with a chat template: the prompt is one message of a user.
    Raises:
      UserError: a pair without a margin, or with one that is not above 0, where it is needed.
    """
    check_question(question)
    second = np.random.default_rng(seed).integers(2, size=len(pairs)).astype(bool)
    rows = []
    for n, (pair, swap) in enumerate(zip(pairs, second, strict=True)):
        size = 1.0 if question.scale.largest == 1.0 else _strength(pair, n, question.scale)
        sides = [answer_text(pair[side]) for side in ("chosen", "rejected")]
        text = asked_text(question, pair["prompt"], *(sides[::-1] if swap else sides))
        label = question.scale.symbols[size if swap else -size]
        rows.append({"prompt": list(as_user(text)) if as_messages else text, "label": label})
    return rows


def _strength(pair: dict, number: int, scale: VerdictScale) -> float:
    margin = pair.get("margin")
    if margin is None or not margin > 0:
        raise UserError(
            f"pair {number}: graded verdicts need a margin above 0, got {margin}; use binary ones"
        )
    return float(min(math.ceil(margin), scale.largest))


def sample_traces(
    lab: LanguageLab,
    params: Params,
    rows: Sequence[dict],
    *,
    samples: int,
    sampling: SamplingConfig | None = None,
) -> list[list[str]]:
    """`samples` judgements in text for each question, by `sample_texts`."""
    prompts = [row["prompt"] for row in rows]
    key = stage_key(lab, "judge")
    return sample_texts(lab, params, prompts, key, samples=samples, sampling=sampling)


def trace_records(
    rows: Sequence[dict],
    traces: Sequence[Sequence[str]],
    scale: VerdictScale,
    *,
    keep: Keep = "longest",
    seed: int = 0,
) -> tuple[list[dict], TraceSelection]:
    """Records of "prompt" and "answer": one right judgement for each pair that has one.

    Args:
      traces: K texts of each row; lengths are counted in characters.
      keep, seed: as in `select_traces`.
    Raises:
      UserError: no judgement is right.
    """
    verdicts = np.array([verdicts_in(texts, scale) for texts in traces])
    lengths = [[max(1, len(text)) for text in texts] for texts in traces]
    labels = [label_value(row["label"], scale) for row in rows]
    found = select_traces(verdicts, lengths, labels, keep=keep, seed=seed)
    if not len(found.chosen):
        raise UserError(
            f"none of {verdicts.size} judgements of {len(rows)} pairs has the right verdict, "
            f"{found.unread} have none: begin with a model that ends with "
            f"<answer>{next(iter(scale.values))}</answer>"
        )
    chosen = found.chosen.tolist()
    return [{"prompt": rows[i]["prompt"], "answer": traces[i][k]} for i, k in chosen], found


def verdict_reward(scale: VerdictScale | None = None, *, column: str = "label") -> TextReward:
    """Trains a judge by a rule: `ops.verdicts.verdict_rewards` of what it wrote.

    Args:
      scale: None takes, row by row, BINARY for a label "A" or "B" and GRADED for any other.
      column: of the labels of `judge_records`.
    """

    def score(prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any) -> list[float]:
        found, wanted = [], []
        for text, label in zip(answers, columns[column], strict=True):
            own = scale or (BINARY if str(label).strip() in BINARY.values else GRADED)
            wanted.append(label_value(label, own))
            found.append(verdict_in(text, own))
        verdicts = jnp.array([jnp.nan if z is None else z for z in found])
        return np.asarray(verdict_rewards(verdicts, jnp.array(wanted))).tolist()

    return score


def judge_verdicts(
    lab: LanguageLab,
    params: Params,
    question: JudgeQuestion,
    prompts: Sequence[Any],
    first: Sequence[str],
    second: Sequence[str],
    *,
    samples: int = 1,
    sampling: SamplingConfig | None = None,
) -> Float[np.ndarray, "N M"]:
    """[N, samples] z of the pairs as shown, NaN without a verdict."""
    check_question(question)
    rows = []
    for prompt, one, other in zip(prompts, first, second, strict=True):
        text = asked_text(question, prompt, one, other)
        rows.append({"prompt": text if lab.chat is None else list(as_user(text))})
    traces = sample_traces(lab, params, rows, samples=samples, sampling=sampling)
    found = [verdicts_in(texts, question.scale) for texts in traces]
    return np.array(found, np.float64).reshape(len(rows), samples)


def generative_judge(
    lab: LanguageLab,
    params: Params,
    question: JudgeQuestion,
    *,
    samples: int = 1,
    both_orders: bool = True,
    sampling: SamplingConfig | None = None,
    counts: Counter | None = None,
) -> ComparePairs:
    """The judge of a language model: P(first beats second) = 1/2 - mean z / (2 max |z|).

    The mean is over all judgements with a verdict; a pair without one is None. P - 1/2 is
    proportional to the verdicts, so `pairwise_advantages` of it are those of the verdicts.

    Args:
      samples: judgements in each order.
      both_orders: False shows each pair once, as the paper does: a bias to one place stays.
      sampling: of the judge; None for the lab's.
      counts: gets "judgements" and "unread", those without a verdict.
    """
    check_range("[1, inf)", samples=samples)
    kept = Counter() if counts is None else counts

    def compare(
        prompts: Sequence[Any], first: Sequence[str], second: Sequence[str], /
    ) -> list[float | None]:
        options = {"samples": samples, "sampling": sampling}
        found = judge_verdicts(lab, params, question, prompts, first, second, **options)
        if both_orders:
            other = judge_verdicts(lab, params, question, prompts, second, first, **options)
            found = np.concatenate([found, -other], axis=1)
        known = np.isfinite(found)
        kept["judgements"] += found.size
        kept["unread"] += int((~known).sum())
        means = np.where(known, found, 0.0).sum(1) / np.maximum(known.sum(1), 1)
        prefs = 0.5 - means / (2.0 * question.scale.largest)
        some = known.sum(1).tolist()
        return [p if count else None for p, count in zip(prefs.tolist(), some, strict=True)]

    return compare
