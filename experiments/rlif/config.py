"""Sizes of the rlif experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Swing:
    """The pendulum.

    num_seeds: best agents, each with experts and learners of its own.
    shares: of the way from uniform torques to the best agent, where its checkpoints are experts.
    widths, rate, tau, gamma, batch, noise: actor and critic, their Adam step, how fast targets
      move, discount, rows of an update, noise in units of the largest torque.
    rounds, worlds: of the training of experts, an episode in each world. warmup: rounds of random
      torques, and episodes of a learner, without updates.
    margin: the teacher rejects Q(s, a) < Q(s, a_ref) - margin.
    torques: that RLIF chooses from. label_gamma: its discount of interventions.
    steps, episode_steps: of each learner. points: of its curve. starts: of an evaluation.
    own_weights: of an accepted torque of the learner's in its clone. clone_rates: Adam steps of
      clones.
    """

    num_seeds: int = 6
    shares: tuple[float, ...] = (0.9, 0.4, 0.1)
    widths: tuple[int, ...] = (64, 64)
    rate: float = 1e-3
    tau: float = 0.02
    gamma: float = 0.98
    batch: int = 64
    noise: float = 0.1
    rounds: int = 40
    worlds: int = 2
    warmup: int = 2
    margin: float = 1.0
    torques: int = 9
    label_gamma: float = 0.9
    steps: int = 9_000
    episode_steps: int = 200
    points: int = 6
    starts: int = 32
    own_weights: tuple[float, ...] = (0.0, 0.25, 1.0)
    clone_rates: tuple[float, ...] = (3e-4, 1e-3)

    def __post_init__(self):
        check_fields(self, "[1, inf)", "num_seeds", "widths", "batch", "worlds", "warmup")
        check_fields(self, "[3, inf)", "rounds")
        check_fields(self, "[2, inf)", "torques")
        check_fields(self, "[1, inf)", "episode_steps", "points", "starts")
        check_fields(self, "[0, 1]", "shares", "own_weights")
        check_fields(self, "(0, 1]", "rate", "tau", "clone_rates")
        check_fields(self, "(0, 1)", "gamma")
        check_fields(self, "[0, 1)", "label_gamma")
        check_fields(self, "[0, inf)", "margin", "noise")
        if not self.steps >= self.points or self.steps % self.points:
            raise ValueError(f"steps must be a multiple of points, got {self.steps}")


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
    panel: whether to run the pendulum, `swing`, in the place of the grids; the teacher's rates and
      the longest takeover are the same.
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
    panel: bool = False
    swing: Swing = Swing()

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
    """A fifth of the steps and fewer points: every stage of the grids in seconds."""
    return Config(steps=12_000, points=4)


def pendulum() -> Config:
    """The pendulum alone."""
    return Config(panel=True)
