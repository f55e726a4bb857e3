"""Sizes of the randomized_pbrl experiment."""

import math
from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """MDPs of one kind, a new one for each seed.

    num_features: of a linear MDP; None is a table, one feature for each state and action.
    concentration: of next states (table) or of features and measures (linear).
    reward_share: of the entries of the reward, or its weights, that pay anything.
    low, high: norms of features between which values are truncated. A table's are 1 where nothing
      was seen, and at most 0.71 elsewhere.
    """

    horizon: int = 3
    num_states: int = 3
    num_actions: int = 3
    num_features: int | None = None
    concentration: float = 0.2
    reward_share: float = 0.35
    low: float = 0.75
    high: float = 0.95

    def __post_init__(self):
        check_fields(self, "[1, inf)", "horizon", "num_states", "num_actions")
        check_fields(self, "(0, inf)", "high", "concentration")
        check_fields(self, f"(0, {self.high})", "low")
        check_fields(self, "[0, 1]", "reward_share")
        if self.num_features is not None:
            check_fields(self, "[1, inf)", "num_features")

    @property
    def transition_features(self) -> int:
        """d."""
        return self.num_features or self.num_states * self.num_actions


@dataclass(frozen=True, kw_only=True)
class GrowthConfig:
    """How regret and queries grow with T and d, on tables of two actions and two steps.

    exponents: b of eps = T^-b. rounds: T. base: the largest T of baselines, that of rivals and of
    the runs over sizes.
    scales: largest rewards, of which the worst counts. num_worlds: each at every scale.
    sizes: numbers of states, d = S A; the first is that of the runs over T. size_worlds,
    size_scales: of the runs over sizes.
    """

    exponents: tuple[float, ...] = (0.125, 0.25, 0.375)
    rounds: tuple[int, ...] = (200, 400, 800, 1600, 3200, 6400)
    base: int = 1600
    scales: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125)
    num_worlds: int = 80
    sizes: tuple[int, ...] = (2, 4, 8, 16)
    size_worlds: int = 15
    size_scales: tuple[float, ...] = (1.0, 0.5)

    def __post_init__(self):
        check_fields(self, "(0, 0.5)", "exponents")
        check_fields(self, "(0, 1]", "scales", "size_scales")
        check_fields(self, "[32, inf)", "rounds", "base")
        check_fields(self, "[2, inf)", "num_worlds", "size_worlds", "sizes")
        for name in ("exponents", "rounds", "sizes"):
            values = getattr(self, name)
            if len(values) < 2 or list(values) != sorted(set(values)):
                raise ValueError(f"{name} must rise, two at least, got {values}")
        if self.base not in self.rounds[1:]:
            raise ValueError(f"base must be among rounds, not the first, got {self.base}")

    @property
    def middle(self) -> float:
        """The b of the runs over sizes."""
        return self.exponents[len(self.exponents) // 2]

    def world(self, num_states: int) -> WorldConfig:
        """Every reward counts and every state is met, so that all d features matter."""
        return WorldConfig(
            horizon=2, num_states=num_states, num_actions=2, concentration=1.0, reward_share=1.0
        )


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of worlds and of runs. num_seeds: worlds of each kind, one run of each method in each, all
      in one vmap.
    rounds: T, two episodes each.
    table, linear: the two kinds of world.
    slope: of the teacher's sigmoid.
    sigma_reward, sigma_values: of the draws of PR-LSVI.
    ridge: of the design matrices.
    fit_ridge: of the reward's fit, and the prior precision of posterior sampling. At slope^2 it is
      1 on the logit's weights; the prior's deviation 1 / 4 is near that of the draws.
    eps: disagreements above which a comparison is asked for, from 0 up.
    rates: of the baselines that ask at random; the last is about as often as the second eps.
    points: of a curve.
    growth: of the stages about exponents, whose teacher and sigma_values are these.
    """

    seed: int = 0
    num_seeds: int = 30
    rounds: int = 1600
    table: WorldConfig = WorldConfig()
    linear: WorldConfig = WorldConfig(
        horizon=3,
        num_states=10,
        num_actions=4,
        num_features=5,
        concentration=0.2,
        reward_share=0.5,
        low=0.35,
        high=0.6,
    )
    slope: float = 4.0
    sigma_reward: float = 0.2
    sigma_values: float = 0.3
    ridge: float = 1.0
    fit_ridge: float = 16.0
    eps: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3)
    rates: tuple[float, ...] = (0.1,)
    points: int = 60
    growth: GrowthConfig = GrowthConfig()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds")
        # The slope is fitted from T / 8 on.
        check_fields(self, "[32, inf)", "rounds")
        check_fields(self, "(0, inf)", "slope", "sigma_reward", "ridge", "fit_ridge")
        check_fields(self, "[0, inf)", "sigma_values")
        check_fields(self, "[0, inf)", "eps")
        check_fields(self, "(0, 1)", "rates")
        if len(self.eps) < 2 or self.eps[0] != 0 or list(self.eps) != sorted(set(self.eps)):
            raise ValueError(f"eps must rise from 0, two at least, got {self.eps}")
        check_fields(self, "[8, inf)", "points")


def radius(world: WorldConfig) -> float:
    """sqrt m, the longest weights with entries in [0, 1]."""
    return math.sqrt(world.horizon * world.transition_features)


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Fewer seeds and rounds: every stage in seconds."""
    growth = GrowthConfig(
        exponents=(0.125, 0.375),
        rounds=(50, 100, 200),
        base=200,
        scales=(1.0, 0.25),
        num_worlds=3,
        sizes=(2, 3),
        size_worlds=3,
        size_scales=(1.0, 0.25),
    )
    return Config(num_seeds=3, rounds=160, points=20, growth=growth)
