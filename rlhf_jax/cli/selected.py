"""Commands that learn selected answers: RAFT (`best-of-n`) and SuperHF."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.job import Job
from rlhf_jax.cli.online import Reuse, train_online
from rlhf_jax.ops.kl import exact_kl, forward_kl
from rlhf_jax.recipes import OnlineMethod, best_of, superhf, top_of_batch
from rlhf_jax.training import UserError


@dataclass(frozen=True, kw_only=True)
class BestOf:
    """Best-of-n fine-tuning (RAFT): maximum likelihood of the answers with the highest scores."""

    job: Job
    reuse: Reuse = field(default=Reuse())
    samples: int = 8
    """n: one answer in so many is learned."""
    ranking: Literal["local", "global"] = "local"
    """local: n answers to each prompt, of which the best is kept. global: one answer to each, of
    which the best 1/n of the batch is kept, so that easy prompts are kept more often."""
    kl: float = 0.0
    """Weight of log pi - log pi_start, subtracted from a score before the answers are ranked."""

    def __post_init__(self) -> None:
        check_fields(self, "[2, inf)", "samples")
        check_fields(self, "[0, inf)", "kl")


def best_of_n(command: str, options: BestOf) -> None:
    """Learns the best of n fresh answers."""
    batch, few = options.job.optimizer.batch_size, options.ranking == "global"
    if few and batch % options.samples:
        raise UserError(
            f"--ranking global keeps one prompt in {options.samples}: --batch-size must be a "
            f"multiple of --samples, got {batch}"
        )
    method = top_of_batch if few else best_of
    given = {"samples": options.samples, "kl": options.kl}
    learned = batch // options.samples if few else batch
    _train(command, options, partial(method, **given), learned=learned)


@dataclass(frozen=True, kw_only=True)
class SuperHF:
    """SuperHF: best-of-n fine-tuning with a KL prior to the model at the start."""

    job: Job
    reuse: Reuse = field(default=Reuse())
    samples: int = 16
    """Answers to each prompt, of which the best is learned."""
    prior: float = 0.35
    """Weight of the KL divergence over the whole vocabulary, at each token of those answers."""
    divergence: Literal["forward", "reverse"] = "forward"
    """forward: KL(start || policy), a pull of fixed strength. reverse: KL(policy || start)."""

    def __post_init__(self) -> None:
        check_fields(self, "[2, inf)", "samples")
        check_fields(self, "[0, inf)", "prior")


def train_superhf(command: str, options: SuperHF) -> None:
    """SuperHF."""
    divergence = forward_kl if options.divergence == "forward" else exact_kl
    method = partial(superhf, samples=options.samples, beta=options.prior, divergence=divergence)
    _train(command, options, method, learned=options.job.optimizer.batch_size)


def _train(
    command: str, options: BestOf | SuperHF, method: Callable[..., OnlineMethod], *, learned: int
) -> None:
    """The passes over each batch, and `train_online`; learned: answers in a batch."""
    reuse = options.reuse
    make = partial(method, epochs=reuse.passes, minibatches=reuse.minibatches)
    train_online(
        command,
        options,
        options.job,
        lambda lab, params: make(lab),
        updates=reuse.passes * reuse.minibatches,
        learned=learned,
    )
