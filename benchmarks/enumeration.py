"""Worlds so small that every outcome can be listed, and exact moments of estimates in them.

Nothing is sampled: a mean is a sum over all outcomes, each with its probability. Call everything
here under `jax.enable_x64(True)`.
"""

from collections.abc import Callable
from functools import cache
from itertools import combinations_with_replacement, product
from math import factorial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from rlhf_jax.losses.policy_gradient import reinforce_loss
from rlhf_jax.ops.groups import (
    group_centred_advantages,
    group_normalised_advantages,
    leave_one_out_advantages,
    remax_advantages,
)
from rlhf_jax.ops.kl import exact_kl, k1, k3, reverse_kl_surrogate, score_function_kl_surrogate
from rlhf_jax.ops.masking import whiten
from rlhf_jax.ops.returns import gae, vtrace

Array = jax.Array


class Moments(NamedTuple):
    """Exact bias and spread of an estimate, both in units of the size of what it estimates."""

    bias: float  # E estimate - exact, its norm if that is a vector
    std: float  # sqrt(sum of the variances of the components)
    cosine: float  # between E estimate and exact


def moments(probs: ArrayLike, estimates: ArrayLike, exact: ArrayLike) -> Moments:
    """Moments of estimates [N, ...], the n-th of which comes with probability probs [N]."""
    weights, target = np.asarray(probs), np.ravel(exact)
    flat = np.asarray(estimates).reshape(len(weights), -1)
    mean = weights @ flat
    gap, size = mean - target, np.linalg.norm(target)
    bias = gap[0] if len(target) == 1 else np.linalg.norm(gap)
    spread = np.sqrt(weights @ np.sum((flat - mean) ** 2, axis=-1))
    length = np.linalg.norm(mean)
    cosine = mean @ target / (length * size) if length > 1e-12 else 0.0
    return Moments(float(bias / size), float(spread / size), float(cosine))


# One step, five answers: pi moves from pi_ref towards the answer that pi_ref finds the rarest.

REF_LOGITS = np.array([0.6, 0.2, 0.0, -0.4, -0.9])
DIRECTION = np.array([-0.8, 0.4, -0.3, 0.2, 1.2])
Estimator = Callable[[Array, Array], Array]


class OneStep(NamedTuple):
    """A policy and its reference over five answers."""

    logits: Array
    ref_logits: Array

    def estimates(self, estimator: Estimator) -> tuple[Array, Array, Array]:
        """Probability of each answer, and the estimator's value and gradient at each."""

        def values(logits):
            return estimator(jax.nn.log_softmax(logits), jax.nn.log_softmax(self.ref_logits))

        probs = jax.nn.softmax(self.logits)
        return probs, values(self.logits), jax.jacrev(values)(self.logits)

    def exact(self, *, forward: bool = False) -> tuple[Array, Array]:
        """KL(pi || pi_ref), or of the other direction, and its gradient."""

        def divergence(logits):
            pair = (self.ref_logits, logits) if forward else (logits, self.ref_logits)
            return exact_kl(*pair)

        return jax.value_and_grad(divergence)(self.logits)


def one_step(distance: float) -> OneStep:
    """pi at this distance from pi_ref, in logits."""
    ref_logits = jnp.asarray(REF_LOGITS)
    return OneStep(ref_logits + distance * jnp.asarray(DIRECTION), ref_logits)


def value_moments(world: OneStep, estimator: Estimator, *, forward: bool = False) -> Moments:
    """Of one sample's estimate of the divergence."""
    probs, values, _ = world.estimates(estimator)
    return moments(probs, values, world.exact(forward=forward)[0])


def gradient_moments(world: OneStep, loss: Estimator, *, forward: bool = False) -> Moments:
    """Of the gradient of one sample's loss, as an estimate of the divergence's gradient."""
    probs, _, grads = world.estimates(loss)
    return moments(probs, grads, world.exact(forward=forward)[1])


# Answers of three tokens over two letters: a tree with seven prefixes and eight leaves.

