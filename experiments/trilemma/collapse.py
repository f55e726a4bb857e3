"""One question, a majority and a minority of opposite tastes, and a policy with a KL weight."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from experiments.trilemma.config import Config
from rlhf_jax.algos import preference
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.label_counts import count_labels, linear_scores
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.exact.maxmin import maxmin_optimum
from rlhf_jax.feedback.teachers import population_labels
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import PreferenceBatch

POLICIES = ("DPO", "Bradley-Terry reward", "MaxMin")


def average_odds(share: float, *, margin: float, beta: Array | float) -> Array:
    """Odds of the majority's option under pi_0 exp(r / beta), r the average reward of the groups.

    exp((2 alpha - 1) m / beta), margins m and -m, pi_0 uniform: e^8 = 2,981 at 0.7, 1 and 0.05.
    """
    return jnp.exp((2.0 * share - 1.0) * margin / beta)


def measure_collapse(config: Config) -> dict[str, np.ndarray]:
    """Log-odds of the majority's option, [betas, N] of each policy."""
    keys = jax.random.split(jax.random.key(config.seed + 3), config.num_seeds)
    one = jax.vmap(partial(log_odds, config), (None, 0))
    found = jax.jit(jax.vmap(one, (0, None)))(jnp.array(config.betas), keys)
    return {name: np.asarray(x) for name, x in found.items()}


def log_odds(config: Config, beta: Float[Array, ""], key: Key[Array, ""]) -> dict[str, Array]:
    """Three policies of the same labels. Option 1 is the majority's; the first group is it."""
    share = config.shares[0]
    values = config.margin * jnp.array([[0.0, 1.0], [1.0, 0.0]])  # [option, group]
    shares = jnp.array([share, 1.0 - share])
    tastes = jnp.broadcast_to(values, (config.labels, 2, 2))
    labels, groups = population_labels(key, tastes, shares, beta=1.0)
    where = jnp.zeros_like(groups)
    counts = count_labels(groups, where, labels, num_groups=2, num_contexts=1)
    both = jnp.sum(counts, axis=0, keepdims=True)
    margins = linear_scores(counts, jnp.ones((1, 1)), precision=config.precision)  # [G, 1]
    pooled = linear_scores(both, jnp.ones((1, 1)), precision=config.precision)
    flat, halves = jnp.zeros((1, 2)), jnp.array([-0.5, 0.5])
    fair = maxmin_optimum(
        (halves[:, None] * margins[:, 0])[None],
        flat,
        beta=beta,
        eta=0.2 * beta,
        steps=config.dual_steps,
    )
    logps = {
        "DPO": train_dpo(config, both[0, 0], beta),
        "Bradley-Terry reward": regularised_optimum(halves * pooled, flat, beta=beta),
        "MaxMin": fair.logps,
    }
    return {name: x[0, 1] - x[0, 0] for name, x in logps.items()}


def train_dpo(
    config: Config, votes: Float[Array, "2"], beta: Float[Array, ""]
) -> Float[Array, "1 2"]:
    """log-probs of a policy trained on both pairs, each by how often it was chosen."""
    policy = tabular_policy(1, 2)
    optimizer = optax.adam(optax.cosine_decay_schedule(config.rate, config.steps))
    actions = jnp.array([0, 1])
    states = jnp.zeros(2, int)
    chosen, rejected = (bandit_trajectory(states, x) for x in (actions, 1 - actions))
    batch = PreferenceBatch(chosen, rejected, weights=votes / jnp.sum(votes))
    batch = preference.attach_reference(policy, jnp.zeros((1, 2)), batch)
    update = preference.make_update(policy, optimizer, partial(dpo_loss, beta=beta))
    state = init_state(jnp.zeros((1, 2)), optimizer)
    state, _ = jax.lax.scan(lambda s, _: (update(s, batch)[0], None), state, length=config.steps)
    return jax.nn.log_softmax(state.params)
