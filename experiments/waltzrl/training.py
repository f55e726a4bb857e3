"""One training of both agents on sampled episodes, and the methods that are compared."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from experiments.waltzrl.config import Config
from experiments.waltzrl.game import (
    FEEDBACK_STATES,
    FINE,
    LABELS,
    MESSAGES,
    STATES,
    Measures,
    feedback_state,
    measure,
    revision_state,
    start,
    true_label,
)
from rlhf_jax.algos.agents import AgentSamples, agent_batch, make_agent_update, make_update
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.ops.agents import feedback_rewards, improvement_rewards
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import TrainState, Trajectory


class Method(NamedTuple):
    """listens: whether the draft is shown to the feedback agent. joint: whether the conversation
    agent learns in the second stage; alone: in the first. labels: lambda in the first stage and in
    the second, in units of the config's. conditioned: DIR only after a right label."""

    listens: bool = True
    alone: bool = False
    joint: bool = True
    labels: tuple[float, float] = (1.0, 0.0)
    conditioned: bool = True


METHODS = {
    "one agent": Method(listens=False, alone=True),
    "conversation frozen": Method(joint=False),
    "both": Method(),
    "both, label term kept": Method(labels=(1.0, 1.0)),
    "both, DIR alone": Method(labels=(0.0, 0.0), conditioned=False),
}


class Episode(NamedTuple):
    """Sampled [B]: kind, both views, draft, feedback and revision."""

    kind: Array
    first: Array
    second: Array
    draft: Array
    said: Array
    revision: Array


def train_all(config: Config) -> dict[str, np.ndarray]:
    """Each measure at every `every` steps, [methods, seeds, points]."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    stacked = jax.tree.map(lambda *x: jnp.asarray(x), *METHODS.values())
    run = jax.vmap(jax.vmap(partial(train, config), (None, 0)), (0, None))
    return {name: np.asarray(x) for name, x in jax.jit(run)(stacked, keys)._asdict().items()}


def train(config: Config, method: Method, key: Key[Array, ""]) -> Measures:
    """Measures before the first step, and after every `every` steps, [points]."""
    optimizer = optax.sgd(config.rate)
    policies = tabular_policy(STATES, 2), tabular_policy(FEEDBACK_STATES, LABELS * MESSAGES)
    update = make_update(
        [make_agent_update(policy, optimizer, clip_eps=config.clip_eps) for policy in policies]
    )
    views = {"sees_first": config.sees_first, "sees_second": config.sees_second}

    def one(states: tuple[TrainState, TrainState], step: Array):
        later = step >= config.first_stage
        tables = tuple(state.params for state in states)
        episode = play(config, tables, jax.random.fold_in(key, step))
        weight = config.label_weight * jnp.where(later, method.labels[1], method.labels[0])
        batches = samples_of(config, method, episode, tables, weight)
        (spoke, judged), _ = update(states, batches)
        learns = jnp.where(later, method.joint, method.alone)
        kept = jax.tree.map(partial(jnp.where, learns), spoke, states[0])
        return (kept, judged), None

    def block(states, first: Array):
        found = measure(*(x.params for x in states), listens=method.listens, **views)
        return jax.lax.scan(one, states, first + jnp.arange(config.every))[0], found

    states = tuple(init_state(table, optimizer) for table in start())
    firsts = jnp.arange(0, config.steps(), config.every)
    states, found = jax.lax.scan(block, states, firsts)
    last = measure(*(x.params for x in states), listens=method.listens, **views)
    return jax.tree.map(jnp.append, found, last)


def play(config: Config, tables: tuple[Array, Array], key: Key[Array, ""]) -> Episode:
    """Episodes of the current tables; a revision is drawn for all and used after a flag."""
    keys = jax.random.split(key, 6)
    shape = (config.batch,)
    kind = jax.random.bernoulli(keys[0], 0.5, shape).astype(int)
    first, second = (
        jnp.where(jax.random.bernoulli(k, right, shape), kind, 1 - kind)
        for k, right in ((keys[1], config.sees_first), (keys[2], config.sees_second))
    )
    conversation, feedback = tables
    draft = jax.random.categorical(keys[3], conversation[first])
    said = jax.random.categorical(keys[4], feedback[feedback_state(second, draft)])
    state = revision_state(first, draft, said % MESSAGES)
    revision = jax.random.categorical(keys[5], conversation[state])
    return Episode(kind, first, second, draft, said, revision)


def samples_of(
    config: Config,
    method: Method,
    episode: Episode,
    tables: tuple[Array, Array],
    label_weight: Float[Array, ""],
):
    """The batches of both agents: drafts and revisions of one, feedback of the other."""
    label = episode.said // MESSAGES
    revised = (label != FINE) & jnp.asarray(method.listens)
    answers = jnp.stack([episode.draft, episode.revision], axis=-1)
    qualities = (answers == episode.kind[:, None]).astype(jnp.float32)
    improvements = improvement_rewards(qualities, revised[:, None])[:, 0]
    right = label == true_label(episode.kind, episode.draft)
    given = improvements, right, jnp.ones_like(right)
    weights = {"improvement_weight": config.improvement_weight, "format_weight": 0.0}
    paid = [
        feedback_rewards(*given, label_weight=label_weight, conditioned=each, **weights)
        for each in (True, False)
    ]
    returns = jnp.where(jnp.asarray(method.conditioned), paid[0], paid[1])
    later = revision_state(episode.first, episode.draft, episode.said % MESSAGES)
    states = jnp.stack([episode.first, later])
    spoken = jnp.stack([jnp.ones_like(revised), revised])
    conversation = one_turn(tables[0], states, answers.T, spoken, qualities.T)
    state = feedback_state(episode.second, episode.draft)
    feedback = one_turn(tables[1], state, episode.said, jnp.ones_like(revised), returns)
    return tuple(agent_batch(x, beta=0.0, whitened=False) for x in (conversation, feedback))


def one_turn(table: Array, states: Array, actions: Array, taken: Array, returns: Array):
    """Samples of one action each; the policy that spoke is the one that learns."""
    logps = jax.nn.log_softmax(table)[states, actions][..., None]
    answers = Trajectory(states[..., None], actions[..., None], taken[..., None])
    return AgentSamples(answers, returns, logps, logps)