STEPS = 3
PATHS = np.array(list(product(range(2), repeat=STEPS)))
PREFIXES = np.array(
    [[2**t - 1 + int("0" + "".join(map(str, path[:t])), 2) for t in range(STEPS)] for path in PATHS]
)
TREE_LOGITS = np.array(
    [[0.3, -0.3], [0.8, -0.5], [-0.2, 0.6], [0.1, 0.0], [-0.7, 0.4], [0.9, -0.1], [-0.4, 0.2]]
)
TREE_REF_LOGITS = np.array(
    [[-0.2, 0.2], [0.1, 0.3], [0.4, -0.1], [-0.6, 0.5], [0.2, 0.2], [-0.3, 0.4], [0.7, -0.6]]
)
TREE_REWARDS = np.array(
    [[0.9, 0.0], [1.0, -0.4], [0.3, 0.6], [-0.2, 0.9], [1.5, 0.1], [0.4, -0.7], [0.0, 1.2]]
)
TREE_ERRORS = np.array([0.4, -0.5, 0.6, 0.3, -0.6, 0.5, -0.2])  # of values that are wrong


def token_logps(logits: Array) -> Array:
    """[8, 3] log-probs of every answer's tokens."""
    return jax.nn.log_softmax(logits)[PREFIXES, PATHS]


def path_probs(logits: Array) -> Array:
    """[8] probability of every answer."""
    return jnp.exp(jnp.sum(token_logps(logits), axis=-1))


def step_kl(logits: Array, ref_logits: Array) -> Array:
    """[8, 3] exact KL of the next token at every prefix of every answer."""
    return exact_kl(logits, ref_logits)[PREFIXES]


def answer_kl(logits: Array, ref_logits: Array) -> Array:
    """KL(pi || pi_ref) over answers."""
    gaps = jnp.sum(token_logps(logits) - token_logps(ref_logits), axis=-1)
    return path_probs(logits) @ gaps


def _summed(estimator: Estimator) -> Callable[[Array, Array], Array]:
    """The estimator on the log-probs of whole answers."""

    def estimate(logits, ref_logits):
        pair = (jnp.sum(token_logps(x), axis=-1) for x in (logits, ref_logits))
        return estimator(*pair)

    return estimate


def _per_token(estimator: Estimator) -> Callable[[Array, Array], Array]:
    """The sum over tokens of the estimator on each token's log-probs."""

    def estimate(logits, ref_logits):
        return jnp.sum(estimator(token_logps(logits), token_logps(ref_logits)), axis=-1)

    return estimate


def _to_go(logits: Array, ref_logits: Array) -> Array:
    """Each token's score times the k1 of itself and of all that follow."""
    token_k1 = k1(token_logps(logits), token_logps(ref_logits))
    to_go = jnp.flip(jnp.cumsum(jnp.flip(token_k1, -1), axis=-1), -1)
    return jnp.sum(reinforce_loss(token_logps(logits), -to_go), axis=-1)


ANSWER_VALUES: dict[str, Callable[[Array, Array], Array]] = {
    "k1 of the answer, or of its tokens, summed": _summed(k1),
    "k3 of the answer": _summed(k3),
    "k3 of each token, summed": _per_token(k3),
    "`exact_kl` of each step, summed": lambda x, y: jnp.sum(step_kl(x, y), axis=-1),
}
ANSWER_GRADIENTS: dict[str, Callable[[Array, Array], Array]] = {
    "`reverse_kl_surrogate` of the answer": _summed(reverse_kl_surrogate),
    "`score_function_kl_surrogate`, k1 summed from each token to the end": _to_go,
    "`reverse_kl_surrogate` of each token, summed": _per_token(reverse_kl_surrogate),
    "`score_function_kl_surrogate` of each token, summed": _per_token(score_function_kl_surrogate),
    "`exact_kl` of each step, summed": lambda x, y: jnp.sum(step_kl(x, y), axis=-1),
    "k3 of each token, summed": _per_token(k3),
}


