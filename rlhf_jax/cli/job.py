"""The options that all commands on fresh answers share."""

from dataclasses import dataclass, field

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.limits import Costs
from rlhf_jax.cli.online_options import (
    Curriculum,
    Directions,
    Groups,
    Improvement,
    Retries,
    Scoring,
)
from rlhf_jax.cli.options import Adapter, Model, Optimizer, Output, Sampling, Watch


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is answered, scored and trained."""

    model: Model
    scoring: Scoring
    costs: Costs = field(default=Costs())
    directions: Directions = field(default=Directions())
    groups: Groups = field(default=Groups())
    retries: Retries = field(default=Retries())
    curriculum: Curriculum = field(default=Curriculum())
    improvement: Improvement = field(default=Improvement())
    sampling: Sampling = field(default=Sampling())
    adapter: Adapter = field(default=Adapter())
    optimizer: Optimizer = field(default=Optimizer(learning_rate=1e-5))
    watch: Watch = field(default=Watch())
    completions_every: int = 10
    """Answers of every so many steps go to completions.html and completions.jsonl; 0 writes
    none."""
    overlap: bool = False
    """Draw the answers of the next step while these are scored: they are one update old, and weigh
    min(pi / pi_sampler, 2)."""
    output: Output

    def __post_init__(self) -> None:
        check_fields(self, "[0, inf)", "completions_every")
