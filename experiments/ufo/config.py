"""Sizes of the ufo experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class ShopPanel:
    """The language panel: look-ups by the shop's base model.

    seeds: of trainings. questions: to train on. heldout: to measure, an episode each.
    turns: tries of an episode. decay, repetition: gamma and lambda of its return.
    rl_steps, rl_rate: AdamW. batch_size: questions of a step. samples: episodes of each, and
      samples times turns single answers.
    """

    seeds: int = 2
    questions: int = 2048
    heldout: int = 256
    turns: int = 4
    decay: float = 0.5
    repetition: float = 0.5
    rl_steps: int = 30
    rl_rate: float = 5e-4
    batch_size: int = 8
    samples: int = 8

    def __post_init__(self):
        check_fields(self, "[1, 10]", "seeds")
        check_fields(self, "[8, 20000]", "questions", "heldout")
        check_fields(self, "[2, 8]", "turns")
        check_fields(self, "[0, 1]", "decay")
        check_fields(self, "[0, 1000]", "repetition")
        check_fields(self, "[1, 1000000]", "rl_steps", "batch_size")
        check_fields(self, "(0, 1]", "rl_rate")
        check_fields(self, "[2, 1024]", "samples")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: trainings of each kind.
    candidates: answers to choose from. signal: by how much more the right one is believed.
    turns, long_turns: tries in training; evaluation has `turns`.
    decay, repetition: gamma and lambda of the return. decays: of the sweep, beside 1 and `decay`.
    episodes, steps, rate: of a step; steps of Adam, and its rate.
    group, share: episodes of one question, and groups that the rollout filter keeps.
    questions: of the evaluation. points, point_questions: evaluations along a training.
    panel: whether to run the language panel, `shop`.
    """

    seed: int = 0
    num_seeds: int = 10
    candidates: int = 10
    signal: float = 1.2
    turns: int = 5
    long_turns: int = 10
    decay: float = 0.5
    repetition: float = 0.5
    decays: tuple[float, ...] = (0.3, 0.7, 0.9)
    episodes: int = 512
    steps: int = 300
    rate: float = 0.03
    group: int = 16
    share: float = 0.25
    questions: int = 40_000
    points: int = 11
    point_questions: int = 4000
    panel: bool = False
    shop: ShopPanel = ShopPanel()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "candidates", "turns", "points", "group")
        check_fields(self, "[1, inf)", "long_turns", "episodes", "steps")
        check_fields(self, "[100, inf)", "questions", "point_questions")
        check_fields(self, "[0, inf)", "repetition")
        check_fields(self, "(-inf, inf)", "signal")
        check_fields(self, "[0, 1]", "decay", "decays")
        check_fields(self, "(0, 1]", "rate", "share")
        if self.turns > self.candidates or self.long_turns > self.candidates:
            raise ValueError(f"candidates must be as many as turns, got {self.candidates}")
        if self.episodes % self.group:
            raise ValueError(f"episodes must be a multiple of group, got {self.episodes}")
        if self.steps < self.points - 1:
            raise ValueError(f"steps must be at least points - 1, got {self.steps}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Fewer seeds and questions."""
    return Config(num_seeds=4, decays=(0.7,), questions=8000, points=6, point_questions=1000)


def shop() -> Config:
    """With the language panel."""
    return Config(panel=True)
