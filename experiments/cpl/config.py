"""Sizes of the cpl experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields

WORLDS = ("pendulum", "cartpole", "balance")


@dataclass(frozen=True, kw_only=True)
class Control:
    """The control panel: networks, segments of half-trained agents, a critic's labels.

    worlds: some of WORLDS; all but the pendulum need the extra `control`.
    num_seeds: agents, each with data and learners of its own.
    widths: of every network. gamma: discount.
    rounds, round_steps, lanes: of an agent, with an update after each step in so many worlds;
      warmup: rounds of random actions without updates.
    agent_rate, agent_batch, tau, exploration, temperature: Adam, rows of an update, how fast
      targets move, noise of training, of soft Q-learning.
    noise, checks: of the episodes by which the parameters of a round are judged, and how many.
    checkpoints, episodes: rounds with success nearest to a half, and their episodes together.
    segments, length: how many are labelled, and their steps. batch: segments of an update.
    alpha, kl_alpha, bias, kl_bias: temperatures and biases of CPL and of CPL-KL.
    rate, iql_rate: Adam. clone_steps, steps: updates of BC, and of what starts from it; P-IQL has
      as many as both, and reward_steps before.
    betas: of P-IQL. tests: episodes of each policy.
    """

    worlds: tuple[str, ...] = WORLDS
    num_seeds: int = 4
    widths: tuple[int, ...] = (64, 64)
    gamma: float = 0.98
    rounds: int = 60
    round_steps: int = 200
    lanes: int = 4
    warmup: int = 3
    agent_rate: float = 1e-3
    agent_batch: int = 64
    tau: float = 0.02
    exploration: float = 0.1
    temperature: float = 0.1
    noise: float = 0.3
    checks: int = 32
    checkpoints: int = 8
    episodes: int = 640
    segments: int = 2500
    length: int = 64
    batch: int = 16
    alpha: float = 0.1
    kl_alpha: float = 0.2
    bias: float = 0.5
    kl_bias: float = 0.75
    rate: float = 3e-4
    iql_rate: float = 3e-4
    clone_steps: int = 1000
    steps: int = 1500
    reward_steps: int = 1000
    betas: tuple[float, ...] = (0.1, 1 / 3, 1.0)
    tests: int = 100

    def __post_init__(self):
        check_fields(self, "[2, inf)", "num_seeds", "batch")
        check_fields(self, "[1, inf)", "widths", "round_steps", "lanes", "warmup", "agent_batch")
        check_fields(self, "[1, inf)", "checks", "checkpoints", "clone_steps", "steps", "tests")
        check_fields(self, "[1, inf)", "reward_steps", "segments")
        check_fields(self, "[4, inf)", "rounds")
        check_fields(self, "[1, 200]", "length")
        check_fields(self, "(0, 1)", "gamma")
        check_fields(self, "(0, 1]", "agent_rate", "tau", "rate", "iql_rate", "bias", "kl_bias")
        check_fields(self, "[0, 1]", "exploration", "noise")
        check_fields(self, "(0, inf)", "temperature", "alpha", "kl_alpha", "betas")
        check_fields(self, "[1, 1000000]", "episodes")
        if (
            not self.worlds
            or not {*self.worlds} <= {*WORLDS}
            or len({*self.worlds}) < len(self.worlds)
        ):
            raise ValueError(f"worlds must be some of {WORLDS}, got {self.worlds}")
        if self.episodes % self.checkpoints or self.checkpoints > self.rounds:
            raise ValueError(
                f"checkpoints must be at most {self.rounds}, a divisor of {self.episodes} "
                f"episodes, got {self.checkpoints}"
            )


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of grids, segments and labels. num_seeds: grids, each with its own data.
    sizes: numbers of pairs of segments.
    length: actions in a segment, uniform from a uniform start.
    alpha: temperature of the max-ent optimum whose advantages label the pairs, and of the learners.
    steps, rate: of Adam, full batch.
    shares: of the actions that behaviour may take in each state (one at least), for the panel on
      coverage; covered_pairs: its number of pairs.
    panel: whether to run the control panel, `control`, in the place of the tables.
    """

    seed: int = 0
    num_seeds: int = 10
    sizes: tuple[int, ...] = (300, 1000, 3000, 10_000, 30_000)
    length: int = 4
    alpha: float = 0.1
    steps: int = 1500
    rate: float = 0.05
    shares: tuple[float, ...] = (0.0, 0.3, 0.6, 1.0)
    covered_pairs: int = 1000
    panel: bool = False
    control: Control = Control()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds")
        check_fields(self, "[1, inf)", "length", "steps", "covered_pairs", "sizes")
        check_fields(self, "[0, 1]", "shares")
        check_fields(self, "(0, inf)", "alpha")
        check_fields(self, "(0, 1]", "rate")
        sizes, shares = set(self.sizes), set(self.shares)
        if len(sizes) < 3 or list(self.sizes) != sorted(sizes):
            raise ValueError(f"sizes must be three or more and ascend, got {self.sizes}")
        if len(shares) < len(self.shares):
            raise ValueError(f"shares must differ, got {self.shares}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Two grids, fewer pairs and steps: every stage."""
    return Config(
        num_seeds=2, sizes=(100, 300, 1000), steps=150, shares=(0.3, 1.0), covered_pairs=300
    )


def control() -> Config:
    """The control panel alone."""
    return Config(panel=True)
