"""GRPO and its relatives by hand, in their limits, and against enumeration."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.losses.answer_policy_gradient import (
    gmpo_loss,
    gspo_loss,
    gspo_token_loss,
    luspo_loss,
    off_policy_mask,
    rloo_loss,
    vespo_loss,
)
from rlhf_jax.losses.group_policy_gradient import (
    dapo_loss,
    dr_grpo_loss,
    grpo_loss,
)
from rlhf_jax.losses.policy_gradient import ppo_clip_loss, reinforce_loss
from rlhf_jax.ops.groups import (
    group_centred_advantages,
    group_normalised_advantages,
    leave_one_out_advantages,
)
from rlhf_jax.ops.masking import (
    constant_denominator,
    masked_mean,
    masked_sum,
    sequence_mean,
    sequence_mean_of_token_mean,
)
from rlhf_jax.ops.returns import answer_discounts, answer_rewards, gae

INF = jnp.inf
SEQUENCE_CLIP = {"clip_eps_low": 0.1, "clip_eps_high": 0.2}
# The golden answers: ratios (1.5, 0.5) and (1.1, 0.9, 0.6), advantages 1 and -2.
RATIOS = jnp.array([[1.5, 0.5, 1.0], [1.1, 0.9, 0.6]])
MASK = jnp.array([[True, True, False], [True, True, True]])
OLD = -jnp.array([[1.0, 2.0, 0.3], [0.5, 0.1, 4.0]])
NEW = OLD + jnp.log(RATIOS)
ADVANTAGES = jnp.array([1.0, -2.0])


def grpo_without_kl(token_logps, old_token_logps, advantages, mask, *, clip_eps):
    """GRPO at beta = 0, with the arguments of its relatives."""
    return grpo_loss(
        token_logps, old_token_logps, old_token_logps, advantages, mask, clip_eps=clip_eps, beta=0.0
    )


def gspo_token_constant(token_logps, old_token_logps, advantages, mask, **clips):
    """GSPO-token with the advantage of the answer at each of its tokens."""
    advantages = jnp.broadcast_to(advantages[..., None], token_logps.shape)
    return gspo_token_loss(token_logps, old_token_logps, advantages, mask, **clips)


def value_and_grad(loss, logps, *data):
    """Losses, and the gradient of their sum to the log-probs."""
    return loss(logps, *data), jax.grad(lambda x: jnp.sum(loss(x, *data)))(logps)


def random_answers(seed=0, shape=(6, 5), scale=0.4):
    """token_logps, old_token_logps, advantages, mask: ratios on both sides of every clip."""
    rng = np.random.default_rng(seed)
    old = -np.exp(rng.standard_normal(shape))
    new = old + scale * rng.standard_normal(shape)
    mask = np.arange(shape[-1]) < rng.integers(1, shape[-1] + 1, (*shape[:-1], 1))
    advantages = rng.standard_normal(shape[:-1])
    return (*(jnp.asarray(x, jnp.float32) for x in (new, old, advantages)), jnp.asarray(mask))


def test_token_ratio_golden_numbers():
    # Tokens: -min(1.5, 1.2), -min(0.5, 0.8); 2 max(1.1, 1.1), 2 max(0.9, 0.9), 2 max(0.6, 0.8).
    answers = (NEW, OLD, ADVANTAGES, MASK)
    tokens = dapo_loss(*answers, clip_eps_low=0.2, clip_eps_high=0.2)
    np.testing.assert_allclose(tokens, [[-1.2, -0.5, 0.0], [2.2, 1.8, 1.6]], rtol=1e-6)
    # Clip-higher at 0.28 lets the first token go to 1.28.
    tokens = dapo_loss(*answers, clip_eps_low=0.2, clip_eps_high=0.28)
    np.testing.assert_allclose(tokens, [[-1.28, -0.5, 0.0], [2.2, 1.8, 1.6]], rtol=1e-6)
    # Sums -1.7 and 5.6 over L_max = 4.
    losses = dr_grpo_loss(*answers, clip_eps=0.2, max_length=4.0)
    np.testing.assert_allclose(losses, [-0.425, 1.4], rtol=1e-6)
    # log pi_ref = log pi + log 2: k3 = 2 - 1 - log 2 = 0.30685282 at each token, times 0.5.
    # Means -1.7 / 2 and 5.6 / 3, plus 0.15342641.
    losses, grad = value_and_grad(
        lambda x: grpo_loss(x, OLD, NEW + jnp.log(2.0), ADVANTAGES, MASK, clip_eps=0.2, beta=0.5),
        NEW,
    )
    np.testing.assert_allclose(losses, [-0.69657359, 2.02009308], rtol=1e-6)
    # k3's slope is 1 - pi_ref / pi = -1: 0.5 * -1 = -0.5 each, and -A rho where not clipped,
    # over the answer's length.
    slopes = [[-0.5 / 2, -1.0 / 2, 0.0], [1.7 / 3, 1.3 / 3, -0.5 / 3]]
    np.testing.assert_allclose(grad, slopes, rtol=1e-5)


def test_sequence_ratio_golden_numbers():
    answers = (NEW, OLD, ADVANTAGES, MASK)
    # s = sqrt(1.5 * 0.5) = 0.86602540, s = (1.1 * 0.9 * 0.6)^(1/3) = 0.84061180, clip (0.9, 1.2):
    # -min(0.866, 0.9), 2 max(0.841, 0.9). Slope -s / 2 at each token of the first.
    losses, grad = value_and_grad(partial(gspo_loss, **SEQUENCE_CLIP), *answers)
    np.testing.assert_allclose(losses, [-0.86602540, 1.8], rtol=1e-6)
    np.testing.assert_allclose(grad, [[-0.43301270] * 2 + [0.0], [0.0] * 3], rtol=1e-5)
    # Twice and three times that.
    losses, grad = value_and_grad(partial(luspo_loss, **SEQUENCE_CLIP), *answers)
    np.testing.assert_allclose(losses, [-1.73205081, 5.4], rtol=1e-6)
    np.testing.assert_allclose(grad, [[-0.86602540] * 2 + [0.0], [0.0] * 3], rtol=1e-5)
    # rho = 0.75 and 0.594, clip (0.8, 1.2): -min(0.75, 0.8), 2 max(0.594, 0.8).
    losses, grad = value_and_grad(partial(rloo_loss, clip_eps=0.2), *answers)
    np.testing.assert_allclose(losses, [-0.75, 1.6], rtol=1e-6)
    np.testing.assert_allclose(grad, [[-0.75] * 2 + [0.0], [0.0] * 3], rtol=1e-5)


def test_gspo_token_golden_numbers():
    advantages = jnp.array([[1.0, -1.0, 7.0], [-2.0, 2.0, 0.0]])
    # s as in GSPO; each token has its own sign and is clipped for itself:
    # -min(0.866, 0.9), max(0.866, 0.9); 2 max(0.841, 0.9), -2 min(0.841, 0.9), 0.
    losses, grad = value_and_grad(
        partial(gspo_token_loss, **SEQUENCE_CLIP), NEW, OLD, advantages, MASK
    )
    s = 0.84061180
    np.testing.assert_allclose(losses, [[-0.86602540, 0.9, 0.0], [1.8, -2 * s, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(grad, [[-0.86602540, 0.0, 0.0], [0.0, -2 * s, 0.0]], rtol=1e-5)


def test_vespo_golden_numbers():
    # w = 0.75: 0.75^2 exp(3 * 0.25) = 1.19081252; A = -2, w = 0.594: 0.594^3 exp(2 * 0.406)
    # = 0.47207006. Slope -weight A at each token, value that times log pi.
    losses, grad = value_and_grad(vespo_loss, NEW, OLD, ADVANTAGES, MASK)
    slopes = jnp.where(MASK, jnp.array([[-1.19081252], [2 * 0.47207006]]), 0.0)
    np.testing.assert_allclose(grad, slopes, rtol=1e-5)
    np.testing.assert_allclose(losses, slopes * NEW, rtol=1e-5)


def test_vespo_with_a_flat_weight_is_importance_weighted():
    """k = 1, lambda = 0: the weight is w, and the token sum has RLOO's gradient."""
    answers = random_answers(10)
    flat = partial(
        vespo_loss, k_positive=1.0, lambda_positive=0.0, k_negative=1.0, lambda_negative=0.0
    )
    _, grad = value_and_grad(flat, *answers)
    _, rloo = value_and_grad(partial(rloo_loss, clip_eps=INF), *answers)
    np.testing.assert_allclose(grad, rloo, rtol=1e-5, atol=1e-7)