def answer_value_moments(estimate: Callable[[Array, Array], Array]) -> Moments:
    """Of one answer's estimate of the KL over answers."""
    pair = (jnp.asarray(TREE_LOGITS), jnp.asarray(TREE_REF_LOGITS))
    return moments(path_probs(pair[0]), estimate(*pair), answer_kl(*pair))


def answer_gradient_moments(loss: Callable[[Array, Array], Array]) -> Moments:
    """Of the gradient of one answer's loss, as an estimate of the gradient of that KL."""
    pair = (jnp.asarray(TREE_LOGITS), jnp.asarray(TREE_REF_LOGITS))
    grads = jax.jacrev(loss)(*pair)
    return moments(path_probs(pair[0]), grads, jax.grad(answer_kl)(*pair))


# The same tree with a reward for each step: returns and advantages from a trajectory.


def tree_values(logits: Array) -> Array:
    """[7] value of each prefix under this policy, undiscounted; backwards from the last level."""
    probs, rewards = jax.nn.softmax(logits), jnp.asarray(TREE_REWARDS)
    values = [jnp.zeros(())] * 15
    for node in reversed(range(7)):
        children = jnp.stack([values[2 * node + 1], values[2 * node + 2]])
        values[node] = probs[node] @ (rewards[node] + children)
    return jnp.stack(values[:7])


class Trajectories(NamedTuple):
    """All eight, as the positional arguments of `gae` and `lambda_returns`."""

    rewards: Array
    values: Array
    discounts: Array
    last_values: Array


def trajectories(values: Array) -> Trajectories:
    """Every trajectory, with these values [7] of the prefixes."""
    discounts = jnp.asarray(np.array([1.0, 1.0, 0.0]) * np.ones((len(PATHS), 1)))
    rewards = jnp.asarray(TREE_REWARDS[PREFIXES, PATHS])
    return Trajectories(rewards, values[PREFIXES], discounts, jnp.zeros(len(PATHS)))


def values_of(kind: str, logits: Array) -> Array:
    """[7] values: "right", "wrong" (by TREE_ERRORS) or "none" (zero)."""
    right = tree_values(logits)
    return {
        "right": right,
        "wrong": right + jnp.asarray(TREE_ERRORS),
        "none": jnp.zeros_like(right),
    }[kind]


def gae_moments(kind: str, gae_lambda: float) -> tuple[Moments, Moments]:
    """On-policy: of the return at the first step, and of the policy gradient of one trajectory."""
    logits = jnp.asarray(TREE_LOGITS)
    batch = trajectories(values_of(kind, logits))
    advantages = gae(*batch, gae_lambda=gae_lambda)
    grads = jax.jacrev(lambda x: jnp.sum(reinforce_loss(token_logps(x), -advantages), -1))(logits)
    exact, slope = jax.value_and_grad(lambda x: tree_values(x)[0])(logits)
    probs = path_probs(logits)
    returns = (advantages + batch.values)[:, 0]
    return moments(probs, returns, exact), moments(probs, grads, slope)


def clipped_logits(rho_clip: float) -> Array:
    """Logits of the policy proportional to min(rho_clip mu, pi), whose value V-trace learns."""
    pi, mu = jax.nn.softmax(jnp.asarray(TREE_LOGITS)), jax.nn.softmax(jnp.asarray(TREE_REF_LOGITS))
    return jnp.log(jnp.minimum(rho_clip * mu, pi))


def vtrace_moments(kind: str, clip: float | None, *, target: str = "pi") -> tuple[Moments, Moments]:
    """Trajectories of mu: of the target at the first step, and of the gradient at that step.

    `clip` is that of all three ratios; None corrects nothing, as if mu were pi. `target` says
    whose value is estimated, and whose are the "right" values: pi's, or the clipped policy's.
    """
    pi, mu = jnp.asarray(TREE_LOGITS), jnp.asarray(TREE_REF_LOGITS)
    log_ratios = token_logps(pi) - token_logps(mu)
    cut = jnp.inf if clip is None else clip
    if clip is None:
        log_ratios = jnp.zeros_like(log_ratios)
    logits = pi if target == "pi" else clipped_logits(cut)
    batch = trajectories(values_of(kind, logits))
    found = vtrace(log_ratios, *batch, rho_clip=cut, c_clip=cut, pg_rho_clip=cut)
    losses = jax.jacrev(lambda x: reinforce_loss(token_logps(x), -found.advantages)[:, 0])
    slope = jax.grad(lambda x: tree_values(x)[0])(pi)
    probs = path_probs(mu)
    value = moments(probs, found.targets[:, 0], tree_values(logits)[0])
    return value, moments(probs, losses(pi)[:, 0], slope[0])


