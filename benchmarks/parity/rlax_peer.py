"""rlax: policy-gradient losses, advantages and returns, mostly on one trajectory of T steps.

Both sides are JAX, so the peer descends as this library does; only the functions differ.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import rlax

from benchmarks.parity.batches import load
from benchmarks.parity.compare import Objective, descend
from benchmarks.parity.draw import LENGTH
from benchmarks.parity.table_policy import POLICY, group_answers
from rlhf_jax.losses import policy_gradient as losses
from rlhf_jax.ops import kl, returns
from rlhf_jax.ops.groups import group_normalised_advantages
from rlhf_jax.ops.logprobs import entropy

CLIP, LAMBDA, RHO, PG_RHO = 0.2, 0.8, 1.1, 0.9
Loss = Callable[[jax.Array], jax.Array]


def logps(params: jax.Array) -> jax.Array:
    """[T] log-probs of the committed actions."""
    steps = load("steps")
    return POLICY.logps(params, steps.states, jnp.asarray(steps.actions))


def old_logps() -> jax.Array:
    """[T] the same under the committed sampling policy."""
    return logps(load("weights").old)


def logits(params: jax.Array) -> jax.Array:
    """[T, V] of the visited states."""
    return POLICY.logits(params, load("steps").states)


def split(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[T + 1] values as V_0..V_{T-1} and V_T, which is how this library takes them."""
    return values[:-1], values[-1]


def counted_steps() -> tuple[jax.Array, jax.Array]:
    """Old log-probs and advantages of the counted tokens of the groups, flat: some are clipped."""
    counted, scores = load("groups").completion_mask, jnp.asarray(load("groups").scores)
    advantages = group_normalised_advantages(scores).reshape(-1, 1)
    old = group_answers(load("weights").old).token_logps
    return old[counted], jnp.broadcast_to(advantages, counted.shape)[counted]


def counted_logps(params: jax.Array) -> jax.Array:
    """Log-probs of the same tokens."""
    return group_answers(params).token_logps[load("groups").completion_mask]


def clipped(params: jax.Array) -> jax.Array:
    """rlax's PPO clip."""
    old, advantages = counted_steps()
    ratios = jnp.exp(counted_logps(params) - old)
    return rlax.clipped_surrogate_pg_loss(ratios, advantages, CLIP)


def our_clipped(params: jax.Array) -> jax.Array:
    """PPO clip."""
    old, advantages = counted_steps()
    return jnp.mean(losses.ppo_clip_loss(counted_logps(params), old, advantages, clip_eps=CLIP))


def policy_gradient(params: jax.Array) -> jax.Array:
    """rlax's policy gradient, with all weights 1."""
    steps = load("steps")
    return rlax.policy_gradient_loss(
        logits(params), steps.actions, steps.advantages, jnp.ones_like(steps.advantages)
    )


def our_policy_gradient(params: jax.Array) -> jax.Array:
    """REINFORCE."""
    return jnp.mean(losses.reinforce_loss(logps(params), load("steps").advantages))


def actor(params: jax.Array) -> jax.Array:
    """rlax's policy gradient on its V-trace advantages."""
    steps = load("steps")
    values = (steps.values[:-1], steps.values[1:])
    weights = jnp.exp(logps(params) - old_logps())
    found = rlax.vtrace_td_error_and_advantage(
        *values, steps.rewards, steps.discounts, weights, LAMBDA, RHO, PG_RHO
    )
    ones = jnp.ones_like(steps.advantages)
    return rlax.policy_gradient_loss(logits(params), steps.actions, found.pg_advantage, ones)


def our_actor(params: jax.Array) -> jax.Array:
    """REINFORCE on V-trace advantages."""
    found = vtrace(logps(params) - old_logps(), load("steps").values)
    return jnp.mean(losses.reinforce_loss(logps(params), found.advantages))


