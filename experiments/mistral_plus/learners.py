"""Ways from the base to a good chat: RL, likelihood, and both; one optimiser for all."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from experiments.mistral_plus.config import Config
from experiments.mistral_plus.world import World, draw_worlds, label_loss, measure, soft_loss
from rlhf_jax.algos.gradient import gradient_step, init_state
from rlhf_jax.losses.policy_gradient import reinforce_loss
from rlhf_jax.ops.groups import group_centred_advantages
from rlhf_jax.ops.masking import Mean, weighted_mean
from rlhf_jax.types import TrainState

Objective = Callable[[Array], tuple[Mean, dict]]


class Carried(NamedTuple):
    """train: of the weights. ref: [d, V], what KL is measured to. tuned: whether RL has begun."""

    train: TrainState
    ref: Float[Array, "d V"]
    tuned: Array


Learn = Callable[[World, Carried, Key[Array, ""]], Carried]


def rl_objective(
    config: Config, world: World, ref: Array, key: Key[Array, ""], *, beta: float
) -> Callable[[Array], Objective]:
    """At weights W: REINFORCE on answers of pi_W, minus the mean of the K answers to a context.

    A = R - mean R,   R = r - beta (log pi - log ref).
    """

    def at(weights: Array) -> Objective:
        logits = world.chats @ weights
        size = len(world.chats), config.samples
        actions = jax.random.categorical(key, logits[:, None], shape=size)

        def chosen(weights: Array) -> Array:
            return jnp.take_along_axis(jax.nn.log_softmax(world.chats @ weights), actions, axis=-1)

        paid = world.rewards[actions] - beta * (chosen(weights) - chosen(ref))
        advantages = group_centred_advantages(paid)

        def objective(weights: Array) -> tuple[Mean, dict]:
            return weighted_mean(reinforce_loss(chosen(weights), advantages)), {}

        return objective

    return at


def direct_rl(config: Config, optimizer: optax.GradientTransformation, *, beta: float) -> Learn:
    """RL from the base, which is also the reference."""

    def learn(world: World, carried: Carried, key: Key[Array, ""]) -> Carried:
        objective = rl_objective(config, world, carried.ref, key, beta=beta)
        state, _ = gradient_step(carried.train, objective(carried.train.params), optimizer)
        return carried._replace(train=state)

    return learn


def supervised(
    optimizer: optax.GradientTransformation, loss: Callable[[World, Array], Mean]
) -> Learn:
    """Likelihood of something; loss: of a world and of logits in its chats."""

    def learn(world: World, carried: Carried, key: Key[Array, ""]) -> Carried:
        def objective(weights: Array) -> tuple[Mean, dict]:
            return loss(world, world.chats @ weights), {}

        return carried._replace(train=gradient_step(carried.train, objective, optimizer)[0])

    return learn


def demonstrations(config: Config, world: World, annotator: int) -> Int[Array, "C"]:
    """One good answer to each chat, picked without a look at the base."""
    key = jax.random.fold_in(world.key, annotator)
    return jax.random.randint(key, (len(world.chats),), 0, config.good)


def kept_answers(world: World) -> Float[Array, "C V"]:
    """Rejection sampling: the law of the base's own answers that are paid."""
    logits = jnp.where(world.rewards > 0, world.chats @ world.base, -jnp.inf)
    return jax.nn.softmax(logits)


def sft_then_rl(config: Config, sft: Learn, rl: Learn) -> Learn:
    """SFT up to the reward `warm`, then RL; the reference is the policy at that moment."""

    def learn(world: World, carried: Carried, key: Key[Array, ""]) -> Carried:
        weights = carried.train.params
        tuned = carried.tuned | (measure(world, weights)["reward"] >= config.warm)
        ref = jnp.where(tuned & ~carried.tuned, weights, carried.ref)
        carried = Carried(carried.train, ref, tuned)
        both = sft(world, carried, key), rl(world, carried, key)
        return jax.tree.map(lambda a, b: jnp.where(tuned, b, a), *both)

    return learn