# Two prompts with three answers each, K drawn for each prompt: every pair of groups.

GROUP_LOGITS = np.array([[0.5, 0.0, -0.4], [-0.2, 0.6, 0.1]])
GROUP_SCORES = np.array([[1.0, 0.2, 0.5], [3.5, 2.0, 2.9]])
Advantages = Callable[[Array, Array], Array]  # scores [N, 2, K], greedy scores [N, 2]


def _whitened(scores: Array, greedy_scores: Array) -> Array:
    return jax.vmap(lambda x: whiten(x, jnp.ones(x.shape, bool)))(scores)


def _less_value(scores: Array, greedy_scores: Array) -> Array:
    logits = jnp.asarray(GROUP_LOGITS)
    return scores - jnp.sum(jax.nn.softmax(logits) * jnp.asarray(GROUP_SCORES), -1)[:, None]


ADVANTAGES: dict[str, Advantages] = {
    "no baseline (REINFORCE)": lambda scores, greedy: scores,
    "exact value of the prompt": _less_value,
    "leave one out (RLOO)": lambda scores, greedy: leave_one_out_advantages(scores),
    "greedy answer (ReMax)": remax_advantages,
    "mean of the batch": lambda scores, greedy: scores - jnp.mean(scores, (-2, -1), keepdims=True),
    "batch whitened": _whitened,
    "mean of the group (Dr. GRPO)": lambda scores, greedy: group_centred_advantages(scores),
    "group normalised (GRPO)": lambda scores, greedy: group_normalised_advantages(scores),
}


def groups(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Every pair of groups: answers [N, 2, K] and probabilities [N].

    The order within a group changes no estimate, so each group stands once, for all its orders.
    """
    probs = np.asarray(jax.nn.softmax(jnp.asarray(GROUP_LOGITS)))
    multisets = np.array(list(combinations_with_replacement(range(3), size)))
    counts = np.stack([np.sum(multisets == answer, axis=-1) for answer in range(3)], axis=-1)
    orders = [factorial(size) / np.prod([factorial(int(c)) for c in row]) for row in counts]
    first, second = (orders * np.prod(p**counts, axis=-1) for p in probs)
    index = np.array(list(product(range(len(multisets)), repeat=2)))
    return multisets[index], first[index[:, 0]] * second[index[:, 1]]


@cache
def group_moments(size: int) -> dict[str, Moments]:
    """Of the policy gradient of a batch of two groups of this size, for each of ADVANTAGES."""
    logits, scores = jnp.asarray(GROUP_LOGITS), jnp.asarray(GROUP_SCORES)
    answers, probs = groups(size)
    prompts = jnp.arange(2)

    def loss(logits, answers, advantages):
        logps = jax.nn.log_softmax(logits)[prompts[:, None], answers]
        return -jnp.mean(reinforce_loss(logps, advantages))

    @jax.jit
    def gradients(answers):
        greedy = scores[prompts, jnp.argmax(logits, -1)] * jnp.ones((len(answers), 1))
        drawn = scores[prompts[:, None], answers]
        slope = jax.vmap(jax.grad(loss), (None, 0, 0))
        return {
            name: slope(logits, answers, advantages(drawn, greedy))
            for name, advantages in ADVANTAGES.items()
        }

    exact = jax.grad(lambda x: jnp.mean(jnp.sum(jax.nn.softmax(x) * scores, -1)))(logits)
    found = gradients(jnp.asarray(answers))
    return {name: moments(probs, grads, exact) for name, grads in found.items()}
