"""Folders of reward models: what opens them, and their scores of texts."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from rlhf_jax.checks import check_range
from rlhf_jax.cli.corrections import RULES, has_corrections, open_corrections
from rlhf_jax.cli.data import read_answers
from rlhf_jax.cli.ensembles import with_heads
from rlhf_jax.cli.entailment import open_entailment
from rlhf_jax.cli.features import has_features
from rlhf_jax.cli.gaps import GAP, has_gaps
from rlhf_jax.cli.layout import batch_rows, narrowed
from rlhf_jax.cli.mixtures import (
    MixtureModel,
    has_mixture,
    read_mixture,
)
from rlhf_jax.cli.principles import (
    Principles,
    asked_texts,
    read_principles,
    told_folder,
    told_reward,
)
from rlhf_jax.cli.ratings import has_ratings, rating_place, with_rating_heads
from rlhf_jax.cli.reward_lab import reward_lab
from rlhf_jax.cli.segments import Labels, has_segments, segment_sums, with_segment_heads
from rlhf_jax.cli.steps import COMBINED, PROCESS, read_separator
from rlhf_jax.cli.users import (
    UserModel,
    has_users,
    read_user_model,
)
from rlhf_jax.cli.verdicts import has_verdicts
from rlhf_jax.hf import load_model, load_reward
from rlhf_jax.ops.ensembles import (
    mean_scores,
    member_scale,
    standardised_scores,
    uncertainty_penalised_scores,
    worst_case_scores,
)
from rlhf_jax.recipes import (
    LanguageLab,
    RatingUnits,
    Reward,
    SegmentHead,
    head_of,
    process_reward,
)
from rlhf_jax.recipes.ensembles import num_heads
from rlhf_jax.recipes.rows import answer_batch, in_chunks
from rlhf_jax.recipes.vectors import answer_vectors
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import Params, TextReward

REFERENCE = 512  # answers by which the members of an ensemble get one zero and unit
ENSEMBLES = {  # what stands after the colon
    "mean_of": "ANSWERS,FOLDER,...",
    "worst_of": "ANSWERS,FOLDER,...",
    "penalised_of": "LAMBDA,ANSWERS,FOLDER,...",
}
SCALED = "scaled_of"  # scaled_of:ANSWERS,FOLDER
BY_USER = ("user_score", "user_win_rate")
BY_GROUP = "group_score"  # group_score:NUMBER,FOLDER
HEAD = "segments"  # segments:HEAD,FOLDER
RATING = "rating"  # rating:NAME,FOLDER
STEPWISE = (*COMBINED, *RULES)  # score steps or tokens


def open_reward(folder: Path, *, seed: int = 0, told: bool = False) -> tuple[LanguageLab, Params]:
    """A reward model's folder as a lab and its parameters; with `told`, one of principles too.

    Raises:
      UserError: the folder has no reward model, or one that has a name of its own in --reward.
    """
    if has_features(folder):
        raise UserError(f"{folder} has no scores of a language model, it reads ratings of features")
    if has_verdicts(folder):
        raise UserError(
            f"{folder} compares two answers: write anchor_win:{folder}, or --judge {folder}"
        )
    if has_gaps(folder):
        raise UserError(f"{folder} compares an answer with a reference: write {GAP}:{folder}")
    if has_users(folder):
        raise UserError(
            f"{folder} scores answers for a user: write user_win_rate:{folder} or "
            f"user_score:{folder}"
        )
    if has_mixture(folder):
        raise UserError(
            f"{folder} has a reward for each group of users: write {BY_GROUP}:NUMBER,{folder}"
        )
    if has_segments(folder):
        raise UserError(
            f"{folder} scores the segments of an answer: write {HEAD}:NAME,{folder}, with the name "
            "of a head"
        )
    if has_ratings(folder):
        raise UserError(
            f"{folder} has several ratings of an answer: write {RATING}:NAME,{folder}, with the "
            "name of a rating"
        )
    if not told and read_principles(folder) is not None:
        raise UserError(f"{folder} is told a principle: write principle_score:{folder}#PRINCIPLE")
    if read_separator(folder) is not None:
        raise UserError(
            f"{folder} scores the steps of an answer: write step_product:{folder} or "
            f"step_minimum:{folder}"
        )
    if has_corrections(folder):
        raise UserError(
            f"{folder} rewrites answers: write correction:{folder} or correction_sum:{folder}"
        )
    return _open(folder, seed)


def open_segments(folder: Path, *, mesh: Mesh | None = None) -> tuple[LanguageLab, Params, Labels]:
    """A folder of heads of segments: a lab, the params of all heads, and what each was taught.

    Raises:
      UserError: the folder has no such heads.
    """
    lab, params = _open(folder, 0, mesh)
    return lab, *with_segment_heads(params, folder)


def open_head(
    name: str, folder: Path, *, mesh: Mesh | None = None
) -> tuple[LanguageLab, SegmentHead]:
    """One head of a folder of heads of segments, which pays 1 or -1 for each.

    Raises:
      UserError: the folder has no such head.
    """
    lab, params, labels = open_segments(folder, mesh=mesh)
    if name not in labels:
        raise UserError(f"{folder} has no head {name!r}; its heads are {', '.join(labels)}")
    params = head_of(params, list(labels).index(name))
    return lab, SegmentHead(labels[name].segments, 1.0, params=params)


def head_and_folder(rest: str, kind: str = HEAD) -> tuple[str, Path]:
    """What stands after the colon of HEAD or RATING."""
    name, comma, folder = rest.partition(",")
    if not (name and comma and folder):
        raise UserError(f"{kind}:{rest} must be {kind}:NAME,FOLDER")
    return name, Path(folder)


def open_ratings(folder: Path) -> tuple[LanguageLab, Params, RatingUnits]:
    """A folder of several ratings: a lab, the params of all heads, and their names and units.

    Raises:
      UserError: the folder has no such heads.
    """
    lab, params = _open(folder, 0)
    return lab, *with_rating_heads(params, folder)


def open_stepwise(
    folder: Path, kind: str, *, mesh: Mesh | None = None
) -> tuple[LanguageLab, Reward]:
    """`open_corrections` or `open_process` of this folder. kind: a name of STEPWISE."""
    return (open_corrections if kind in RULES else open_process)(folder, kind, mesh=mesh)


def open_process(
    folder: Path, combine: str = "step_product", *, mesh: Mesh | None = None
) -> tuple[LanguageLab, Reward]:
    """A process reward model's folder as a lab and a reward, which has its parameters.

    The lab's `scores` are those of the steps of an answer, combined: a name of COMBINED.

    Raises:
      UserError: the folder has no process reward model.
    """
    separator = read_separator(folder)
    if separator is None:
        raise UserError(
            f"{folder} has no file {PROCESS}: it is not a process reward model, which "
            "rlhf reward --kind process makes"
        )
    lab, params = _open(folder, 0, mesh)
    reward = process_reward(lab, params, combine=COMBINED[combine], separator=separator)
    scores = jax.jit(lambda params, trajectory: reward.scores(params, (), trajectory))
    return lab._replace(scores=scores), reward


def open_users(folder: Path) -> tuple[LanguageLab, Params, UserModel]:
    """A folder of a reward of users: a lab, the language model's parameters, and the rest.

    Raises:
      UserError: the folder has none.
    """
    model = read_user_model(folder)
    with reading_input():
        found = load_model(folder)
        return reward_lab(folder, found, 0), found.params, model


def open_mixture(folder: Path) -> tuple[LanguageLab, Params, MixtureModel]:
    """A folder of rewards of groups: a lab, the language model's parameters, and the rest.

    Raises:
      UserError: the folder has none.
    """
    model = read_mixture(folder)
    with reading_input():
        found = load_model(folder)
        return reward_lab(folder, found, 0), found.params, model


def _open(folder: Path, seed: int, mesh: Mesh | None = None) -> tuple[LanguageLab, Params]:
    """A sequence classifier with one label."""
    with reading_input():
        found = load_reward(folder, mesh=mesh)
        return reward_lab(folder, found, seed), found.params


# ---- Scores of texts.


def text_scores(
    lab: LanguageLab, params: Params, prompts: Sequence[Any], answers: Sequence[str]
) -> np.ndarray:
    """A reward model's score of each answer, [N]."""
    rows = [{"prompt": a, "answer": b} for a, b in zip(prompts, answers, strict=True)]
    narrow, size = narrowed(lab, rows), batch_rows(rows)
    return in_chunks(lambda part: lab.scores(params, answer_batch(narrow, part)), rows, size=size)


