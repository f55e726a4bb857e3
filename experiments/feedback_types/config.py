"""Sizes of the feedback_types experiment."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything drawn. num_seeds: hidden rewards, with their teachers and learners.
    num_features: d, of the hidden reward, which has norm 1.
    beta: rationality of the teacher, known to the learner.
    particles: of the posterior; move_steps: of Metropolis, when few of them carry the weight.
    members: of the ensemble whose disagreement is a rule.
    queries: asked one by one; compared: number of them at which rules are held against random.
    pool: comparisons to pick from in each round, half of them near-copies.
    records: of each type of feedback.
    horizon, states, actions, temperature: of the tabular worlds, and of planning in them.
    plans: policies between which the value of an answer is measured.
    """

    seed: int = 0
    num_seeds: int = 50
    num_features: int = 5
    beta: float = 5.0
    particles: int = 1500
    move_steps: int = 5
    members: int = 7
    queries: int = 40
    compared: int = 20
    pool: int = 60
    records: int = 25
    horizon: int = 6
    states: int = 8
    actions: int = 3
    temperature: float = 0.1
    plans: int = 16

    def __post_init__(self):
        if self.beta <= 0 or self.temperature <= 0:
            raise ValueError(
                f"beta and temperature must be > 0, got {self.beta}, {self.temperature}"
            )
        if self.num_seeds < 2 or self.num_features < 2:
            raise ValueError(
                "num_seeds and num_features must be at least 2, got "
                f"{self.num_seeds}, {self.num_features}"
            )
        if self.pool < 2 or self.pool % 2:
            raise ValueError(f"pool must be even and at least 2, got {self.pool}")
        if not 1 <= self.compared <= self.queries:
            raise ValueError(f"compared must be in 1..queries, got {self.compared}")
        if self.records < 4:
            raise ValueError(f"records must be at least 4, got {self.records}")
        for name in ("particles", "move_steps", "members", "horizon", "states", "actions", "plans"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Fewer particles and questions, smaller worlds: every stage in seconds."""
    return Config(num_seeds=10, particles=400, queries=24, horizon=4, states=5)
