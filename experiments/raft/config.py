"""Sizes of the raft experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields

COMPARED = 3  # the stage after which methods are compared


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: worlds, all in one vmap.
    table_answers: of the exact table. draws: of the check of ties.
    prompts, answers, features: of a learned world; the policy is linear in the features.
    stages, steps, rate: rounds of sampling, gradient steps on each, their rate (plain SGD).
    offset: standard deviation of what a prompt adds to the reward of all its answers.
    betas: of the penalised ranking, ascending from 0.
    """

    seed: int = 0
    num_seeds: int = 10
    table_answers: int = 4000
    draws: int = 400_000
    prompts: int = 128
    answers: int = 32
    features: int = 16
    stages: int = 12
    steps: int = 20
    rate: float = 0.5
    offset: float = 2.0
    betas: tuple[float, ...] = (0.0, 0.3, 1.0, 3.0)

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "table_answers", "answers", "features")
        check_fields(self, "[1000, 4294967295]", "draws")
        check_fields(self, "[32, inf)", "prompts")
        check_fields(self, f"[{COMPARED}, inf)", "stages")
        check_fields(self, "[1, inf)", "steps")
        check_fields(self, "(0, 10]", "rate")
        check_fields(self, "[0, inf)", "offset", "betas")
        if self.betas[0] != 0 or list(self.betas) != sorted(set(self.betas)):
            raise ValueError(f"betas must ascend from 0, got {self.betas}")
        if len(self.betas) < 2:
            raise ValueError(f"betas must have another number than 0, got {self.betas}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Four worlds, fewer prompts and stages, a smaller table: the same claims."""
    return Config(
        num_seeds=4,
        table_answers=1000,
        draws=20_000,
        prompts=64,
        stages=4,
        betas=(0.0, 1.0),
    )
