"""Sizes of the heron experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class SwingUp:
    """The pendulum.

    num_seeds: runs of each method, all in one vmap. unit: by which u^2 is multiplied, for HERON,
      for the sums that are called wrong, and for the standardised ones.
    betas: of the standardised sums, whose weights are 1, beta, beta^2.
    sigma, reward_widths, reward_rate, reward_batch, reward_batches: margin multiplier, reward
      network, its Adam step, items in a batch (all pairs of them are compared), batches a refresh.
    widths, rate, tau, noise, batch: actor and critic, their Adam step, how fast targets move, noise
      in units of the largest torque, rows of an update.
    worlds: episodes at a time, 200 steps each, in a round; an update of actor and critic follows
      each step, a refresh of the reward network each round.
    warmup, rounds: rounds with noise as large as the torque and no updates, and of training.
    starts: of an evaluation.
    """

    num_seeds: int = 10
    unit: float = 100.0
    betas: tuple[float, ...] = (0.1, 0.25, 0.5)
    sigma: float = 1.0
    reward_widths: tuple[int, ...] = (64, 64)
    reward_rate: float = 1e-3
    reward_batch: int = 16
    reward_batches: int = 16
    widths: tuple[int, ...] = (64, 64)
    rate: float = 1e-3
    tau: float = 0.005
    noise: float = 0.1
    batch: int = 64
    worlds: int = 2
    warmup: int = 3
    rounds: int = 60
    starts: int = 32

    def __post_init__(self):
        check_fields(self, "(0, inf)", "unit", "noise")
        check_fields(self, "(0, 1]", "betas")
        check_fields(self, "(0, 1]", "reward_rate", "rate", "tau")
        check_fields(self, "[0, inf)", "sigma")
        check_fields(self, "[1, inf)", "num_seeds", "reward_batch", "reward_batches", "batch")
        check_fields(self, "[1, inf)", "worlds", "starts", "warmup", "rounds")
        check_fields(self, "[1, inf)", "reward_widths", "widths")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: linear problems, all in one vmap.
    points, pairs: items with 8 features, and comparisons among them.
    contexts, candidates: where the learnt reward chooses, and among how many.
    scales: by which factor 2 is multiplied; 1 is among them.
    sigmas: margin multipliers, rising; 1 is among them.
    steps, rate: Adam on the logistic regression.
    swing_up: the pendulum.
    """

    seed: int = 0
    num_seeds: int = 10
    points: int = 4_000
    pairs: int = 20_000
    contexts: int = 2_000
    candidates: int = 16
    scales: tuple[float, ...] = (0.01, 1.0, 100.0)
    sigmas: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0)
    steps: int = 100
    rate: float = 0.1
    swing_up: SwingUp = SwingUp()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "(0, inf)", "scales")
        check_fields(self, "[0, inf)", "sigmas")
        if 1.0 not in self.scales:
            raise ValueError(f"scales must hold 1, got {self.scales}")
        if len(self.sigmas) < 2 or list(self.sigmas) != sorted(set(self.sigmas)):
            raise ValueError(f"sigmas must rise and be at least two, got {self.sigmas}")
        if 1.0 not in self.sigmas:
            raise ValueError(f"sigmas must hold 1, got {self.sigmas}")
        check_fields(self, "(0, 1]", "rate")
        check_fields(self, "[1, inf)", "num_seeds", "points", "pairs", "contexts", "candidates")
        check_fields(self, "[1, inf)", "steps")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Fewer comparisons and a few rounds of the pendulum: every stage in seconds."""
    swing_up = SwingUp(num_seeds=3, betas=(0.25, 0.5), rounds=5, warmup=1, starts=4)
    return Config(num_seeds=4, pairs=5_000, contexts=500, steps=60, swing_up=swing_up)
