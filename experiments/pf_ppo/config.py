"""Sizes of the pf_ppo experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Puzzles:
    """Number puzzles: an order of three digits and two operators that give a target.

    num_seeds: draws of puzzles and first weights. count: puzzles. width: of both networks.
    likelihood: steps of Adam towards right answers before PPO. pairs, pair_steps: right and wrong
      answers of that policy, and Adam's steps of the reward model on all of them. rate: of Adam.
    iterations, policy_rate: PPO, Adam's step.
    """

    num_seeds: int = 5
    count: int = 64
    width: int = 32
    likelihood: int = 60
    pairs: int = 400
    pair_steps: int = 120
    rate: float = 1e-2
    iterations: int = 40
    policy_rate: float = 3e-3

    def __post_init__(self):
        check_fields(self, "[2, inf)", "num_seeds", "count", "width")
        check_fields(self, "[1, inf)", "likelihood", "pairs", "pair_steps")
        check_fields(self, "[5, inf)", "iterations")
        check_fields(self, "(0, 1]", "rate", "policy_rate")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: worlds.
    prompts, answers, features: of the bandit; norm: of the gold weights.
    edge, amplitude: the reward model is right where gold is within `edge` of 0 or 1, and elsewhere
      0.5 + amplitude tanh(2 u . phi). amplitudes: others, with the same edge.
    mild_edge, mild_amplitude: one more reward model, which is wrong less often.
    samples: answers to each prompt in an iteration. beta: KL weight. clip_eps, epochs: of PPO.
    rate: of SGD. baseline_rate: of each prompt's moving mean.
    iterations: of PPO; R^2 is the mean of that of the first five.
    puzzles: the number puzzles.
    """

    seed: int = 0
    num_seeds: int = 10
    prompts: int = 96
    answers: int = 32
    features: int = 12
    norm: float = 1.6
    edge: float = 0.1
    amplitude: float = 0.4
    amplitudes: tuple[float, ...] = (0.0, 0.1, 0.2, 0.3)
    mild_edge: float = 0.2
    mild_amplitude: float = 0.3
    samples: int = 5
    beta: float = 0.02
    clip_eps: float = 0.2
    epochs: int = 2
    rate: float = 0.15
    baseline_rate: float = 0.1
    iterations: int = 60
    puzzles: Puzzles = Puzzles()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "prompts", "answers", "features")
        check_fields(self, "[3, inf)", "samples")
        check_fields(self, "[5, inf)", "iterations")
        check_fields(self, "[1, inf)", "epochs")
        check_fields(self, "(0, inf)", "norm", "clip_eps")
        check_fields(self, "[0, inf)", "beta")
        check_fields(self, "[0, 1/2)", "edge", "mild_edge")
        check_fields(self, "[0, 1/2]", "amplitude", "amplitudes", "mild_amplitude")
        check_fields(self, "(0, 1]", "rate", "baseline_rate")

    def models(self) -> list[tuple[float, float]]:
        """(edge, amplitude) of every reward model; claims are about the first."""
        others = [(self.edge, amplitude) for amplitude in self.amplitudes]
        mild = self.mild_edge, self.mild_amplitude
        return [(self.edge, self.amplitude), *others, mild]


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Fewer worlds and puzzles."""
    return Config(
        num_seeds=5,
        amplitudes=(0.0, 0.2),
        iterations=40,
        puzzles=Puzzles(num_seeds=2, count=24, likelihood=30, pair_steps=40, iterations=10),
    )
