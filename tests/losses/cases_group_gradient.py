"""Policy-gradient losses of answers scored once, as the shared test sees them."""

from functools import partial

from loss_cases import Case, Sweep, lengths_mask, real

from rlhf_jax.losses.answer_policy_gradient import (
    gmpo_loss,
    gspo_loss,
    gspo_token_loss,
    luspo_loss,
    rloo_loss,
    vespo_loss,
)
from rlhf_jax.losses.group_policy_gradient import (
    dapo_loss,
    dr_grpo_loss,
    grpo_loss,
)

T = 4
TOKENS, MASK = real(T), lengths_mask(T)
SCORED = (TOKENS, TOKENS, real(), MASK)
SCORED_WITH_REF = (TOKENS, TOKENS, TOKENS, real(), MASK)
PER_TOKEN = (TOKENS, TOKENS, TOKENS, MASK)

grpo = partial(grpo_loss, clip_eps=0.2, beta=0.1)
dr_grpo = partial(dr_grpo_loss, clip_eps=0.2, max_length=6.0)
dapo = partial(dapo_loss, clip_eps_low=0.2, clip_eps_high=0.28)
gspo = partial(gspo_loss, clip_eps_low=0.1, clip_eps_high=0.15)
gspo_token = partial(gspo_token_loss, clip_eps_low=0.1, clip_eps_high=0.15)
gmpo = partial(gmpo_loss, clip_eps_low=0.3, clip_eps_high=0.4)
luspo = partial(luspo_loss, clip_eps_low=0.1, clip_eps_high=0.15)
rloo = partial(rloo_loss, clip_eps=0.2)
vespo = partial(vespo_loss, k_positive=2.0)

CASES = {
    "grpo": Case(grpo, SCORED_WITH_REF, (0,), masked=(0, 1, 2)),
    "dr_grpo": Case(dr_grpo, SCORED, (0,), masked=(0, 1)),
    "dapo": Case(dapo, SCORED, (0,), out=(T,), masked=(0, 1)),
    "gspo": Case(gspo, SCORED, (0,), masked=(0, 1)),
    "gspo_token": Case(gspo_token, PER_TOKEN, (0,), out=(T,), masked=(0, 1, 2), surrogate=True),
    "gmpo": Case(gmpo, SCORED, (0,), masked=(0, 1)),
    "luspo": Case(luspo, SCORED, (0,), masked=(0, 1)),
    "rloo": Case(rloo, SCORED, (0,), masked=(0, 1)),
    "vespo": Case(vespo, SCORED, (0,), out=(T,), masked=(0, 1), surrogate=True),
}
SWEPT = {
    "grpo clip": Sweep(grpo, "clip_eps", SCORED_WITH_REF),
    "dr_grpo clip": Sweep(dr_grpo, "clip_eps", SCORED),
    "dr_grpo length": Sweep(dr_grpo, "max_length", SCORED, (4.0, 6.0, 100.0)),
    "dapo low": Sweep(dapo, "clip_eps_low", SCORED),
    "dapo high": Sweep(dapo, "clip_eps_high", SCORED),
    "gspo low": Sweep(gspo, "clip_eps_low", SCORED),
    "gspo high": Sweep(gspo, "clip_eps_high", SCORED),
    "gspo_token low": Sweep(gspo_token, "clip_eps_low", PER_TOKEN),
    "gspo_token high": Sweep(gspo_token, "clip_eps_high", PER_TOKEN),
    "gmpo low": Sweep(gmpo, "clip_eps_low", SCORED),
    "gmpo high": Sweep(gmpo, "clip_eps_high", SCORED),
    "luspo low": Sweep(luspo, "clip_eps_low", SCORED),
    "luspo high": Sweep(luspo, "clip_eps_high", SCORED),
    "rloo": Sweep(rloo, "clip_eps", SCORED),
    "vespo k positive": Sweep(vespo, "k_positive", SCORED),
    "vespo k negative": Sweep(vespo, "k_negative", SCORED),
    "vespo lambda positive": Sweep(vespo, "lambda_positive", SCORED),
    "vespo lambda negative": Sweep(vespo, "lambda_negative", SCORED),
}
