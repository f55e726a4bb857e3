"""Rewards that are told a principle: training on yes and no, held-out numbers, and their folder.

Their folder is that of a reward model with a file PRINCIPLES beside it.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.cli.data import dialogue_numbers
from rlhf_jax.cli.frame import Opened, Training
from rlhf_jax.cli.measures import Numbers
from rlhf_jax.cli.reward_measures import grouped_mean, margin_quality
from rlhf_jax.cli.session import Start
from rlhf_jax.data.principles import principle_numbers
from rlhf_jax.hf.vocabulary import read_object
from rlhf_jax.ops.ensembles import mean_scores, worst_case_scores
from rlhf_jax.recipes import LanguageLab, principle_model, principle_rows
from rlhf_jax.recipes.buckets import token_lengths
from rlhf_jax.recipes.principles import (
    TEMPLATE,
    asked_prompt,
    asked_records,
    log_odds,
    principle_label,
)
from rlhf_jax.recipes.rows import Records
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import Params, TextReward

PRINCIPLES = "principle_reward.json"  # fields of `Principles`
LARGEST = 10.0  # log-odds: a verdict that is nearly certain does not outweigh all others
COMBINED_PRINCIPLES: dict[str, Callable[[jax.Array], jax.Array]] = {
    "principle_score": mean_scores,
    "principle_mean": mean_scores,
    "principle_min": worst_case_scores,
}


class Principles(NamedTuple):
    """names: that a reward was trained on. template: of a prompt with one of them. words: yes and
    no of a language model, whose template has the answer too; None of a head."""

    names: tuple[str, ...]
    template: str
    words: tuple[str, str] | None = None


def principle_training(
    opened: Opened, start: Start, *, prompt_length: int, batch_size: int
) -> Training:
    """The log-odds that an answer follows a principle, from labelled answers.

    Args:
      prompt_length: tokens of a prompt with its principle, at most.
    Raises:
      UserError: a row without a principle, a held-out one that is in no training row, or prompts
        that would lose it.
    """
    lab = start.lab
    check_cut(lab)
    records = asked_records(opened.records)
    # The lab is as wide as the prompts without principles.
    asked = [*records, *asked_records(opened.held)]
    longest = int(token_lengths(lab, asked)[..., 0].max())
    lab = lab._replace(prompt_length=min(max(lab.prompt_length, longest), prompt_length))
    known = Principles(known_names(records, opened.held), TEMPLATE)
    given = {"names": known.names, "template": TEMPLATE}

    def quality(params: Params) -> Numbers:
        if not opened.held:
            return {}
        odds = head_odds(lab, params, known, batch_size=batch_size)
        return principle_quality(odds, opened.held, known) | commoner_labels(opened.held, records)

    return Training(
        lab=lab,
        first=start.params,
        recipe=principle_model,
        rows=lambda _: principle_rows(lab, records, batch_size=batch_size),
        quality=quality,
        export=start.merge,
        files={PRINCIPLES: (json.dumps(given, ensure_ascii=False) + "\n").encode()},
    )


def check_cut(lab: LanguageLab) -> None:
    """UserError for a lab that would cut the principles."""
    if lab.long_prompts == "truncate_right":
        raise UserError(
            "--long-prompts truncate_right cuts the principle, which stands at the end of the "
            "prompt: choose error, drop or truncate_left"
        )


def known_names(train: Records, held: Records) -> tuple[str, ...]:
    """The principles of the training rows.

    Raises:
      UserError: a held-out row has another one.
    """
    names = tuple(dict.fromkeys(record["principle"] for record in train))
    with reading_input():
        principle_numbers([record.get("principle") for record in held], names)
    return names


def head_odds(
    lab: LanguageLab, params: Params, known: Principles, *, batch_size: int
) -> Callable[[Records], np.ndarray]:
    """Records -> [N] log-odds by a head that reads the principle in the prompt."""

    def odds(records: Records) -> np.ndarray:
        asked = asked_records(records, template=known.template)
        return log_odds(lab, params, asked, batch_size=batch_size)

    return odds


def principle_quality(
    odds: Callable[[Records], np.ndarray], records: Records, known: Principles
) -> Numbers:
    """Accuracy and calibration of yes and no, on rows of labelled answers with their principles.

    "accuracy, another principle" asks about one that stands elsewhere in the list: as high as the
    accuracy, the reward ignores what it is asked.

    Args:
      odds: log-odds [N] that the answers of records follow their principles.
    Raises:
      UserError: a principle that the reward has never seen, or a row without one or a label.
    """
    labelled = [principle_label(record) for record in records]
    names, labels = [name for name, _ in labelled], np.array([label for _, label in labelled])
    with reading_input():
        places = principle_numbers(names, known.names)
    groups = dialogue_numbers(records)
    numbers = margin_quality(np.where(labels, 1.0, -1.0) * odds(records), groups)
    if len(known.names) > 1:
        others = [known.names[(place + 1) % len(known.names)] for place in places]
        rows = [
            {**record, "principle": other} for record, other in zip(records, others, strict=True)
        ]
        right = ((odds(rows) > 0) == labels).astype(float)
        numbers["accuracy, another principle"] = grouped_mean(right, groups)
    return numbers


def commoner_labels(records: Records, train: Sequence[dict]) -> Numbers:
    """Accuracy of the commoner label of a principle in the training rows."""
    counts: dict[str, list[bool]] = defaultdict(list)
    for record in train:
        counts[record["principle"]].append(record["label"])
    guesses = {name: np.mean(labels) >= 0.5 for name, labels in counts.items()}
    right = [bool(row["label"]) == guesses[row["principle"]] for row in records]
    groups = dialogue_numbers(records)
    return {"commoner label of the principle": grouped_mean(np.array(right, float), groups)}


def read_principles(folder: Path) -> Principles | None:
    """What a reward of principles was trained on, None of another model.

    Raises:
      UserError: the file does not say it.
    """
    with reading_input():
        found = read_object(folder / PRINCIPLES)
    if not found:
        return None
    names, template, words = (_texts_of(found.get(name)) for name in Principles._fields)
    fields = ("prompt", "principle") if words is None else ("prompt", "principle", "answer")
    both = (words[0], words[1]) if isinstance(words, tuple) and len(words) == 2 else None
    known = isinstance(names, tuple) and (words is None or both is not None)
    if not (known and isinstance(template, str) and _is_template(template, fields)):
        raise UserError(
            f'{folder / PRINCIPLES}: expected {{"names": texts, "template": a text with '
            '"{prompt}" and "{principle}"}, of a language model with "{answer}" and "words": [yes, '
            "no]"
        )
    return Principles(names, template, both)


def _texts_of(value: Any) -> Any:
    """A list of texts, one at least, as a tuple; anything else as it is."""
    texts = isinstance(value, list) and value and all(isinstance(x, str) for x in value)
    return tuple(value) if texts else value


def _is_template(text: str, names: Sequence[str]) -> bool:
    """Whether these fields can be written into it, and all are."""
    marks = {name: f"\0{name}" for name in names}
    try:
        filled = text.format(**marks)
    except (KeyError, ValueError, IndexError):
        return False
    return all(mark in filled for mark in marks.values())


def told_folder(rest: str) -> tuple[Path, tuple[str, ...], Principles]:
    """FOLDER and names of `FOLDER#NAME#NAME`, and what the reward was trained on.

    Raises:
      UserError: the folder has no reward of principles.
    """
    place, *names = rest.split("#")
    folder = Path(place)
    known = read_principles(folder)
    if known is None:
        raise UserError(
            f"{folder} has no file {PRINCIPLES}: it is not a reward of principles, which "
            "rlhf reward --kind principles or entailment makes"
        )
    return folder, tuple(names), known


def told_reward(
    kind: str,
    names: Sequence[str],
    known: Principles,
    scores: Callable[[Sequence[Any], Sequence[str], Sequence[str]], np.ndarray],
) -> tuple[TextReward, str | None]:
    """Log-odds of yes, at most LARGEST in size, and the column that they need.

    principle_score has one principle for all prompts, or that of the column "principle"; the
    others have several, or all that the reward knows.

    Args:
      kind: of COMBINED_PRINCIPLES. names: chosen, none for the default.
      scores: `(prompts, answers, principles, each [N]) -> [N]`.
    Raises:
      UserError: a principle that the reward has never seen, or several where one is needed.
    """
    single = kind == "principle_score"
    if single and len(names) > 1:
        raise UserError(
            f"{kind} has one principle, got {', '.join(names)}: principle_mean and principle_min "
            "have several"
        )
    chosen = tuple(names) or (() if single else known.names)
    _check_names(known, chosen)  # now, not at the first answer

    def score(prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any) -> list[float]:
        texts = [answer or " " for answer in answers]  # an empty one has no token to score
        each = [[name] * len(texts) for name in chosen] or [columns["principle"]]
        for asked in each:
            _check_names(known, asked)
        found = [scores(prompts, texts, asked) for asked in each]
        bounded = jnp.clip(jnp.asarray(np.stack(found)), -LARGEST, LARGEST)
        return COMBINED_PRINCIPLES[kind](bounded).tolist()

    return score, None if chosen else "principle"


def _check_names(known: Principles, names: Sequence[str]) -> None:
    """UserError for a principle that the reward has never seen."""
    with reading_input():
        principle_numbers(names, known.names)


def asked_texts(known: Principles, prompts: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """Prompts, each with its principle.

    Raises:
      UserError: a principle that the reward has never seen.
    """
    _check_names(known, names)
    return [
        asked_prompt(prompt, name, template=known.template)
        for prompt, name in zip(prompts, names, strict=True)
    ]
