"""Group policy gradients against the exact gradient, over every group of answers, in float64."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.losses.answer_policy_gradient import (
    gspo_loss,
    luspo_loss,
    rloo_loss,
)
from rlhf_jax.losses.group_policy_gradient import (
    dr_grpo_loss,
    grpo_loss,
)
from rlhf_jax.ops.groups import group_centred_advantages, leave_one_out_advantages
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.ops.masking import masked_sum

# Answers of a two-token language: "." ends, "a" goes on, three tokens at most: ".", "a.", "aa.",
# "aaa". The prefix is known from the place, so a policy is one logit per place.
TOKENS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 1]])
MASK = np.array([[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]], bool)
LOGITS = np.array([0.4, -0.7, 0.2])
OLD_LOGITS = np.array([-0.3, 0.5, -0.1])
REWARDS = np.array([1.0, -0.5, 2.0, 0.3])


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def token_logps(logits):
    """[4, 3] log-prob of each token of each answer."""
    return jax.nn.log_sigmoid(jnp.where(TOKENS == 1, logits, -logits))


def answer_logps(logits):
    return masked_sum(token_logps(logits), jnp.asarray(MASK), axis=-1)


def exact_gradient(logits):
    """Gradient of the expected reward."""
    return jax.grad(lambda x: jnp.sum(jnp.exp(answer_logps(x)) * REWARDS))(jnp.asarray(logits))


def expected_gradient(loss, advantages_of, *, size, sampler, logits):
    """Minus the gradient of the mean loss over every group of `size` answers from the sampler."""
    groups = np.array(list(product(range(4), repeat=size)))
    sampler, logits = jnp.asarray(sampler), jnp.asarray(logits)
    probs = jnp.prod(jnp.exp(answer_logps(sampler))[groups], axis=-1)
    np.testing.assert_allclose(jnp.sum(probs), 1.0, rtol=1e-12)
    old = token_logps(sampler)[groups]
    advantages = advantages_of(jnp.asarray(REWARDS)[groups])
    mask = jnp.asarray(MASK)[groups]

    def mean(logits):
        losses = loss(token_logps(logits)[groups], old, advantages, mask)
        return jnp.sum(probs * jnp.mean(losses, axis=-1))

    return -jax.grad(mean)(logits)


def grpo_without_kl(logps, old_logps, advantages, mask):
    return grpo_loss(logps, old_logps, old_logps, advantages, mask, clip_eps=0.2, beta=0.0)


@pytest.mark.long
def test_rloo_of_a_softmax_is_exact():
    """Three arms, two answers: nine groups."""
    logits = jnp.array([0.2, -0.1, 0.4])
    rewards = jnp.array([1.0, -2.0, 0.25])
    groups = np.array(list(product(range(3), repeat=2)))
    probs = jnp.prod(jax.nn.softmax(logits)[groups], axis=-1)
    advantages = leave_one_out_advantages(rewards[groups])
    old = jax.nn.log_softmax(logits)[groups][..., None]

    def mean(logits):
        logps = jax.nn.log_softmax(logits)[groups][..., None]
        losses = rloo_loss(logps, old, advantages, jnp.ones((9, 2, 1), bool), clip_eps=0.2)
        return jnp.sum(probs * jnp.mean(losses, axis=-1))

    exact = jax.grad(lambda x: jnp.sum(jax.nn.softmax(x) * rewards))(logits)
    np.testing.assert_allclose(-jax.grad(mean)(logits), exact, rtol=0, atol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    "loss",
    [
        partial(rloo_loss, clip_eps=0.2),
        partial(dr_grpo_loss, clip_eps=0.2, max_length=1.0),
        partial(luspo_loss, clip_eps_low=3e-4, clip_eps_high=4e-4),
    ],
    ids=["rloo", "dr_grpo", "luspo"],
)
def test_token_sums_with_the_others_as_baseline_are_exact_on_policy(loss, size):
    mean = expected_gradient(
        loss, leave_one_out_advantages, size=size, sampler=LOGITS, logits=LOGITS
    )
    np.testing.assert_allclose(mean, exact_gradient(LOGITS), rtol=0, atol=1e-12)


@pytest.mark.long
@pytest.mark.parametrize("size", [2, 3])
def test_dr_grpo_is_exact_up_to_its_constants(size):
    """(G - 1) / G from the centred advantages, 1 / L_max from the average."""
    loss = partial(dr_grpo_loss, clip_eps=0.2, max_length=3.0)
    mean = expected_gradient(
        loss, group_centred_advantages, size=size, sampler=LOGITS, logits=LOGITS
    )
    expected = (size - 1) / size / 3.0 * exact_gradient(LOGITS)
    np.testing.assert_allclose(mean, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "loss", [grpo_without_kl, partial(gspo_loss, clip_eps_low=0.1, clip_eps_high=0.1)]
)
def test_a_mean_over_an_answers_own_tokens_changes_the_direction(loss):
    """Not the gradient of the expected reward, whatever the scale: the length bias of GRPO."""
    mean = expected_gradient(loss, leave_one_out_advantages, size=2, sampler=LOGITS, logits=LOGITS)
    exact = exact_gradient(LOGITS)
    cosine = jnp.dot(mean, exact) / jnp.linalg.norm(mean) / jnp.linalg.norm(exact)
    assert cosine < 0.99


@pytest.mark.parametrize("size", [2, 3])
def test_rloo_without_a_clip_is_exact_off_policy(size):
    mean = expected_gradient(
        partial(rloo_loss, clip_eps=jnp.inf),
        leave_one_out_advantages,
        size=size,
        sampler=OLD_LOGITS,
        logits=LOGITS,
    )
    np.testing.assert_allclose(mean, exact_gradient(LOGITS), rtol=0, atol=1e-12)


def test_length_normalised_ratios_are_not_exact_off_policy():
    """GSPO's ratio is no importance weight: even as a token sum it is biased off policy."""
    loss = partial(luspo_loss, clip_eps_low=jnp.inf, clip_eps_high=jnp.inf)
    mean = expected_gradient(
        loss, leave_one_out_advantages, size=2, sampler=OLD_LOGITS, logits=LOGITS
    )
    assert not np.allclose(mean, exact_gradient(LOGITS), atol=1e-2)