def learners(config: Config) -> dict[str, Learn]:
    """Every method, by its name in tables and figures."""
    optimizer = optax.sgd(config.rate)
    rl = direct_rl(config, optimizer, beta=config.beta)

    def imitation(annotator: int) -> Learn:
        return supervised(
            optimizer,
            lambda world, logits: label_loss(logits, demonstrations(config, world, annotator)),
        )

    sft = imitation(0)
    own = supervised(optimizer, lambda world, logits: soft_loss(logits, kept_answers(world)))
    return {
        "direct RL": rl,
        "SFT": sft,
        "SFT + RL": sft_then_rl(config, sft, rl),
        "direct RL, no KL": direct_rl(config, optimizer, beta=0.0),
        "rejection sampling": own,
        "SFT, other annotator": imitation(1),
    }


def follow(
    config: Config, learn: Learn, world: World, key: Key[Array, ""], *, steps: int
) -> dict[str, Array]:
    """[steps + 1] of what `measure` gives."""

    def step(carried: Carried, key: Key[Array, ""]) -> tuple[Carried, dict[str, Array]]:
        found = measure(world, carried.train.params)
        return learn(world, carried, key), found

    state = init_state(world.base, optax.sgd(config.rate))
    first = Carried(state, world.base, jnp.zeros((), bool))
    last, found = jax.lax.scan(step, first, jax.random.split(key, steps))
    end = measure(world, last.train.params)
    return jax.tree.map(jnp.append, found, end)


def all_curves(
    config: Config,
    chosen: Mapping[str, Learn],
    worlds: World,
    keys: Key[Array, "M"],
    *,
    steps: int,
) -> dict[str, dict[str, np.ndarray]]:
    """method -> [M, steps + 1] of what `measure` gives."""
    found = {}
    for name, learn in chosen.items():
        run = jax.jit(jax.vmap(partial(follow, config, learn, steps=steps)))
        found[name] = jax.tree.map(np.asarray, run(worlds, keys))
    return found


def chat_study(config: Config) -> dict[str, dict[str, np.ndarray]]:
    """Every method from the base."""
    drawn = draw_worlds(config, [config.good_share], toxic_share=config.toxic_share)
    return all_curves(config, learners(config), *drawn, steps=config.steps)


def cold_study(config: Config) -> dict[str, dict[str, np.ndarray]]:
    """RL and SFT from bases that are rarely paid; no answer is toxic. "<method>, <share>"."""
    config = replace(config, num_seeds=config.cold_seeds)
    methods, count = learners(config), len(config.cold_shares)
    chosen = {name: methods[name] for name in ("direct RL", "SFT")}
    drawn = draw_worlds(config, config.cold_shares, toxic_share=0.0)
    found = all_curves(config, chosen, *drawn, steps=config.cold_steps)
    return {
        f"{name}, {share:g}": {key: np.split(x, count)[i] for key, x in each.items()}
        for name, each in found.items()
        for i, share in enumerate(config.cold_shares)
    }


def first_reaching(curve: Float[np.ndarray, "N T"], level: float) -> Float[np.ndarray, "N"]:
    """The first step at which each curve is at least this high; NaN where it never is."""
    hits = curve >= level
    return np.where(hits.any(-1), hits.argmax(-1), np.nan)


def at_stop(
    curves: Mapping[str, np.ndarray], level: float, *, rule: str = "reward"
) -> dict[str, np.ndarray]:
    """[N] of each curve, and "steps", at the first step whose `rule` is at least `level`; NaN
    where it never is."""
    steps = first_reaching(curves[rule], level)
    known = np.nan_to_num(steps).astype(int)
    rows = np.arange(len(steps))
    return {"steps": steps} | {
        name: np.where(np.isfinite(steps), curve[rows, known], np.nan)
        for name, curve in curves.items()
    }
