"""Sizes of the secrets_rm experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """The contrastive terms.

    epochs: of each reward model. dropout: rate of the two views. temperature: of SimCSE and SwAV.
    simcse, swav: weights of the terms. prototypes: of SwAV, on differences of answers.
    """

    epochs: int = 20
    dropout: float = 0.05
    temperature: float = 0.1
    simcse: float = 1.0
    swav: float = 0.5
    prototypes: int = 20

    def __post_init__(self):
        check_fields(self, "[1, inf)", "epochs", "prototypes")
        check_fields(self, "[0, 1)", "dropout")
        check_fields(self, "(0, inf)", "temperature")
        check_fields(self, "[0, inf)", "simcse", "swav")


@dataclass(frozen=True, kw_only=True)
class Meta:
    """MetaRM.

    pairs, noise, epochs: training pairs, share of wrong labels, passes. answers: unlabelled answers
      to a prompt; there are as many prompts as pairs.
    eta: ascent on the spread. direct: weight of the spread where it is maximised itself.
    shift, width: the shifted answers are shift u + width N(0, I), u a unit vector.
    rounds: of a policy that is trained against the reward model of its round. steps, best: of that
      training from the starting policy: moves of its mean to the best share of its answers.
    """

    pairs: int = 1_000
    noise: float = 0.1
    epochs: int = 20
    answers: int = 4
    eta: float = 3.0
    direct: float = 0.3
    shift: float = 3.0
    width: float = 0.4
    rounds: int = 3
    steps: int = 3
    best: float = 0.1

    def __post_init__(self):
        check_fields(self, "[1, inf)", "pairs", "epochs", "rounds", "steps")
        check_fields(self, "[2, inf)", "answers")
        check_fields(self, "[0, 1/2)", "noise")
        check_fields(self, "[0, inf)", "eta", "direct", "shift")
        check_fields(self, "(0, inf)", "width")
        check_fields(self, "(0, 1]", "best")


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: worlds.
    pairs, test_pairs: labelled, and clean ones to measure on. noise: share of wrong labels.
    width, rate, batch: hidden units, Adam's step, pairs in a batch.
    voters, voter_epochs: reward models that vote, and their passes over the pairs.
    epochs: of the final reward models.
    share: of the pairs that are flipped or dropped. label_smoothing: of pairs below 0.
    contrast, meta: the contrastive terms, MetaRM.
    """

    seed: int = 0
    num_seeds: int = 10
    pairs: int = 2_000
    test_pairs: int = 4_000
    noise: float = 0.25
    width: int = 64
    rate: float = 3e-3
    batch: int = 32
    voters: int = 10
    voter_epochs: int = 2
    epochs: int = 60
    share: float = 0.2
    label_smoothing: float = 0.5
    contrast: Contrast = Contrast()
    meta: Meta = Meta()

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[2, inf)", "num_seeds")
        check_fields(self, "[1, inf)", "test_pairs", "width", "batch", "voters", "voter_epochs")
        check_fields(self, "[1, inf)", "epochs")
        check_fields(self, "[0, 1/2)", "noise")
        check_fields(self, "(0, 1]", "rate")
        check_fields(self, "[0, 1]", "share", "label_smoothing")
        if self.pairs % 10 or self.pairs < 10 * self.batch:
            raise ValueError(
                "pairs must be a multiple of 10 with at least a batch in each tenth, got "
                f"{self.pairs} with batch {self.batch}"
            )


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Three worlds, fewer pairs and passes: every stage in seconds."""
    return Config(
        num_seeds=3,
        pairs=960,
        test_pairs=1_000,
        epochs=20,
        contrast=Contrast(epochs=4),
        meta=Meta(pairs=320, epochs=5),
    )