def vtrace(log_ratios: jax.Array, values: jax.Array) -> returns.VTrace:
    """This library's V-trace of the committed rewards."""
    steps, (before, last) = load("steps"), split(values)
    return returns.vtrace(
        *(log_ratios, steps.rewards, before, steps.discounts, last),
        gae_lambda=LAMBDA,
        rho_clip=RHO,
        c_clip=1.0,
        pg_rho_clip=PG_RHO,
    )


def policy_rows() -> list[tuple[str, Loss, Loss, str]]:
    """Losses of a policy table."""
    reference = load("weights").reference
    return [
        ("PPO clip", clipped, our_clipped, "ppo_clip_loss, on the counted tokens of the groups"),
        ("policy gradient", policy_gradient, our_policy_gradient, "reinforce_loss"),
        (
            "entropy loss",
            lambda params: rlax.entropy_loss(logits(params), jnp.ones(LENGTH)),
            lambda params: -jnp.mean(entropy(logits(params))),
            "minus the mean entropy",
        ),
        (
            "exact KL",
            lambda p: jnp.mean(rlax.categorical_kl_divergence(logits(p), logits(reference))),
            lambda p: jnp.mean(kl.exact_kl(logits(p), logits(reference))),
            "exact_kl",
        ),
        ("V-trace actor", actor, our_actor, "reinforce_loss on advantages of vtrace"),
    ]


def gae(values: jax.Array) -> jax.Array:
    """Mean square of rlax's advantages."""
    steps = load("steps")
    batch = (steps.rewards, steps.discounts, LAMBDA, values)
    return jnp.mean(rlax.truncated_generalized_advantage_estimation(*batch) ** 2)


def our_gae(values: jax.Array) -> jax.Array:
    """Mean square of this library's."""
    steps, (before, last) = load("steps"), split(values)
    batch = (steps.rewards, before, steps.discounts, last)
    return jnp.mean(returns.gae(*batch, gae_lambda=LAMBDA) ** 2)


def lambda_returns(values: jax.Array) -> jax.Array:
    """Mean square of rlax's returns."""
    steps = load("steps")
    return jnp.mean(rlax.lambda_returns(steps.rewards, steps.discounts, values[1:], LAMBDA) ** 2)


def our_lambda_returns(values: jax.Array) -> jax.Array:
    """Mean square of this library's."""
    steps, (before, last) = load("steps"), split(values)
    batch = (steps.rewards, before, steps.discounts, last)
    return jnp.mean(returns.lambda_returns(*batch, gae_lambda=LAMBDA) ** 2)


def critic(values: jax.Array) -> jax.Array:
    """Half the mean square of rlax's V-trace errors."""
    steps = load("steps")
    weights = jnp.exp(logps(load("weights").policy) - old_logps())
    batch = (values[:-1], values[1:], steps.rewards, steps.discounts, weights)
    return jnp.mean(rlax.l2_loss(rlax.vtrace(*batch, LAMBDA, RHO)))


def our_critic(values: jax.Array) -> jax.Array:
    """The value loss on V-trace targets."""
    targets = vtrace(logps(load("weights").policy) - old_logps(), values).targets
    return jnp.mean(losses.value_loss(split(values)[0], targets))


def value_rows() -> list[tuple[str, Loss, Loss, str]]:
    """Losses of a value table: what estimators return enters squared, so that it has a gradient."""
    squared = "mean square of what it returns"
    return [
        ("truncated GAE", gae, our_gae, f"gae; {squared}"),
        ("lambda-returns", lambda_returns, our_lambda_returns, f"lambda_returns; {squared}"),
        ("V-trace critic", critic, our_critic, "value_loss on targets of vtrace"),
    ]


def objectives() -> list[Objective]:
    """All rows of rlax."""
    policy, values = load("weights").policy, load("steps").values
    tables = [(policy, row) for row in policy_rows()] + [(values, row) for row in value_rows()]
    return [
        Objective(name, "rlax", functools.partial(descend, peer, params), ours, params, note)
        for params, (name, peer, ours, note) in tables
    ]
