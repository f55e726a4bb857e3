"""`rlhf p3o`: differences of scores of fresh answers to one prompt."""

from dataclasses import dataclass, field
from typing import Literal

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.job import Job
from rlhf_jax.cli.online import Reuse, train_online
from rlhf_jax.recipes import LanguageLab, OnlineMethod, p3o
from rlhf_jax.training import UserError
from rlhf_jax.types import Params


@dataclass(frozen=True, kw_only=True)
class P3O:
    """Pairwise PPO: differences of scores, so that a shift of a prompt's scores changes nothing."""

    job: Job
    reuse: Reuse = field(default=Reuse())
    samples: int = 2
    """Answers to each prompt; every pair of them counts."""
    kl: float = 0.05
    """Weight of the KL to the model at the start, which is taken off the scores."""
    clip: Literal["joint", "separate"] = "joint"
    """What is clipped: the ratio of two answers' ratios (V2), or each ratio by itself (V1)."""
    clip_eps: float = 0.2
    """Limit on |ratio - 1|, the ratio being that of a whole answer; inf for no clip."""
    weight_clip_eps: float = float("inf")
    """Limit on |product of the two ratios - 1|, the weight of a pair; for the joint clip."""

    def __post_init__(self) -> None:
        check_fields(self, "[2, inf)", "samples")
        check_fields(self, "[0, inf)", "kl")
        check_fields(self, "(0, inf]", "clip_eps", "weight_clip_eps")


def train_p3o(command: str, options: P3O) -> None:
    """P3O."""
    job, epochs, minibatches = options.job, options.reuse.passes, options.reuse.minibatches
    joint = options.clip == "joint"
    if not joint and options.weight_clip_eps != float("inf"):
        raise UserError("--weight-clip-eps is for --clip joint: a separate clip has no such weight")
    if job.optimizer.batch_size % (minibatches * job.optimizer.micro_batches):
        raise UserError(
            f"the {job.optimizer.batch_size} prompts of a step must split evenly into "
            f"{minibatches} --minibatches of {job.optimizer.micro_batches} --micro-batches: the "
            "answers to a prompt stay together; change one of them or --batch-size"
        )

    def make(lab: LanguageLab, params: Params) -> OnlineMethod:
        return p3o(
            lab,
            samples=options.samples,
            clip_eps=options.clip_eps,
            weight_clip_eps=options.weight_clip_eps,
            joint=joint,
            beta=options.kl,
            epochs=epochs,
            minibatches=minibatches,
        )

    train_online(command, options, job, make, updates=epochs * minibatches)
