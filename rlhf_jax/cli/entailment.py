"""A language model that says yes or no to a principle: training, held-out numbers, and its folder.

Their folder is that of the language model with a file `principles.PRINCIPLES` beside it, which has
the two words too, and the questions of the training rows for RL by the rule, `judging.PROMPTS`.
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rlhf_jax.cli.frame import Opened, Training
from rlhf_jax.cli.judging import PROMPTS
from rlhf_jax.cli.layout import batch_rows, narrowed
from rlhf_jax.cli.measures import Numbers
from rlhf_jax.cli.options import Entailment
from rlhf_jax.cli.principles import (
    PRINCIPLES,
    Principles,
    check_cut,
    commoner_labels,
    known_names,
    principle_quality,
    told_folder,
)
from rlhf_jax.cli.reward_lab import reward_lab
from rlhf_jax.cli.session import open_lab, start_policy
from rlhf_jax.hf import load_model
from rlhf_jax.recipes import (
    EntailmentJudge,
    LanguageLab,
    entailment_judge,
    entailment_model,
    entailment_records,
    entailment_rows,
    entailment_rule,
    entailment_scores,
)
from rlhf_jax.recipes.entailment import QUESTION, entailment_question
from rlhf_jax.recipes.rows import Records
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import Params, TextReward


def entailment_training(opened: Opened, options: Any) -> Training:
    """Cross-entropy of the verdict that a labelled answer should get.

    Args:
      options: of `rlhf reward`. --prompt-length is that of a question, with the answer.
    Raises:
      UserError: a row without a principle, a held-out one that is in no training row, or verdicts
        that are no tokens.
    """
    check_cut(opened.lab)
    yes_no: Entailment = options.entailment
    judge = entailment_judge(opened.lab, yes_no.yes_no)
    asked = [entailment_records(opened.lab, judge, x) for x in (opened.records, opened.held)]
    names = ("the training rows", "the held-out rows")
    files = [(f"questions about {name}", x) for name, x in zip(names, asked, strict=True) if x]
    lab, kept = open_lab(options, opened.base, files)
    start = start_policy(options.adapter, lab, opened.base)
    judge = entailment_judge(start.lab, yes_no.yes_no)
    train, held = (
        [source[row["row"]] for row in rows]
        for source, rows in zip((opened.records, opened.held), (*kept, ())[:2], strict=True)
    )
    known = Principles(known_names(train, held), QUESTION, yes_no.yes_no)
    size = options.optimizer.batch_size

    def quality(params: Params) -> Numbers:
        if not held:
            return {}
        odds = record_odds(start.lab, judge, params, batch_size=size)
        return principle_quality(odds, held, known) | commoner_labels(held, train)

    given = {PRINCIPLES: json.dumps(known._asdict(), ensure_ascii=False) + "\n"}
    prompts = ({"prompt": row["prompt"], "label": row["label"]} for row in kept[0])
    given[PROMPTS] = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in prompts)
    return Training(
        lab=start.lab,
        first=start.params,
        recipe=partial(entailment_model, judge=judge),
        rows=lambda _: entailment_rows(start.lab, judge, kept[0], batch_size=size),
        quality=quality,
        export=start.merge,
        files={name: text.encode() for name, text in given.items()},
        total=len(train),
    )


def record_odds(
    lab: LanguageLab, judge: EntailmentJudge, params: Params, *, batch_size: int
) -> Callable[[Records], np.ndarray]:
    """Records -> [N] log-odds that each answer follows the principle beside it."""

    def odds(records: Records) -> np.ndarray:
        sides = ([row[name] for row in records] for name in ("prompt", "answer", "principle"))
        return entailment_scores(lab, judge, params, *sides, batch_size=batch_size)

    return odds


RULE = "entailment"  # entailment:FOLDER, of a judge that is trained by the rule


class OpenJudge(NamedTuple):
    """A folder's lab and judge, with its params."""

    lab: LanguageLab
    judge: EntailmentJudge
    params: Params

    def scores(
        self, prompts: Sequence[Any], answers: Sequence[Any], principles: Sequence[str]
    ) -> np.ndarray:
        """[N] log-odds, of texts of any length."""
        sides = zip(prompts, answers, principles, strict=True)
        asked = [entailment_question(self.lab, self.judge, *each) for each in sides]
        rows = [{"prompt": text, "answer": self.judge.words[0]} for text in asked]
        given = (narrowed(self.lab, rows), self.judge, self.params, prompts, answers, principles)
        return entailment_scores(*given, batch_size=batch_rows(rows))


def open_entailment(folder: Path, known: Principles) -> OpenJudge:
    """A folder of such a model; known: of `read_principles`, with words."""
    assert known.words is not None
    with reading_input():
        found = load_model(folder)
    lab = reward_lab(folder, found, 0)
    judge = entailment_judge(lab, known.words, template=known.template)
    return OpenJudge(lab, judge, found.params)


def rule_reward(folder: str) -> TextReward:
    """`entailment_rule` with the words of a folder; it reads the field "label".

    Raises:
      UserError: the folder has no model that says yes or no.
    """
    place, _, known = told_folder(folder)
    if known.words is None:
        raise UserError(f"{place} has a head, and writes no verdict: write principle_score:{place}")
    return entailment_rule(known.words)