def model_score(lab: LanguageLab, params: Params) -> TextReward:
    """Scores of a reward model. It reads texts, so its tokenizer may be another one."""

    def score(prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any) -> list[float]:
        # An empty answer has no token to score; a space is as near to it as texts come.
        texts = [answer or " " for answer in answers]
        return text_scores(lab, params, prompts, texts).tolist()

    return score


def ensemble_score(kind: str, rest: str) -> TextReward:
    """Scores of several reward models as one, each in its own zero and unit over given answers.

    Args:
      kind, rest: of ENSEMBLES; ANSWERS is a file of prompts and answers, e.g. the data of SFT.
    Raises:
      UserError: no answers, fewer than two members, or one that scores all answers alike.
    """
    words = rest.split(",")
    combine: Any = {"mean_of": mean_scores, "worst_of": worst_case_scores}.get(kind)
    if combine is None:
        if not is_number(words[0]):
            raise UserError(f"{kind}:{rest} needs a number before the answers: {ENSEMBLES[kind]}")
        check_range("[0, inf)", **{f"lambda of {kind}": float(words[0])})
        combine = partial(uncertainty_penalised_scores, penalty=float(words.pop(0)))
    file, *folders = map(Path, words)
    opened = [with_heads(*open_reward(folder), folder) for folder in folders]
    if sum(map(num_heads, (params for _, params in opened))) < 2:
        raise UserError(
            f"{kind}:{rest} must be {kind}:{ENSEMBLES[kind]}, with a file of answers and two "
            "reward models at least, or one of rlhf reward --kind ensemble"
        )
    every = _standardised_by(file, opened)

    def score(prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any) -> list[float]:
        return combine(every(prompts, answers)).tolist()

    return score


