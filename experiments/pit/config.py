"""Sizes of the pit experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Trained:
    """The improver as a table that is trained, in place of the closed form.

    steps, rate: of Adam, cosine to 0, with the exact gradient of all answers.
    references: of the sampled version, drawn from the base policy. samples: K answers to each.
      batches: of them, each used for two steps of PPO with clip_eps, rate sampled_rate.
    """

    steps: int = 200
    rate: float = 0.1
    references: int = 16
    samples: int = 64
    batches: int = 100
    sampled_rate: float = 0.2
    clip_eps: float = 0.2

    def __post_init__(self):
        check_fields(self, "[1, 1000000]", "steps", "batches", "references")
        check_fields(self, "(0, 1]", "rate", "sampled_rate", "clip_eps")
        check_fields(self, "[2, 1000000]", "samples")


@dataclass(frozen=True, kw_only=True)
class Course:
    """The curriculum, of an improver that cannot reach the optimum of every reference.

    steps: in all, half of them on either kind of references where there are two. references,
      samples: of a step, and answers to each. rate: of Adam.
    """

    steps: int = 200
    references: int = 32
    samples: int = 4
    rate: float = 0.05

    def __post_init__(self):
        check_fields(self, "[2, 1000000]", "steps", "samples")
        check_fields(self, "[1, 1000000]", "references")
        check_fields(self, "(0, 1]", "rate")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: worlds, all in one vmap.
    bits: of an answer, a string of -1 and 1. spread: scale of the weights of the quality.
    slope: of labels in the quality. pairs: of the data. ridge: of the gap model.
    badness, noise: the base policy is softmax(-badness q + noise N(0, 1)).
    flip: the SFT editor flips each bit of the reference with this probability.
    beta: KL weight of the claims. betas: others that are shown. rounds: of improvement.
    """

    seed: int = 0
    num_seeds: int = 10
    bits: int = 7
    spread: float = 1.5
    slope: float = 2.0
    pairs: int = 400
    ridge: float = 1e-3
    badness: float = 0.2
    noise: float = 0.3
    flip: float = 0.15
    beta: float = 1.0
    betas: tuple[float, ...] = (0.1, 0.3, 3.0)
    rounds: int = 5
    trained: Trained = Trained()
    course: Course = Course()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, 10000]", "num_seeds", "rounds")
        check_fields(self, "[2, 9]", "bits")  # tables of references by answers
        check_fields(self, "[2, 10000000]", "pairs")
        check_fields(self, "(0, 100]", "spread", "slope", "ridge", "beta")
        check_fields(self, "[0, 100]", "badness", "noise")
        check_fields(self, "(0, 1/2)", "flip")
        check_fields(self, "(0, 100]", "betas")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Four worlds, fewer steps: the same claims."""
    return Config(
        num_seeds=4, bits=6, trained=Trained(steps=150, batches=50), course=Course(steps=100)
    )
