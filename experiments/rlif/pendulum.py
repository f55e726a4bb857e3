"""The pendulum: checkpoints of DDPG are the experts, and the best one's critic is the teacher."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from experiments.rlif.config import Config
from experiments.rlif.swingers import (
    Swinger,
    clone_swinger,
    make_networks,
    no_transition,
    rlif_swinger,
)
from rlhf_jax.algos.control import ddpg
from rlhf_jax.algos.control.off_policy import Progress, empty_step, play_round
from rlhf_jax.algos.control.q_learning import Transition
from rlhf_jax.algos.control.replay import ReplayBuffer, add_rows, draw_rows, init_replay
from rlhf_jax.algos.control.takeovers import advance, start
from rlhf_jax.envs.pendulum import MAX_TORQUE, pendulum_env
from rlhf_jax.feedback.interventions import intervention_probs
from rlhf_jax.sampling.episodes import sample_episode
from rlhf_jax.types import Params

WORLD = pendulum_env()


class Torques(NamedTuple):
    """late: the teacher reacts to the state that a torque led to. on_previous: the -1 goes to the
    previous transition. idle: the teacher steps in at random."""

    late: bool
    on_previous: bool
    idle: bool = False


SWINGERS = {
    "proposal": Torques(False, False),
    "previous": Torques(False, True),
    "late: previous": Torques(True, True),
    "late: proposal": Torques(True, False),
    "at random": Torques(False, False, idle=True),
}


class School(NamedTuple):
    """actor, critic: params of the best agent, who judges. experts: actor params [shares, ...].
    scores: [shares] of the experts. low, high: returns of uniform torques and of the best agent."""

    actor: Params
    critic: Params
    experts: Params
    scores: Array
    low: Array
    high: Array


def swing_return(
    key: Key[Array, ""], act: Callable[[Key[Array, ""], Array], Array], config: Config
) -> Float[Array, ""]:
    """Mean true return of `(key, observation) -> torque` over `starts` episodes."""

    def one(key):
        def both(key, seen):
            return act(key, seen), jnp.zeros(())

        return sample_episode(WORLD, both, key, steps=config.swing.episode_steps).rewards.sum()

    return jax.vmap(one)(jax.random.split(key, config.swing.starts)).mean()


def train_experts(key: Key[Array, ""], config: Config) -> School:
    """DDPG on the true reward: the best of the last third of its rounds judges, and for each share
    the round whose score is nearest to it is the expert. Score 0 is uniform torques, 1 the best."""
    swing, nets = config.swing, make_networks(config.swing)
    init_key, play_key, test_key = jax.random.split(key, 3)
    size = swing.rounds * swing.episode_steps * swing.worlds
    now = Progress(nets.init(init_key), init_replay(empty_step(WORLD, jnp.zeros(1)), size=size))

    def learn(key, learner, replay):
        return nets.update(learner, draw_rows(key, replay, batch=swing.batch))[0]

    def turn(now, number):
        warm = number >= swing.warmup
        std = MAX_TORQUE * jnp.where(warm, swing.noise, 1.0)

        def act(key, learner, seen):
            actions = nets.actor(learner.actor.params, seen)
            return ddpg.noisy_actions(key, actions, std=std, limit=MAX_TORQUE)

        now = play_round(
            jax.random.fold_in(play_key, number),
            now,
            act,
            learn,
            env=WORLD,
            steps=swing.episode_steps,
            worlds=swing.worlds,
            learning=warm,
        )
        actor, critic = now.learner.actor.params, now.learner.critic.params
        found = swing_return(test_key, lambda key, seen: nets.actor(actor, seen), config)
        return now, (actor, critic, found)

    _, (actors, critics, returns) = jax.lax.scan(turn, now, jnp.arange(swing.rounds))

    def uniform(key, seen):
        return jax.random.uniform(key, (1,), minval=-MAX_TORQUE, maxval=MAX_TORQUE)

    low = swing_return(test_key, uniform, config)
    last = jnp.arange(swing.rounds) >= swing.rounds - -(-swing.rounds // 3)
    best = jnp.argmax(jnp.where(last, returns, -jnp.inf))
    scores = (returns - low) / (returns[best] - low)
    picked = jnp.argmin(jnp.abs(scores - jnp.asarray(swing.shares)[:, None]), axis=-1)
    judge = [jax.tree.map(lambda x: x[best], params) for params in (actors, critics)]
    experts = jax.tree.map(lambda x: x[picked], actors)
    return School(*judge, experts, scores[picked], low, returns[best])


def objections(school: School, config: Config, idle: Array | bool = False) -> Callable:
    """`(observation, torque) -> P(takeover)`: rejected where Q of the best agent's own torque is
    more than the margin above Q of this one."""
    nets = make_networks(config.swing)

    def objects(seen, torque):
        own = nets.critic(school.critic, seen, nets.actor(school.actor, seen))
        rejected = own > nets.critic(school.critic, seen, torque) + config.swing.margin
        judged = intervention_probs(rejected, rate=config.rate)
        return jnp.where(idle, config.random_rate, judged)

    return objects


def keep_valid(replay: ReplayBuffer, row: Transition) -> ReplayBuffer:
    """The replay with the row if it is valid; else the next one is written in its place."""
    new = add_rows(replay, jax.tree.map(lambda x: x[None], row))
    return ReplayBuffer(new.rows, jnp.where(row.valid, new.added, replay.added))


def swing_course(
    key: Key[Array, ""],
    swinger: Swinger,
    school: School,
    expert: Params,
    config: Config,
    *,
    late: Array | bool = False,
    idle: Array | bool = False,
) -> tuple[Array, Array]:
    """Scores [points] of the learner without noise, and the share of steps that the expert acted;
    an update follows each step once warm."""
    swing, nets = config.swing, make_networks(config.swing)
    objects = objections(school, config, idle)
    each = swing.steps // swing.points
    test_key, start_key = jax.random.split(jax.random.fold_in(key, 0))

    def step(carry, time):
        world, replay, state, led = carry
        now = jax.random.fold_in(key, time)

        world, moment = advance(
            WORLD,
            world,
            lambda key, seen: swinger.act(key, state, seen),
            objects,
            lambda seen: nets.actor(expert, seen),
            key=now,
            takeover_steps=config.takeover_steps,
            episode_steps=swing.episode_steps,
            late=late,
        )
        state, rows = swinger.rows(state, moment)
        for row in rows:
            replay = keep_valid(replay, row)
        batch = draw_rows(jax.random.fold_in(now, 1), replay, batch=swing.batch)
        warm = time > swing.warmup * swing.episode_steps
        state = jax.lax.cond(warm, lambda: swinger.learn(state, batch), lambda: state)
        return (world, replay, state, led + moment.controlled), None

    def segment(carry, times):
        carry, _ = jax.lax.scan(step, carry, times)
        found = swing_return(test_key, lambda key, seen: swinger.policy(carry[2], seen), config)
        score = (found - school.low) / (school.high - school.low)
        return carry, (score, carry[3] / times[-1])

    world = start(WORLD, start_key)
    replay = init_replay(no_transition(), size=2 * swing.steps)
    times = 1 + jnp.arange(each * swing.points).reshape(swing.points, each)
    first = (world, replay, swinger.first, jnp.zeros((), int))
    return jax.lax.scan(segment, first, times)[1]


def clone_names(config: Config) -> dict[str, tuple[float, float]]:
    """Imitators -> (weight of the learner's own torques, step size)."""
    swing = config.swing
    return {
        f"network HG-DAgger, rate {rate:g}"
        if own == 0
        else f"accepted torques, weight {own:g}, rate {rate:g}": (own, rate)
        for own in swing.own_weights
        for rate in swing.clone_rates
    }


def swing_scores(config: Config) -> dict[str, np.ndarray]:
    """RLIF in SWINGERS and the imitators of `clone_names` under each expert.

    Returns:
      name -> scores [shares, seeds, points], and "<name>, led"; "expert" [shares, seeds] scores;
      "low", "high" [seeds] returns of uniform torques and of the best agent.
    """
    flags = [jnp.asarray(column) for column in zip(*SWINGERS.values(), strict=True)]
    clones = clone_names(config)
    sizes = [jnp.asarray(column) for column in zip(*clones.values(), strict=True)]

    def one(key):
        expert_key, init_key, learn_key = jax.random.split(key, 3)
        school = train_experts(expert_key, config)

        def taught(expert):
            def swing(late, on_previous, idle):
                learner = rlif_swinger(init_key, config, on_previous)
                return swing_course(
                    learn_key, learner, school, expert, config, late=late, idle=idle
                )

            def imitate(own, rate):
                learner = clone_swinger(init_key, config, own, rate)
                return swing_course(learn_key, learner, school, expert, config)

            found = jax.vmap(swing)(*flags), jax.vmap(imitate)(*sizes)
            return jax.tree.map(lambda *parts: jnp.concatenate(parts), *found)

        return jax.vmap(taught)(school.experts), school.scores, school.low, school.high

    keys = jax.random.split(jax.random.key(config.seed + 2), config.swing.num_seeds)
    found, experts, low, high = jax.jit(lambda keys: jax.lax.map(one, keys))(keys)
    scores, led = (np.moveaxis(np.asarray(x), 0, 2) for x in found)  # [shares, names, seeds, ...]
    named = {name: scores[:, i] for i, name in enumerate((*SWINGERS, *clones))}
    named |= {f"{name}, led": led[:, i] for i, name in enumerate((*SWINGERS, *clones))}
    return named | {
        "expert": np.asarray(experts).T,
        "low": np.asarray(low),
        "high": np.asarray(high),
    }
