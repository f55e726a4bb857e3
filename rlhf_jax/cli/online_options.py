"""Options of the commands on fresh answers alone: what is asked, and how it is scored and kept."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from rlhf_jax.checks import check_fields
from rlhf_jax.recipes.retries import TRY_AGAIN


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Prompts, and the scores of answers to them."""

    prompts: Path = field()
    """Prompts: JSON lines with a field "prompt" or "messages", or a text file, one a line."""
    reward: tuple[str, ...] = ()
    """The score of an answer: module:function, a reward model's folder or a verifier; of several
    the sum, with weights as in 0.5*exact."""
    judge: str | None = None
    """Says which of two answers is better, asked in both orders: http://ADDRESS/v1#MODEL, the
    folder of a pairwise judge, or binary:FOLDER and graded:FOLDER of a language model; or
    module:function. Rewards are then measured and not trained on."""
    outcomes: str | None = None
    """Says what came of each answer, for the judge to read below it (RLHS): module:function, given
    (prompts, answers). The policy never reads it; answers without an outcome are not compared."""
    heldout: float = 0.1
    """Share of the prompts, in (0, 0.5], that is not trained on but measured."""

    def __post_init__(self) -> None:
        check_fields(self, "(0, 0.5]", "heldout")


@dataclass(frozen=True, kw_only=True)
class Groups:
    """Several --reward as those of groups of people, of which the worst-off counts (MaxMin)."""

    groups: Literal["sum", "worst", "soft", "answer"] = "sum"
    """What an answer is worth: the sum of the rewards; the one that is lowest on average in this
    step's answers (worst); their mean with weights exp(-average / temperature) (soft); the lowest
    reward of this answer (answer). Give the rewards one zero and one unit first."""
    group_temperature: float = 0.1
    """Of --groups soft, in units of the rewards: low is the worst group, high the mean."""

    def __post_init__(self) -> None:
        check_fields(self, "(0, inf)", "group_temperature")


@dataclass(frozen=True, kw_only=True)
class Filtering:
    """Which of the answers to a prompt are learned from (policy filtration), by their scores."""

    filter: Literal["none", "best", "best-random", "best-worst", "power", "widest"] = "none"
    """The best; half of the weight to the best and half to the others or to the worst; weights in
    proportion to |score|^power; or all answers to the prompts where scores differ most."""
    filter_power: float = 2.0
    """Of --filter power."""
    filter_share: float = 0.25
    """Of --filter widest: of the prompts of a batch, in (0, 1]."""

    def __post_init__(self) -> None:
        check_fields(self, "[0, inf)", "filter_power")
        check_fields(self, "(0, 1]", "filter_share")


@dataclass(frozen=True, kw_only=True)
class Directions:
    """One model for every trade-off between two rewards (DPA)."""

    directions: tuple[str, ...] = ()
    """Names of the two rewards of --reward in the prompts, one word each: helpful short. A prompt
    then ends with the weights of a direction, as in "weights : helpful 80 short -60", and an answer
    is worth the sum of its rewards with these weights."""
    direction_count: int = 9
    """Directions of each prompt, at equal angles; each is a prompt of its own."""
    direction_angle: float = 45.0
    """The largest angle of a direction to the first reward, in degrees, in (0, 90]."""

    def __post_init__(self) -> None:
        check_fields(self, "[2, 180]", "direction_count")
        check_fields(self, "(0, 90]", "direction_angle")


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
        if not self.feedback:
            raise ValueError("--feedback must be a text: it follows a wrong answer")


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
