"""The tightrope: cloning, inverse RL and RLHF against the horizon, all judged exactly.

Shorter horizons are the longest one with rewards and occupancies cut off, so that horizons and
seeds are two axes of one compiled program.
"""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.rl_perspective.config import Compounding
from rlhf_jax.algos.control.behaviour_cloning import clone_counts
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.planning.inverse_rl import max_ent_irl
from rlhf_jax.algos.reward_model import make_update
from rlhf_jax.envs.tabular_mdp import FiniteMDP, finite_env
from rlhf_jax.envs.tightrope import Tightrope, slipping, tightrope, with_slips
from rlhf_jax.exact import finite_mdp
from rlhf_jax.feedback.pairs import labels_to_pairs
from rlhf_jax.feedback.teachers import bt_labels
from rlhf_jax.policies.linear import linear_reward
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.sampling.episodes import policy_act, sample_episode
from rlhf_jax.types import Trajectory

METHODS = (
    "BC",
    "BC, demos with slips",
    "BC, as many episodes",
    "BC, as many with slips",
    "MaxEnt IRL",
    "RLHF",
    "expert",
)
SLUGGISH = 0.5  # least probability that a move on the rope happens


def random_rope(key: jax.Array, horizon: int) -> Tightrope:
    """A tightrope of its own for each seed: moves happen with probabilities in [0.5, 1], one for
    each offset and direction, and costs rise from 0 to 1 by uniform steps."""
    rope_key, move_key, cost_key = jax.random.split(key, 3)
    rope = tightrope(rope_key, horizon=horizon)
    size = rope.mdp.rewards.shape[-2]
    right = jnp.exp(rope.expert[0])[..., None]  # [S, A, 1]
    happens = jax.random.uniform(move_key, (size, 2), minval=SLUGGISH)
    chance = jnp.where(right > 0, happens[:, None, :1], happens[:, None, 1:])
    moves = chance * rope.mdp.transitions[0] + (1 - chance) * jnp.eye(size)[:, None]
    steps = jax.random.uniform(cost_key, (size - 1,))
    costs = jnp.append(0.0, jnp.cumsum(steps)) / jnp.sum(steps)
    moves = jnp.broadcast_to(moves, rope.mdp.transitions.shape)
    rewards = jnp.broadcast_to(-costs[:, None], rope.mdp.rewards.shape)
    return rope._replace(mdp=replace(rope.mdp, transitions=moves, rewards=rewards))


def rollouts(key: jax.Array, mdp: FiniteMDP, logps: jax.Array, *, count: int):
    """States and actions [count, H] of episodes."""
    horizon, num_states, num_actions = logps.shape
    policy = tabular_policy(horizon * num_states, num_actions)
    act = policy_act(policy, logps.reshape(-1, num_actions))
    draw = partial(sample_episode, finite_env(mdp), act, steps=horizon)
    seen = jax.vmap(draw)(jax.random.split(key, count)).trajectory
    return seen.inputs % num_states, seen.actions


def cloned(config: Compounding, states, actions, counted, shape) -> jax.Array:
    """Behaviour cloning from the counted steps of all demonstrations: log-probs [S, A]."""
    counts = jnp.zeros(shape).at[states, actions].add(jnp.where(counted, 1.0, 0.0))
    return clone_counts(counts / config.smoothing)


def visit_counts(states, counted, num_states: int) -> jax.Array:
    """Counted visits of every state, [N, S]."""
    return jnp.sum(jax.nn.one_hot(states, num_states) * counted[:, None], axis=1)


