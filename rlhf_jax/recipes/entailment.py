"""A language model that says yes or no: does an answer follow a principle? (RLBFF, generative form)

    judge = entailment_judge(lab)                       # what it is asked, and its two words
    asked = entailment_records(lab, judge, records)     # {"prompt", "answer", "principle", "label"}
    rows = entailment_rows(lab, judge, asked, batch_size=16)
    params = entailment_model(stage, lab, rows, sft, fit, judge=judge)
    scores = entailment_scores(lab, judge, params, prompts, answers, principles)    # [N]

The score is the log-odds of yes where the verdict stands: at once, or with `samples` after what the
model writes first. A judgement that does not end with a verdict is counted and left out. A judge
that writes is trained by a rule: `online` with `grpo` on its own questions, a task of which the
score is `entailment_rule`. `recipes.principles` has the form with a head in place of words.

Reference: Wang et al. 2025, arXiv:2509.21319.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from rlhf_jax.algos.entailment import EntailmentBatch, make_written_update
from rlhf_jax.algos.reward_ensemble import Combine
from rlhf_jax.data.messages import as_user
from rlhf_jax.data.readers import reader
from rlhf_jax.ops.ensembles import mean_scores
from rlhf_jax.policies.entailment import at_verdict, entailment_logits, entailment_reward
from rlhf_jax.recipes.hosts import host_batches
from rlhf_jax.recipes.lab import LanguageLab, make_trajectories, stage_key
from rlhf_jax.recipes.offline import Fit, built, fit_rows, step_options
from rlhf_jax.recipes.principles import principle_label
from rlhf_jax.recipes.rows import Records, Rows, answer_batch, in_chunks
from rlhf_jax.recipes.texts import sample_rollouts
from rlhf_jax.recipes.tokens import answer_text
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.sharding import on_host
from rlhf_jax.training import Stage, UserError
from rlhf_jax.types import Params, Policy, RewardFn, TextReward, Trajectory

QUESTION = "{prompt} answer : {answer} principle : {principle} yes or no :"
WORDS = ("yes", "no")
_ROOM = 8  # tokens in which a verdict is looked for, to count those it has


class EntailmentJudge(NamedTuple):
    """template: of a question, with {prompt}, {answer} and {principle}. words: yes and no, a token
    each, with these ids. logits, reward: of the lab's policy, where the verdict stands."""

    template: str
    words: tuple[str, str]
    ids: tuple[int, int]
    logits: Callable[[Params, Trajectory], Array]
    reward: RewardFn


def entailment_judge(
    lab: LanguageLab, words: tuple[str, str] = WORDS, *, template: str = QUESTION
) -> EntailmentJudge:
    """The judge of the lab's policy.

    Raises:
      UserError: words that are no two known tokens.
    """
    ids = _only_token(lab, words[0]), _only_token(lab, words[1])
    if ids[0] == ids[1]:
        raise UserError(f"the verdicts {words[0]!r} and {words[1]!r} are the same token")
    return EntailmentJudge(template, words, ids, *_of_policy(lab.policy, *ids))


@cache
def _of_policy(policy: Policy, yes: int, no: int) -> tuple[Any, RewardFn]:
    """One of each for a policy, so that they compile once."""
    return partial(entailment_logits, policy), entailment_reward(policy, yes=(yes,), no=(no,))


def _only_token(lab: LanguageLab, word: str) -> int:
    """The token of a verdict as the lab writes it into an answer."""
    wide, stops = lab._replace(answer_length=_ROOM), lab.vocabulary.stop_ids
    try:
        row = make_trajectories(wide, [_as_prompt(lab, word)], [word])
    except UserError as error:
        raise UserError(f"the verdict {word!r} must be one token: {error}") from error
    ids = [i for i in np.asarray(row.actions)[np.asarray(row.mask)].tolist() if i not in stops]
    if len(ids) != 1:
        raise UserError(f"the verdict {word!r} must be one token, is {len(ids)}")
    if ids[0] == reader(lab.vocabulary.tokenizer).unknown:
        raise UserError(f"the verdict {word!r} is unknown to the tokenizer; choose another")
    return ids[0]


