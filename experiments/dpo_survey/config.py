"""Sizes of the dpo_survey experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: bandits with labels of their own, all in one vmap.
    prompts, answers: of a bandit, with rewards N(0, 1). shortest, longest: lengths of answers in
      tokens, uniform. ref_scale: deviation of the reference's logits, which are normal.
    many, some, few: labelled pairs: where the data are clean and where length counts, where labels
      are flipped, and where clean ones are scarce.
    flip_rate: share of wrong labels there. length_bias: nats that a token is worth to a labeller.
    beta: KL weight of the optimum, and of every loss that has one and no other number here.
    steps, rate: updates on all pairs at once, and the learning rate of Adam.
    rounds: of the methods that ask for pairs themselves, which share the same number of labels.
    simpo_beta, simpo_gamma, odds_weight, penalty, length_price: of SimPO, of ORPO's odds ratio, of
      DPOP, of a token in R-DPO. follow: share by which TR-DPO's reference moves each step.
    """

    seed: int = 0
    num_seeds: int = 20
    prompts: int = 8
    answers: int = 6
    shortest: int = 2
    longest: int = 11
    ref_scale: float = 0.5
    many: int = 20000
    some: int = 4000
    few: int = 400
    flip_rate: float = 0.3
    length_bias: float = 0.25
    beta: float = 0.5
    steps: int = 1500
    rate: float = 0.02
    rounds: int = 4
    simpo_beta: float = 4.0
    simpo_gamma: float = 0.5
    odds_weight: float = 0.5
    penalty: float = 1.0
    length_price: float = 0.25
    follow: float = 0.001

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[1, inf)", "num_seeds", "prompts", "shortest", "many", "some", "few")
        check_fields(self, "[1, inf)", "steps", "rounds")
        check_fields(self, "[2, inf)", "answers", "longest")
        check_fields(self, "[0, 1/2)", "flip_rate")
        check_fields(self, "(0, inf)", "beta", "simpo_beta")
        check_fields(self, "(-inf, inf)", "length_bias")
        check_fields(self, "[0, inf)", "ref_scale", "simpo_gamma", "odds_weight", "penalty")
        check_fields(self, "[0, inf)", "length_price")
        check_fields(self, "[0, 1]", "follow")
        check_fields(self, "(0, 1]", "rate")
        if self.longest < self.shortest:
            raise ValueError(f"longest must be at least shortest, got {self.longest}")
        for name in ("many", "some", "few", "steps"):
            if getattr(self, name) < self.rounds:
                raise ValueError(f"{name} must be at least rounds {self.rounds}, one for each")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Two bandits, a third of the updates."""
    return Config(num_seeds=2, steps=500)
