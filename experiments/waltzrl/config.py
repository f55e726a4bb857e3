"""Sizes of the waltzrl experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: trainings of each method, all in one vmap.
    sees_first, sees_second: P(an agent's view of a prompt is right), of the conversation agent and
      of the feedback agent, independent.
    batch: episodes of a step. rate: of plain gradient steps. clip_eps: of the ratio.
    first_stage, second_stage: steps with the conversation agent frozen, and steps of both.
    every: steps between measurements; it divides both stages.
    improvement_weight, label_weight: alpha, and lambda of the first stage.
    """

    seed: int = 0
    num_seeds: int = 10
    sees_first: float = 0.78
    sees_second: float = 0.85
    batch: int = 512
    rate: float = 8.0
    clip_eps: float = 0.2
    first_stage: int = 400
    second_stage: int = 800
    every: int = 20
    improvement_weight: float = 1.0
    label_weight: float = 1.0

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "batch")
        check_fields(self, "(1/2, 1)", "sees_first", "sees_second")
        check_fields(self, "(0, 100]", "rate", "improvement_weight", "label_weight")
        check_fields(self, "(0, inf)", "clip_eps")
        check_fields(self, "[1, inf)", "first_stage", "second_stage", "every")
        for name in ("first_stage", "second_stage"):
            if getattr(self, name) % self.every:
                raise ValueError(
                    f"{name} must be a multiple of every {self.every}, got {getattr(self, name)}"
                )

    def steps(self) -> int:
        """Of both stages."""
        return self.first_stage + self.second_stage


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Three seeds and half of the steps."""
    return Config(num_seeds=3, first_stage=200, second_stage=400)
