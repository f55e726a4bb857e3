"""Chains of skills: a task of length L is right if each of its L actions is, with a^L by chance.

Action 0 is the right one of every skill, which the policy, a table, does not know.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from experiments.craft_gui.config import Config
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.online import AnswerBatch, make_answer_update
from rlhf_jax.data.curriculum import stage_weights
from rlhf_jax.losses.policy_gradient import ppo_clip_loss
from rlhf_jax.ops.groups import group_normalised_advantages, informative_groups
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.ops.masking import masked_mean, sequence_mean_of_token_mean
from rlhf_jax.ops.operations import graded_return
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.recipes.methods.answers import per_token
from rlhf_jax.types import TrainState, Trajectory

BINS = ("easy", "medium", "hard")


class Tasks(NamedTuple):
    """skills: [N, T] int. mask: [N, T] True for the steps of each chain."""

    skills: Array
    mask: Array


def schedules(config: Config) -> dict[str, np.ndarray]:
    """name -> share of each bin (column) in each third of the training (row)."""
    thirds = len(BINS)
    return {
        "curriculum": stage_weights(thirds),
        "curriculum, replay": stage_weights(thirds, replay=config.replay),
        "mixed": np.full((thirds, thirds), 1.0 / thirds),
        "hard first": stage_weights(thirds)[::-1],
        "hard only": np.eye(thirds)[[2, 2, 2]],
    }


def draw_tasks(config: Config, key: Key[Array, ""], shares: Float[Array, "3"], count: int) -> Tasks:
    """Tasks with a bin, a length in it and skills at random."""
    bin_key, length_key, skill_key = jax.random.split(key, 3)
    low, high = jnp.array([getattr(config, name) for name in BINS]).T
    place = jax.random.categorical(bin_key, jnp.log(shares), shape=(count,))
    length = jax.random.randint(length_key, (count,), low[place], high[place] + 1)
    steps = max(getattr(config, name)[1] for name in BINS)
    skills = jax.random.randint(skill_key, (count, steps), 0, config.skills)
    return Tasks(skills, jnp.arange(steps) < length[:, None])


def rewards_of(
    right: Bool[Array, "*B T"], mask: Bool[Array, "*B T"], dense: Array | float
) -> Float[Array, "*B"]:
    """Outcome at dense = 0; the whole chain right, and the share of its right steps."""
    share = masked_mean(right.astype(jnp.float32), mask, axis=-1)
    done = jnp.all(right | ~mask, axis=-1).astype(jnp.float32)
    return graded_return(done, share, dense=dense)


def success(logits: Float[Array, "S A"], tasks: Tasks) -> Float[Array, ""]:
    """Mean probability that a task is right, exact."""
    right = jax.nn.log_softmax(logits)[tasks.skills, 0]
    return jnp.exp(jnp.where(tasks.mask, right, 0.0).sum(-1)).mean()


def train(
    config: Config,
    updates: int,
    key: Key[Array, ""],
    shares: Float[Array, "3 3"],
    dense: Float[Array, ""],
) -> dict[str, Array]:
    """hard: [U + 1] success on held-out hard tasks before each update and at the end. equal: [U]
    share of groups in which all rewards are equal."""
    policy, optimizer = tabular_policy(config.skills, config.actions), optax.sgd(config.rate)
    loss = per_token(partial(ppo_clip_loss, clip_eps=0.2))
    update = make_answer_update(policy, optimizer, loss, reduction=sequence_mean_of_token_mean)
    test_key, key = jax.random.split(key)
    test = draw_tasks(config, test_key, jnp.array([0.0, 0.0, 1.0]), config.heldout)

    def step(state: TrainState, number: Int[Array, ""]) -> tuple[TrainState, dict[str, Array]]:
        task_key, answer_key = jax.random.split(jax.random.fold_in(key, number))
        tasks = draw_tasks(config, task_key, shares[number * 3 // updates], config.prompts)
        skills, mask = (jnp.repeat(x[:, None], config.samples, axis=1) for x in tasks)
        logits = policy.logits(state.params, skills)
        actions = jax.random.categorical(answer_key, logits)
        rewards = rewards_of(actions == 0, mask, dense)
        columns = {
            "old_token_logps": token_logps(logits, actions),
            "advantages": group_normalised_advantages(rewards, eps=1e-6),
        }
        new, _ = update(state, AnswerBatch(Trajectory(skills, actions, mask), columns))
        equal = 1.0 - informative_groups(rewards).mean()
        return new, {"hard": success(state.params, test), "equal": equal}

    first = init_state(policy.init(key), optimizer)
    last, found = jax.lax.scan(step, first, jnp.arange(updates))
    end = success(last.params, test)
    return found | {"hard": jnp.append(found["hard"], end)}


def study(config: Config, updates: int) -> dict[str, np.ndarray]:
    """Arrays of `train` by "reward/schedule/name", [seeds, ...]."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    shares = jnp.array(list(schedules(config).values()), jnp.float32)
    one = partial(train, config, updates)
    over_seeds = jax.vmap(one, (0, None, None))
    found = jax.jit(jax.vmap(jax.vmap(over_seeds, (None, 0, None)), (None, None, 0)))(
        keys, shares, jnp.array([0.0, config.dense])
    )
    return {
        f"{reward}/{schedule}/{name}": np.asarray(x[i, j])
        for i, reward in enumerate(("outcome", "steps"))
        for j, schedule in enumerate(schedules(config))
        for name, x in found.items()
    }
