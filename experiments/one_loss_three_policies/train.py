"""The population form: every answer, or every pair of answers, weighted by its probability."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rlhf_jax import Policy, PreferenceBatch, Trajectory, ValueFn, dpo_loss, ipo_loss
from rlhf_jax.algos import ppo, preference
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.envs.bandit import Bandit, all_actions, bandit_trajectory, preference_matrix
from rlhf_jax.exact.bandit import ipo_rewards, regularised_optimum, total_variation
from rlhf_jax.models import TransformerConfig, make_transformer, make_value_model
from rlhf_jax.policies.language import (
    language_policy,
    language_trajectory,
    language_value,
)
from rlhf_jax.policies.linear import linear_policy, linear_value
from rlhf_jax.policies.tabular import tabular_policy, tabular_value


class Model(NamedTuple):
    """A policy, its critic, and how it likes to be shown a state and an action."""

    policy: Policy
    value: ValueFn
    trajectory: Callable[[jax.Array, jax.Array], Trajectory]
    learning_rate: float


def make_models(key: jax.Array, num_states: int, num_actions: int, config) -> dict[str, Model]:
    """The three parametrisations, each able to represent every policy of the task."""
    policy_key, value_key = jax.random.split(key)
    size = num_states * num_actions
    # Orthonormal, so that no direction of the logits is out of a step's reach; see the README.
    features = jax.random.orthogonal(policy_key, size).reshape(num_states, num_actions, size)
    state_features = jax.random.orthogonal(value_key, num_states)
    sizes = TransformerConfig(
        vocab_size=max(num_states, num_actions),
        d_model=16,
        num_layers=1,
        num_heads=2,
        num_kv_heads=1,
        head_dim=8,
        d_ff=32,
        tied_embeddings=False,
    )

    def token_trajectory(states, actions):
        """The state is a one-token prompt, the action a one-token completion."""
        ones = jnp.ones((*states.shape, 1), bool)
        return language_trajectory(states[..., None], ones, actions[..., None], ones)

    return {
        "table": Model(
            tabular_policy(num_states, num_actions),
            tabular_value(num_states),
            bandit_trajectory,
            config.table_rate,
        ),
        "log-linear": Model(
            linear_policy(features),
            linear_value(state_features),
            bandit_trajectory,
            config.linear_rate,
        ),
        "transformer": Model(
            _first_actions(language_policy(make_transformer(sizes)), num_actions),
            language_value(make_value_model(sizes)),
            token_trajectory,
            config.transformer_rate,
        ),
    }


def _first_actions(policy: Policy, num_actions: int) -> Policy:
    """The policy on the first `num_actions` tokens of its vocabulary, the others forbidden."""

    def logits(params, inputs):
        return policy.logits(params, inputs)[..., :num_actions]

    def logps(params, inputs, actions):
        picked = jnp.take_along_axis(logits(params, inputs), actions[..., None], axis=-1)
        return picked[..., 0] - jax.nn.logsumexp(logits(params, inputs), axis=-1)

    return Policy(policy.init, logits, logps)


def dpo(model: Model, bandit: Bandit, beta: jax.Array, steps: int, key: jax.Array) -> jax.Array:
    """[steps] distance to pi_ref exp(r / beta) / Z."""
    target = regularised_optimum(bandit.rewards, bandit.ref_logits, beta=beta)
    return _train_on_pairs(model, bandit, partial(dpo_loss, beta=beta), target, steps, key)


def ipo(model: Model, bandit: Bandit, beta: jax.Array, steps: int, key: jax.Array) -> jax.Array:
    """[steps] distance to pi_ref exp(u / beta) / Z, u the chance to beat a reference answer."""
    ref_probs = jax.nn.softmax(bandit.ref_logits)
    rewards = ipo_rewards(preference_matrix(bandit.rewards), ref_probs)
    target = regularised_optimum(rewards, bandit.ref_logits, beta=beta)
    return _train_on_pairs(model, bandit, partial(ipo_loss, beta=beta), target, steps, key)


def ppo_clip(
    model: Model, bandit: Bandit, beta: jax.Array, steps: int, key: jax.Array
) -> jax.Array:
    """[steps] distance to pi_ref exp(r / beta) / Z, one update per round of on-policy answers."""
    states, actions = all_actions(*bandit.rewards.shape)
    trajectory = model.trajectory(states, actions)
    ref_logps = jax.nn.log_softmax(bandit.ref_logits)[..., None]
    config = ppo.PPOConfig(beta=beta, value_coef=1.0, whiten_advantages=False)
    optimizer = _adam(model, steps)
    update = ppo.make_update(model.policy, model.value, optimizer, config)

    def step(state, _):
        old_logps = model.policy.logps(state.params.policy, trajectory.inputs, trajectory.actions)
        batch = ppo.make_batch(
            trajectory,
            bandit.rewards,
            old_logps=old_logps,
            ref_logps=ref_logps,
            old_values=model.value.values(state.params.value, trajectory.inputs),
            config=config,
            weights=jnp.exp(old_logps[..., 0]),
        )
        return update(state, batch)[0], old_logps[..., 0]

    policy_key, value_key = jax.random.split(key)
    params = ppo.ActorCritic(model.policy.init(policy_key), model.value.init(value_key))
    _, logps = jax.lax.scan(step, init_state(params, optimizer), None, length=steps + 1)
    target = regularised_optimum(bandit.rewards, bandit.ref_logits, beta=beta)
    return jnp.max(total_variation(logps, jnp.broadcast_to(target, logps.shape)), axis=-1)


def _train_on_pairs(model, bandit, loss, target, steps: int, key) -> jax.Array:
    """[steps + 1] largest total variation over the states, before each step and at the end."""
    states, actions = all_actions(*bandit.rewards.shape)
    trajectory = model.trajectory(states, actions)
    optimizer = _adam(model, steps)
    update = preference.make_update(model.policy, optimizer, loss)
    batch = all_pairs(model, bandit)

    def step(state, _):
        logps = model.policy.logps(state.params, trajectory.inputs, trajectory.actions)[..., 0]
        return update(state, batch)[0], jnp.max(total_variation(logps, target))

    state = init_state(model.policy.init(key), optimizer)
    return jax.lax.scan(step, state, None, length=steps + 1)[1]


def all_pairs(model: Model, bandit: Bandit) -> PreferenceBatch:
    """Every ordered pair of answers, [S, A, A]: weight pi_ref(a) pi_ref(b) P(a beats b)."""
    num_states, num_actions = bandit.rewards.shape
    index = jnp.arange(num_actions)
    states, chosen, rejected = jnp.broadcast_arrays(
        jnp.arange(num_states)[:, None, None], index[:, None], index[None, :]
    )
    ref_logps = jax.nn.log_softmax(bandit.ref_logits)
    ref_chosen, ref_rejected = jnp.broadcast_arrays(ref_logps[:, :, None], ref_logps[:, None, :])
    weights = preference_matrix(bandit.rewards) * jnp.exp(ref_chosen + ref_rejected)
    return PreferenceBatch(
        chosen=model.trajectory(states, chosen),
        rejected=model.trajectory(states, rejected),
        ref_chosen_logps=ref_chosen,
        ref_rejected_logps=ref_rejected,
        weights=weights,
    )


def _adam(model: Model, steps: int) -> optax.GradientTransformation:
    # A short memory: near the optimum the gradients of rare actions are tiny, and a long one would
    # still divide them by those of the first steps.
    return optax.adam(optax.cosine_decay_schedule(model.learning_rate, steps), b2=0.95)
