"""Fine-grained rewards of texts: heads that score the segments of an answer, each its own kind.

    labels = [HeadLabels(subsentences, ["off topic"]), HeadLabels(sentences, ["false"])]
    rows = segment_rows(lab, records, labels, batch_size=16)
    first = first_heads(lab, policy_params, members=len(labels))
    params = segment_model(stage, lab, rows, first, fit)        # both heads on one trunk
    reward = segment_reward(lab, task, {
        "relevance": SegmentHead(subsentences, 0.3, params=head_of(params, 0)),
        "factuality": SegmentHead(sentences, 0.5, params=head_of(params, 1)),
        "length": SegmentHead(whole_answer, 0.1, score=brevity),
    })
    method = ppo(lab, PPOConfig(), critic, credit=gae_of_steps)

A head is a model, read after the last token of each segment, or a Python function of texts. Texts
are cut on the host; rewards are placed within the compiled step.

Reference: Wu et al. 2023, arXiv:2306.01693.
Departs: the heads share a trunk, where the paper's are models of their own. A model is causal and
  reads a segment at its end; the paper's is bidirectional and reads a separator before it, so a
  reward there may depend on later text.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.algos import process_model as process_update
from rlhf_jax.algos.process_model import StepBatch, StepScores
from rlhf_jax.data.loader import batches
from rlhf_jax.data.spans import (
    MarkedSpan,
    Segment,
    check_spans,
    reached_ends,
    segment_labels,
    token_ends,
)
from rlhf_jax.data.tokenizer import decode_rows, encode_completions
from rlhf_jax.models.heads import ScalarModel
from rlhf_jax.ops.segments import SegmentRewards, sign_rewards, token_rewards
from rlhf_jax.recipes.ensembles import member_axes
from rlhf_jax.recipes.episodes import Transcripts, score_transcripts
from rlhf_jax.recipes.lab import LanguageLab, hold_params, make_trajectories
from rlhf_jax.recipes.offline import Fit, built, fit_rows, step_options
from rlhf_jax.recipes.process import scores_of
from rlhf_jax.recipes.refusals import quoted
from rlhf_jax.recipes.rewards import Reward
from rlhf_jax.recipes.rows import Records, Rows
from rlhf_jax.recipes.task import Scores, Task
from rlhf_jax.sharding import on_host
from rlhf_jax.training import Stage, UserError
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
    params: of the lab's reward model, `head_of` what `segment_model` trained; it pays +1 where the
      error is less likely than not, -1 elsewhere.
    """

    segments: Segments
    weight: float
    score: ScoreSegments | None = None
    params: Params | None = None


def whole_answer(text: str) -> list[Segment]:
    """One segment, or none of an empty answer."""
    return [(0, len(text))] if text.strip() else []


class HeadLabels(NamedTuple):
    """What one head learns of marked answers.

    segments: as of `SegmentHead`. kinds, unless: as in `data.spans.segment_labels`.
    """

    segments: Segments
    kinds: Collection[str]
    unless: Collection[str] = ()


def segment_rows(
    lab: LanguageLab, records: Records, labels: Sequence[HeadLabels], *, batch_size: int
) -> Rows:
    """Batches of marked answers for `segment_model`, in an order of the lab's seed.

    Args:
      records: {"prompt", "answer": text, "spans": [MarkedSpan or (start, end, kind)]}.
      labels: of K heads.
    """

    def take(part: Sequence[Mapping[str, Any]]) -> StepBatch:
        return segment_batch(lab, part, labels)

    return batches(records, batch_size=batch_size, seed=lab.seed, batch_fn=take)


def segment_batch(
    lab: LanguageLab, records: Sequence[Mapping[str, Any]], labels: Sequence[HeadLabels]
) -> StepBatch:
    """Answers with labels [B, K, T] at the last tokens of segments, 1 for one without the error.

    Segments that end beyond the lab's longest answer are left out. Of several that end at one
    token, an error counts.

    Raises:
      UserError: a span that is not within its answer; it quotes the prompt.
    """
    answers = [record["answer"] for record in records]
    trajectory = make_trajectories(lab, [record["prompt"] for record in records], answers)
    rows, length = trajectory.actions.shape
    ends = np.zeros((rows, len(labels), length), bool)
    right = np.ones(ends.shape, np.float32)
    cuts = [[head.segments(answer) for head in labels] for answer in answers]
    count = _token_counts(lab, answers, cuts)
    for row, record in enumerate(records):
        spans = [MarkedSpan(*span) for span in record["spans"]]
        try:
            check_spans(record["answer"], spans)
        except ValueError as error:
            raise UserError(
                f"the record with the prompt {quoted(record['prompt'])}: {error}"
            ) from error
        for head, (_, kinds, unless) in enumerate(labels):
            places = token_ends(answers[row], cuts[row][head], count, length=length + 1)
            known = segment_labels(cuts[row][head], spans, kinds, unless=unless)
            for place, label in zip(places, known, strict=True):
                if place < length and label is not None:
                    ends[row, head, place] = True
                    right[row, head, place] = min(right[row, head, place], float(label))
    return StepBatch(trajectory, jnp.asarray(ends), jnp.asarray(np.where(ends, right, 0.0)))


