"""Commands on fresh answers: sample, score, update. A command is a method of `recipes.methods`."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optax

from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.checks import check_fields
from rlhf_jax.cli.directions import check_directed
from rlhf_jax.cli.exclusions import PARTS, check_exclusions
from rlhf_jax.cli.frame import make_fit
from rlhf_jax.cli.groups import check_groups, group_rewarded
from rlhf_jax.cli.job import Job
from rlhf_jax.cli.limits import cost_limits
from rlhf_jax.cli.losses import named_loss
from rlhf_jax.cli.measures import answer_quality, compared, wins_over
from rlhf_jax.cli.online_options import Filtering
from rlhf_jax.cli.online_task import open_online
from rlhf_jax.cli.options import Optimizer
from rlhf_jax.cli.pages import write_completions
from rlhf_jax.cli.reward_folders import open_reward
from rlhf_jax.cli.rewards import scoring_compare
from rlhf_jax.cli.session import (
    finish,
    measured,
    open_model,
    open_session,
    sampling_of,
)
from rlhf_jax.cli.step_rewards import paid_steps, step_specs
from rlhf_jax.cli.watch import corpus_quality, watched
from rlhf_jax.ops.filtration import (
    best_random_weights,
    best_weights,
    best_worst_weights,
    power_weights,
    widest_weights,
)
from rlhf_jax.ops.kl import k3
from rlhf_jax.recipes import (
    AnswerFilter,
    Fit,
    LanguageLab,
    OnlineMethod,
    Penalty,
    Reward,
    Task,
    adamw_cosine,
    cispo,
    critic_of,
    dapo,
    dr_grpo,
    gae_of_steps,
    grpo,
    gspo,
    judged_advantages,
    judged_reward,
    on_trunk,
    online,
    online_pairs,
    pairwise_grpo,
    ppo,
    reinforce,
    rloo,
    stage_key,
    task_reward,
)
from rlhf_jax.recipes.offline import ScoreScale
from rlhf_jax.recipes.rows import Rows
from rlhf_jax.training import UserError, run_stage
from rlhf_jax.training.processes import process
from rlhf_jax.types import Params

SAMPLER_GAP = {"float32": 1e-2, "bfloat16": 1.0}  # nats of a token: a cache rounds in another order
MEASURED = 256  # answers on held-out prompts, before and after


@dataclass(frozen=True, kw_only=True)
class Reuse:
    """How often a batch of answers is learned from."""

    passes: int = 1
    """Passes over each batch."""
    minibatches: int = 1
    """Gradient steps in each pass."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "passes", "minibatches")


@dataclass(frozen=True, kw_only=True)
class Group:
    """A method that compares the answers to a prompt with each other."""

    job: Job
    reuse: Reuse = field(default=Reuse())
    filtering: Filtering = field(default=Filtering())
    samples: int = 8
    """Answers to each prompt."""
    kl: float = 0.04
    """Weight of the KL to the model at the start, added to the loss (the estimator k3)."""
    pairwise: bool = False
    """Advantages straight from the matrix of --judge's comparisons, in place of win rates; grpo."""

    def __post_init__(self) -> None:
        check_fields(self, "[2, inf)", "samples")
        check_fields(self, "[0, inf)", "kl")


FILTERS: dict[str, AnswerFilter] = {
    "best": best_weights,
    "best-random": best_random_weights,
    "best-worst": best_worst_weights,
}


def named_filter(options: Filtering) -> AnswerFilter | None:
    """The filter that the options name."""
    if options.filter == "power":
        return partial(power_weights, power=options.filter_power)
    if options.filter == "widest":
        return partial(widest_weights, share=options.filter_share)
    return FILTERS.get(options.filter)


METHODS: dict[str, Callable[..., OnlineMethod]] = {
    "grpo": grpo,
    "dr-grpo": dr_grpo,
    "rloo": rloo,
    "reinforce": reinforce,
    "dapo": dapo,
    "gspo": gspo,
    "cispo": cispo,
}


def train_group(command: str, options: Group) -> None:
    """GRPO and its relatives."""
    penalty = Penalty(options.kl, k3) if options.kl else None
    reuse = {"epochs": options.reuse.passes, "minibatches": options.reuse.minibatches}
    method, rewarded = METHODS[command], None
    if options.pairwise:
        compare = scoring_compare(options.job.scoring)
        if command != "grpo" or compare is None:
            raise UserError("--pairwise is for rlhf grpo with --judge")
        method, rewarded = pairwise_grpo, partial(judged_advantages, compare=compare)
    keep = named_filter(options.filtering)
    make = partial(method, samples=options.samples, kl=penalty, keep=keep, **reuse)
    updates = options.reuse.passes * options.reuse.minibatches
    run = partial(train_online, command, options, options.job, updates=updates)
    run(lambda lab, params: make(lab), rewarded=rewarded)


