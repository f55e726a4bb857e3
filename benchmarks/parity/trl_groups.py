"""TRL's GRPO and RLOO trainers: advantages, ratios, clips and aggregations."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks.parity.batches import load
from benchmarks.parity.compare import Objective, Run
from benchmarks.parity.draw import EOS, LENGTH
from benchmarks.parity.trl_rollouts import Batch, gmpo, grpo, rloo, run
from rlhf_jax.losses import answer_policy_gradient as answered
from rlhf_jax.losses import group_policy_gradient as grouped
from rlhf_jax.losses import policy_gradient as losses
from rlhf_jax.ops import groups, kl, masking
from rlhf_jax.ops.logprobs import entropy, ratios

BETA, LOW, HIGH, MAX_RATIO, MAX_KL, TOP = 0.1, 0.2, 0.28, 1.3, 0.05, 0.3
GroupLoss = Callable[[Batch], jax.Array]


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
    logps = (batch.now.token_logps, batch.old.token_logps)
    options = {"clip_eps": LOW, "max_length": float(LENGTH)}
    return jnp.mean(grouped.dr_grpo_loss(*logps, advantages, batch.mask, **options))


def asymmetric(loss) -> GroupLoss:
    """A group loss with the clip of DAPO, before aggregation."""
    return lambda batch: loss(*batch.answers(), clip_eps_low=LOW, clip_eps_high=HIGH)


DAPO = asymmetric(grouped.dapo_loss)


def dapo_with_kl(batch: Batch) -> jax.Array:
    """DAPO plus beta rho k3 in each token: weighting k3 by the ratio is TRL's default."""
    now, old, reference = (x.token_logps for x in (batch.now, batch.old, batch.reference))
    return DAPO(batch) + BETA * ratios(now, old) * kl.k3(now, reference)


def dapo_of_ended(batch: Batch) -> jax.Array:
    """DAPO without the answers that were cut at T."""
    ended = (load("groups").completion_ids == EOS).any(axis=-1)
    return masking.token_mean(DAPO(batch), batch.mask & ended[:, None]).value()


def dapo_near_policy(batch: Batch) -> jax.Array:
    """DAPO without the bad answers that the policy has left behind."""
    keep = answered.off_policy_mask(*batch.answers(), max_kl=MAX_KL)
    return token_mean(batch, jnp.where(keep[:, None], DAPO(batch), 0.0))


def uncertain(batch: Batch) -> jax.Array:
    """[N, T] the TOP tokens of highest entropy."""
    return grouped.high_entropy_mask(entropy(batch.now.logits), batch.mask, quantile=1 - TOP)


def gmpo_loss(batch: Batch, mask: jax.Array) -> jax.Array:
    """GMPO of the tokens in the mask, mean over answers."""
    answers = (*batch.answers()[:3], mask)
    return jnp.mean(answered.gmpo_loss(*answers, clip_eps_low=LOW, clip_eps_high=HIGH))


def gmpo_of_uncertain(batch: Batch) -> jax.Array:
    """GMPO of the TOP tokens; an answer that has none of them counts as one of ratio 1."""
    mask = uncertain(batch)
    constant = jnp.where(jnp.any(mask, axis=-1), 0.0, -batch.advantages())
    return gmpo_loss(batch, mask) + jnp.mean(constant)


