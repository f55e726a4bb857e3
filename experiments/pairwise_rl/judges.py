"""Judges fitted to labels of annotators who like the answer that they read first."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Key

from experiments.pairwise_rl.config import Config
from experiments.pairwise_rl.world import World, draw_world, verdict_logits
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.verdict_model import make_update
from rlhf_jax.envs.bandit import bandit_trajectory
from rlhf_jax.losses import order_bias, verdict_loss, verdict_margins
from rlhf_jax.types import PreferenceBatch, Trajectory, VerdictFn

TRAINED = ("the order shown", "the order shown, consistent", "both orders")
MEASURES = ("one order", "two orders", "bias", "error of P")


def table_judge(config: Config) -> VerdictFn:
    """g(y, y') = s(y) - s(y') + b(x), with a table s [X, A] and a liking b [X] to be fitted."""

    def init(key: Key[Array, ""]) -> dict[str, Array]:
        del key
        shape = (config.prompts, config.answers)
        return {"scores": jnp.zeros(shape), "bias": jnp.zeros(shape[0])}

    def logps(params: Any, first: Trajectory, second: Trajectory) -> Float[Array, "*B 2 2"]:
        states = first.inputs[..., 0]
        scores = (params["scores"][states, x.actions[..., 0]] for x in (first, second))
        return jax.nn.log_softmax(verdict_logits(*scores, params["bias"][states]))

    return VerdictFn(init, logps)


def judge_study(config: Config) -> dict[str, np.ndarray]:
    """name of TRAINED -> [N, measures]."""
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 1), config.num_seeds)
    return {name: np.asarray(x) for name, x in _fitted(config, keys).items()}


@partial(jax.jit, static_argnames="config")
def _fitted(config: Config, keys: Key[Array, " N"]) -> dict[str, Array]:
    """Every judge in every world."""
    return jax.vmap(partial(fit_judges, config))(keys)


def fit_judges(config: Config, key: Key[Array, ""]) -> dict[str, Array]:
    """Measures of the judges of one world, on the same labels."""
    world_key, pair_key = jax.random.split(key)
    world, judge = draw_world(world_key, config), table_judge(config)
    batch, first_won = labelled_pairs(pair_key, world, config)

    def as_shown(logps: Float[Array, "*B 2 2"]) -> Float[Array, "*B"]:
        """The cross-entropy of the verdict in the order in which it was given."""
        return -jnp.where(first_won, logps[..., 0, 0], logps[..., 1, 1])

    options: tuple[dict[str, Any], ...] = (
        {"loss": as_shown},
        {"loss": as_shown, "consistency": config.judges.consistency},
        {"loss": verdict_loss},
    )
    optimizer, found = optax.adam(config.judges.rate), {}
    for name, option in zip(TRAINED, options, strict=True):
        update = make_update(judge, optimizer, **option)
        start = init_state(judge.init(key), optimizer)
        state, _ = jax.lax.scan(
            lambda s, _, f=update: (f(s, batch)[0], None), start, length=config.judges.steps
        )
        found[name] = measures(judge, state.params, world)
    return found


def labelled_pairs(
    key: Key[Array, ""], world: World, config: Config
) -> tuple[PreferenceBatch, Array]:
    """Random pairs with the verdict of a biased annotator, and whether the first one won."""
    keys, size = jax.random.split(key, 4), config.judges.pairs
    states = jax.random.randint(keys[0], (size,), 0, config.prompts)
    one = jax.random.randint(keys[1], (size,), 0, config.answers)
    other = (one + jax.random.randint(keys[2], (size,), 1, config.answers)) % config.answers
    gaps = world.scores[states, one] - world.scores[states, other] + world.bias[states]
    won = jax.random.bernoulli(keys[3], jax.nn.sigmoid(gaps))
    chosen, rejected = jnp.where(won, one, other), jnp.where(won, other, one)
    first, second = (bandit_trajectory(states, x) for x in (chosen, rejected))
    return PreferenceBatch(first, second), won


def measures(judge: VerdictFn, params: Any, world: World) -> Float[Array, " M"]:
    """Accuracy of one order and of two, mean |bias|, and mean error of P, over all pairs."""
    prompts, answers = world.scores.shape
    index = jnp.meshgrid(*map(jnp.arange, (prompts, answers, answers)), indexing="ij")
    sides = [bandit_trajectory(index[0], x) for x in index[1:]]
    logps = judge.logps(params, *sides)
    margins, bias = verdict_margins(logps), order_bias(logps)
    truth = world.scores[:, :, None] - world.scores[:, None, :]
    apart = (index[1] != index[2]).astype(jnp.float32)

    def mean(x: Array) -> Array:
        return jnp.sum(apart * x) / jnp.sum(apart)

    return jnp.stack(
        [
            mean((margins + bias > 0) == (truth > 0)),
            mean((margins > 0) == (truth > 0)),
            mean(jnp.abs(bias)),
            mean(jnp.abs(jax.nn.sigmoid(margins) - jax.nn.sigmoid(truth))),
        ]
    )
