"""Sizes of the rlif experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of grids, experts and everything drawn. num_seeds: grids, all in one vmap.
    bads: shares of states in which the expert does a fixed random action.
    steps: of the environment for each learner. points: of the learning curves.
    share, rate: the teacher rejects Q(s, a) < share Q(s, a_ref) and obeys its own rule with
      probability rate. random_rate: of the teacher who steps in at random.
    takeover_steps, episode_steps: longest takeover and episode.
    explore: of epsilon-greedy.
    rates: step sizes of the linear clones. weights: votes of an action of the expert, where each
      accepted action of the learner has one.
    margins: absolute ones of the teacher of the exact guarantee, in the unit of V*, which is <= 1.
    """

    seed: int = 0
    num_seeds: int = 40
    bads: tuple[float, ...] = (0.0, 0.25, 0.5)
    steps: int = 60_000
    points: int = 12
    share: float = 0.97
    rate: float = 0.95
    random_rate: float = 0.5
    takeover_steps: int = 4
    episode_steps: int = 60
    explore: float = 0.1
    rates: tuple[float, ...] = (0.03, 0.1, 0.3)
    weights: tuple[float, ...] = (0.0, 1.0, 4.0)
    margins: tuple[float, ...] = (0.005, 0.01, 0.02, 0.05)

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[0, inf)", "margins", "weights")
        check_fields(self, "(0, inf)", "rates")
        check_fields(self, "[0, 1]", "bads", "share", "rate", "random_rate", "explore")
        check_fields(self, "[1, inf)", "num_seeds", "points", "takeover_steps", "episode_steps")
        if not self.steps >= self.points or self.steps % self.points:
            raise ValueError(f"steps must be a multiple of points, got {self.steps}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """A fifth of the steps and fewer points: every stage in seconds."""
    return Config(steps=12_000, points=4)
