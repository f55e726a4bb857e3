"""Pairs of segments labelled by soft-optimal advantages, and what learns a policy from them."""

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Key

from experiments.cpl.config import Config
from rlhf_jax.algos import preference, reward_model, sft
from rlhf_jax.algos.control import iql
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.envs.gridworlds import MOVES, GridWorld
from rlhf_jax.envs.tabular_mdp import DiscountedMDP, absorbing_states, discounted_env
from rlhf_jax.exact import discounted_mdp
from rlhf_jax.feedback.pairs import labels_to_pairs
from rlhf_jax.feedback.teachers import bt_labels
from rlhf_jax.losses.preference import cpl_loss, segment_advantages
from rlhf_jax.losses.reward import partial_returns
from rlhf_jax.policies.tabular import tabular_policy, tabular_reward, tabular_value
from rlhf_jax.sampling.episodes import policy_act, sample_episode
from rlhf_jax.types import Policy, PreferenceBatch, Trajectory

LEARNERS = ("CPL", "CPL, bias 0.5", "SFT on preferred", "partial return + soft VI", "P-IQL")
L2 = 1e-6


class Data(NamedTuple):
    """pairs: labelled, [N]; trajectories: the same segments before they were labelled, [N, 2]."""

    pairs: PreferenceBatch
    trajectories: Trajectory


def table_policy(num_states: int) -> Policy:
    """`tabular_policy` that normalises its few rows before it looks up many states."""
    policy = tabular_policy(num_states, len(MOVES))

    def logps(params, states, actions):
        return jax.nn.log_softmax(params)[states, actions]

    return policy._replace(logps=logps)


def soft_optimum(mdp: DiscountedMDP, *, alpha: float) -> Float[Array, "S A"]:
    """log pi* of the max-ent problem, in which the goal goes on paying entropy as all states do."""
    return discounted_mdp.soft_optimal(mdp, jnp.zeros(mdp.rewards.shape), beta=alpha).logps


def segment_utility(config: Config, gamma: Array):
    """U = alpha sum_t gamma^t log pi, of token log-probs and mask."""
    return partial(segment_advantages, alpha=config.alpha, gamma=gamma)


def sample_data(
    key: Key[Array, ""],
    world: GridWorld,
    logps: Float[Array, "S A"],
    behaviour: Float[Array, "S A"],
    *,
    config: Config,
    pairs: int,
    cut: bool = False,
) -> Data:
    """Pairs labelled by Bernoulli(sigmoid(U_1 - U_2)), U from log pi* = A* / alpha.

    Args:
      logps: log pi*.
      behaviour: [S, A] logits of who acts.
      cut: segments end where the episode does; otherwise steps in the goal count like any, so that
        all segments have one length.
    """
    draw_key, label_key = jax.random.split(key)
    act = policy_act(tabular_policy(*behaviour.shape), behaviour)
    draw = partial(sample_episode, discounted_env(world.mdp), act, steps=config.length)
    trajectories = jax.vmap(jax.vmap(draw))(jax.random.split(draw_key, (pairs, 2))).trajectory
    if not cut:
        trajectories = replace(trajectories, mask=jnp.ones_like(trajectories.mask))
    utility = segment_utility(config, world.mdp.gamma)
    values = utility(logps[trajectories.inputs, trajectories.actions], trajectories.mask)
    labels = bt_labels(label_key, values, beta=1.0)
    return Data(labels_to_pairs(trajectories, labels), trajectories)


def train(update, params: Array, batch, *, optimizer, steps: int) -> Array:
    """Params after full-batch steps."""
    start = init_state(params, optimizer)
    return jax.lax.scan(lambda s, _: (update(s, batch)[0], None), start, length=steps)[0].params


def fit_cpl(data: Data, world: GridWorld, config: Config, *, bias: Array | float) -> Array:
    """[S, A] log-probs of contrastive preference learning on a table."""
    num_states = world.mdp.initial.shape[-1]
    policy, optimizer = table_policy(num_states), optax.adam(config.rate)
    update = preference.make_update(
        policy,
        optimizer,
        partial(cpl_loss, bias=bias),
        logps=segment_utility(config, world.mdp.gamma),
        reference=False,
    )
    start = policy.init(jax.random.key(0))
    return jax.nn.log_softmax(
        train(update, start, data.pairs, optimizer=optimizer, steps=config.steps)
    )


def fit_sft(data: Data, world: GridWorld, config: Config) -> Array:
    """[S, A] log-probs of maximum likelihood on the preferred segments."""
    num_states = world.mdp.initial.shape[-1]
    policy, optimizer = table_policy(num_states), optax.adam(config.rate)
    update = sft.make_update(policy, optimizer)
    start = policy.init(jax.random.key(0))
    return jax.nn.log_softmax(
        train(update, start, data.pairs.chosen, optimizer=optimizer, steps=config.steps)
    )


def fit_rewards(data: Data, world: GridWorld, config: Config) -> Array:
    """[S, A] rewards of Bradley-Terry on partial returns; then 0 in the goal: episodes end."""
    num_states = world.mdp.initial.shape[-1]
    reward = tabular_reward(num_states, len(MOVES))

    def scores(params: Array, trajectory: Trajectory) -> Array:
        rewards = params[trajectory.inputs, trajectory.actions]
        return partial_returns(rewards, trajectory.mask, gamma=world.mdp.gamma)

    optimizer = optax.chain(optax.add_decayed_weights(2 * L2), optax.adam(config.rate))
    update = reward_model.make_update(reward._replace(scores=scores), optimizer)
    start = reward.init(jax.random.key(0))
    fitted = train(update, start, data.pairs, optimizer=optimizer, steps=config.steps)
    return jnp.where(absorbing_states(world.mdp)[:, None], 0.0, fitted)


def fit_iql(data: Data, rewards: Array, world: GridWorld, config: Config) -> Array:
    """[S, A] log-probs of implicit Q-learning on all segments with learned rewards.

    Its steps hang on (s, a) alone (transitions are deterministic), so each pair is there once,
    weighted by how often it was seen.
    """
    seen, num_states = data.trajectories, world.mdp.initial.shape[-1]
    ends = absorbing_states(world.mdp)
    states, actions = (x.reshape(-1, 1) for x in jnp.indices((num_states, len(MOVES))))
    counts = jnp.zeros((num_states, len(MOVES))).at[seen.inputs, seen.actions].add(seen.mask)
    lands = jnp.argmax(world.mdp.transitions, axis=-1).reshape(-1, 1)
    counts = jnp.where(ends[:, None], 0.0, counts)
    batch = iql.Transitions(
        Trajectory(states, actions, jnp.ones(states.shape, bool)),
        lands,
        rewards.reshape(-1, 1),
        jnp.where(ends[lands], 0.0, world.mdp.gamma),
        counts.reshape(-1),
    )
    policy, optimizer = table_policy(num_states), optax.adam(config.rate)
    value = tabular_value(num_states)
    update = iql.make_update(policy, value, policy, optimizer, iql.IQLConfig(target_rate=0.05))
    zeros = [model.init(jax.random.key(0)) for model in (policy, value, policy)]
    start = iql.init_iql(*zeros, optimizer)
    end, _ = jax.lax.scan(lambda s, _: (update(s, batch)[0], None), start, length=config.steps)
    return jax.nn.log_softmax(end.policy.params)
