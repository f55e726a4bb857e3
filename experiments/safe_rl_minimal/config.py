"""Sizes of the safe_rl_minimal experiment."""

from dataclasses import dataclass, field

from rlhf_jax.algos.planning import cross_entropy, safe_cells, safe_set
from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class RobotConfig:
    """The point robot; what is not told here is as in `Config`.

    goal_radius: the goal is extended. speed: of the demonstrator along each axis, 3 is the robot's.
    heights: range of its way above the wall, mirrored below it; the wall ends at 95.
    """

    num_seeds: int = 40
    demos: tuple[int, ...] = (1, 10, 30)
    walks: tuple[int, ...] = (0, 30)
    random_share: float = 0.3
    speed: float = 2.0
    heights: tuple[float, float] = (105.0, 140.0)
    goal_radius: float = 30.0
    rhos: tuple[float, ...] = (0.0, 0.7, 1.0)
    rho: float = 0.7
    keep: int = 6
    windows: tuple[int, ...] = (6, 12)
    iterations: int = 10
    episodes: int = 2
    last: int = 3
    steps: int = 100
    agent: safe_cells.CellsConfig = field(default_factory=safe_cells.CellsConfig)

    def __post_init__(self):
        check_fields(self, "[2, inf)", "num_seeds")
        check_data(self)
        check_fields(self, "(0, 3]", "speed")
        check_fields(self, "[100, 150]", "heights")
        check_fields(self, "(0, 60]", "goal_radius")
        check_fields(self, "[1, inf)", "keep", "windows", "iterations", "episodes", "last", "steps")
        check_fields(self, f"[1, {self.iterations}]", "last")


def check_data(config) -> None:
    """What the claims need of demonstrations and walks.

    Raises:
      ValueError: they lack it.
    """
    check_fields(config, "[1, inf)", "demos")
    check_fields(config, "[0, inf)", "walks")
    check_fields(config, "[0, 1]", "random_share", "rhos", "rho")
    demos, walks = config.demos, config.walks
    if list(demos) != sorted(set(demos)):
        raise ValueError(f"demos must rise, got {demos}")
    if 1 not in demos or 10 not in demos or 30 not in demos:
        raise ValueError(f"demos must hold 1, 10 and 30, which are compared, got {demos}")
    if len(walks) != 2 or walks[0] != 0 or walks[1] < 1:
        raise ValueError(f"walks must be 0 and a number above it, got {walks}")
    if config.rho not in config.rhos:
        raise ValueError(f"rho must be one of rhos, got {config.rho} and {config.rhos}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of the data and of everything drawn. num_seeds: all in one vmap.
    demos: numbers of demonstrations. walks: numbers of unsupervised trajectories.
    random_share: of the demonstrator's moves. slip: of everyone's.
    rhos: directedness of the walks that are compared; rho: the one of all other runs.
    keep: successes remembered with forgetting; windows: numbers of latest ones, of rivals.
    iterations, episodes: rounds of plan and roll-out, and roll-outs in each. last: rounds that the
      final length is a mean over. steps: longest episode.
    robot: the other world.
    """

    seed: int = 0
    num_seeds: int = 200
    demos: tuple[int, ...] = (1, 3, 10, 30)
    walks: tuple[int, ...] = (0, 30)
    random_share: float = 0.3
    slip: float = 0.05
    rhos: tuple[float, ...] = (0.0, 0.35, 0.7, 1.0)
    rho: float = 0.7
    keep: int = 6
    windows: tuple[int, ...] = (6,)
    iterations: int = 12
    episodes: int = 2
    last: int = 4
    steps: int = 80
    agent: safe_set.Config = field(default_factory=safe_set.Config)
    robot: RobotConfig = field(default_factory=RobotConfig)

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_data(self)
        check_fields(self, "[0, 1]", "slip")
        check_fields(self, "[1, inf)", "num_seeds", "keep", "windows", "iterations", "episodes")
        check_fields(self, "[1, inf)", "steps", "last")
        check_fields(self, f"[1, {self.iterations}]", "last")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Few seeds and half the rounds: everything in a minute; rates over so little are noise."""
    search = cross_entropy.SearchConfig(candidates=64, elites=8, sweeps=3)
    robot = RobotConfig(
        num_seeds=2,
        windows=(6,),
        iterations=3,
        last=1,
        agent=safe_cells.CellsConfig(search=search),
    )
    return Config(num_seeds=4, rhos=(0.0, 0.7, 1.0), iterations=6, last=3, robot=robot)