def _as_prompt(lab: LanguageLab, text: str) -> Any:
    return text if lab.chat is None else list(as_user(text))


def entailment_question(
    lab: LanguageLab, judge: EntailmentJudge, prompt: Any, answer: Any, principle: str
) -> Any:
    """What the judge reads of an answer; one message of a user in a lab with a chat template."""
    if not isinstance(prompt, str):
        prompt = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in prompt)
    given = {"prompt": prompt, "answer": answer_text(answer), "principle": principle}
    return _as_prompt(lab, judge.template.format(**given))


def entailment_records(lab: LanguageLab, judge: EntailmentJudge, records: Records) -> list[dict]:
    """Records of the question as "prompt" and the right word as "answer", beside the "label".

    Raises:
      UserError: as `asked_records`.
    """
    found = []
    for number in range(len(records)):
        record = records[number]
        principle, label = principle_label(record)
        asked = entailment_question(lab, judge, record["prompt"], record["answer"], principle)
        word = judge.words[0 if label else 1]
        found.append({"prompt": asked, "answer": word, "label": label, "row": number})
    return found


def entailment_batch(
    lab: LanguageLab, judge: EntailmentJudge, asked: Sequence[dict]
) -> EntailmentBatch:
    """Records of `entailment_records` as one batch; the verdict alone counts."""
    labels = np.array([record["label"] for record in asked], bool)
    return EntailmentBatch(_verdict_rows(lab, judge, asked), jnp.asarray(labels))


def _verdict_rows(lab: LanguageLab, judge: EntailmentJudge, asked: Sequence[dict]) -> Trajectory:
    """Questions, each with a word and its mask there."""
    found = answer_batch(lab, asked)
    said = jnp.isin(found.actions, jnp.asarray(judge.ids)) & found.mask
    return replace(found, mask=said)


def entailment_rows(
    lab: LanguageLab, judge: EntailmentJudge, asked: Records, *, batch_size: int
) -> Rows:
    """Batches of `entailment_records`, in an order of the lab's seed."""
    take = partial(entailment_batch, lab, judge)
    return host_batches(lab, asked, take, batch_size=batch_size)


def entailment_model(
    stage: Stage,
    lab: LanguageLab,
    rows: Rows,
    params: Params,
    fit: Fit,
    *,
    judge: EntailmentJudge,
) -> Params:
    """Cross-entropy of the verdict among all tokens; params of a policy, before and after."""
    said = {"yes": judge.ids[:1], "no": judge.ids[1:]}
    update = built(
        make_written_update, judge.logits, fit.optimizer, **said, **step_options(lab, fit)
    )
    return fit_rows(stage, lab, update, rows, params, fit, part="policy")


def entailment_scores(
    lab: LanguageLab,
    judge: EntailmentJudge,
    params: Params,
    prompts: Sequence[Any],
    answers: Sequence[Any],
    principles: Sequence[str],
    *,
    samples: int = 0,
    sampling: SamplingConfig | None = None,
    counts: Counter | None = None,
    batch_size: int = 16,
) -> Float[np.ndarray, " N"]:
    """Log-odds that each answer follows its principle, NaN without a verdict.

    Args:
      principles: one for each answer, in any words.
      samples: judgements in text, each read at its own verdict, and the mean taken over those that
        have one; 0 asks for the verdict at once, which every question then has.
      sampling: of the judgements; None for the lab's.
      counts: gets "judgements" and "unread", those without a verdict.
    """
    sides = zip(prompts, answers, principles, strict=True)
    asked = [entailment_question(lab, judge, *each) for each in sides]
    if not samples:
        return _at_once(lab, judge, params, asked, batch_size)
    found = _after_judgements(lab, judge, params, asked, samples, sampling)
    known = np.isfinite(found)
    if counts is not None:
        counts.update(judgements=found.size, unread=int((~known).sum()))
    some = known.sum(1)
    means = np.where(known, found, 0.0).sum(1) / np.maximum(some, 1)
    return np.where(some > 0, means, np.nan)