def _token_counts(
    lab: LanguageLab, answers: Sequence[str], cuts: Sequence[Sequence[Sequence[Segment]]]
) -> Callable[[str], int]:
    """Tokens of the beginnings of these answers, up to the ends of their segments."""
    texts = {
        answer[:end]
        for answer, heads in zip(answers, cuts, strict=True)
        for parts in heads
        for _, end in parts
    }
    # All at once: the tokenizer has threads. Each row has the stop token too.
    rows = encode_completions(lab.vocabulary, [*texts]) if texts else []
    return {text: len(ids) - 1 for text, ids in zip(texts, rows, strict=True)}.__getitem__


def head_examples(
    head: HeadLabels, records: Sequence[Mapping[str, Any]]
) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Texts of all labelled segments, [N] whether each is free of the error, [N] its record."""
    texts, free, rows = [], [], []
    for row, record in enumerate(records):
        answer, parts = record["answer"], head.segments(record["answer"])
        spans = [MarkedSpan(*span) for span in record["spans"]]
        known = segment_labels(parts, spans, head.kinds, unless=head.unless)
        for (start, end), label in zip(parts, known, strict=True):
            if label is not None:
                texts.append(answer[start:end])
                free.append(label)
                rows.append(row)
    return texts, np.array(free, bool), np.array(rows, int)


def segment_model(stage: Stage, lab: LanguageLab, rows: Rows, params: Params, fit: Fit) -> Params:
    """K scores for each segment from labels, in one pass of the trunk; params from `first_heads`.

    The loss is the mean of `soft_process_loss` over the labelled segments of all heads.
    """
    options = step_options(lab, fit, "reward")
    update = built(process_update.make_update, heads_scores(lab.scorer), fit.optimizer, **options)
    axes = {**lab.axes, "reward": member_axes(lab.axes["reward"], shared=True)}
    return fit_rows(stage, lab._replace(axes=axes), update, rows, params, fit, part="reward")


def head_of(params: Params, number: int) -> Params:
    """One of the heads that `segment_model` trained, as params of the lab's reward model."""
    return {**params, "head": jax.tree.map(lambda x: x[number], params["head"])}


@cache
def heads_scores(scorer: ScalarModel) -> StepScores:
    """`(params, trajectory [*B]) -> [*B, K, T]`, the scores of K heads after each token."""
    read = scores_of(scorer)

    def scores(params: Params, trajectory: Trajectory) -> Array:
        trunk = {name: each for name, each in params.items() if name != "head"}
        each = jax.vmap(lambda head: read({**trunk, "head": head}, trajectory))(params["head"])
        return jnp.moveaxis(each, 0, -2)

    return scores


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
        texts, scored = score_transcripts(lab, task, indices, found)
        given, named = {}, dict(scored)
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


class HostPart(NamedTuple):
    """The fields of `SegmentRewards`, [B, K, T] on the host."""

    ends: np.ndarray
    rewards: np.ndarray
    mask: np.ndarray


def _host_part(
    lab: LanguageLab,
    head: SegmentHead,
    prompts: Sequence[Any],
    texts: Sequence[Sequence[str]],
    ids: np.ndarray,
) -> HostPart:
    """Ends, rewards and mask [B, K, T] of one head; rewards are 0 where a model gives them."""
    lengths = _lengths(lab, ids)
    ends = np.zeros(ids.shape, np.int32)
    mask = np.zeros(ids.shape, bool)
    rewards = np.zeros(ids.shape, np.float32)
    rows = [(b, k, text) for b, answers in enumerate(texts) for k, text in enumerate(answers)]
    parts = [list(head.segments(text)) for _, _, text in rows]
    found = [None] * len(rows)
    if (score := head.score) is not None:
        columns = ([prompts[b] for b, _, _ in rows], [text for *_, text in rows], parts)
        found = by_rows(lambda *given: _ask(score, *given), *columns)
    for (b, k, _), segments, values in zip(rows, parts, found, strict=True):
        places = _ends_of(lab, ids[b, k, : lengths[b, k]], segments)
        count = len(places)
        if count > ids.shape[-1]:
            raise UserError(f"an answer of at most {ids.shape[-1]} tokens has {count} segments")
        ends[b, k, :count], mask[b, k, :count] = places, True
        if values is not None:
            rewards[b, k, :count] = values
    return HostPart(ends, rewards, mask)


def _ask(
    score: ScoreSegments,
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


def _ends_of(lab: LanguageLab, ids: np.ndarray, segments: Sequence[Segment]) -> list[int]:
    """`reached_ends` of the segments of a drawn answer."""
    tokens = ids.tolist()

    def characters(count: int) -> int:
        return len(decode_rows(lab.vocabulary, [tokens[:count]])[0])

    return reached_ends(segments, characters, length=len(ids))


def _lengths(lab: LanguageLab, ids: np.ndarray) -> np.ndarray:
    """Tokens of each answer, its stop token included, from ids [..., T]."""
    stops = np.isin(ids, lab.vocabulary.stop_ids)
    return np.where(stops.any(-1), stops.argmax(-1) + 1, ids.shape[-1])
