"""Sizes of the osp experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: worlds, all in one vmap. prompts, answers: of a world.
    samples: answers to each prompt at each update, an even number; they are paired by rank.
    beta: KL weight. noise: standard deviation of the imperfect judge's fixed error of each gap.
    smoothing: h of label smoothing. temperature: of a judge that is too sure.
    rare: answers to each prompt, the least likely under the reference, that the spurious judge
      thinks better by `overrated`.
    updates: of plain gradient descent on the logits, per prompt. rate, late_rate: its step, and the
      step after the share `late` of the updates. points: of a curve.
    """

    seed: int = 0
    num_seeds: int = 10
    prompts: int = 30
    answers: int = 12
    samples: int = 4
    beta: float = 0.5
    noise: float = 0.5
    smoothing: float = 0.1
    temperature: float = 2.0
    rare: int = 3
    overrated: float = 2.0
    updates: int = 3000
    rate: float = 1.0
    late_rate: float = 0.3
    late: float = 0.6
    points: int = 30

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "prompts", "answers", "samples")
        check_fields(self, "(0, inf)", "beta", "temperature")
        check_fields(self, "[0, inf)", "noise", "overrated")
        check_fields(self, f"[1, {self.answers})", "rare")
        check_fields(self, "(0, 1/2)", "smoothing")
        check_fields(self, "(0, 1]", "rate", "late_rate", "late")
        check_fields(self, "[1, inf)", "updates", "points")
        if self.samples % 2:
            raise ValueError(f"samples must be even, got {self.samples}")
        if self.updates % self.points:
            raise ValueError(
                f"updates must be a multiple of points, {self.points}; got {self.updates}"
            )


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Four small worlds and fewer updates."""
    return Config(num_seeds=4, prompts=10, updates=1500)