def preferred_rewards(key, config: Compounding, visits: jax.Array, costs: jax.Array) -> jax.Array:
    """Rewards [S] from comparisons of roll-outs, visits [pairs, 2, S], by their true costs [S].

    Bradley-Terry, linear in visits; r(s_0) is taken off: one constant per step is not identified.
    """
    pairs, _, num_states = visits.shape
    returns = -visits @ costs
    labels = bt_labels(key, returns, beta=config.temperature)
    once = (pairs, 2, 1)  # a roll-out is one step with the visits as its features
    shown = Trajectory(visits[:, :, None], jnp.zeros(once, int), jnp.ones(once, bool))
    batch = labels_to_pairs(shown, labels)
    reward = linear_reward(num_states)
    optimizer = optax.chain(optax.add_decayed_weights(config.ridge), optax.adam(config.fit_rate))
    update = make_update(reward, optimizer)
    state = init_state(reward.init(key), optimizer)
    state, _ = jax.lax.scan(
        lambda state, _: (update(state, batch)[0], None), state, None, length=config.fit_updates
    )
    return state.params - state.params[0]


def learners(key: jax.Array, config: Compounding, horizon: jax.Array) -> dict[str, jax.Array]:
    """Expected cost under slips of every method at one horizon, and the gap that IRL leaves."""
    world_key, demo_key, pair_key, label_key = jax.random.split(key, 4)
    world = random_rope(world_key, config.horizons[-1])
    counted = jnp.arange(config.horizons[-1]) < horizon
    shape = world.mdp.rewards.shape[-2:]
    uniform = jnp.full_like(world.expert, -np.log(shape[1]))

    def paying(rewards):
        return replace(world.mdp, rewards=jnp.where(counted[:, None, None], rewards, 0.0))

    def clone(key, slip, *, count=config.demos):
        slippery = with_slips(world.mdp, slip)
        states, actions = rollouts(key, slippery, world.expert, count=count)
        logps = cloned(config, states, actions, counted, shape)
        return states, jnp.broadcast_to(logps, world.expert.shape)

    slips = jnp.array([0.0, config.slip])
    demos, (bc, recovering) = jax.vmap(clone)(jax.random.split(demo_key), slips)
    # As many episodes as RLHF sees: demonstrations, and both of each pair.
    as_many = partial(clone, count=config.demos + 2 * config.pairs)
    _, (many, many_recovering) = jax.vmap(as_many)(
        jax.random.split(jax.random.fold_in(demo_key, 0)), slips
    )

    met = jnp.mean(visit_counts(demos[0], counted, shape[0]), axis=0) / horizon
    irl = max_ent_irl(
        jnp.broadcast_to(jnp.eye(shape[0])[:, None], (*shape, shape[0])),
        lambda rewards: finite_mdp.soft_optimal(paying(rewards), uniform, beta=config.alpha).logps,
        lambda logps: jnp.where(counted[:, None], finite_mdp.occupancy(world.mdp, logps), 0.0),
        eta=config.rate,
        clip=config.clip,
    )
    state, metrics = jax.lax.scan(
        lambda state, _: irl.update(state, met), irl.init(), None, length=config.updates
    )

    states, _ = rollouts(pair_key, world.mdp, slipping(bc, config.explore), count=2 * config.pairs)
    visits = visit_counts(states, counted, shape[0]).reshape(config.pairs, 2, -1)
    rewards = preferred_rewards(label_key, config, visits, -world.mdp.rewards[0, :, 0])[:, None]
    tuned = finite_mdp.soft_optimal(paying(rewards), bc, beta=config.beta).logps

    judged = with_slips(paying(world.mdp.rewards), config.slip)
    policies = [bc, recovering, many, many_recovering, irl.plan(state), tuned, world.expert]
    costs = -jax.vmap(partial(finite_mdp.policy_return, judged))(jnp.stack(policies))
    return dict(zip(METHODS, costs, strict=True)) | {"irl/gap": metrics["irl/gap"][-1]}


def expected_costs(config: Compounding, key: jax.Array, seeds: int) -> dict[str, np.ndarray]:
    """`learners` over seeds and horizons, [seeds, horizons]."""
    run = jax.vmap(lambda key, horizon: learners(key, config, horizon), (None, 0))
    with jax.enable_x64(True):
        found = jax.jit(jax.vmap(run, (0, None)))(
            jax.random.split(key, seeds), jnp.array(config.horizons)
        )
        return jax.tree.map(np.asarray, found)