def gmpo_with_kl(batch: Batch) -> jax.Array:
    """GMPO plus beta k3, a mean over the answer's tokens."""
    k3 = kl.k3(batch.now.token_logps, batch.reference.token_logps)
    return gmpo_loss(batch, batch.mask) + BETA * answer_mean(batch, k3)


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
SAMPLER = "dapo_loss times importance weights; given log-probs of a sampler, no engine"
DAPO_NOTE = "dapo_loss, token_mean"
GRPO: list[tuple[str, dict, GroupLoss, str]] = [
    ("GRPO", TOKEN | {"loss_type": "grpo"}, grpo_loss, "grpo_loss"),
    (
        "GRPO with KL",
        TOKEN | {"loss_type": "grpo", "beta": BETA, "use_bias_correction_kl": False},
        lambda b: grpo_loss(b, BETA),
        "grpo_loss; TRL's use_bias_correction_kl off: on by default, no part of GRPO",
    ),
    (
        "GRPO with entropy",
        TOKEN | {"loss_type": "grpo", "entropy_coef": 0.05},
        entropy_bonus,
        "grpo_loss, entropy",
    ),
    ("BNPO", WIDE | {"loss_type": "bnpo"}, lambda b: token_mean(b, DAPO(b)), DAPO_NOTE),
    (
        "Dr. GRPO",
        TOKEN | {"loss_type": "dr_grpo", "scale_rewards": "none"},
        dr_grpo_loss,
        "dr_grpo_loss; TRL's scale_rewards off, which is a switch of its own",
    ),
    ("DAPO", WIDE | {"loss_type": "dapo"}, lambda b: token_mean(b, DAPO(b)), DAPO_NOTE),
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
        DAPO_NOTE,
    ),
    (
        "DAPO, off-policy mask",
        WIDE | {"loss_type": "dapo", "off_policy_mask_threshold": MAX_KL},
        dapo_near_policy,
        "dapo_loss, off_policy_mask; masked answers stay in the denominator",
    ),
    (
        "DAPO, high-entropy tokens",
        WIDE | {"loss_type": "dapo", "top_entropy_quantile": TOP},
        lambda b: token_mean(b, jnp.where(uncertain(b), DAPO(b), 0.0)),
        "dapo_loss, high_entropy_mask; TRL's quantile counts from the top, and the tokens that"
        " are dropped stay in the denominator",
    ),
    (
        "GRPO, two-sided clip",
        TOKEN | {"loss_type": "grpo", "delta": 1.5},
        lambda b: answer_mean(b, losses.dual_clip_loss(*b.steps(), **CLIP)),
        "dual_clip_loss, sequence_mean_of_token_mean",
    ),
    (
        "GSPO",
        SEQUENCE | {"loss_type": "grpo"},
        lambda b: jnp.mean(asymmetric(answered.gspo_loss)(b)),
        "gspo_loss",
    ),
    (
        "LUSPO",
        SEQUENCE | {"loss_type": "luspo"},
        lambda b: jnp.mean(asymmetric(answered.luspo_loss)(b)),
        "luspo_loss",
    ),
    (
        "CISPO",
        {"loss_type": "cispo", "epsilon_high": MAX_RATIO},
        lambda b: token_mean(b, losses.cispo_loss(*b.steps(), max_ratio=MAX_RATIO)),
        "cispo_loss, token_mean; TRL's epsilon_high is the cap itself",
    ),
    (
        "SAPO",
        {"loss_type": "sapo"},
        lambda b: answer_mean(b, losses.sapo_loss(*b.steps(), **TAUS)),
        "sapo_loss, sequence_mean_of_token_mean",
    ),
    (
        "VESPO",
        {"loss_type": "vespo"},
        lambda b: token_mean(b, answered.vespo_loss(*b.answers())),
        "vespo_loss, token_mean",
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

GMPO: list[tuple[str, dict, GroupLoss, str]] = [
    ("GMPO", WIDE, lambda b: gmpo_loss(b, b.mask), "gmpo_loss"),
    ("GMPO with KL", WIDE | {"beta": BETA}, gmpo_with_kl, "gmpo_loss plus the mean k3"),
    (
        "GMPO, high-entropy tokens",
        WIDE | {"top_entropy_quantile": TOP},
        gmpo_of_uncertain,
        "gmpo_loss under high_entropy_mask; an answer without such tokens is 0 here, the constant"
        " -A in TRL",
    ),
]


def rloo_advantages(batch: Batch) -> jax.Array:
    """Leave-one-out, [N], of scores with beta times the summed log-ratio taken off."""
    penalty = kl.k1(batch.old.logps, batch.reference.logps).reshape(batch.scores.shape)
    return groups.leave_one_out_advantages(batch.scores - BETA * penalty).reshape(-1)


def rloo_loss(batch: Batch) -> jax.Array:
    """RLOO, mean over answers, with the ratio of the whole answer."""
    logps = (batch.now.token_logps, batch.old.token_logps)
    return jnp.mean(answered.rloo_loss(*logps, rloo_advantages(batch), batch.mask, clip_eps=LOW))


def batch_scaled(batch: Batch) -> jax.Array:
    """Centred by group, divided by the deviation over the whole batch."""
    deviation = jnp.std(batch.scores, ddof=1) + 1e-4
    return groups.group_centred_advantages(batch.scores).reshape(-1) / deviation


def rescaled(advantages: jax.Array) -> jax.Array:
    """Mean 0, deviation 1 over the batch, as TRL does it."""
    return (advantages - jnp.mean(advantages)) / (jnp.std(advantages, ddof=1) + 1e-4)


SOURCES: dict[Callable, str] = {
    grpo: "TRL GRPOTrainer",
    gmpo: "TRL GMPOTrainer",
    rloo: "TRL RLOOTrainer",
}
LEAVE_ONE_OUT = "leave_one_out_advantages of scores minus beta k1"

ADVANTAGES: list[tuple[str, Callable, dict, GroupLoss, str]] = [
    ("GRPO advantages", grpo, {}, Batch.advantages, "group_normalised_advantages"),
    (
        "GRPO advantages, centred",
        grpo,
        {"scale_rewards": "none"},
        lambda b: groups.group_centred_advantages(b.scores).reshape(-1),
        "group_centred_advantages",
    ),
    (
        "GRPO advantages, batch scale",
        grpo,
        {"scale_rewards": "batch"},
        batch_scaled,
        "group_centred_advantages over the deviation of the batch",
    ),
    ("RLOO advantages", rloo, {"beta": BETA}, rloo_advantages, LEAVE_ONE_OUT),
    (
        "RLOO advantages, normalised",
        rloo,
        {"beta": BETA, "normalize_advantages": True},
        lambda b: rescaled(rloo_advantages(b)),
        LEAVE_ONE_OUT,
    ),
]


def objectives() -> list[Objective]:
    """All rows of these trainers."""
    policy = load("weights").policy
    rows = [
        Objective(
            name,
            SOURCES[make],
            lambda make=make, options=options: Run(make(**options)[1]["advantages"].numpy()),
            lambda estimate=estimate: estimate(Batch(policy)),
            note=note,
        )
        for name, make, options, estimate, note in ADVANTAGES
    ]
    table = [(grpo, *row) for row in GRPO] + [(gmpo, *row) for row in GMPO]
    table.append(
        (rloo, "RLOO", {"beta": BETA, "epsilon": LOW}, rloo_loss, f"rloo_loss; {LEAVE_ONE_OUT}")
    )
    return rows + [
        Objective(
            name,
            SOURCES[make],
            lambda make=make, options=options: run(make, options),
            lambda params, loss=loss: loss(Batch(params)),
            policy,
            note,
        )
        for make, name, options, loss, note in table
    ]
