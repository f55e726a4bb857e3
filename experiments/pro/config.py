"""Sizes of the pro experiment."""

from dataclasses import dataclass, field

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Strings:
    """A small transformer on strings of unequal length.

    num_seeds: of strings, values and weights. symbols: of the alphabet; the reward of a string
      grows with the mean value of its symbols. length: of the longest; the shortest has half.
    lists: rankings to train on. test_lists: rankings of 8 to measure. samples: strings of the
      trained policy.
    width: of the transformer. steps, adam_rate: of Adam.
    """

    num_seeds: int = 4
    symbols: int = 8
    length: int = 8
    lists: int = 16
    test_lists: int = 32
    samples: int = 128
    width: int = 16
    steps: int = 100
    adam_rate: float = 0.01

    def __post_init__(self):
        check_fields(self, "[2, inf)", "num_seeds", "symbols", "length", "lists", "test_lists")
        check_fields(self, "[1, inf)", "samples", "width", "steps")
        check_fields(self, "(0, 1]", "adam_rate")
        if self.width % 8:
            raise ValueError(f"width must be a multiple of 8, got {self.width}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: worlds, all in one vmap.
    prompts, test_prompts: of training and of measuring. answers: to each prompt. features: of an
      answer. noise: standard deviation of the reward model's error, before its sigmoid.
    lengths: of rankings; a longer one contains the shorter.
    steps, rate: gradient steps on all prompts, of the loss over n - 1.
    sft_weight: of the likelihood of the best answer, times (n - 1)^2.
    """

    seed: int = 0
    num_seeds: int = 10
    prompts: int = 60
    test_prompts: int = 200
    answers: int = 24
    features: int = 24
    noise: float = 0.3
    lengths: tuple[int, ...] = (2, 3, 5)
    steps: int = 400
    rate: float = 0.3
    sft_weight: float = 0.05
    strings: Strings = field(default=Strings())

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "prompts", "test_prompts", "answers", "lengths")
        check_fields(self, "[1, inf)", "features", "steps")
        check_fields(self, "[0, inf)", "noise", "sft_weight")
        check_fields(self, "(0, 1]", "rate")
        if len(self.lengths) < 2 or list(self.lengths) != sorted(set(self.lengths)):
            raise ValueError(f"lengths must be two or more that rise, got {self.lengths}")
        if self.lengths[-1] > self.answers:
            raise ValueError(f"lengths must be at most answers, {self.answers}; got {self.lengths}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """The same worlds, four of them, and strings for two seeds."""
    return Config(
        num_seeds=4,
        test_prompts=50,
        steps=200,
        strings=Strings(num_seeds=2, test_lists=16, samples=32, steps=40),
    )
