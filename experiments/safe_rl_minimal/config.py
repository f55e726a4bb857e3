"""Sizes of the safe_rl_minimal experiment."""

from dataclasses import dataclass, field

from rlhf_jax.algos.planning import safe_set
from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Robot:
    """The point robot.

    num_seeds: all in one vmap. demos, walks: demonstrations and unsupervised walks at the start.
    demo_speed: length of the demonstrator's pushes; the largest push is 3 on either axis.
    iterations, episodes: rounds of plan and roll-out, and roll-outs in each. last: rounds that the
      final length is a mean over. steps: longest episode.
    horizon: number of planned pushes. candidates, elites, refinements: of the cross-entropy method,
      for each push.
    """

    num_seeds: int = 20
    demos: int = 5
    walks: int = 50
    demo_speed: float = 2.0
    iterations: int = 8
    episodes: int = 4
    last: int = 3
    steps: int = 100
    horizon: int = 5
    candidates: int = 128
    elites: int = 20
    refinements: int = 3

    def __post_init__(self):
        check_fields(self, "[2, inf)", "num_seeds")
        check_fields(self, "[1, inf)", "demos", "walks", "iterations", "episodes", "steps")
        check_fields(self, "[1, inf)", "horizon")
        check_fields(self, "(0, 3]", "demo_speed")
        check_fields(self, f"[1, {self.iterations}]", "last")
        check_fields(self, "[1, inf)", "candidates", "refinements")
        check_fields(self, f"[1, {self.candidates}]", "elites")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of the data and of everything drawn. num_seeds: all in one vmap.
    demos: numbers of demonstrations. walks: numbers of unsupervised trajectories.
    random_share: of the demonstrator's moves. slip: of everyone's.
    rhos: directedness of the walks that are compared; rho: the one of all other runs.
    keep: trajectories remembered with forgetting, here and by the robot.
    iterations, episodes: rounds of plan and roll-out, and roll-outs in each. last: rounds that the
      final length is a mean over. steps: longest episode.
    agent: thresholds and discounts, those of the robot too. robot: the point robot.
    """

    seed: int = 0
    num_seeds: int = 150
    demos: tuple[int, ...] = (1, 3, 10, 30)
    walks: tuple[int, ...] = (0, 30)
    random_share: float = 0.3
    slip: float = 0.05
    rhos: tuple[float, ...] = (0.0, 0.35, 0.7, 1.0)
    rho: float = 0.7
    keep: int = 6
    iterations: int = 12
    episodes: int = 2
    last: int = 4
    steps: int = 80
    agent: safe_set.Config = field(default_factory=safe_set.Config)
    robot: Robot = Robot()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[1, inf)", "demos")
        check_fields(self, "[0, inf)", "walks")
        check_fields(self, "[0, 1]", "random_share", "slip", "rhos", "rho")
        if list(self.demos) != sorted(set(self.demos)):
            raise ValueError(f"demos must rise, got {self.demos}")
        if 1 not in self.demos or 10 not in self.demos or 30 not in self.demos:
            raise ValueError(f"demos must hold 1, 10 and 30, which are compared, got {self.demos}")
        if len(self.walks) != 2 or self.walks[0] != 0 or self.walks[1] < 1:
            raise ValueError(f"walks must be 0 and a number above it, got {self.walks}")
        if self.rho not in self.rhos:
            raise ValueError(f"rho must be one of rhos, got {self.rho} and {self.rhos}")
        check_fields(self, "[1, inf)", "num_seeds", "keep", "iterations", "episodes", "last")
        check_fields(self, "[1, inf)", "steps")
        check_fields(self, f"[1, {self.iterations}]", "last")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Few seeds and half the rounds: everything in a minute; rates over so little are noise."""
    robot = Robot(num_seeds=4, iterations=4, episodes=2, last=2, candidates=60, elites=10)
    return Config(num_seeds=4, rhos=(0.0, 0.7, 1.0), iterations=6, last=3, robot=robot)
