"""Sizes of the dpa experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: worlds.
    prompts, answers, features: of a world; the policy is linear in the features.
    rounds: T, of sampling and learning. directions: of each prompt in a round. samples: K answers
      to each of them, of which the best is learned.
    steps, rate: gradient steps of a round on all prompts, plain SGD.
    angle: directions are drawn from -angle to angle, degrees from the first reward.
    asked: directions that are measured, an odd number at equal steps in the same range.
    kept: of the samples with labels of their own direction, those that are learned, at most.
    """

    seed: int = 0
    num_seeds: int = 10
    prompts: int = 150
    answers: int = 64
    features: int = 12
    rounds: int = 4
    directions: int = 4
    samples: int = 16
    steps: int = 60
    rate: float = 1.0
    angle: float = 45.0
    asked: int = 7
    kept: int = 16

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "prompts", "answers", "features", "samples")
        check_fields(self, "[2, inf)", "rounds")
        check_fields(self, "[1, inf)", "directions", "steps", "kept")
        check_fields(self, "(0, 10]", "rate")
        check_fields(self, "(0, 90]", "angle")
        check_fields(self, "[3, inf)", "asked")
        if not self.asked % 2:
            raise ValueError(f"asked must be odd, for one at 0 degrees, got {self.asked}")
        if self.kept > self.directions * self.samples:
            raise ValueError(f"kept must be at most directions times samples, got {self.kept}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Four worlds of fewer prompts and steps: the same claims."""
    return Config(num_seeds=4, prompts=60, steps=40)
