"""rlhf reward-programs: a search for a reward program by people, a round at a time.

OUT/round_1/program_1.py ...        written by the command
OUT/round_1/program_1.jsonl ...     answers of the policy of each, by rlhf sample
OUT/round_1/compare.jsonl           written by the command, for rlhf label --data
OUT/round_1/labels.jsonl            by rlhf label --out
OUT/round_1/ranking.json            written by the command, with round_2
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

from rlhf_jax.checks import check_fields
from rlhf_jax.data.formats import read_rows
from rlhf_jax.recipes import ranked_programs, write_compared_answers
from rlhf_jax.reports.claims import write_text
from rlhf_jax.rewards import chat_model
from rlhf_jax.rewards.programs import (
    TEXT_FUNCTIONS,
    TEXT_GRAMMAR,
    TEXT_VARIABLES,
    Propose,
    ProposeContext,
    RankedRound,
    RewardProgram,
    Trial,
    chat_proposer,
    grammar_proposer,
    load_text_program,
)
from rlhf_jax.training import UserError, reading_input


@dataclass(frozen=True, kw_only=True)
class RewardPrograms:
    """Programs that score answers, better from round to round, by which policy people like best.

    Run it again after each step that it names: it goes on where the folder stands.
    """

    out: Path
    """Folder of the search; new, or one to go on with."""
    number: int = 6
    """Programs of a round."""
    proposer: str = "offline"
    """offline, a seeded grammar; or http://ADDRESS/v1#MODEL, which reads --task."""
    task: str = "answer well"
    """What the policy is for, in words."""
    seed: int = 0
    """Of the offline proposer."""

    def __post_init__(self) -> None:
        check_fields(self, "[2, 100]", "number")
        check_fields(self, "[0, 4294967295]", "seed")


def reward_programs(command: str, options: RewardPrograms) -> None:
    """Does what the last round lacks, or says who has to."""
    history: list[RankedRound] = []
    while (folder := _round_folder(options.out, len(history))).exists():
        with reading_input():
            programs = [load_text_program(path) for path in _programs(folder)]
        if not programs:
            raise UserError(f"{folder} has no program_1.py; remove the folder")
        missing = [path for path in _programs(folder) if not _answers(path).exists()]
        if missing:
            _ask_for_answers(missing)
            return
        ranked = _ranked(folder, programs)
        if ranked is None:
            return
        history.append(ranked)
    with reading_input():
        context = ProposeContext(options.task, tuple(history))
        rng = Random(f"reward programs {options.seed} {len(history)}")
        programs = _proposer(options)(context, options.number, rng)
    folder.mkdir(parents=True)
    for n, program in enumerate(programs, 1):
        write_text(folder / f"program_{n}.py", f"{program}\n")
    print(f"{folder}: {len(programs)} programs")
    _ask_for_answers(_programs(folder))


def _round_folder(out: Path, number: int) -> Path:
    return out / f"round_{number + 1}"


def _programs(folder: Path) -> list[Path]:
    """The files of a round's programs, by number."""
    found = folder.glob("program_*.py")
    return sorted(found, key=lambda path: (len(path.stem), path.stem))


def _answers(program: Path) -> Path:
    return program.with_suffix(".jsonl")


def _ask_for_answers(missing: Sequence[Path]) -> None:
    """The commands that train and sample the policy of a program."""
    path = missing[0]
    print(
        f"{len(missing)} of the round's programs need the answers of a policy. For each, e.g. "
        f"{path.stem}:\n"
        f"  rlhf grpo --model MODEL --prompts PROMPTS --reward program:{path} --out RUN\n"
        f"  rlhf sample --model RUN/model --prompts PROMPTS --out {_answers(path)}\n"
        "and then this command again"
    )


def _ranked(folder: Path, programs: Sequence[RewardProgram]) -> RankedRound | None:
    """The round as people ranked it; None, and what to do, before they have."""
    labels, compare = folder / "labels.jsonl", folder / "compare.jsonl"
    with reading_input():
        said = [_said(_answers(path)) for path in _programs(folder)]
        if not labels.exists():
            rows = write_compared_answers(compare, said)
            print(
                f"{compare}: {rows} prompts. Judge their answers:\n"
                f"  rlhf label --data {compare} --out {labels}\nand then this command again"
            )
            return None
        found = ranked_programs(labels, said)
    names = [path.stem for path in _programs(folder)]
    won = {name: round(float(x), 4) for name, x in zip(names, found.shares, strict=True)}
    best, worst = names[found.best], names[found.worst]
    facts: dict[str, Any] = {"best": best, "worst": worst, "won": won}
    write_text(folder / "ranking.json", json.dumps(facts, indent=1) + "\n")
    print(f"{folder}: best {best}, worst {worst}, {found.queries} comparisons")
    trials = tuple(Trial(program, None, {}) for program in programs)
    return RankedRound(trials, found.best, found.worst, found.queries)


def _said(path: Path) -> dict[Any, list[str]]:
    """The answers in a file, by prompt."""
    found: dict[Any, list[str]] = {}
    for record in read_rows(path, kind="answers").records:
        found.setdefault(record.prompt, []).append(record.answer)
    return found


def _proposer(options: RewardPrograms) -> Propose:
    if options.proposer == "offline":
        return grammar_proposer(TEXT_GRAMMAR)
    model = replace(chat_model(options.proposer), temperature=1.0)
    return chat_proposer(model, TEXT_VARIABLES, texts=TEXT_FUNCTIONS)