def scaled_score(rest: str) -> TextReward:
    """The score of one reward model in its zero and unit over given answers.

    Args:
      rest: "ANSWERS,FOLDER", see `ensemble_score`.
    Raises:
      UserError: no answers, or all scored alike.
    """
    file, comma, folder = rest.partition(",")
    if not comma:
        raise UserError(f"{SCALED}:{rest} must be {SCALED}:ANSWERS,FOLDER")
    every = _standardised_by(Path(file), [open_reward(Path(folder))])

    def score(prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any) -> list[float]:
        return every(prompts, answers)[0].tolist()

    return score


def scaled_name(rest: str) -> str:
    """The name of such a score: that of the folder of the run, "love" of runs/love/model."""
    folder = Path(rest.partition(",")[2])
    return folder.parent.name if folder.name == "model" and folder.parent.name else folder.name


def _standardised_by(
    file: Path, opened: Sequence[tuple[LanguageLab, Params]]
) -> Callable[[Sequence[Any], Sequence[str]], jax.Array]:
    """`(prompts, answers) -> [N, B]`: each member in its zero and unit over the answers of a file,
    which are frozen."""
    records = read_answers(file, opened[0][0].chat)[:REFERENCE]
    known = ([row[name] for row in records] for name in ("prompt", "answer"))

    def every(prompts: Sequence[Any], answers: Sequence[str]) -> jax.Array:
        texts = [answer or " " for answer in answers]  # as in `model_score`
        each = [np.asarray(text_scores(lab, params, prompts, texts)) for lab, params in opened]
        # One head gives [N], several give [N, heads].
        return jnp.asarray(np.concatenate([x if x.ndim > 1 else x[:, None] for x in each], 1).T)

    scale = member_scale(every(*known))
    return lambda prompts, answers: standardised_scores(every(prompts, answers), scale)


def head_score(name: str, folder: Path) -> TextReward:
    """What a head pays for an answer in all."""
    lab, head = open_head(name, folder)

    def score(prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any) -> list[float]:
        texts = [answer or " " for answer in answers]  # as in `model_score`
        rows = [{"prompt": a, "answer": b} for a, b in zip(prompts, texts, strict=True)]
        size = batch_rows(rows)
        return segment_sums(narrowed(lab, rows), head, rows, batch_size=size)

    return score


def rating_score(name: str, folder: Path) -> TextReward:
    """A predicted rating of an answer, in deviations from the mean of the training rows."""
    lab, params, units = open_ratings(folder)
    place = rating_place(units, name, folder)
    params = {**params, "head": jax.tree.map(lambda x: x[place], params["head"])}
    return model_score(lab, params)


def text_vectors(
    lab: LanguageLab, params: Params, prompts: Sequence[Any], texts: Sequence[str]
) -> np.ndarray:
    """The model's vector of each answer, [N, d]."""
    rows = [{"prompt": a, "answer": b} for a, b in zip(prompts, texts, strict=True)]
    narrow, size = narrowed(lab, rows), batch_rows(rows)
    return answer_vectors(narrow, params, rows, batch_size=size)


def principle_reward(kind: str, rest: str) -> tuple[str, TextReward, str | None]:
    """Name, reward and column of `FOLDER#NAME#NAME`; UserError names a principle never seen."""
    folder, names, known = told_folder(rest)
    return kind, *told_reward(kind, names, known, principle_scores(folder, known))


def principle_scores(
    folder: Path, known: Principles
) -> Callable[[Sequence[Any], Sequence[str], Sequence[str]], np.ndarray]:
    """`(prompts, answers, principles [N]) -> [N]`, by a head or by the words of a model."""
    if known.words is not None:
        return open_entailment(folder, known).scores
    lab, params = open_reward(folder, told=True)

    def scores(prompts: Sequence[Any], answers: Sequence[str], names: Sequence[str]) -> np.ndarray:
        return text_scores(lab, params, asked_texts(known, prompts, names), answers)

    return scores


def is_number(text: str) -> bool:
    """Whether it reads as a float."""
    try:
        float(text)
    except ValueError:
        return False
    return True
