"""Sizes of the feedback_types experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything drawn. num_seeds: hidden rewards, with their teachers and learners.
    num_features: d, of the hidden reward, which has norm 1.
    beta: rationality of the teacher, known to the learner but for the stage on wrong ones.
    factors: the learner's beta over the teacher's, in that stage; mistakes: share of the answers
      that are flipped there, unknown to a learner with the right beta.
    particles: of the posterior; move_steps: of Metropolis, when few of them carry the weight.
    members: of the ensemble whose disagreement is a rule.
    queries: asked one by one; compared: number of them at which rules are held against random.
    pool: comparisons to pick from in each round, half of them near-copies.
    records: of each kind of feedback, at which kinds are compared; most_records: asked for in all.
    offers: records of one kind to pick from, where they are picked.
    horizon, states, actions, temperature: of the tabular worlds, and of planning in them.
    plans: policies between which the value of an answer is measured.
    """

    seed: int = 0
    num_seeds: int = 50
    num_features: int = 5
    beta: float = 5.0
    factors: tuple[float, ...] = (0.25, 0.5, 2.0, 4.0)
    mistakes: float = 0.1
    particles: int = 1500
    move_steps: int = 5
    members: int = 7
    queries: int = 40
    compared: int = 20
    pool: int = 60
    records: int = 25
    most_records: int = 40
    offers: int = 10
    horizon: int = 6
    states: int = 8
    actions: int = 3
    temperature: float = 0.1
    plans: int = 16

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "(0, inf)", "beta", "temperature", "factors")
        check_fields(self, "[0, 0.5)", "mistakes")
        check_fields(self, "[2, inf)", "num_seeds", "num_features", "pool")
        if self.pool % 2:
            raise ValueError(f"pool must be even, got {self.pool}")
        check_fields(self, "[1, inf)", "queries", "offers")
        check_fields(self, f"[1, {self.queries}]", "compared")
        check_fields(self, "[4, inf)", "most_records")
        check_fields(self, f"[4, {self.most_records}]", "records")
        check_fields(self, "[1, inf)", "particles", "move_steps", "members", "horizon", "states")
        check_fields(self, "[1, inf)", "actions", "plans")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Fewer particles and questions, smaller worlds: every stage in seconds."""
    return Config(
        num_seeds=10, particles=300, queries=24, most_records=26, horizon=4, states=5, offers=4
    )
