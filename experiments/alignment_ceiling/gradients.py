"""The second run: policy gradients on samples, through the losses of a language model's run.

A policy is a table of logits, prompts x answers; the answers are some of the pool's. GRPO and RLOO
are `algos.online.make_answer_update` with their losses, PPO is `algos.ppo` with a table as critic.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from experiments.alignment_ceiling.config import Config, Gradients
from experiments.alignment_ceiling.sweeps import Arrays, world_keys
from experiments.alignment_ceiling.world import Pool, draw_pool
from rlhf_jax.algos import ppo
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.online import AnswerBatch, make_answer_update
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.exact.bandit import regularised_optimum
from rlhf_jax.losses.answer_policy_gradient import rloo_loss
from rlhf_jax.losses.group_policy_gradient import grpo_loss
from rlhf_jax.ops.groups import group_normalised_advantages, leave_one_out_advantages
from rlhf_jax.ops.kl import exact_kl, k1
from rlhf_jax.policies.tabular import tabular_policy, tabular_value
from rlhf_jax.types import AnswerLoss, TrainState, Trajectory, Update

Columns = Callable[[Array, Array, Array], dict[str, Array]]  # of scores, old and ref log-probs

CLIP = 0.2
KINDS = ("uniform", "long tail")  # of the draw of answers
LONGEST, SHARE = 100, 4  # one in LONGEST of the pool is long; one in SHARE of a long-tailed row


class Table(NamedTuple):
    """[P, A] each: standardised score of the reward model, gold, downstream metric, log pi_ref."""

    scores: Array
    gold: Array
    downstream: Array
    ref_logps: Array


class Learner(NamedTuple):
    """A method on a table.

    start: `(ref_logps) -> state`. logits: `(state) -> [P, A]`.
    prepare: `(state, answers, scores [P, K], old_logps, ref_logps [P, K, 1]) -> batch`.
    update: `(state, batch) -> (state, metrics)`.
    """

    start: Callable[[Array], TrainState]
    logits: Callable[[TrainState], Array]
    prepare: Callable[[TrainState, Trajectory, Array, Array, Array], Any]
    update: Update


def draw_table(config: Config, pool: Pool, weights: Array, key: Key[Array, ""], kind: str) -> Table:
    """Answers of the pool for each prompt.

    "uniform" draws them as the reference does, "long tail" a part from the longest of the pool,
    with the probability that they have there: 256 draws hardly contain them.
    """
    size = config.gradients
    rest_key, tail_key = jax.random.split(key)
    scores = pool.features @ weights
    if kind == "uniform":
        rows = jax.random.randint(rest_key, (size.prompts, size.answers), 0, config.answers)
        ref = jnp.full(rows.shape, 1.0 / size.answers)
    else:
        order, long = jnp.argsort(-pool.features[:, -1]), config.answers // LONGEST
        tail = size.answers // SHARE
        rest = size.answers - tail
        shape = (size.prompts, rest)
        common = jax.random.randint(rest_key, shape, long, config.answers)
        rare = jax.random.randint(tail_key, (size.prompts, tail), 0, long)
        rows = order[jnp.concatenate([common, rare], axis=1)]
        mass = 1.0 / LONGEST
        probs = jnp.repeat(
            jnp.array([(1.0 - mass) / rest, mass / tail]),
            jnp.array([rest, tail]),
            total_repeat_length=size.answers,
        )
        ref = jnp.broadcast_to(probs, rows.shape)
    scores = (scores - scores.mean()) / scores.std()
    return Table(scores[rows], pool.gold[rows], pool.downstream[rows], jnp.log(ref))


def answer_learner(size: Gradients, loss: AnswerLoss, columns: Columns) -> Learner:
    """A loss of single answers, and its columns beside the old log-probs."""
    policy = tabular_policy(size.prompts, size.answers)
    optimizer = optax.adam(size.rate)

    def prepare(
        state: TrainState, answers: Trajectory, scores: Array, old_logps: Array, ref_logps: Array
    ) -> AnswerBatch:
        del state
        own = columns(scores, old_logps, ref_logps)
        return AnswerBatch(answers, own | {"old_token_logps": old_logps})

    return Learner(
        start=lambda ref_logps: init_state(ref_logps, optimizer),
        logits=lambda state: state.params,
        prepare=prepare,
        update=make_answer_update(policy, optimizer, loss),
    )


def grpo(size: Gradients) -> Learner:
    """GRPO: normalised advantages, k3 in the loss."""

    def columns(scores: Array, old_logps: Array, ref_logps: Array) -> dict[str, Array]:
        del old_logps
        advantages = group_normalised_advantages(scores)
        return {"advantages": advantages, "ref_token_logps": ref_logps}

    return answer_learner(size, partial(grpo_loss, clip_eps=CLIP, beta=size.beta), columns)


def rloo(size: Gradients) -> Learner:
    """REINFORCE with a leave-one-out baseline, k1 in the score."""

    def columns(scores: Array, old_logps: Array, ref_logps: Array) -> dict[str, Array]:
        penalty = size.beta * k1(old_logps, ref_logps)[..., 0]
        return {"advantages": leave_one_out_advantages(scores - penalty)}

    return answer_learner(size, partial(rloo_loss, clip_eps=CLIP), columns)


def critic_learner(size: Gradients) -> Learner:
    """PPO, with the value of each prompt in a table."""
    policy = tabular_policy(size.prompts, size.answers)
    value = tabular_value(size.prompts)
    optimizer = optax.adam(size.rate)
    config = ppo.PPOConfig(beta=size.beta, clip_eps=CLIP, value_coef=1.0)

    def prepare(
        state: TrainState, answers: Trajectory, scores: Array, old_logps: Array, ref_logps: Array
    ) -> ppo.PPOBatch:
        return ppo.make_batch(
            answers,
            scores,
            old_logps=old_logps,
            ref_logps=ref_logps,
            old_values=value.values(state.params.value, answers.inputs),
            config=config,
        )

    def start(ref_logps: Array) -> TrainState:
        params = ppo.ActorCritic(ref_logps, jnp.zeros(size.prompts))
        return init_state(params, optimizer)

    return Learner(
        start=start,
        logits=lambda state: state.params.policy,
        prepare=prepare,
        update=ppo.make_update(policy, value, optimizer, config),
    )


LEARNERS = {"GRPO": grpo, "PPO": critic_learner, "RLOO": rloo}


def train(
    size: Gradients,
    learner: Learner,
    table: Table,
    rewards: Float[Array, "P A"],
    key: Key[Array, ""],
) -> dict[str, Array]:
    """Measures [points + 1] of a run on these rewards."""

    def step(number: Int[Array, ""], state: TrainState) -> TrainState:
        logits = learner.logits(state)
        states, actions = draw_answers(jax.random.fold_in(key, number), logits, size.samples)
        answers = bandit_trajectory(states, actions)
        old_logps = jax.nn.log_softmax(logits)[states, actions][..., None]
        ref_logps = table.ref_logps[states, actions][..., None]
        batch = learner.prepare(state, answers, rewards[states, actions], old_logps, ref_logps)
        return jax.lax.fori_loop(0, size.updates, lambda _, s: learner.update(s, batch)[0], state)

    part = size.steps // size.points

    def point(state: TrainState, first: Int[Array, ""]) -> tuple[TrainState, dict[str, Array]]:
        found = measured_table(table, learner.logits(state))
        return jax.lax.fori_loop(first, first + part, step, state), found

    state, found = jax.lax.scan(
        point, learner.start(table.ref_logps), part * jnp.arange(size.points)
    )
    last = measured_table(table, learner.logits(state))
    return {name: jnp.append(found[name], last[name]) for name in last}


def draw_answers(
    key: Key[Array, ""], logits: Float[Array, "P A"], samples: int
) -> tuple[Int[Array, "P K"], Int[Array, "P K"]]:
    """States and actions, by the inverse of each row's distribution function."""
    below = jnp.cumsum(jax.nn.softmax(logits), axis=-1)
    shape = (len(logits), samples)
    # At most the last entry, which rounding may leave below 1.
    levels = jax.random.uniform(key, shape) * below[:, -1:]
    actions = jax.vmap(partial(jnp.searchsorted, side="right"))(below, levels)
    states = jnp.broadcast_to(jnp.arange(len(logits))[:, None], shape)
    return states, jnp.minimum(actions, logits.shape[-1] - 1)