def test_rloo_rests_at_the_regularised_optimum():
    """At pi_ref exp(R / beta) / Z, with the KL in the scores, no group moves; nearby they do."""
    beta = 0.5
    ref_logps = answer_logps(jnp.asarray(OLD_LOGITS))
    groups = np.array(list(product(range(4), repeat=3)))
    mask = jnp.ones((64, 3, 1), bool)

    def gradient(logps):
        penalised = REWARDS - beta * (logps - ref_logps)
        advantages = leave_one_out_advantages(penalised[groups])
        steps = logps[groups][..., None]
        return jax.grad(lambda x: jnp.sum(rloo_loss(x, steps, advantages, mask, clip_eps=0.2)))(
            steps
        )

    best = jax.nn.log_softmax(ref_logps + REWARDS / beta)
    np.testing.assert_allclose(gradient(best), 0.0, atol=1e-12)
    assert float(jnp.max(jnp.abs(gradient(jax.nn.log_softmax(best + 0.1 * REWARDS))))) > 0.01


@pytest.mark.long
def test_kl_of_grpo_pulls_along_the_forward_kl():
    """Differentiating k3 at samples from pi: mean gradient of KL(pi_ref || pi)."""
    logits, ref_logits = jnp.array([0.4, -1.0, 0.9]), jnp.array([-0.3, 0.2, 0.0])
    old, ref = jax.nn.log_softmax(logits)[:, None], jax.nn.log_softmax(ref_logits)[:, None]
    mask = jnp.ones((3, 1), bool)

    def mean(logits):
        logps = jax.nn.log_softmax(logits)[:, None]
        losses = grpo_loss(logps, old, ref, jnp.zeros(3), mask, clip_eps=0.2, beta=0.7)
        return jnp.sum(jnp.exp(old[:, 0]) * losses)

    exact = jax.grad(lambda x: 0.7 * exact_kl(ref_logits, x))(logits)
    np.testing.assert_allclose(jax.grad(mean)(logits), exact, rtol=0, atol=1e-12)
    np.testing.assert_allclose(mean(logits), 0.7 * exact_kl(logits, ref_logits), rtol=1e-12)
