"""Sizes of the alignment_ceiling experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Gradients:
    """The second run: policy gradients on tables.

    num_seeds: the first worlds of the pool, at most all of them.
    prompts, answers: rows and columns of a table of logits; answers are drawn from the pool.
    samples: to each prompt in a batch. updates: on each batch.
    steps: batches. points: measurements, evenly spaced, the first before training.
    beta: KL weight. rate: of Adam.
    """

    num_seeds: int = 40
    prompts: int = 16
    answers: int = 256
    samples: int = 16
    updates: int = 2
    steps: int = 150
    points: int = 50
    beta: float = 0.01
    rate: float = 0.05

    def __post_init__(self):
        check_fields(self, "[2, inf)", "num_seeds", "answers", "samples", "points")
        check_fields(self, "[1, inf)", "prompts", "updates", "steps")
        check_fields(self, "[0, inf)", "beta")
        check_fields(self, "(0, 1]", "rate")
        if self.steps % self.points:
            raise ValueError(f"points must divide steps = {self.steps}, got {self.points}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: worlds, each with its own pool, gold score and labels.
    compared: the first worlds, in which many reward models are compared.
    answers: of a pool. many_answers: of a larger one, with a longer tail.
    features: Gaussian ones, beside the length.
    sharpness: k, of the Bradley-Terry labels.
    pairs, validation: labelled pairs to fit a reward model to, and held-out ones.
    steps, rate: full batches of gradient descent.
    members: of an ensemble, fitted to bootstraps of the same pairs.
    betas: largest and smallest KL weight, in units of a score's deviation over the pool.
    points: of a sweep between them, in equal ratios.
    judged: the beta at which accuracy on the policy's answers is measured. draws: answers for that.
    budgets: a small and a large KL in nats, at which reward models are compared.
    sizes, flips: pairs and shares of reversed labels of those reward models; half of them see the
      length.
    largest: n of best-of-n, a power of 2.
    gradients: the second run.
    """

    seed: int = 0
    num_seeds: int = 100
    compared: int = 40
    answers: int = 20_000
    many_answers: int = 100_000
    features: int = 6
    sharpness: float = 2.0
    pairs: int = 500
    validation: int = 5_000
    steps: int = 300
    rate: float = 0.3
    members: int = 5
    betas: tuple[float, float] = (5.0, 0.05)
    points: int = 40
    judged: float = 0.5
    draws: int = 1_000
    budgets: tuple[float, float] = (0.5, 5.0)
    sizes: tuple[int, ...] = (50, 150, 500, 2000)
    flips: tuple[float, ...] = (0.0, 0.1, 0.25)
    largest: int = 1_024
    gradients: Gradients = Gradients()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds", "points", "draws", "members", "sizes")
        check_fields(self, "[1, inf)", "features", "pairs", "validation", "steps", "largest")
        check_fields(self, "(0, inf)", "sharpness", "betas", "judged", "budgets")
        check_fields(self, "[0, 1/2)", "flips")
        check_fields(self, "(0, 1]", "rate")
        if self.answers <= self.largest:
            raise ValueError(
                f"answers must be more than largest = {self.largest}, got {self.answers}"
            )
        if self.many_answers < self.answers:
            raise ValueError(
                f"many_answers must be at least answers = {self.answers}, got {self.many_answers}"
            )
        for name, (first, last), ordered in (
            ("betas must fall", self.betas, self.betas[0] > self.betas[1]),
            ("budgets must rise", self.budgets, self.budgets[0] < self.budgets[1]),
        ):
            if not ordered:
                raise ValueError(f"{name}, got {(first, last)}")
        parts = {"compared": self.compared, "gradients.num_seeds": self.gradients.num_seeds}
        for name, count in parts.items():
            if not 2 <= count <= self.num_seeds:
                raise ValueError(f"{name} must be in [2, {self.num_seeds}], got {count}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Four worlds, no larger pool and short training: every stage in seconds."""
    return Config(
        num_seeds=4,
        compared=2,
        many_answers=20_000,
        gradients=Gradients(num_seeds=2, steps=50),
    )
