"""What a kind gives back, and scores of records by any compiled model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from experiments.shop_rewards.world import SIDES, Part, Tools
from rlhf_jax.recipes import LanguageLab, Reward
from rlhf_jax.recipes.buckets import by_length
from rlhf_jax.recipes.rows import answer_batch, in_chunks
from rlhf_jax.training import Run, Stage, StageResult, run_stage
from rlhf_jax.types import Params, PyTree

BATCH, SHORTEST = 128, 32  # answers scored at a time, and of which a part of one length has some
MANY, COLUMNS = 1024, 16


class Scored(NamedTuple):
    """Scores of R records. readings: name of a reward -> [R], whose differences are log-odds.

    members: [N, R] in units of their own, of an ensemble; None of everything else.
    """

    readings: dict[str, np.ndarray]
    members: np.ndarray | None = None


@runtime_checkable
class MakeReward(Protocol):
    """A reward of policies, made when a policy is trained on it."""

    def __call__(self) -> Reward: ...


class Fitted(NamedTuple):
    """A trained kind. scores: records of a prompt and an answer -> `Scored`.

    rewards: what a policy can be trained on, by the name of a reading; made when it is called.
    seconds: of its training. info: counts to report.
    """

    scores: Callable[[list[dict]], Scored]
    rewards: Mapping[str, MakeReward]
    seconds: float
    info: Mapping[str, Any] = {}


@runtime_checkable
class FitKind(Protocol):
    """Trains a kind on the pairs of a part, in stages of its own."""

    def __call__(self, job: Run, tools: Tools, part: Part, /) -> Fitted: ...


@runtime_checkable
class ScoreBatch(Protocol):
    """Scores [B] or [B, N] of a batch that `MakeBatch` made."""

    def __call__(self, lab: LanguageLab, batch: Any, /) -> jax.Array: ...


@runtime_checkable
class MakeBatch(Protocol):
    """What is scored of B records."""

    def __call__(self, lab: LanguageLab, rows: list[dict], /) -> PyTree: ...


def trained(
    job: Run, tools: Tools, name: str, work: Callable[[Stage], tuple[Params, dict]], init: Any
) -> StageResult:
    """Params of a stage, which is done once however many kinds use it.

    Args:
      init: `key -> params` of the same shapes.
    """
    if name not in tools.kept:
        like = jax.eval_shape(init, jax.random.key(0))
        tools.kept[name] = run_stage(job, name, work, like=like)
    return tools.kept[name]


def scored(
    score: ScoreBatch,
    lab: LanguageLab,
    records: Sequence[dict],
    *,
    batch: MakeBatch = answer_batch,
) -> np.ndarray:
    """[R] or [R, N]; an answer that comes again is scored once, a short one in few columns."""
    numbers: dict[tuple[str, str], int] = {}
    places = [numbers.setdefault((row["prompt"], row["answer"]), len(numbers)) for row in records]
    first = dict(zip(reversed(places), reversed(records), strict=True))
    unique = [first[number] for number in range(len(first))]
    many = len(unique) >= MANY  # else one program does for all

    def work(narrow: LanguageLab, part: Sequence[dict]) -> np.ndarray:
        own = rounded(narrow if many else lab)
        return in_chunks(lambda rows: score(own, batch(own, rows)), part, size=BATCH)

    return by_length(work, lab, unique, batch_size=SHORTEST)[np.array(places)]


def rounded(lab: LanguageLab) -> LanguageLab:
    """The lab with columns in multiples of COLUMNS: few shapes, and so few programs."""
    prompt, answer = (-(-x // COLUMNS) * COLUMNS for x in (lab.prompt_length, lab.answer_length))
    return lab._replace(prompt_length=prompt, answer_length=answer)


def answers_of(pairs: Sequence[dict]) -> list[dict]:
    """Chosen answers of all pairs, then the others."""
    rows = [(row, side) for side in SIDES for row in pairs]
    return [
        {"prompt": row["prompt"], "answer": row[side], "index": row.get("index")}
        for row, side in rows
    ]


def margins(scores: np.ndarray) -> np.ndarray:
    """[..., N] chosen less rejected, from scores [..., 2 N] of `answers_of`."""
    chosen, rejected = np.split(scores, 2, axis=-1)
    return chosen - rejected