def test_off_policy_mask_golden_numbers():
    # Mean log pi_sampler - log pi: -log(0.75) / 2 = 0.1438, -log(0.594) / 3 = 0.1736.
    def keep(advantages, max_kl):
        kept = off_policy_mask(NEW, OLD, jnp.array(advantages), MASK, max_kl=max_kl)
        return kept.tolist()

    assert keep([-1.0, -2.0], 0.15) == [True, False]
    assert keep([-1.0, -2.0], 0.14) == [False, False]
    assert keep([-1.0, 2.0], 0.14) == [False, True]
    assert keep([0.0, -2.0], 0.14) == [True, False]
    assert keep([-1.0, -2.0], INF) == [True, True]
    spoiled = jnp.where(MASK, NEW, jnp.nan)
    kept = off_policy_mask(spoiled, OLD, -jnp.ones(2), MASK, max_kl=0.15)
    assert kept.tolist() == [True, False]


# name: (loss, how its tokens' REINFORCE losses are averaged)
FAMILY = {
    "grpo": (partial(grpo_without_kl, clip_eps=0.2), partial(masked_mean, axis=-1)),
    "dr_grpo": (
        partial(dr_grpo_loss, clip_eps=0.2, max_length=7.0),
        lambda x, mask: masked_sum(x, mask, axis=-1) / 7.0,
    ),
    "dapo": (
        partial(dapo_loss, clip_eps_low=0.2, clip_eps_high=0.28),
        lambda x, mask: jnp.where(mask, x, 0.0),
    ),
    "gspo": (partial(gspo_loss, **SEQUENCE_CLIP), partial(masked_mean, axis=-1)),
    "gspo_token": (
        partial(gspo_token_constant, **SEQUENCE_CLIP),
        lambda x, mask: jnp.where(mask, x, 0.0),
    ),
    "gmpo": (partial(gmpo_loss, **SEQUENCE_CLIP), partial(masked_mean, axis=-1)),
    "luspo": (partial(luspo_loss, **SEQUENCE_CLIP), partial(masked_sum, axis=-1)),
    "rloo": (partial(rloo_loss, clip_eps=0.2), partial(masked_sum, axis=-1)),
    "vespo": (vespo_loss, lambda x, mask: jnp.where(mask, x, 0.0)),
}
family = pytest.mark.parametrize(("loss", "averaged"), FAMILY.values(), ids=FAMILY.keys())


