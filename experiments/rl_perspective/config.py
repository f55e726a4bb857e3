"""Sizes of the rl_perspective experiment."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Compounding:
    """The tightrope.

    horizons: T, rising. slip: rate of slips of every policy that is judged.
    demos: of the expert. smoothing: added to every count of behaviour cloning.
    alpha, rate, clip, updates: of MaxEnt inverse RL: entropy weight, step, bound on the weights.
    pairs, explore, temperature: comparisons, slip rate of their roll-outs, beta of the labels.
    fit_updates, fit_rate, ridge: of the reward model: Adam, weight decay.
    beta: KL weight of RLHF.
    """

    horizons: tuple[int, ...] = (5, 10, 20, 40, 80)
    slip: float = 0.02
    demos: int = 50
    smoothing: float = 0.01
    alpha: float = 0.1
    rate: float = 1.0
    clip: float = 5.0
    updates: int = 100
    pairs: int = 400
    explore: float = 0.1
    temperature: float = 5.0
    fit_updates: int = 300
    fit_rate: float = 0.05
    ridge: float = 1e-2
    beta: float = 0.1

    def __post_init__(self):
        if len(self.horizons) < 3 or list(self.horizons) != sorted(set(self.horizons)):
            raise ValueError(f"horizons must rise and be at least three, got {self.horizons}")
        if self.horizons[0] < 1:
            raise ValueError(f"horizons must be at least 1, got {self.horizons}")
        for name in ("slip", "explore"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in (0, 1), got {getattr(self, name)}")
        for name in ("demos", "updates", "pairs", "fit_updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("smoothing", "alpha", "rate", "clip", "temperature", "fit_rate", "beta"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Prompts chosen from logged outcomes.

    dims: of queries and prompts. logged, unseen: prompts that were tried, and that were not.
    queries: logged ones, rising; each was answered under every logged prompt.
    test: new queries. updates, rate, decay: of the reward model: Adam, weight decay.
    """

    dims: int = 8
    logged: int = 6
    unseen: int = 10
    queries: tuple[int, ...] = (50, 200, 1000, 4000)
    test: int = 2000
    updates: int = 120
    rate: float = 0.1
    decay: float = 1e-4

    def __post_init__(self):
        if len(self.queries) < 2 or list(self.queries) != sorted(set(self.queries)):
            raise ValueError(f"queries must rise and be at least two, got {self.queries}")
        for name in ("dims", "logged", "unseen", "test", "updates"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.queries[0] < 1:
            raise ValueError(f"queries must be at least 1, got {self.queries}")
        if not self.rate > 0 or self.decay < 0:
            raise ValueError(f"rate must be > 0 and decay >= 0, got {self.rate}, {self.decay}")


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """A string to be written, rewarded at its end.

    length: T. vocabularies: |V|, rising. noise: sd of the reward.
    iterations, samples: rounds, and strings in each.
    rate: step of REINFORCE and PPO on the mean over strings of the sum over tokens.
    clip_eps, epochs: of PPO.
    q_rate, explore: step and epsilon of Q-learning. replays: of old strings for each new one,
      where the state is the prefix.
    """

    length: int = 8
    vocabularies: tuple[int, ...] = (4, 32, 256)
    noise: float = 0.1
    iterations: int = 400
    samples: int = 64
    rate: float = 1.0
    clip_eps: float = 0.2
    epochs: int = 4
    q_rate: float = 0.3
    explore: float = 0.1
    replays: int = 1

    def __post_init__(self):
        if len(self.vocabularies) < 2 or list(self.vocabularies) != sorted(set(self.vocabularies)):
            raise ValueError(f"vocabularies must rise and be at least two, got {self.vocabularies}")
        if self.vocabularies[0] < 2:
            raise ValueError(f"vocabularies must be at least 2, got {self.vocabularies}")
        if self.vocabularies[0] ** max(self.length, 0) > 2**20:
            raise ValueError(
                f"vocabularies[0]^length, the rows of a table, must be at most 2^20, got "
                f"{self.vocabularies[0]}^{self.length}"
            )
        for name in ("length", "iterations", "samples", "epochs", "replays"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("rate", "clip_eps", "q_rate"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be > 0, got {getattr(self, name)}")
        if self.noise < 0 or not 0 <= self.explore <= 1:
            raise ValueError(
                f"noise must be >= 0 and explore in [0, 1], got {self.noise}, {self.explore}"
            )


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run. num_seeds: of every part, each in one vmap."""

    seed: int = 0
    num_seeds: int = 30
    compounding: Compounding = Compounding()
    prompts: Prompts = Prompts()
    tokens: Tokens = Tokens()

    def __post_init__(self):
        if self.num_seeds < 2:
            raise ValueError(f"num_seeds must be at least 2, got {self.num_seeds}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Shorter horizons and small vocabularies: every stage in seconds.

    Compilation takes most of it, so ten seeds stay; the share of right tokens needs them.
    """
    return Config(
        num_seeds=10,
        compounding=Compounding(horizons=(5, 10, 20, 40)),
        tokens=Tokens(vocabularies=(4, 16)),
    )
