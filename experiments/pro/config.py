"""Sizes of the pro experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


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
    """Four of the worlds, fewer test prompts and steps."""
    return Config(num_seeds=4, test_prompts=50, steps=200)
