"""What reduces to what: a row per known limit, A | condition | B, in value and in gradient.

A row holds two losses of the same arrays. Every real array is differentiated, so that what is data
to one side must be data to the other. The second table holds limits that are optima.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reduction_forms as form
from bandit_population import assert_optimal, draw_bandit
from reduction_forms import (
    BETA,
    EPS,
    EVEN,
    FULL,
    INF,
    LISTS,
    MASKS,
    PAIR,
    STEPS,
    TOKENS,
    H,
    N,
    Row,
    assert_reduces,
)

from rlhf_jax.envs.bandit import preference_matrix
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.losses import answer_policy_gradient as answer
from rlhf_jax.losses import feedback, links, pairwise_gradient, policy_gradient, reward, users
from rlhf_jax.losses import preference as p
from rlhf_jax.ops import ensembles, gaussians, groups, kl
from rlhf_jax.ops.logprobs import mean_logps, sequence_logps

dpo = partial(p.dpo_loss, beta=BETA)
ipo = partial(p.ipo_loss, beta=BETA)
cdpo = partial(p.cdpo_loss, beta=BETA, label_smoothing=H)
robust = partial(p.robust_dpo_loss, beta=BETA, label_smoothing=H)
soft = partial(p.soft_preference_loss, beta=BETA)
simpo = partial(p.simpo_loss, beta=BETA, gamma=0.0)
kto = partial(p.kto_loss, kl=0.0, beta=BETA)
bt = reward.bradley_terry_loss
ppo = partial(policy_gradient.ppo_clip_loss, clip_eps=EPS)
gspo = partial(answer.gspo_loss, clip_eps_low=EPS, clip_eps_high=EPS)
gmpo = partial(answer.gmpo_loss, clip_eps_low=EPS, clip_eps_high=EPS)
ppg = pairwise_gradient.pairwise_gradient_loss
v1 = partial(pairwise_gradient.p3o_v1_loss, clip_eps=EPS)
v2 = partial(pairwise_gradient.p3o_v2_loss, clip_eps=EPS)
open_v1, open_v2 = partial(v1, clip_eps=INF), partial(v2, clip_eps=INF)


def f_dpo(alpha):
    return partial(p.f_dpo_loss, beta=BETA, score=partial(p.alpha_score, alpha=alpha))


def scaled(factor, loss):
    return lambda *x: factor * loss(*x)


def nothing(x, *_):
    return 0.0 * x


ROWS = {
    # Pairs with a reference.
    "soft label | p = 1 | DPO": Row(form.full(1.0)(soft), dpo, PAIR),
    "soft label | p = 0 | DPO, swapped": Row(form.full(0.0)(soft), form.swap(dpo), PAIR),
    "soft label | p = 1 - h | cDPO": Row(form.full(1 - H)(soft), cdpo, PAIR),
    "cDPO | h = 0 | DPO": Row(partial(cdpo, label_smoothing=0.0), dpo, PAIR),
    "robust | h = 0 | DPO": Row(partial(robust, label_smoothing=0.0), dpo, PAIR),
    "robust | mean over flips | DPO, clean labels": Row(
        lambda *x: (1 - H) * robust(*x) + H * form.swap(robust)(*x), dpo, PAIR
    ),
    "f-DPO alpha | alpha = 1 | DPO": Row(f_dpo(1.0), dpo, PAIR),
    "f-DPO alpha | alpha -> 1 | DPO": Row(f_dpo(1 + 1e-8), dpo, PAIR, rtol=1e-6),
    "f-DPO alpha | alpha = 0 | f-DPO forward KL": Row(
        f_dpo(0.0), partial(f_dpo(0.0), score=p.forward_kl_score), PAIR
    ),
    "GPO | f = -log sigmoid | DPO": Row(
        partial(p.gpo_loss, beta=BETA, link=links.logistic), dpo, PAIR
    ),
    "GPO | f = (z - 1/2)^2 | IPO, beta^2": Row(
        partial(p.gpo_loss, beta=BETA, link=lambda z: links.squared(z, jnp.full_like(z, 0.5))),
        scaled(BETA**2, ipo),
        PAIR,
    ),
    "REBEL | score gap 1/2 | IPO, beta^2": Row(
        form.full(0.5)(partial(p.rebel_loss, beta=BETA)), scaled(BETA**2, ipo), PAIR
    ),
    "IPO | D = 1 / (2 tau) | 0": Row(lambda x: ipo(x, x - 0.5 / BETA, x, x), nothing, PAIR[:1]),
    "ODPO | gap 0 | DPO": Row(form.full(0.0)(partial(p.odpo_loss, beta=BETA)), dpo, PAIR),
    "R-DPO | equal lengths | DPO": Row(
        form.full(0.0)(partial(p.r_dpo_loss, beta=BETA, alpha=0.7)), dpo, PAIR
    ),
    "DPOP | penalty 0 | DPO": Row(partial(p.dpop_loss, beta=BETA, penalty=0.0), dpo, PAIR),
    "AOT | batch 1 | cDPO": Row(form.in_a_batch_of_one(p.aot_loss), cdpo, PAIR),
    "AOT unpaired | batch 1 | cDPO": Row(form.in_a_batch_of_one(p.aot_unpaired_loss), cdpo, PAIR),
    "Plackett-Luce DPO | K = 2 | DPO": Row(
        form.listed(partial(p.pl_dpo_loss, beta=BETA)), dpo, PAIR
    ),
    # Single answers.
    "KTO | z0 = 0 | APO-zero unpaired": Row(
        kto, partial(p.apo_zero_unpaired_loss, beta=BETA), (*PAIR[:2], form.LABELS)
    ),
    "KTO | z0 = 0, both answers | APO-zero": Row(
        form.both_answers(kto), partial(p.apo_zero_loss, beta=BETA), PAIR
    ),
    "BCO | delta 0, both answers | BCO pair": Row(
        form.both_answers(partial(p.bco_loss, shift=0.0, beta=BETA)),
        partial(p.bco_pair_loss, beta=BETA),
        PAIR,
    ),
    "point-wise DPO | both answers | BCO pair": Row(
        form.both_answers(partial(p.pointwise_dpo_loss, beta=BETA)),
        partial(p.bco_pair_loss, beta=BETA),
        PAIR,
    ),
    # Lengths; no reference.
    "alpha-DPO | alpha 0 | SimPO": Row(
        partial(p.alpha_dpo_loss, beta=BETA, gamma=0.0, alpha=0.0), form.only_policy(simpo), PAIR
    ),
    "SimPO | gamma 0 | reference-free sigmoid_norm": Row(
        form.over(mean_logps, form.only_policy(simpo)),
        form.over(mean_logps, form.no_reference(dpo)),
        (*TOKENS, *MASKS),
    ),
    "SimPO | gamma 0, equal lengths n | CPO without NLL, beta / n": Row(
        form.over(mean_logps, form.only_policy(simpo)),
        form.over(sequence_logps, form.only_policy(partial(p.cpo_loss, beta=BETA / N))),
        (*TOKENS, *EVEN),
    ),
    "CPO without NLL | - | DPO, uniform reference": Row(
        partial(p.cpo_loss, beta=BETA), form.no_reference(dpo), PAIR[:2]
    ),
    "AlphaPO | alpha -> 0 | SimPO": Row(
        partial(p.alpha_po_loss, beta=BETA, gamma=0.0, alpha=1e-8), simpo, PAIR[:2], rtol=1e-6
    ),
    "SLiC | delta = 1 / beta | hinge DPO, uniform reference": Row(
        scaled(BETA, partial(p.slic_loss, delta=1 / BETA)),
        form.no_reference(partial(p.hinge_dpo_loss, beta=BETA)),
        PAIR[:2],
    ),
    "sigmoid_norm | equal lengths n | DPO, beta / n": Row(
        form.over(mean_logps, dpo),
        form.over(sequence_logps, partial(dpo, beta=BETA / N)),
        (*TOKENS, *EVEN),
    ),
    "IPO (avg) | equal lengths n | IPO, beta / n, over n^2": Row(
        form.over(mean_logps, ipo),
        scaled(1 / N**2, form.over(sequence_logps, partial(ipo, beta=BETA / N))),
        (*TOKENS, *EVEN),
    ),
    "LD-DPO | alpha 1 | DPO": Row(
        form.ld_dpo(1.0), form.over(sequence_logps, dpo), (*TOKENS, *MASKS)
    ),
    "LD-DPO | equal lengths | DPO": Row(
        form.ld_dpo(0.4), form.over(sequence_logps, dpo), (*TOKENS, *EVEN)
    ),
    # Lists.
    "PRO n = 2 | W = 1 | SimPO, beta 1, gamma 0": Row(
        form.listed(lambda a, m: p.pro_loss(a, jnp.array([[1.0, 0.0]] * 6, a.dtype), m)),
        partial(simpo, beta=1.0),
        PAIR[:2],
    ),
    "PRO | W = 1 | Plackett-Luce": Row(
        form.pro_one_contrast_at_a_time, reward.plackett_luce_loss, (LISTS[0], form.WHOLE)
    ),
    # Policy gradients.
    "PPO | 1 epoch, eps inf, V = others, token sum | RLOO": Row(
        form.ppo_with_the_others_as_critic,
        form.rloo,
        (form.ANSWERS, form.REF, form.SCORES, STEPS),
        value=False,
    ),
    "GRPO | no std, constant length norm | Dr. GRPO": Row(
        lambda *x: form.centred_grpo(*x) * jnp.sum(x[3], -1) / 7.0,
        partial(form.dr_grpo, max_length=7.0),
        (form.ANSWERS, form.OLD, form.SCORES, STEPS),
    ),
    "GRPO | no std, all of length L_max | Dr. GRPO": Row(
        form.centred_grpo,
        partial(form.dr_grpo, max_length=5.0),
        (form.ANSWERS, form.OLD, form.SCORES, FULL),
    ),
    "GSPO | one-token answers | GRPO": Row(
        gspo, form.grpo, (form.ANSWERS[..., :1], form.OLD[..., :1], form.SCORES, FULL[..., :1])
    ),
    "GSPO-token | one advantage per answer | GSPO": Row(
        form.gspo_token, gspo, (form.ANSWERS, form.OLD, form.SCORES, STEPS)
    ),
    "GMPO | eps = inf | GSPO, eps = inf": Row(
        partial(gmpo, clip_eps_low=INF, clip_eps_high=INF),
        partial(gspo, clip_eps_low=INF, clip_eps_high=INF),
        (form.ANSWERS, form.OLD, form.SCORES, STEPS),
    ),
    "GMPO | one-token answers | asymmetric clip": Row(
        lambda a, b, *x: gmpo(a[..., None], b[..., None], *x, jnp.asarray(FULL)[..., :1]),
        partial(
            policy_gradient.asymmetric_clip_loss,
            clip_eps_low=1 - np.exp(-EPS),
            clip_eps_high=np.expm1(EPS),
        ),
        (form.ANSWERS[..., 0], form.OLD[..., 0], form.SCORES),
    ),
    "DFT | - | REINFORCE, advantages pi": Row(
        p.dft_loss, lambda a: policy_gradient.reinforce_loss(a, jnp.exp(a)), TOKENS[:1]
    ),
    "DFT | one-token answers | SimPER, rejected given": Row(
        p.dft_loss, lambda a: p.simper_loss(a, jnp.zeros_like(a)), TOKENS[:1], value=False
    ),
    "RLOO | first update | Dr. GRPO, L_max G / (G - 1)": Row(
        partial(form.rloo, beta=0.0),
        lambda a, _, *x: form.dr_grpo(a, a, *x, max_length=1.0) * 3 / 2,
        (form.ANSWERS, form.REF, form.SCORES, STEPS),
        value=False,
    ),
    "RLOO | G = 2 | pairwise policy gradient": Row(
        form.reinforce_each, ppg, (LISTS[0][:, :2], LISTS[1][:, :2])
    ),
    "pairwise policy gradient | K > 2 | RLOO": Row(ppg, form.reinforce_each, LISTS[:2]),
    "pairwise policy gradient | d = 2 P - 1 | self-play (SPO)": Row(
        lambda a, z: ppg(a, pairwise_gradient.pairwise_rewards(jnp.stack([z, -z], -1))),
        form.self_play,
        (LISTS[0][:, :2], PAIR[0]),
    ),
    "P3O-V1 | theta = old | pairwise policy gradient": Row(
        form.first_update(open_v1), ppg, LISTS[:2], value=False
    ),
    "P3O-V2 | theta = old | pairwise policy gradient": Row(
        form.first_update(open_v2), ppg, LISTS[:2], value=False
    ),
    "P3O-V1 | eps = inf | P3O-V2": Row(open_v1, open_v2, LISTS, value=False),
    "P3O-V1 | r + delta(x) | r": Row(form.shifted(v1), v1, LISTS),
    "P3O-V2 | r + delta(x) | r": Row(form.shifted(v2), v2, LISTS),
    "P3O-V1 | equal scores | 0": Row(form.tied(v1), lambda a, b: nothing(a[:, 0]), LISTS[:2]),
    "P3O-V2 | equal scores | 0": Row(form.tied(v2), lambda a, b: nothing(a[:, 0]), LISTS[:2]),
    "dual clip | c = inf | PPO": Row(
        partial(policy_gradient.dual_clip_loss, clip_eps=EPS, dual_clip=INF), ppo, LISTS
    ),
    "PPO | rho = 1 | REINFORCE": Row(
        form.first_update(ppo), policy_gradient.reinforce_loss, LISTS[:2], value=False
    ),
    "k2 as a loss | - | REINFORCE, advantages -k1": Row(
        lambda a, b: kl.k2(a, jax.lax.stop_gradient(b)),
        lambda a, b: policy_gradient.reinforce_loss(a, -kl.k1(a, b)),
        LISTS[:2],
        value=False,
    ),
    # Reward models.
    "VPL | beta 0, one comparison of a user | Bradley-Terry": Row(
        lambda w, v: users.vpl_loss(
            w[:, None], v[:, None], 0.0 * w, jnp.ones((6, 1), bool), beta=0.0
        ),
        bt,
        PAIR[:2],
    ),
    "KL of Gaussians | prior N(0, I) | its KL to N(0, I)": Row(
        lambda m, lv: gaussians.diagonal_normal_kl(m, lv, jnp.zeros_like(m), jnp.zeros_like(m)),
        gaussians.standard_normal_kl,
        LISTS[:2],
    ),
    "soft Bradley-Terry | q = 1 | Bradley-Terry": Row(
        form.full(1.0)(reward.soft_bradley_terry_loss), bt, PAIR[:2]
    ),
    "margin Bradley-Terry | m = 0 | Bradley-Terry": Row(
        form.full(0.0)(reward.margin_bradley_terry_loss), bt, PAIR[:2]
    ),
    "soft label and margin | m = 0 | soft Bradley-Terry": Row(
        lambda w, v, q: reward.soft_margin_bradley_terry_loss(w, v, q, 0.0 * q),
        reward.soft_bradley_terry_loss,
        (*PAIR[:2], form.PREFS),
    ),
    "soft label and margin | q = 1 | margin": Row(
        lambda w, v, m: reward.soft_margin_bradley_terry_loss(w, v, jnp.ones_like(m), m),
        reward.margin_bradley_terry_loss,
        PAIR[:3],
    ),
    "soft label and margin | q = 0 | margin, swapped and negated": Row(
        lambda w, v, m: reward.soft_margin_bradley_terry_loss(w, v, jnp.zeros_like(m), m),
        lambda w, v, m: reward.margin_bradley_terry_loss(v, w, -m),
        PAIR[:3],
    ),
    "soft label and margin | q = 1 - h, m = 0 | smoothed": Row(
        lambda w, v: reward.soft_margin_bradley_terry_loss(
            w, v, jnp.full_like(w, 1 - H), jnp.zeros_like(w)
        ),
        partial(reward.smoothed_bradley_terry_loss, label_smoothing=H),
        PAIR[:2],
    ),
    "Plackett-Luce | K = 2 | Bradley-Terry": Row(
        form.listed(reward.plackett_luce_loss), bt, PAIR[:2]
    ),
    "Rao-Kupper | theta = 1, a win | Bradley-Terry": Row(
        lambda w, v: reward.rao_kupper_loss(w, v, jnp.ones(6, jnp.int32), theta=1.0), bt, PAIR[:2]
    ),
    "signed | a win | Bradley-Terry": Row(
        lambda w, v: reward.signed_bradley_terry_loss(w, v, jnp.ones(6, jnp.int32)), bt, PAIR[:2]
    ),
    "Davidson | nu = 0, a win | Bradley-Terry": Row(
        lambda w, v: reward.davidson_loss(w, v, jnp.ones(6, jnp.int32), nu=0.0), bt, PAIR[:2]
    ),
    "regret model | A* = alpha log pi | CPL": Row(
        lambda w, v: reward.regret_preference_loss(-w, -v), p.cpl_loss, PAIR[:2]
    ),
    "ordinal | two ratings, threshold 0 | binary": Row(
        lambda s, y: feedback.ordinal_loss(s, y.astype(jnp.int32), jnp.zeros(1)),
        feedback.binary_loss,
        (PAIR[0], form.LABELS),
    ),
    "pairwise judge | g = r - r' | Bradley-Terry": Row(
        lambda w, v: feedback.verdict_loss(
            jnp.stack([jnp.stack([w, v], -1), jnp.stack([v, w], -1)], -2)
        ),
        bt,
        PAIR[:2],
    ),
    "pairwise judge | says A or B alone | the binary form": Row(
        lambda w, v: feedback.verdict_token_loss(
            jax.nn.log_softmax(jnp.stack([jnp.stack([w, v], -1), jnp.stack([v, w], -1)], -2))
        ),
        bt,
        PAIR[:2],
    ),
    "comparisons | D = r - r' | GRPO's advantages": Row(
        lambda r: groups.pairwise_advantages(r[:, :, None] - r[:, None, :], eps=0.0),
        partial(groups.group_normalised_advantages, eps=0.0),
        LISTS[:1],
    ),
    "uncertainty-weighted ensemble | lambda 0 | mean": Row(
        partial(ensembles.uncertainty_penalised_scores, penalty=0.0),
        ensembles.mean_scores,
        LISTS[:1],
    ),
}


@pytest.fixture(autouse=True)
def double():
    """float64 while a test runs."""
    with jax.enable_x64(True):
        yield


@pytest.mark.parametrize("name", ROWS)
def test_one_reduces_to_the_other(name):
    assert_reduces(ROWS[name], to_nothing=name.endswith("| 0"))


def kl_rl(logits, rewards, ref_logits):
    """REINFORCE over all answers, each as often as pi draws it, and the exact KL."""
    logps = jax.nn.log_softmax(logits)
    drawn = jax.lax.stop_gradient(jnp.exp(logps))
    reinforce = jnp.sum(drawn * policy_gradient.reinforce_loss(logps, rewards))
    return reinforce + BETA * kl.exact_kl(logits, ref_logits)


def test_kl_rl_is_least_at_the_regularised_optimum():
    rewards, ref_logits, _ = draw_bandit()
    optimum = regularised_optimum(rewards, ref_logits, beta=BETA)
    slope = jax.grad(kl_rl)
    np.testing.assert_allclose(slope(optimum, rewards, ref_logits), 0.0, atol=1e-12)
    assert jnp.max(jnp.abs(slope(ref_logits, rewards, ref_logits))) > 1e-2


# A loss, given all rewards and preferences, and how often each ordered pair of answers is its data.
OPTIMA = {
    "DPO": (lambda r, prefs: dpo, lambda prefs: prefs),
    "f-DPO alpha = 1": (lambda r, prefs: f_dpo(1.0), lambda prefs: prefs),
    "soft label": (lambda r, prefs: lambda *x: soft(*x, prefs), jnp.ones_like),
    "robust": (lambda r, prefs: robust, lambda prefs: (1 - H) * prefs + H * prefs.T),
    "REBEL": (
        lambda r, prefs: lambda *x: p.rebel_loss(*x, r[:, None] - r, beta=BETA),
        jnp.ones_like,
    ),
}


@pytest.mark.parametrize("name", OPTIMA)
def test_population_optimum_is_that_of_kl_rl(name):
    """Any data with full support, Bradley-Terry labels: pi_ref exp(r / beta) / Z."""
    rewards, ref_logits, behaviour = draw_bandit()
    prefs, drawn = preference_matrix(rewards), behaviour[:, None] * behaviour
    make_loss, labels = OPTIMA[name]
    optimum = regularised_optimum(rewards, ref_logits, beta=BETA)
    assert_optimal(make_loss(rewards, prefs), drawn * labels(prefs), optimum, ref_logits)


@pytest.mark.parametrize("rounds", [1, 3])
def test_iterative_dpo_of_one_round_is_offline_dpo(rounds):
    """Each round draws pairs from the last policy and stays near it: T rounds are beta / T."""
    rewards, ref_logits, _ = draw_bandit()
    rewards = 0.2 * rewards  # three rounds must not leave answers that are never drawn
    last = regularised_optimum((rounds - 1) * rewards, ref_logits, beta=BETA)
    drawn = jnp.exp(last)[:, None] * jnp.exp(last)
    optimum = regularised_optimum(rewards, ref_logits, beta=BETA / rounds)
    assert_optimal(dpo, drawn * preference_matrix(rewards), optimum, last)
