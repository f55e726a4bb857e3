"""Fine-grained rewards of texts: heads that score the segments of an answer, each its own kind.

    rows = segment_rows(lab, records, "relevance", segments=subsentences, batch_size=16)
    params = process_model(stage, lab, rows, params, fit)
    reward = segment_reward(lab, task, {
        "relevance": SegmentHead(subsentences, 0.3, params=params),
        "length": SegmentHead(whole_answer, 0.1, score=brevity),
    })
    method = ppo(lab, PPOConfig(), critic, credit=gae_of_steps)

A head is a model, read after the last token of each segment, or a Python function of texts. Texts
are cut on the host; rewards are placed within the compiled step.

Reference: Wu et al. 2023, arXiv:2306.01693.
Departs: a model is causal and reads a segment at its end. The paper's is bidirectional and reads a
  separator before it, so a reward there may depend on later text.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.algos.process_model import StepBatch
from rlhf_jax.data.loader import batches
from rlhf_jax.data.spans import MarkedSpan, Segment, check_spans, segment_labels, token_ends
from rlhf_jax.data.tokenizer import encode_observation
from rlhf_jax.ops.segments import SegmentRewards, sign_rewards, token_rewards
from rlhf_jax.recipes.episodes import Transcripts, score_transcripts
from rlhf_jax.recipes.lab import LanguageLab, hold_params, make_trajectories
from rlhf_jax.recipes.process import scores_of
from rlhf_jax.recipes.rewards import Reward
from rlhf_jax.recipes.rows import Records, Rows
from rlhf_jax.recipes.task import Scores, Task
from rlhf_jax.sharding import on_host
from rlhf_jax.training import UserError
from rlhf_jax.training.processes import by_rows
from rlhf_jax.types import Params, Prompts, Trajectory

Segments = Callable[[str], Sequence[Segment]]  # a text -> its segments, in characters


@runtime_checkable
class ScoreSegments(Protocol):
    """One number for each segment of an answer; NaN leaves the answer out."""

    def __call__(self, prompt: Any, answer: str, segments: Sequence[str], /) -> Sequence[float]: ...


class SegmentHead(NamedTuple):
    """One reward model of a fine-grained reward.

    segments: how it cuts an answer, e.g. `data.spans.subsentences`, `sentences`, `whole_answer`.
    weight: w_k.
    score: a Python function, or None for a model.
    params: of the lab's reward model, trained by `process_model`; it pays +1 where the error is
      less likely than not, -1 elsewhere.
    """

    segments: Segments
    weight: float
    score: ScoreSegments | None = None
    params: Params | None = None


def whole_answer(text: str) -> list[Segment]:
    """One segment, or none of an empty answer."""
    return [(0, len(text))] if text.strip() else []


def segment_rows(
    lab: LanguageLab,
    records: Records,
    kind: str,
    *,
    segments: Segments,
    batch_size: int,
    unless: Sequence[str] = (),
) -> Rows:
    """Batches of marked answers for `process_model`, in an order of the lab's seed.

    Args:
      records: {"prompt", "answer": text, "spans": [MarkedSpan or (start, end, kind)]}.
      kind, unless: as in `data.spans.segment_labels`.
    """

    def take(part: Sequence[Mapping[str, Any]]) -> StepBatch:
        return segment_batch(lab, part, kind, segments=segments, unless=unless)

    return batches(records, batch_size=batch_size, seed=lab.seed, batch_fn=take)


def segment_batch(
    lab: LanguageLab,
    records: Sequence[Mapping[str, Any]],
    kind: str,
    *,
    segments: Segments,
    unless: Sequence[str] = (),
) -> StepBatch:
    """Answers with a label at the last token of each segment, 1 where it is free of the error.

    Segments that end beyond the lab's longest answer are left out. Of several that end at one
    token, an error counts.

    Raises:
      UserError: a span that is not within its answer; it quotes the prompt.
    """
    answers = [record["answer"] for record in records]
    trajectory = make_trajectories(lab, [record["prompt"] for record in records], answers)
    shape = trajectory.actions.shape
    ends, labels = np.zeros(shape, bool), np.ones(shape, np.float32)
    for row, record in enumerate(records):
        spans = [MarkedSpan(*span) for span in record["spans"]]
        try:
            check_spans(record["answer"], spans)
        except ValueError as error:
            raise UserError(
                f"the record with the prompt {record['prompt']!r:.60}: {error}"
            ) from error
        parts = segments(record["answer"])
        places = token_ends(record["answer"], parts, _counter(lab), length=shape[1] + 1)
        known = segment_labels(parts, spans, kind, unless=unless)
        for place, label in zip(places, known, strict=True):
            if place < shape[1] and label is not None:
                ends[row, place] = True
                labels[row, place] = min(labels[row, place], float(label))
    return StepBatch(trajectory, jnp.asarray(ends), jnp.asarray(np.where(ends, labels, 0.0)))


def segment_reward(lab: LanguageLab, task: Task, heads: Mapping[str, SegmentHead]) -> Reward:
    """Several heads as rewards of tokens; the score of an answer is their sum.

    The task's own scores are logged, and each head's mean over the segments of an answer, without
    its weight, where it is a Python function.

    Raises:
      ValueError: no heads, or one with both a score and params, or neither.
    """
    for name, head in heads.items():
        if (head.score is None) == (head.params is None):
            raise ValueError(f"the head {name!r} must have either a score or params")
    if not heads:
        raise ValueError("segment_reward needs at least one head")

    def host(prompts: Prompts, found: Transcripts) -> tuple[dict[str, Any], Scores]:
        if found.valid is not None:
            raise UserError("segment_reward is of single answers, not of episodes")
        found, indices = on_host(found), np.asarray(prompts.indices)
        texts, named = score_transcripts(lab, task, indices, found)
        given = {}
        for name, head in heads.items():
            given[name] = _host_part(lab, head, task.texts(indices), texts, np.asarray(found.ids))
            if head.score is not None:
                rewards, mask = given[name].rewards, given[name].mask
                total = np.where(mask, rewards, 0.0).sum(-1)
                named[f"segments/{name}"] = total / np.maximum(mask.sum(-1), 1)
        return given, named

    def steps(params: Any, given: Any, trajectory: Trajectory) -> Float[Array, "B K T"]:
        scored = {name: given[name] for name in heads}
        for name in params:
            read = scores_of(lab.scorer)(params[name], trajectory)
            at = jnp.take_along_axis(read, jnp.asarray(given[name].ends), axis=-1)
            scored[name] = given[name]._replace(rewards=sign_rewards(at))
        scored = {name: SegmentRewards(*map(jnp.asarray, each)) for name, each in scored.items()}
        weights = {name: head.weight for name, head in heads.items()}
        return token_rewards(scored, weights, length=trajectory.mask.shape[-1])

    def scores(params: Any, given: Any, trajectory: Trajectory) -> Float[Array, "B K"]:
        paid = steps(params, given, trajectory)
        return jnp.sum(jnp.where(trajectory.mask, paid, 0.0), axis=-1)

    params = {
        name: hold_params(lab, head.params, lab.axes["reward"])
        for name, head in heads.items()
        if head.params is not None
    }
    return Reward(params, host, scores, steps)


def _host_part(
    lab: LanguageLab,
    head: SegmentHead,
    prompts: Sequence[Any],
    texts: Sequence[Sequence[str]],
    ids: np.ndarray,
) -> SegmentRewards:
    """Ends, rewards and mask [B, K, T] of one head; rewards are 0 where a model gives them."""
    lengths = _lengths(lab, ids)
    ends = np.zeros(ids.shape, np.int32)
    mask = np.zeros(ids.shape, bool)
    rewards = np.zeros(ids.shape, np.float32)
    rows = [(b, k, text) for b, answers in enumerate(texts) for k, text in enumerate(answers)]
    parts = [list(head.segments(text)) for _, _, text in rows]
    found = [None] * len(rows)
    if head.score is not None:
        columns = ([prompts[b] for b, _, _ in rows], [text for *_, text in rows], parts)
        found = by_rows(lambda *given: _ask(head.score, *given), *columns)
    for (b, k, text), segments, values in zip(rows, parts, found, strict=True):
        places = token_ends(text, segments, _counter(lab), length=int(lengths[b, k]))
        count = len(places)
        if count > ids.shape[-1]:
            raise UserError(f"an answer of at most {ids.shape[-1]} tokens has {count} segments")
        ends[b, k, :count], mask[b, k, :count] = places, True
        if values is not None:
            rewards[b, k, :count] = values
    return SegmentRewards(ends, rewards, mask)


def _ask(
    score: ScoreSegments | None,
    prompts: Sequence[Any],
    answers: Sequence[str],
    parts: Sequence[Sequence[Segment]],
) -> list[list[float]]:
    """The numbers of each answer's segments, after a check of their count."""
    found = []
    for prompt, answer, segments in zip(prompts, answers, parts, strict=True):
        texts = [answer[start:end] for start, end in segments]
        values = np.asarray(score(prompt, answer, texts), float).tolist() if texts else []
        if np.shape(values) != (len(texts),):
            raise UserError(
                f"a score of segments must give one number for each of the {len(texts)} segments "
                f"of {answer!r:.60}, got {values!r:.60}"
            )
        found.append(values)
    return found


def _counter(lab: LanguageLab) -> Callable[[str], int]:
    """Tokens of the text of an answer."""
    return lambda text: len(encode_observation(lab.vocabulary, text))


def _lengths(lab: LanguageLab, ids: np.ndarray) -> np.ndarray:
    """Tokens of each answer, its stop token included, from ids [..., T]."""
    stops = np.isin(ids, lab.vocabulary.stop_ids)
    return np.where(stops.any(-1), stops.argmax(-1) + 1, ids.shape[-1])
