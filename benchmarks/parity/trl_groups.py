"""TRL's GRPO and RLOO trainers: advantages, ratios, clips and aggregations.

Nothing is generated: the committed answers enter through the trainer's own `rollout_func`. The
rest is TRL's: old and reference log-probs, rewards, advantages, loss.
"""

import functools
import tempfile
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from benchmarks.parity import torch_table
from benchmarks.parity.batches import load
from benchmarks.parity.compare import Objective, Run
from benchmarks.parity.draw import EOS, GROUP, LENGTH
from benchmarks.parity.table_policy import Answers, answers
from rlhf_jax.losses import group_policy_gradient as grouped
from rlhf_jax.losses import policy_gradient as losses
from rlhf_jax.ops import groups, kl, masking
from rlhf_jax.ops.logprobs import entropy, ratios

BETA, LOW, HIGH, MAX_RATIO = 0.1, 0.2, 0.28, 1.3
GroupLoss = Callable[["Batch"], jax.Array]


class Batch:
    """All answers, flat [N], under the policy, the sampling policy and the reference."""

    def __init__(self, params: jax.Array):
        weights = load("weights")
        self.now, self.old, self.reference = (
            group_answers(table) for table in (params, weights.old, weights.reference)
        )
        self.mask = self.now.mask
        self.scores = load("groups").scores

    def advantages(self) -> jax.Array:
        """GRPO's, [N]."""
        return groups.group_normalised_advantages(self.scores).reshape(-1)

    def steps(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Log-probs, old log-probs and advantages of each token, [N, T]."""
        spread = jnp.broadcast_to(self.advantages()[:, None], self.mask.shape)
        return self.now.token_logps, self.old.token_logps, spread


def group_answers(params: jax.Array, keep: np.ndarray | None = None) -> Answers:
    """The committed answers of all groups, flat; `keep` [N] bool leaves the others empty."""
    data = load("groups")
    mask = data.completion_mask if keep is None else data.completion_mask & keep[:, None]
    return answers(params, data.prompt_ids.repeat(GROUP, axis=0), data.completion_ids, mask)


def rollout(sampler_logps: np.ndarray | None = None) -> dict[str, list | None]:
    """What a `rollout_func` returns: the committed answers, without padding."""
    data = load("groups")
    prompt_ids, prompt_mask = (x.repeat(GROUP, axis=0) for x in (data.prompt_ids, data.prompt_mask))

    def ragged(rows, masks):
        return [row[mask].tolist() for row, mask in zip(rows, masks, strict=True)]

    logps = None if sampler_logps is None else ragged(sampler_logps, data.completion_mask)
    completions = ragged(data.completion_ids, data.completion_mask)
    prompts = ragged(prompt_ids, prompt_mask)
    return {"prompt_ids": prompts, "completion_ids": completions, "logprobs": logps}


def scores(prompts, completions, **kwargs) -> list[float]:
    """The reward function: the committed scores."""
    return load("groups").scores.reshape(-1).tolist()


@functools.cache
def reference_folder() -> str:
    """The reference as a checkpoint, which is how these trainers want it."""
    folder = tempfile.mkdtemp(prefix="parity_")
    torch_table.table_model(load("weights").reference).save_pretrained(folder)
    return folder


def build(trainer: type, config: type, **options):
    """A trainer, constructed for real; two iterations make it keep the old log-probs."""
    model = torch_table.table_model(load("weights").policy)
    model.config._name_or_path = reference_folder()
    data = load("groups")
    size = data.scores.size
    sizes = {"per_device_train_batch_size": size, "num_generations": GROUP, "num_iterations": 2}
    arguments = torch_table.arguments(config, max_completion_length=LENGTH, **sizes, **options)
    built = trainer(
        model=model,
        reward_funcs=scores,
        args=arguments,
        train_dataset=torch_table.dataset(prompt=[torch_table.text(x) for x in data.prompt_ids]),
        processing_class=torch_table.tokenizer(),
    )
    built.current_gradient_accumulation_steps = 1  # `train` would set it
    return built


def generate(trainer) -> dict[str, torch.Tensor]:
    """TRL's batch: sampled by the old policy, scored, with TRL's advantages."""
    weights, prompts = load("weights"), [torch_table.text(x) for x in load("groups").prompt_ids]
    rows = [{"prompt": prompt} for prompt in prompts for _ in range(GROUP)]
    torch_table.set_table(trainer.model, weights.old)
    batch = trainer._generate_and_score_completions(rows)
    torch_table.set_table(trainer.model, weights.policy)
    return batch


def grpo(**options):
    """A GRPO trainer and its batch."""
    trainer = build(GRPOTrainer, GRPOConfig, **({"beta": 0.0} | options))
    trainer.rollout_func = lambda prompts, owner: rollout()
    if options.get("vllm_importance_sampling_mode"):
        sampled = np.asarray(group_answers(load("weights").old).token_logps)
        sampled = sampled + load("groups").sampler_gaps
        trainer.rollout_func = lambda prompts, owner: rollout(sampled)
        trainer.use_vllm, trainer._last_loaded_step = True, 0  # the correction, without an engine
    return trainer, generate(trainer)


def rloo(**options):
    """An RLOO trainer, which has no `rollout_func`, and its batch."""
    trainer = build(RLOOTrainer, RLOOConfig, **options)
    drawn = rollout()
    texts = [""] * len(drawn["completion_ids"])
    trainer._generate = lambda prompts: (drawn["prompt_ids"], drawn["completion_ids"], texts)
    return trainer, generate(trainer)


def token_mean(batch: Batch, token_losses: jax.Array) -> jax.Array:
    """Every token weighs the same: TRL's normaliser of dapo, cispo and bnpo in one batch."""
    return masking.token_mean(token_losses, batch.mask).value()


def answer_mean(batch: Batch, token_losses: jax.Array) -> jax.Array:
    """Every answer weighs the same: TRL's normaliser of grpo and sapo."""
    return masking.sequence_mean_of_token_mean(token_losses, batch.mask).value()


def grpo_loss(batch: Batch, beta: float = 0.0) -> jax.Array:
    """GRPO, mean over answers."""
    token_logps = (x.token_logps for x in (batch.now, batch.old, batch.reference))
    clip = {"clip_eps": LOW, "beta": beta}
    return jnp.mean(grouped.grpo_loss(*token_logps, batch.advantages(), batch.mask, **clip))


def dr_grpo_loss(batch: Batch) -> jax.Array:
    """Dr. GRPO: centred scores, a constant denominator."""
    advantages = groups.group_centred_advantages(batch.scores).reshape(-1)
    return jnp.mean(
        grouped.dr_grpo_loss(
            batch.now.token_logps,
            batch.old.token_logps,
            advantages,
            batch.mask,
            clip_eps=LOW,
            max_length=float(LENGTH),
        )
    )


def asymmetric(loss) -> GroupLoss:
    """A group loss with the clip of DAPO, before aggregation."""
    return lambda batch: loss(
        batch.now.token_logps,
        batch.old.token_logps,
        batch.advantages(),
        batch.mask,
        clip_eps_low=LOW,
        clip_eps_high=HIGH,
    )


DAPO = asymmetric(grouped.dapo_loss)


def dapo_with_kl(batch: Batch) -> jax.Array:
    """DAPO plus beta rho k3 in each token: weighting k3 by the ratio is TRL's default."""
    now, old, reference = (x.token_logps for x in (batch.now, batch.old, batch.reference))
    return DAPO(batch) + BETA * ratios(now, old) * kl.k3(now, reference)


def dapo_of_ended(batch: Batch) -> jax.Array:
    """DAPO without the answers that were cut at T."""
    ended = (load("groups").completion_ids == EOS).any(axis=-1)
    mask = batch.mask & ended[:, None]
    token_losses = grouped.dapo_loss(
        batch.now.token_logps,
        batch.old.token_logps,
        batch.advantages(),
        mask,
        clip_eps_low=LOW,
        clip_eps_high=HIGH,
    )
    return masking.token_mean(token_losses, mask).value()


def corrected(weights: Callable, per_answer: bool) -> GroupLoss:
    """DAPO times the importance weight of the sampler, of each token or of the answer."""

    def loss(batch: Batch) -> jax.Array:
        gaps = jnp.where(batch.mask, load("groups").sampler_gaps, 0.0)
        old = jnp.where(batch.mask, batch.old.token_logps, 0.0)
        sampler = old + gaps
        if per_answer:
            old, sampler = (jnp.sum(x, axis=-1, keepdims=True) for x in (old, sampler))
        return token_mean(batch, weights(old, sampler, max_ratio=MAX_RATIO) * DAPO(batch))

    return loss


def entropy_bonus(batch: Batch) -> jax.Array:
    """GRPO minus 0.05 times the mean entropy of a counted token."""
    return grpo_loss(batch) - 0.05 * masking.masked_mean(entropy(batch.now.logits), batch.mask)


TOKEN, WIDE = {"epsilon": LOW}, {"epsilon": LOW, "epsilon_high": HIGH}
SEQUENCE = WIDE | {"importance_sampling_level": "sequence"}
TIS = WIDE | {"loss_type": "dapo", "vllm_importance_sampling_clip_max": MAX_RATIO}
CLIP = {"clip_eps": LOW, "dual_clip": 1.5}
TAUS = {"tau_positive": 1.0, "tau_negative": 1.05}
TRUNCATED, MASKED = losses.truncated_importance_weights, losses.masked_importance_weights
SAMPLER = "the sampler's log-probs are the committed ones; no inference engine runs"

GRPO: list[tuple[str, dict, GroupLoss, str]] = [
    ("GRPO", TOKEN | {"loss_type": "grpo"}, grpo_loss, ""),
    (
        "GRPO with KL",
        TOKEN | {"loss_type": "grpo", "beta": BETA, "use_bias_correction_kl": False},
        lambda batch: grpo_loss(batch, BETA),
        "TRL's use_bias_correction_kl off; it is on by default and is no part of GRPO",
    ),
    ("GRPO with entropy", TOKEN | {"loss_type": "grpo", "entropy_coef": 0.05}, entropy_bonus, ""),
    ("BNPO", WIDE | {"loss_type": "bnpo"}, lambda b: token_mean(b, DAPO(b)), "dapo_loss"),
    (
        "Dr. GRPO",
        TOKEN | {"loss_type": "dr_grpo", "scale_rewards": "none"},
        dr_grpo_loss,
        "TRL's scale_rewards off: it is a separate switch there",
    ),
    ("DAPO", WIDE | {"loss_type": "dapo"}, lambda b: token_mean(b, DAPO(b)), ""),
    (
        "DAPO with corrected KL",
        WIDE | {"loss_type": "dapo", "beta": BETA},
        lambda b: token_mean(b, dapo_with_kl(b)),
        "dapo_loss plus beta times ratio times k3, TRL's default KL",
    ),
    (
        "DAPO, cut answers out",
        WIDE | {"loss_type": "dapo", "mask_truncated_completions": True},
        dapo_of_ended,
        "",
    ),
    (
        "GRPO, two-sided clip",
        TOKEN | {"loss_type": "grpo", "delta": 1.5},
        lambda b: answer_mean(b, losses.dual_clip_loss(*b.steps(), **CLIP)),
        "dual_clip_loss",
    ),
    (
        "GSPO",
        SEQUENCE | {"loss_type": "grpo"},
        lambda b: jnp.mean(asymmetric(grouped.gspo_loss)(b)),
        "",
    ),
    (
        "LUSPO",
        SEQUENCE | {"loss_type": "luspo"},
        lambda b: jnp.mean(asymmetric(grouped.luspo_loss)(b)),
        "",
    ),
    (
        "CISPO",
        {"loss_type": "cispo", "epsilon_high": MAX_RATIO},
        lambda b: token_mean(b, losses.cispo_loss(*b.steps(), max_ratio=MAX_RATIO)),
        "TRL's epsilon_high is the cap itself",
    ),
    (
        "SAPO",
        {"loss_type": "sapo"},
        lambda b: answer_mean(b, losses.sapo_loss(*b.steps(), **TAUS)),
        "",
    ),
    (
        "truncated IS, token",
        TIS | {"vllm_importance_sampling_mode": "token_truncate"},
        corrected(TRUNCATED, per_answer=False),
        SAMPLER,
    ),
    (
        "masked IS, token",
        TIS | {"vllm_importance_sampling_mode": "token_mask"},
        corrected(MASKED, per_answer=False),
        SAMPLER,
    ),
    (
        "truncated IS, answer",
        TIS | {"vllm_importance_sampling_mode": "sequence_truncate"},
        corrected(TRUNCATED, per_answer=True),
        SAMPLER,
    ),
]


def rloo_advantages(batch: Batch) -> jax.Array:
    """Leave-one-out, [N], of scores with beta times the summed log-ratio taken off."""
    penalty = kl.k1(batch.old.logps, batch.reference.logps).reshape(batch.scores.shape)
    return groups.leave_one_out_advantages(batch.scores - BETA * penalty).reshape(-1)


def rloo_loss(batch: Batch) -> jax.Array:
    """RLOO, mean over answers, with the ratio of the whole answer."""
    logps = (batch.now.token_logps, batch.old.token_logps)
    return jnp.mean(grouped.rloo_loss(*logps, rloo_advantages(batch), batch.mask, clip_eps=LOW))


def batch_scaled(batch: Batch) -> jax.Array:
    """Centred by group, divided by the deviation over the whole batch."""
    deviation = jnp.std(batch.scores, ddof=1) + 1e-4
    return groups.group_centred_advantages(batch.scores).reshape(-1) / deviation


def rescaled(advantages: jax.Array) -> jax.Array:
    """Mean 0, deviation 1 over the batch, as TRL does it."""
    return (advantages - jnp.mean(advantages)) / (jnp.std(advantages, ddof=1) + 1e-4)


ADVANTAGES: list[tuple[str, Callable, dict, GroupLoss]] = [
    ("GRPO advantages", grpo, {}, Batch.advantages),
    (
        "GRPO advantages, centred",
        grpo,
        {"scale_rewards": "none"},
        lambda b: groups.group_centred_advantages(b.scores).reshape(-1),
    ),
    ("GRPO advantages, batch scale", grpo, {"scale_rewards": "batch"}, batch_scaled),
    ("RLOO advantages", rloo, {"beta": BETA}, rloo_advantages),
    (
        "RLOO advantages, normalised",
        rloo,
        {"beta": BETA, "normalize_advantages": True},
        lambda b: rescaled(rloo_advantages(b)),
    ),
]


def run(make: Callable, options: dict) -> Run:
    """A trainer's loss on its own batch."""
    trainer, batch = make(**options)
    return torch_table.run_trainer(trainer, batch)


def objectives() -> list[Objective]:
    """All rows of these trainers."""
    policy = load("weights").policy
    rows = [
        Objective(
            name,
            f"TRL {make.__name__.upper()}Trainer",
            lambda make=make, options=options: Run(make(**options)[1]["advantages"].numpy()),
            lambda estimate=estimate: estimate(Batch(policy)),
        )
        for name, make, options, estimate in ADVANTAGES
    ]
    table = [(grpo, *row) for row in GRPO]
    table.append((rloo, "RLOO", {"beta": BETA, "epsilon": LOW}, rloo_loss, "KL in the reward"))
    return rows + [
        Objective(
            name,
            f"TRL {make.__name__.upper()}Trainer",
            lambda make=make, options=options: run(make, options),
            lambda params, loss=loss: loss(Batch(params)),
            policy,
            note,
        )
        for make, name, options, loss, note in table
    ]