@family
def test_a_first_update_is_reinforce_with_its_average(loss, averaged):
    logps, _, advantages, mask = random_answers()
    _, grad = value_and_grad(loss, logps, logps, advantages, mask)

    def reinforce(logps):
        steps = jnp.broadcast_to(advantages[..., None], logps.shape)
        return averaged(reinforce_loss(logps, steps), mask)

    _, expected = value_and_grad(reinforce, logps)
    np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-7)


def test_without_a_clip_they_are_importance_weighted():
    answers = logps, old_logps, advantages, mask = random_answers(1)
    gap = jnp.where(mask, logps - old_logps, 0.0)
    tokens = jnp.where(mask, -advantages[:, None] * jnp.exp(gap), 0.0)
    lengths = jnp.sum(mask, -1)
    s = jnp.exp(jnp.sum(gap, -1) / lengths)
    both = {"clip_eps_low": INF, "clip_eps_high": INF}
    for losses, expected in (
        (grpo_without_kl(*answers, clip_eps=INF), jnp.sum(tokens, -1) / lengths),
        (dr_grpo_loss(*answers, clip_eps=INF, max_length=5.0), jnp.sum(tokens, -1) / 5),
        (dapo_loss(*answers, **both), tokens),
        (gspo_loss(*answers, **both), -advantages * s),
        (gmpo_loss(*answers, **both), -advantages * s),
        (gspo_token_constant(*answers, **both), jnp.where(mask, (-advantages * s)[:, None], 0.0)),
        (luspo_loss(*answers, **both), -advantages * s * lengths),
        (rloo_loss(*answers, clip_eps=INF), -advantages * s**lengths),
    ):
        np.testing.assert_allclose(losses, expected, rtol=2e-5)


