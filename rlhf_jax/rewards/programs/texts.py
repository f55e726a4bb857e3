"""Reward programs of an answer's text: what they may read, and a program as a reward.

reward = program_reward("2 * contains('please') - words / 50", name="polite")
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from rlhf_jax.rewards.programs.mutation import Grammar
from rlhf_jax.rewards.programs.syntax import ProgramError, RewardProgram, parse_program
from rlhf_jax.rewards.programs.values import TextFunction, program_values
from rlhf_jax.types import TextReward

WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
SENTENCE = re.compile(r"[.!?]+(?:\s|$)")

# What a program may read, in the words that a proposer is told.
TEXT_VARIABLES = {
    "characters": "characters of the answer",
    "words": "words of the answer",
    "sentences": "sentences of the answer, by their end marks",
    "lines": "lines of the answer that are not blank",
    "unique_words": "share of its words that are different ones, in [0, 1]",
    "capitals": "share of its letters that are capitals, in [0, 1]",
    "digits": "digits of the answer",
    "questions": "question marks of the answer",
    "exclamations": "exclamation marks of the answer",
    "prompt_words": "words of the prompt",
    "shared_words": "share of the answer's words that are in the prompt, in [0, 1]",
}
TEXT_FUNCTIONS = {
    "count": "how often the answer has a text, upper or lower case alike",
    "contains": "1 if it has it, else 0",
    "starts": "1 if it begins with it, else 0",
    "ends": "1 if it ends with it, else 0",
}
TEXT_GRAMMAR = Grammar(
    variables=tuple(TEXT_VARIABLES),
    terms=(
        *("words / 20", "exp(-words / 20)", "sentences / 5", "lines / 5", "unique_words"),
        *("capitals", "digits / 5", "min(questions, 3)", "min(exclamations, 3)", "shared_words"),
    ),
)


def text_program(source: str) -> RewardProgram:
    """A program of texts.

    Raises:
      ProgramError: it is refused, as by `parse_program`.
    """
    return parse_program(source, TEXT_VARIABLES, texts=TEXT_FUNCTIONS)


def load_text_program(path: Path | str) -> RewardProgram:
    """The program in a file.

    Raises:
      ProgramError: the file cannot be read, or its program is refused; it names the file.
    """
    try:
        return text_program(Path(path).read_text())
    except (OSError, UnicodeError) as error:
        raise ProgramError(f"reward program {path}: {error}") from error
    except ProgramError as error:
        raise ProgramError(f"reward program {path}: {error}") from error


def program_reward(program: RewardProgram | str, *, name: str = "program") -> TextReward:
    """The number that a program gives each answer.

    >>> brief = program_reward("contains('yes') - words / 10")
    >>> brief(["Is it?"] * 2, ["Yes, it is.", "It is not."])
    [0.7, -0.3]

    Args:
      name: of the program in errors.
    Raises:
      ProgramError: it is refused; from the reward, a number that is not finite, with its answer.
    """
    checked = text_program(program) if isinstance(program, str) else program

    def score(prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any) -> list[float]:
        if not answers:
            return []
        rewards = np.asarray(
            program_values(
                checked, text_variables(prompts, answers), texts=_functions(answers)
            ).rewards,
            float,
        )
        wrong = ~np.isfinite(rewards)
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ProgramError(
                f"reward program {name!r} gives {rewards[row]:g} to answer {row}, "
                f"{answers[row][:60]!r}"
            )
        return [float(f"{x:.7g}") for x in rewards]  # what float32 knows

    return score


def text_variables(
    prompts: Sequence[Any], answers: Sequence[str]
) -> dict[str, Float[np.ndarray, " N"]]:
    """TEXT_VARIABLES of each answer; a share of nothing is 0."""
    rows = [_measured(_said(p), answer) for p, answer in zip(prompts, answers, strict=True)]
    return {name: np.array([row[name] for row in rows], float) for name in TEXT_VARIABLES}


def _measured(prompt: str, answer: str) -> dict[str, float | int]:
    words = [word.casefold() for word in WORD.findall(answer)]
    asked = [word.casefold() for word in WORD.findall(prompt)]
    letters = [letter for letter in answer if letter.isalpha()]
    return {
        "characters": len(answer),
        "words": len(words),
        "sentences": len(SENTENCE.findall(answer)),
        "lines": sum(bool(line.strip()) for line in answer.splitlines()),
        "unique_words": _share(len(set(words)), len(words)),
        "capitals": _share(sum(letter.isupper() for letter in letters), len(letters)),
        "digits": sum(letter.isdigit() for letter in answer),
        "questions": answer.count("?"),
        "exclamations": answer.count("!"),
        "prompt_words": len(asked),
        "shared_words": _share(sum(word in set(asked) for word in words), len(words)),
    }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _said(prompt: Any) -> str:
    """A prompt as one text, of messages their contents."""
    if isinstance(prompt, str):
        return prompt
    return "\n".join(str(turn["content"]) for turn in prompt)


def _functions(answers: Sequence[str]) -> Mapping[str, TextFunction]:
    """TEXT_FUNCTIONS on these answers."""
    lowered = [answer.casefold() for answer in answers]

    def each(found: Callable[[str, str], float], text: str) -> Float[np.ndarray, " N"]:
        return np.array([float(found(answer, text.casefold())) for answer in lowered])

    ways: dict[str, Callable[[str, str], float]] = {
        "count": lambda answer, text: answer.count(text),
        "contains": lambda answer, text: text in answer,
        "starts": lambda answer, text: answer.lstrip().startswith(text),
        "ends": lambda answer, text: answer.rstrip().endswith(text),
    }
    return {name: partial(each, way) for name, way in ways.items()}
