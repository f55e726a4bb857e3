"""Sizes of the one_loss_three_policies experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of the bandits. num_seeds: bandits per task, all in one vmap.
    num_states, num_actions: of the contextual task; the plain bandit has one state.
    betas: KL weights > 0, all in the same vmap.
    steps: full-batch Adam steps, learning rate decayed to zero by a cosine.
    table_rate, linear_rate, transformer_rate: the learning rate of each parametrisation.
    """

    seed: int = 0
    num_seeds: int = 4
    num_states: int = 4
    num_actions: int = 5
    betas: tuple[float, ...] = (0.5, 1.0, 2.0)
    steps: int = 3000
    table_rate: float = 0.1
    linear_rate: float = 0.1
    transformer_rate: float = 0.003

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "(0, inf)", "betas")
        check_fields(self, "[1, inf)", "num_seeds", "num_states", "steps")
        check_fields(self, "(0, 1]", "table_rate", "linear_rate", "transformer_rate")
        check_fields(self, "[2, inf)", "num_actions")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Two bandits per task and fewer steps: the same claims in seconds."""
    return Config(num_seeds=2, betas=(0.5, 1.0), steps=1500)