def test_one_token_answers_make_token_and_sequence_ratios_one():
    logps, old_logps, advantages, _ = random_answers(2)
    mask = jnp.arange(logps.shape[-1]) == jnp.array([0, 3, 4, 1, 1, 2])[:, None]
    answers = (logps, old_logps, advantages, mask)
    both = {"clip_eps_low": 0.2, "clip_eps_high": 0.2}
    losses, grad = value_and_grad(partial(grpo_without_kl, clip_eps=0.2), *answers)
    assert bool(jnp.any(jnp.all(grad == 0.0, -1)))  # some are clipped
    for loss in (
        partial(gspo_loss, **both),
        partial(luspo_loss, **both),
        partial(rloo_loss, clip_eps=0.2),
        partial(dr_grpo_loss, clip_eps=0.2, max_length=1.0),
    ):
        other, other_grad = value_and_grad(loss, *answers)
        np.testing.assert_allclose(other, losses, rtol=1e-6)
        np.testing.assert_allclose(other_grad, grad, rtol=1e-6)
    ppo = ppo_clip_loss(logps[mask], old_logps[mask], advantages, clip_eps=0.2)
    np.testing.assert_allclose(losses, ppo, rtol=1e-6)


def test_gspo_token_is_gspo_where_advantages_are_constant():
    answers = random_answers(3, scale=0.3)
    mask = answers[-1]
    losses, grad = value_and_grad(partial(gspo_loss, **SEQUENCE_CLIP), *answers)
    assert bool(jnp.any(jnp.all(grad == 0.0, -1)))
    assert not bool(jnp.all(grad == 0.0))

    def mean(*answers):
        return masked_mean(gspo_token_constant(*answers, **SEQUENCE_CLIP), mask, axis=-1)

    token_losses, token_grad = value_and_grad(mean, *answers)
    np.testing.assert_allclose(token_losses, losses, rtol=1e-6)
    np.testing.assert_allclose(token_grad, grad, rtol=1e-6, atol=1e-7)


def test_averages_are_the_named_aggregations():
    answers = random_answers(4)
    mask = answers[-1]
    tokens = dapo_loss(*answers, clip_eps_low=0.2, clip_eps_high=0.2)
    for losses, mean in (
        (grpo_without_kl(*answers, clip_eps=0.2), sequence_mean_of_token_mean(tokens, mask)),
        (
            dr_grpo_loss(*answers, clip_eps=0.2, max_length=9.0),
            constant_denominator(tokens, mask, length=9.0),
        ),
        (
            luspo_loss(*answers, **SEQUENCE_CLIP),
            sequence_mean(gspo_token_constant(*answers, **SEQUENCE_CLIP), mask),
        ),
    ):
        np.testing.assert_allclose(jnp.mean(losses), mean.value(), rtol=1e-5)
    lengths = jnp.sum(mask, -1)
    np.testing.assert_allclose(
        luspo_loss(*answers, **SEQUENCE_CLIP),
        lengths * gspo_loss(*answers, **SEQUENCE_CLIP),
        rtol=1e-6,
    )


def test_grpo_of_equal_lengths_is_dr_grpo():
    logps, old_logps, advantages, mask = random_answers(5)
    answers = (logps, old_logps, advantages, jnp.ones_like(mask))
    losses, grad = value_and_grad(partial(grpo_without_kl, clip_eps=0.2), *answers)
    dr_grpo = partial(dr_grpo_loss, clip_eps=0.2, max_length=float(logps.shape[-1]))
    dr_losses, dr_grad = value_and_grad(dr_grpo, *answers)
    np.testing.assert_allclose(dr_losses, losses, rtol=1e-6)
    np.testing.assert_allclose(dr_grad, grad, rtol=1e-6)


@pytest.mark.long
def test_rloo_is_dr_grpo_up_to_constants_in_a_first_update():
    logps, _, _, mask = random_answers(6, shape=(2, 4, 5))
    scores = jax.random.normal(jax.random.key(0), (2, 4))
    rloo = (logps, leave_one_out_advantages(scores), mask)
    centred = (logps, group_centred_advantages(scores), mask)
    _, grad = value_and_grad(partial(rloo_loss, clip_eps=0.2), logps, *rloo)
    dr_grpo = partial(dr_grpo_loss, clip_eps=0.2, max_length=5.0)
    _, dr_grad = value_and_grad(dr_grpo, logps, *centred)
    np.testing.assert_allclose(grad, 4 / 3 * 5.0 * dr_grad, rtol=1e-5, atol=1e-6)


