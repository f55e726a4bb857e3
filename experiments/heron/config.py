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
class Traffic:
    """Two junctions and six factors.

    num_seeds: searches of each method. betas: of the weighted sums, whose weights are beta^l in the
      order of the ranking. unit: of the switches, where they are measured otherwise. sigmas:
      HERON's margin multipliers; 1 is among them. cycles: green steps of fixed cycles.
    population, elite, rounds: of the cross-entropy search; least: added to its deviation.
    episodes, steps: of each policy that is tried, and of an episode. starts: of an evaluation.
    """

    num_seeds: int = 10
    betas: tuple[float, ...] = (0.1, 0.25, 0.5, 1.0)
    unit: float = 100.0
    sigmas: tuple[float, ...] = (0.0, 0.25, 1.0)
    cycles: tuple[int, ...] = (3, 6, 9, 12)
    population: int = 32
    elite: int = 8
    rounds: int = 20
    least: float = 0.05
    episodes: int = 4
    steps: int = 150
    starts: int = 32

    def __post_init__(self):
        check_fields(self, "(0, 1]", "betas")
        check_fields(self, "(0, inf)", "unit")
        check_fields(self, "[0, inf)", "sigmas", "least")
        if 1.0 not in self.sigmas:
            raise ValueError(f"sigmas must hold 1, got {self.sigmas}")
        check_fields(self, "[2, inf)", "num_seeds", "elite")
        check_fields(self, "[1, inf)", "cycles", "rounds", "episodes", "steps", "starts")
        if self.population * self.episodes < 32 or self.population <= self.elite:
            raise ValueError(
                "population must exceed elite, and play 32 episodes at least, got "
                f"{self.population}, {self.elite} and {self.population * self.episodes}"
            )


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: linear problems, all in one vmap.
    points, pairs: items with 8 features, and comparisons among them.
    contexts, candidates: where the learnt reward chooses, and among how many.
    scales: by which factor 2 is multiplied; 1 is among them.
    sigmas: margin multipliers, rising; 1 is among them.
    steps, rate: Adam on the logistic regression.
    swing_up: the pendulum. panel: whether to run the junctions, `traffic`, in the place of all
      this. changed: whether to run the pendulum alone, and claim what becomes of the policies where
      mass or friction are others.
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
    panel: bool = False
    changed: bool = False
    traffic: Traffic = Traffic()

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
        if self.panel and self.changed:
            raise ValueError("panel and changed must not both be set, each is a run of its own")
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


def traffic() -> Config:
    """The lights of two junctions alone."""
    return Config(panel=True)


def changed() -> Config:
    """The pendulum alone, under other masses and friction, on fewer seeds and sums."""
    return Config(changed=True, swing_up=SwingUp(num_seeds=5, betas=(0.25, 0.5)))