def measured_table(table: Table, logits: Float[Array, "P A"]) -> dict[str, Array]:
    """Exact means over the prompts."""
    probs = jax.nn.softmax(logits)
    kl = jnp.mean(exact_kl(logits, table.ref_logps))
    found = {
        name: jnp.mean(jnp.sum(probs * getattr(table, field), axis=-1))
        for name, field in (("score", "scores"), ("gold", "gold"), ("downstream", "downstream"))
    }
    return {"kl": kl} | found


def frontier(config: Config, table: Table) -> dict[str, Array]:
    """Measures [points] of the exact optima: no policy has a higher score at their mean KL."""
    betas = jnp.geomspace(*config.betas, config.points)
    logps = jax.vmap(lambda b: regularised_optimum(table.scores, table.ref_logps, beta=b))(betas)
    return jax.vmap(partial(measured_table, table))(logps)


def gradient_study(config: Config, weights: Float[Array, "S d"]) -> Arrays:
    """Every method on every kind of table: "<kind>/<method>/<measure>" [S, points + 1].

    "gold" among the methods is GRPO on the gold score, "optimum" the `frontier`.
    """
    size = config.gradients

    def one(kind: str, world_key: Key[Array, ""], row: Array) -> dict[str, Any]:
        pool_key, *_ = jax.random.split(world_key, 3)
        table_key, run_key = jax.random.split(jax.random.fold_in(world_key, 1))
        table = draw_table(config, draw_pool(config, pool_key), row, table_key, kind)
        found = {
            name: train(size, make(size), table, table.scores, run_key)
            for name, make in LEARNERS.items()
        }
        found["gold"] = train(size, grpo(size), table, table.gold, run_key)
        return found | {"optimum": frontier(config, table)}

    keys, rows = world_keys(config)[: size.num_seeds], jnp.asarray(weights[: size.num_seeds])
    found = {kind: jax.jit(jax.vmap(partial(one, kind)))(keys, rows) for kind in KINDS}
    return {
        f"{kind}/{method}/{name}": np.asarray(values)
        for kind, methods in found.items()
        for method, curves in methods.items()
        for name, values in curves.items()
    }
