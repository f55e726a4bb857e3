"""Sizes of the vpl experiment."""

from dataclasses import dataclass

from rlhf_jax.checks import check_fields


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run.

    seed: of everything. num_seeds: populations, each with models of its own. sweep_seeds: of them
      in the sweep of beta.
    features: of an item, N(0, I), two at least. rationality: of all users, who like u . x.
    context, targets: comparisons of a user that are encoded, and others that are explained too.
    latent_dim, width: k, and hidden units of all layers.
    steps, batch, rate: of Adam, with that many fresh users a step.
    beta: KL weight. betas: of the sweep; the last one is to make the posterior collapse.
    test_users, test_pairs: users measured, on so many comparisons that nobody has seen.
    sizes: comparisons shown to the encoder at test time, rising to `context`.
    scale: by which the second user's utilities are multiplied where scales differ.
    sets, kept: candidate sets of queries, and how many of the best are asked.
    asked: queries in a set, each at most half of `context`.
    members: users of the training that stand for the population of latents.
    side, goal_steps: of the grid, an odd number, and moves allowed to reach a goal.
    grid_users: of the users measured, those with a policy in the grid.
    gamma, temperature: discount and KL weight of planning.
    """

    seed: int = 0
    num_seeds: int = 10
    sweep_seeds: int = 3
    features: int = 4
    rationality: float = 4.0
    context: int = 8
    targets: int = 4
    latent_dim: int = 8
    width: int = 64
    steps: int = 1000
    batch: int = 32
    rate: float = 1e-3
    beta: float = 0.01
    betas: tuple[float, ...] = (0.001, 0.03, 0.3, 1.0, 3.0, 10.0)
    test_users: int = 2000
    test_pairs: int = 4
    sizes: tuple[int, ...] = (1, 2, 4, 8)
    scale: float = 10.0
    sets: int = 256
    kept: int = 8
    asked: tuple[int, ...] = (1, 2, 4)
    members: int = 64
    side: int = 7
    goal_steps: int = 60
    grid_users: int = 100
    gamma: float = 0.95
    temperature: float = 0.01

    def __post_init__(self):
        check_fields(self, "[0, 4294967295]", "seed")
        check_fields(self, "[1, inf)", "num_seeds", "sweep_seeds", "context", "targets")
        check_fields(self, "[2, inf)", "features")
        check_fields(self, "[4, inf)", "latent_dim")
        check_fields(self, "[1, inf)", "width", "steps", "batch", "test_pairs", "sizes", "asked")
        check_fields(self, "[40, inf)", "test_users")
        check_fields(self, "[1, inf)", "sets", "kept", "members", "goal_steps", "grid_users")
        check_fields(self, "[3, inf)", "side")
        check_fields(self, "(0, inf)", "rationality", "betas", "scale", "temperature")
        check_fields(self, "[0, inf)", "beta")
        check_fields(self, "(0, 1]", "rate")
        check_fields(self, "[0, 1)", "gamma")
        if list(self.sizes) != sorted(set(self.sizes)) or self.sizes[-1] != self.context:
            raise ValueError(f"sizes must rise to context {self.context}, got {self.sizes}")
        if not {*self.asked, *(2 * size for size in self.asked)} <= set(self.sizes):
            raise ValueError(f"sizes must hold asked and its doubles, got {self.sizes}")
        if self.sweep_seeds > self.num_seeds:
            raise ValueError(f"sweep_seeds must be at most num_seeds, got {self.sweep_seeds}")
        if self.members > self.steps * self.batch:
            raise ValueError(
                f"members must be at most the users of the training, got {self.members}"
            )
        if self.grid_users > self.test_users:
            raise ValueError(f"grid_users must be at most test_users, got {self.grid_users}")
        if self.kept > self.sets:
            raise ValueError(f"kept must be at most sets {self.sets}, got {self.kept}")
        if not self.side % 2:
            raise ValueError(f"side must be odd, for a start between the goals, got {self.side}")


def default() -> Config:
    """The published run."""
    return Config()


def quick() -> Config:
    """Two populations and a fifth of the training: every stage."""
    return Config(
        num_seeds=2,
        sweep_seeds=1,
        steps=200,
        betas=(0.01, 10.0),
        test_users=400,
        sets=32,
        kept=4,
        grid_users=20,
    )
