"""rlax: policy-gradient losses, advantages and returns on one trajectory of T steps.

Both sides are JAX, so the peer descends as this library does; only the functions differ.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import rlax

from benchmarks.parity.batches import load
from benchmarks.parity.compare import Objective, descend
from benchmarks.parity.table_policy import POLICY
from rlhf_jax.losses import policy_gradient as losses
from rlhf_jax.ops import kl, returns
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


def policy_rows() -> list[tuple[str, Loss, Loss, str]]:
    """Losses of a policy table."""
    steps = load("steps")
    ones = jnp.ones_like(steps.advantages)

    def clipped(params):
        ratios = jnp.exp(logps(params) - old_logps())
        return rlax.clipped_surrogate_pg_loss(ratios, steps.advantages, CLIP)

    def actor(params):
        weights = jnp.exp(logps(params) - old_logps())
        found = rlax.vtrace_td_error_and_advantage(
            steps.values[:-1],
            steps.values[1:],
            steps.rewards,
            steps.discounts,
            weights,
            LAMBDA,
            RHO,
            PG_RHO,
        )
        advantages = found.pg_advantage
        return rlax.policy_gradient_loss(logits(params), steps.actions, advantages, ones)

    def our_actor(params):
        found = vtrace(logps(params) - old_logps(), steps.values)
        return jnp.mean(losses.reinforce_loss(logps(params), found.advantages))

    reference = load("weights").reference
    return [
        (
            "PPO clip",
            clipped,
            lambda params: jnp.mean(
                losses.ppo_clip_loss(logps(params), old_logps(), steps.advantages, clip_eps=CLIP)
            ),
            "ppo_clip_loss",
        ),
        (
            "policy gradient",
            lambda p: rlax.policy_gradient_loss(logits(p), steps.actions, steps.advantages, ones),
            lambda p: jnp.mean(losses.reinforce_loss(logps(p), steps.advantages)),
            "reinforce_loss",
        ),
        (
            "entropy loss",
            lambda params: rlax.entropy_loss(logits(params), ones),
            lambda params: -jnp.mean(entropy(logits(params))),
            "minus the mean entropy",
        ),
        (
            "exact KL",
            lambda params: jnp.mean(
                rlax.categorical_kl_divergence(logits(params), logits(reference))
            ),
            lambda params: jnp.mean(kl.exact_kl(logits(params), logits(reference))),
            "exact_kl",
        ),
        ("V-trace actor", actor, our_actor, "reinforce_loss on advantages of vtrace"),
    ]


def vtrace(log_ratios: jax.Array, values: jax.Array) -> returns.VTrace:
    """This library's V-trace of the committed rewards."""
    steps, (before, last) = load("steps"), split(values)
    mixed = {"gae_lambda": LAMBDA, "rho_clip": RHO, "c_clip": 1.0, "pg_rho_clip": PG_RHO}
    return returns.vtrace(log_ratios, steps.rewards, before, steps.discounts, last, **mixed)


def value_rows() -> list[tuple[str, Loss, Loss, str]]:
    """Losses of a value table: what estimators return enters squared, so that it has a gradient."""
    steps = load("steps")
    log_ratios = logps(load("weights").policy) - old_logps()

    def gae(values):
        found = rlax.truncated_generalized_advantage_estimation(
            steps.rewards, steps.discounts, LAMBDA, values
        )
        return jnp.mean(found**2)

    def our_gae(values):
        before, last = split(values)
        found = returns.gae(steps.rewards, before, steps.discounts, last, gae_lambda=LAMBDA)
        return jnp.mean(found**2)

    def lambda_returns(values):
        found = rlax.lambda_returns(steps.rewards, steps.discounts, values[1:], LAMBDA)
        return jnp.mean(found**2)

    def our_lambda_returns(values):
        before, last = split(values)
        batch = (steps.rewards, before, steps.discounts, last)
        return jnp.mean(returns.lambda_returns(*batch, gae_lambda=LAMBDA) ** 2)

    def critic(values):
        errors = rlax.vtrace(
            values[:-1],
            values[1:],
            steps.rewards,
            steps.discounts,
            jnp.exp(log_ratios),
            LAMBDA,
            RHO,
        )
        return jnp.mean(rlax.l2_loss(errors))

    def our_critic(values):
        targets = vtrace(log_ratios, values).targets
        return jnp.mean(losses.value_loss(split(values)[0], targets))

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
        Objective(
            name,
            "rlax",
            lambda peer=peer, params=params: descend(peer, params),
            ours,
            params,
            note,
        )
        for params, (name, peer, ours, note) in tables
    ]