@dataclass(frozen=True, kw_only=True)
class OnlineDPO:
    """A loss of pairs on fresh answers: of each prompt's, the best score against the worst."""

    job: Job
    samples: int = 2
    """Answers to each prompt."""
    loss: str = "dpo"
    """Name of the loss, as of `rlhf preference`."""
    loss_options: dict[str, float] = field(default_factory=dict)
    """Settings of the loss, as names and numbers: beta 0.1."""
    explore: float | None = None
    """Pair the first answer with the one whose last hidden state is least like those of the pairs
    before it in the batch, in place of best and worst; the number, near 1, is the ridge of that
    norm."""

    def __post_init__(self) -> None:
        check_fields(self, "[2, inf)", "samples")
        if self.explore is not None:
            check_fields(self, "(0, inf)", "explore")


def online_dpo(command: str, options: OnlineDPO) -> None:
    """Online DPO, or with any other loss of pairs."""
    chosen = named_loss(options.loss, options.loss_options)
    pairing = {"samples": options.samples, "explore": options.explore}
    make = partial(online_pairs, **pairing, **chosen._asdict())
    train_online(command, options, options.job, lambda lab, params: make(lab))


@dataclass(frozen=True, kw_only=True)
class PPO:
    """PPO with a critic; the KL penalty is in the reward of each token."""

    job: Job
    reuse: Reuse = field(default=Reuse(passes=2, minibatches=2))
    filtering: Filtering = field(default=Filtering())
    samples: int = 1
    """Answers to each prompt; a --filter needs 2."""
    whiten_first: bool = False
    """Whiten advantages over all answers, before the filter, in place of over the kept ones."""
    kl: float = 0.05
    """Weight of the KL to the model at the start, >= 0."""
    clip_eps: float = 0.2
    """Limit on |ratio - 1|."""
    gae_lambda: float = 0.95
    """Of generalised advantage estimation, in [0, 1]."""
    critic: Path | None = None
    """Folder of a reward model the critic starts from; by default the model with a new head."""
    step_rewards: bool = False
    """Pay each step of an answer at its end by --reward step_product:FOLDER or step_minimum:FOLDER,
    each segment by segments:HEAD,FOLDER, or each token by correction:FOLDER or
    implicit:FOLDER,REFERENCE, in place of one score for all of them."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, inf)", "samples")
        check_fields(self, "[0, inf)", "kl")
        check_fields(self, "(0, inf]", "clip_eps")
        check_fields(self, "[0, 1]", "gae_lambda")


def train_ppo(command: str, options: PPO) -> None:
    """PPO."""
    config = PPOConfig(beta=options.kl, clip_eps=options.clip_eps, gae_lambda=options.gae_lambda)
    epochs, minibatches = options.reuse.passes, options.reuse.minibatches
    keep = named_filter(options.filtering)
    if keep is not None and options.samples < 2:
        raise UserError("--filter compares the answers to a prompt: it needs --samples 2 or more")
    if options.job.adapter.lora_rank and options.critic is None:
        raise UserError("rlhf ppo with --lora-rank needs a critic: --critic FOLDER")

    def make(lab: LanguageLab, params: Params) -> OnlineMethod:
        if options.critic is None:
            critic = on_trunk(lab, params, stage_key(lab, "critic"))
        else:
            critic = critic_of(open_reward(options.critic)[1], ScoreScale(0.0, 1.0))
        credit = gae_of_steps if options.step_rewards else None
        return ppo(
            lab,
            config,
            critic,
            samples=options.samples,
            keep=keep,
            whiten_first=options.whiten_first,
            credit=credit,
            epochs=epochs,
            minibatches=minibatches,
        )

    steps = step_specs(options.job.scoring.reward) if options.step_rewards else {}
    rewarded = partial(paid_steps, steps) if steps else None
    updates = epochs * minibatches
    train_online(command, options, options.job, make, updates=updates, rewarded=rewarded)


def train_online(
    command: str,
    options: Any,
    job: Job,
    make: Callable[[LanguageLab, Params], OnlineMethod],
    *,
    updates: int = 1,
    learned: int | None = None,
    rewarded: Callable[[LanguageLab, Task], Reward] | None = None,
) -> None:
    """A method of `recipes.methods`.

    Args:
      updates: gradient steps in each step. learned: answers in a batch, by default all drawn.
      rewarded: what an answer is paid, by default a judge's verdict or `task_reward`.
    """
    compare = scoring_compare(job.scoring)
    also = () if rewarded is None else (PARTS,)
    rewarded = rewarded or group_rewarded(job.groups)

    def play(stage: Any, lab: LanguageLab, task: Task, params: Params, rows: Rows, fit: Fit) -> Any:
        method = make(lab, params)
        if compare is not None and method.samples < 2:
            raise UserError(f"rlhf {command} has no answers for --judge to compare: use --reward")
        _check_parts(job.optimizer, method, learned)
        if job.overlap and method.rounds is not None:
            raise UserError(f"rlhf {command} draws until it has enough: leave out --overlap")
        judged = task_reward if compare is None else partial(judged_reward, compare=compare)
        reward = (rewarded or judged)(lab, task)
        if job.costs.cost and method.rounds is not None:
            raise UserError("--cost weighs scores of whole answers, which are drawn once")
        given = (stage, lab, task, method, reward, params, rows, fit)
        drawing: dict[str, Any] = drawing_options(lab, job) | {"overlap": job.overlap}
        drawing["limits"] = cost_limits(job.costs, lab, task, params)
        return online(*given, key=stage_key(lab, command), **drawing)

    train_rounds(command, options, job, play, updates=updates, also=also)


def _check_parts(options: Optimizer, method: OnlineMethod, learned: int | None) -> None:
    """UserError unless the answers that a step learns from split evenly."""
    answers = options.batch_size * method.samples if learned is None else learned
    _, minibatches = method.passes or (1, 1)
    if answers % (minibatches * options.micro_batches):
        raise UserError(
            f"the {answers} answers of a step must split evenly into {minibatches} --minibatches "
            f"of {options.micro_batches} --micro-batches; change one of them or --batch-size"
        )


def drawing_options(lab: LanguageLab, job: Job) -> dict[str, Any]:
    """The options that `online` and `selfplay` share."""
    return {
        "sampling": sampling_of(lab, job.sampling),
        "completions_every": job.completions_every,
        "sampler_gap": SAMPLER_GAP[job.model.dtype],
    }


def train_rounds(
    command: str,
    options: Any,
    job: Job,
    play: Callable[..., Params],
    *,
    updates: int = 1,
    make_optimizer: Callable[[float, int], optax.GradientTransformation] = adamw_cosine,
    also: Collection[str] = (),
) -> None:
    """Samples, scores and updates; measures held-out answers before and after.

    Args:
      play: `(stage, lab, task, first params, prompts of each step, fit) -> params`.
      make_optimizer: `(learning rate, gradient steps) -> optimizer`.
      also: as in `check_exclusions`.
    """
    check_exclusions(job, also)
    scoring, every = job.scoring, job.completions_every
    if not (scoring.reward or scoring.judge):
        raise UserError(f"rlhf {command} needs --reward or --judge")
    check_directed(job.directions, scoring, job.model.long_prompts)
    check_groups(job.groups, scoring)
    compare = scoring_compare(scoring)
    base = open_model(job.model)
    opened = open_online(job, base)
    lab, first, task = opened.lab, opened.first, opened.task
    indices = np.asarray(task.splits["heldout"][:MEASURED])
    quality = watched(
        partial(answer_quality, lab, opened.asked, first, indices, total=MEASURED),
        corpus_quality(job, base, lab),
    )
    wins = partial(wins_over, lab, task, compare, first, indices, total=MEASURED)
    with open_session(command, options, job.output) as run:
        before = measured(run, "before", lambda: quality(first) | wins(first))
        total = len(task.splits["train"])
        steps = {"updates": updates, "make_optimizer": make_optimizer}
        fit = make_fit(job.optimizer, total=total, quality=quality, **steps)

        def measure(params: Params, step: int) -> dict[str, Any]:
            if every and step % every == 0 and process() == 0:
                write_completions(job.output.out, stage=command)
            return fit.measure(params, step)

        shown = fit._replace(measure=measure)
        rows = opened.rows(steps=fit.steps)
        params = run_stage(
            run, command, lambda stage: (play(stage, lab, task, first, rows, shown), {}), like=first
        ).arrays
        after = measured(run, "after", lambda: quality(params) | wins(params))
        if process() == 0 and (run.out / "completions.html").is_file():
            write_completions(run.out, stage=command, done=True)
        finish(run, base, opened.merge(params), numbers=compared(before, after), stage=command)
