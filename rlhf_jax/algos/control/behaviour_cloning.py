"""Behaviour cloning with full support: every action has positive probability.

KL(expert || clone) is then finite.

A table is cloned by counting. Any other policy is mixed with the uniform one and fine-tuned.
"""

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from rlhf_jax.algos import sft
from rlhf_jax.algos.gradient import Diagnostics, init_state
from rlhf_jax.checks import check_ids, check_mask, check_range
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.types import Params, Policy, Scalar, Trajectory


def action_counts(
    demonstrations: Trajectory, *, num_observations: int, num_actions: int
) -> Float[Array, "S A"]:
    """How often each action was taken at each observation, over the steps that count.

    Args:
      demonstrations: inputs are ids of observations [*B, T]; use h * S + s if the policy depends on
        the step.
    """
    check_ids(observations=demonstrations.inputs, actions=demonstrations.actions)
    check_mask(mask=demonstrations.mask)
    where = (demonstrations.inputs, demonstrations.actions)
    weights = jnp.asarray(demonstrations.mask, float)
    # JAX drops an index that is too large, but reads a negative one from the end: drop that too.
    counts = jnp.zeros((num_observations, num_actions))
    return counts.at[where].add(weights, wrap_negative_indices=False)


def clone_counts(counts: Float[Array, "*B A"]) -> Float[Array, "*B A"]:
    """The clone in a table: pi(a | s) = (n(s, a) + 1) / (n(s) + A).

    It maximises sum_i log pi(a_i | s_i) + sum_{s,a} log pi(a | s). If the expert has full support,
    N * KL(expert || clone) per episode tends to (A - 1) / 2 times the number of (step, state) pairs
    that the expert reaches, as the number N of episodes grows.

    Args:
      counts: [*B, A] visits n >= 0; a row of zeros gives the uniform policy.
    Returns:
      [*B, A] log-probs in nats.
    Reference: Tiapkin et al. 2023, arXiv:2310.17303, behaviour cloning of a tabular expert.
    """
    total = jnp.sum(counts, axis=-1, keepdims=True)
    return jnp.log(counts + 1.0) - jnp.log(total + counts.shape[-1])


def mixed_policy(policy: Policy, *, kappa: Scalar) -> Policy:
    """(1 - kappa) pi(a | s) + kappa / A: no action is less likely than kappa / A.

    Args:
      policy: of any parametrisation.
      kappa: share of the uniform policy in [0, 1], about 1 / N for N demonstrations.
    Returns:
      Policy with the same params and inputs; its logits are log-probs.
    Reference: Tiapkin et al. 2023, arXiv:2310.17303, the class of their linear setting.
    """
    check_range("[0, 1]", kappa=kappa)

    def logits(params, inputs):
        logps = jax.nn.log_softmax(policy.logits(params, inputs), axis=-1)
        # In logs, so that kappa = 0 and kappa = 1 need no special case.
        uniform = jnp.log(kappa) - jnp.log(logps.shape[-1])
        return jnp.logaddexp(jnp.log1p(-jnp.asarray(kappa, logps.dtype)) + logps, uniform)

    def logps(params, inputs, actions):
        return token_logps(logits(params, inputs), actions)

    return Policy(policy.init, logits, logps)


def fit(
    policy: Policy,
    params: Params,
    demonstrations: Trajectory,
    *,
    optimizer: optax.GradientTransformation,
    steps: int,
) -> tuple[Params, Diagnostics]:
    """Maximum likelihood of all demonstrations at once, by `sft.make_update`.

    Args:
      policy: e.g. `mixed_policy(linear_policy(features), kappa=1 / N)`.
      params: the starting point.
      demonstrations: the expert's trajectories.
      optimizer, steps: full-batch updates.
    Returns:
      params, and the metrics of `sft.make_update` at each step, [steps].
    """
    update = sft.make_update(policy, optimizer)

    def step(state, _):
        return update(state, demonstrations)

    state, metrics = jax.lax.scan(step, init_state(params, optimizer), None, length=steps)
    return state.params, metrics
