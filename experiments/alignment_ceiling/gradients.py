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
SHARE = 4  # one in SHARE of a long-tailed row is among the longest of the pool


class Table(NamedTuple):
    """[P, A] each: standardised score of the reward model, gold, downstream metric, log pi_ref,
    which is uniform."""

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

    "uniform" draws them as the reference of the pool does, which leaves its longest answers out of
    most rows; in "long tail" these are a part of every row.
    """
    size = config.gradients
    scores = pool.features @ weights
    scores = (scores - scores.mean()) / scores.std()
    rows = jax.random.randint(key, (size.prompts, size.answers), 0, config.answers)
    if kind == "long tail":
        longest = jnp.argsort(-pool.features[:, -1])[: size.answers // SHARE]
        rows = rows.at[:, : len(longest)].set(longest)
    ref_logps = jnp.full(rows.shape, -jnp.log(size.answers))
    return Table(scores[rows], pool.gold[rows], pool.downstream[rows], ref_logps)


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
    keys = world_keys(config)[: size.num_seeds]

    def tables(key: Key[Array, ""], row: Float[Array, "d"]) -> Table:
        pool_key, *_ = jax.random.split(key, 3)
        pool, table_key = draw_pool(config, pool_key), jax.random.fold_in(key, 1)
        drawn = [draw_table(config, pool, row, table_key, kind) for kind in KINDS]
        return jax.tree.map(lambda *x: jnp.stack(x), *drawn)

    def over_all(run: Callable[..., Any]) -> dict[str, np.ndarray]:
        """Measures [S, kinds, ...] of `run(table, key)`."""
        every = jax.jit(jax.vmap(jax.vmap(run, in_axes=(0, None))))
        return jax.tree.map(np.asarray, every(drawn, run_keys))

    drawn = jax.jit(jax.vmap(tables))(keys, jnp.asarray(weights[: size.num_seeds]))
    run_keys = jax.vmap(lambda key: jax.random.fold_in(key, 2))(keys)
    found = {
        name: over_all(lambda t, key, make=make: train(size, make(size), t, t.scores, key))
        for name, make in LEARNERS.items()
    }
    found["gold"] = over_all(lambda t, key: train(size, grpo(size), t, t.gold, key))
    found["optimum"] = over_all(lambda t, key: frontier(config, t))
    return {
        f"{kind}/{method}/{name}": values[:, i]
        for i, kind in enumerate(KINDS)
        for method, curves in found.items()
        for name, values in curves.items()
    }