def _at_once(
    lab: LanguageLab, judge: EntailmentJudge, params: Params, asked: Sequence[Any], size: int
) -> Float[np.ndarray, " N"]:
    """[N] log-odds as the first word."""
    narrow, scores = lab._replace(answer_length=_ROOM), _compiled(judge.reward.scores)

    def chunk(part: Sequence[dict]) -> Array:
        return scores(params, _verdict_rows(narrow, judge, part))

    rows = [{"prompt": question, "answer": judge.words[0]} for question in asked]
    return np.asarray(in_chunks(chunk, rows, size=size), float)


def _after_judgements(
    lab: LanguageLab,
    judge: EntailmentJudge,
    params: Params,
    asked: Sequence[Any],
    samples: int,
    sampling: SamplingConfig | None,
) -> Float[np.ndarray, "N M"]:
    """[N, samples] log-odds at the end of each judgement, NaN without a verdict."""
    scores, key = _compiled(judge.reward.scores), stage_key(lab, "entailment")
    said = {"yes": judge.ids[:1], "no": judge.ids[1:], "stops": lab.vocabulary.stop_ids}
    options: dict[str, Any] = {"samples": samples, "sampling": sampling}
    found = [
        np.asarray(on_host(scores(params, at_verdict(rollout.trajectory, **said))), float)
        for rollout in sample_rollouts(lab, params, asked, key, **options)
    ]
    return np.concatenate(found)[: len(asked)]


_compiled: Any = cache(jax.jit)


def entailment_text_reward(
    lab: LanguageLab,
    judge: EntailmentJudge,
    params: Params,
    principles: Sequence[str],
    *,
    combine: Combine = mean_scores,
    clip: float = 10.0,
    samples: int = 0,
    sampling: SamplingConfig | None = None,
    counts: Counter | None = None,
) -> TextReward:
    """Rewards of texts under all of these principles; None where one of them has no verdict.

    Args:
      combine: as in `algos.entailment.principle_reward`, of log-odds cut at -clip and clip.
      samples, sampling, counts: as in `entailment_scores`.
    Raises:
      UserError: no principle.
    """
    if not len(principles):
        raise UserError("a judge of yes and no needs at least one principle, got none")
    options: dict[str, Any] = {"samples": samples, "sampling": sampling, "counts": counts}

    def score(
        prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any
    ) -> list[float | None]:
        given = (lab, judge, params, prompts, answers)
        each = [entailment_scores(*given, [name] * len(answers), **options) for name in principles]
        total = combine(jnp.clip(jnp.asarray(np.stack(each), jnp.float32), -clip, clip))
        return [x if np.isfinite(x) else None for x in np.asarray(total).tolist()]

    return score


def entailment_rule(words: tuple[str, str] = WORDS, *, column: str = "label") -> TextReward:
    """Trains a judge that writes: 1 where its last word is the right verdict, else 0.

    Args:
      words: yes and no. column: of the labels, true where the answer follows its principle.
    Raises:
      ValueError: the reward, for a label that is neither true nor false.
    Departs: the paper pays the signed log-odds (`ops.entailment.signed_log_odds`), its exact form
      is not known here.
    """

    def score(prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any) -> list[float]:
        found = []
        for text, label in zip(answers, columns[column], strict=True):
            if not isinstance(label, bool | int) or label not in (0, 1):
                raise ValueError(f"a verdict's label must be true or false, got {label!r:.20}")
            found.append(float(text.split()[-1:] == [words[0 if label else 1]]))
        return found

    return score
