"""Options of the commands on fresh answers alone: several tries, curricula, answers to improve."""

from dataclasses import dataclass
from pathlib import Path

from rlhf_jax.checks import check_fields
from rlhf_jax.recipes.retries import TRY_AGAIN


@dataclass(frozen=True, kw_only=True)
class Retries:
    """Several tries at each prompt: a wrong answer is answered by "try again" (UFO)."""

    turns: int = 1
    """Answers of an episode, at most; it ends with the first right one. 1: single answers."""
    feedback: str = TRY_AGAIN
    """What follows a wrong answer, whatever it was."""
    solved: float = 1.0
    """The least --reward of a right answer."""
    turn_decay: float = 0.5
    """A right answer is worth this to the power of the wrong ones before it, in [0, 1]."""
    repetition: float = 0.5
    """Times the share of answers that were given before is taken off."""
    malformed: float = -0.1
    """Added for each answer without a text, <= 0."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "turns")
        check_fields(self, "(-inf, inf)", "solved")
        check_fields(self, "[0, 1]", "turn_decay")
        check_fields(self, "[0, inf)", "repetition")
        check_fields(self, "(-inf, 0]", "malformed")


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """Prompts from easy to hard (CRAFT-GUI), in stages with equal shares of the steps."""

    difficulty: str | None = None
    """Field of a prompt's record with a number, the harder the higher, such as the number of steps
    to its answer; None draws all prompts alike."""
    stages: int = 3
    """Bins of about equal size, one a stage."""
    replay: float = 0.2
    """Share of prompts of earlier stages, in [0, 1]."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "stages")
        check_fields(self, "[0, 1]", "replay")


@dataclass(frozen=True, kw_only=True)
class Improvement:
    """A model that improves an answer (PIT)."""

    improve: bool = False
    """Prompts show an answer to improve: each of the fields chosen and rejected of --prompts."""
    own_answers: Path | None = None
    """Prompts and answers of the policy that is to be improved, e.g. of rlhf sample --out FILE:
    they are shown in the second part of the training, and held-out prompts have them."""
    own_share: float = 0.5
    """Of the steps, that second part, in (0, 1]."""

    def __post_init__(self) -> None:
        check_fields(self, "(0, 1]", "own_share")
        if self.own_answers is not None and not self.improve:
            raise ValueError("--own-answers are improved: give --improve too")