@pytest.mark.long
def test_grpo_is_group_normalised_reinforce_in_a_first_update():
    logps, _, _, mask = random_answers(7, shape=(2, 4, 5))
    scores = jax.random.normal(jax.random.key(1), (2, 4))
    advantages = group_normalised_advantages(scores)
    _, grad = value_and_grad(partial(grpo_without_kl, clip_eps=0.2), logps, logps, advantages, mask)
    centred = np.asarray(scores) - np.mean(scores, -1, keepdims=True)
    normalised = centred / (np.std(scores, -1, ddof=1, keepdims=True) + 1e-4)
    lengths = np.sum(mask, -1)
    expected = np.where(mask, -(normalised / lengths)[..., None], 0.0)
    np.testing.assert_allclose(grad, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.long
def test_ppo_with_the_others_mean_as_critic_is_rloo():
    """gamma = lambda = 1, V = mean of the others, token sums, no clip, first update."""
    logps, ref_logps, _, mask = random_answers(8, shape=(4, 5))
    scores = jax.random.normal(jax.random.key(2), (4,))
    log_ratios = masked_sum(logps - ref_logps, mask, axis=-1)
    penalised = scores - 0.3 * log_ratios  # the KL as one number per answer
    others = (jnp.sum(penalised) - penalised) / 3
    rewards = answer_rewards(penalised, jnp.zeros_like(logps), mask, beta=0.0)
    values = jnp.where(mask, others[:, None], 0.0)
    steps = gae(rewards, values, answer_discounts(mask), jnp.zeros(4), gae_lambda=1.0)

    def ppo(logps, old_logps):
        losses = ppo_clip_loss(logps, old_logps, steps, clip_eps=INF)
        return masked_sum(losses, mask, axis=-1)

    _, grad = value_and_grad(ppo, logps, logps)
    advantages = leave_one_out_advantages(penalised)
    _, rloo = value_and_grad(partial(rloo_loss, clip_eps=INF), logps, logps, advantages, mask)
    np.testing.assert_allclose(grad, rloo, rtol=1e-4, atol=1e-6)


@pytest.mark.long
@family
def test_answers_that_run_away_stay_finite(loss, averaged):
    """Token ratios of e^1e4 and e^-1e4, alike and mixed, and their sums over an answer."""
    del averaged
    gaps = jnp.array([[1e4] * 4, [-1e4] * 4, [1e4, -1e4, 1e4, -1e4], [1e4, 0.0, -1.0, 1.0]])
    mask = jnp.array([[True] * 4] * 3 + [[False] * 3 + [True]])
    for size in (1e4, -1e4, 0.0):
        advantages = jnp.full(4, size)
        for old in (0.0, -1e4):
            old_logps = jnp.full((4, 4), old)
            losses, grad = value_and_grad(loss, old + gaps, old_logps, advantages, mask)
            assert bool(jnp.all(jnp.isfinite(losses)))
            assert bool(jnp.all(jnp.isfinite(grad)))
            if size == 0.0:
                np.testing.assert_array_equal(losses, 0.0)
                np.testing.assert_array_equal(grad, 0.0)


@family
def test_the_advantage_of_an_empty_answer_never_matters(loss, averaged):
    del averaged
    logps, old_logps, advantages, mask = random_answers(9)
    mask = mask.at[1].set(False)
    losses, grad = value_and_grad(loss, logps, old_logps, advantages, mask)
    np.testing.assert_array_equal(losses[1], 0.0)
    np.testing.assert_array_equal(grad[1], 0.0)
    spoiled = value_and_grad(loss, logps, old_logps, advantages.at[1].set(jnp.nan), mask)
    np.testing.assert_array_equal(spoiled[0], losses)
    np.testing.assert_array_equal(spoiled[1], grad)


@pytest.mark.long
@family
def test_answers_of_no_length_at_all(loss, averaged):
    del averaged
    none = jnp.zeros((2, 0))
    losses, grad = value_and_grad(loss, none, none, jnp.ones(2), jnp.zeros((2, 0), bool))
    assert bool(jnp.all(losses == 0.0))
    assert grad.shape == (2, 0)


@pytest.mark.long
@pytest.mark.parametrize("clip", [1e-6, 1e3, INF])
@pytest.mark.parametrize("beta", [0.0, 1e-6, 1e3])
def test_grpo_at_extreme_hyper_parameters(clip, beta):
    corners = jnp.array([-1e4, 0.0, 1e4])
    new, old, ref, advantages = (
        x.ravel() for x in jnp.meshgrid(corners, corners, corners, corners)
    )
    new, old, ref = (jnp.broadcast_to(x[:, None], (81, 2)) for x in (new, old, ref))
    mask = jnp.ones((81, 2), bool)
    loss = partial(grpo_loss, clip_eps=clip, beta=beta)
    losses, grad = value_and_grad(loss, new, old, ref, advantages, mask)
    assert bool(jnp.all(jnp.isfinite(losses)))
    assert bool(jnp.all(jnp.isfinite(grad)))
