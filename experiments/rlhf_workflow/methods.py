"""Rounds of iterative DPO: who draws the answers, which two are labelled, what is fitted."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from experiments.rlhf_workflow.bandits import (
    Pairs,
    World,
    draw_answers,
    draw_world,
    fit,
    label,
    objective,
    policy_logps,
)
from experiments.rlhf_workflow.config import Config
from rlhf_jax.ops.coverage import design_matrix
from rlhf_jax.ops.elliptical import elliptical_norms
from rlhf_jax.ops.kl import exact_kl
from rlhf_jax.ops.linear_systems import invert
from rlhf_jax.types import Scalar


def first_two(features: Array, rewards: Array, inverse: Array) -> tuple[Array, Array]:
    """Two answers as they come."""
    del rewards, inverse
    here = jnp.zeros(features.shape[0], int)
    return here, here + 1


def best_and_worst(features: Array, rewards: Array, inverse: Array) -> tuple[Array, Array]:
    """The answers of the highest and the lowest reward."""
    del features, inverse
    return jnp.argmax(rewards, -1), jnp.argmin(rewards, -1)


def enhancer(features: Array, rewards: Array, inverse: Array) -> tuple[Array, Array]:
    """One answer as it comes, and the one whose reward beside it is least known."""
    del rewards
    norms = elliptical_norms(features - features[:, :1], inverse)
    return jnp.zeros(features.shape[0], int), jnp.argmax(norms, -1)


# (features [N, K, d], gold rewards [N, K], A^-1) -> the two answers [N] of each pair.
CHOICES = (first_two, best_and_worst, enhancer)


class Method(NamedTuple):
    """choice: which of `CHOICES`. online: answers of the current policy, not the reference. sure:
    labels without noise. fixed: the reference is pi_0 and all data count; else it is the last
    policy, and its round's data count. eta: KL weight."""

    choice: int | Array
    eta: float | Array
    online: bool | Array = True
    sure: bool | Array = False
    fixed: bool | Array = True


def methods(config: Config) -> dict[str, Method]:
    """Those that are compared, by name."""
    eta = config.eta
    return {
        "offline": Method(0, eta, online=False),
        "offline, best and worst": Method(1, eta, online=False),
        "online": Method(0, eta),
        "online, best and worst": Method(1, eta),
        "enhancer": Method(2, eta),
    }


def variants(config: Config) -> dict[str, Method]:
    """Another KL weight, called soft, and what goes wrong: labels without noise, and a reference
    that moves."""
    soft = {f"{name}, soft": x._replace(eta=config.soft_eta) for name, x in methods(config).items()}
    return soft | {
        "offline, sure labels": Method(0, config.eta, online=False, sure=True),
        "online, best and worst, sure labels": Method(1, config.eta, sure=True),
        "online, last policy as reference": Method(0, config.eta, fixed=False),
    }


def play(
    config: Config, named: dict[str, Method], *, num_seeds: int
) -> dict[str, dict[str, np.ndarray]]:
    """Bandits with every method: gap, KL and share of rare answers [num_seeds, rounds + 1]."""
    keys = jax.random.split(jax.random.key(config.seed), num_seeds)
    table = Method(*(jnp.array(column) for column in zip(*named.values(), strict=True)))
    seeds = jax.vmap(partial(play_one, config), (None, 0))
    found = jax.jit(lambda: jax.lax.map(lambda method: seeds(method, keys), table))()
    return {
        name: {key: np.asarray(path[i]) for key, path in found.items()}
        for i, name in enumerate(named)
    }


def play_one(config: Config, method: Method, key: Key[Array, ""]) -> dict[str, Array]:
    """One bandit from the reference policy, a fit after every round."""
    world_key, key = jax.random.split(key)
    world = draw_world(config, world_key)
    rewards = world.features @ world.weights
    total, dim, eta = config.rounds * config.pairs, world.weights.size, method.eta
    empty = Pairs(*jnp.zeros((2, total, dim)))
    origin = jnp.zeros(dim)

    def step(carry, i):
        pairs, params = carry
        x_key, a_key, y_key = jax.random.split(jax.random.fold_in(key, i), 3)
        prompts = jax.random.randint(x_key, (config.pairs,), 0, config.prompts)
        logps = policy_logps(world, jnp.where(method.online, params, origin), eta=eta)
        answers = draw_answers(a_key, logps, prompts, answers=config.answers)
        design = design_matrix(pairs.chosen - pairs.rejected)
        inverse = invert(design + config.ridge * jnp.eye(dim))
        seen = world.features[prompts[:, None], answers]
        gold = rewards[prompts[:, None], answers]
        chosen = jax.lax.switch(method.choice, CHOICES, seen, gold, inverse)
        two = (jnp.take_along_axis(seen, c[:, None, None], axis=1)[:, 0] for c in chosen)
        new = label(y_key, world, *two, sure=method.sure)
        rows, before = jnp.arange(total), i * config.pairs
        put = partial(jax.lax.dynamic_update_slice_in_dim, start_index=before, axis=0)
        pairs = Pairs(*(put(old, rows) for old, rows in zip(pairs, new, strict=True)))
        counted = (rows < before + config.pairs) & ((rows >= before) | method.fixed)
        start = jnp.where(method.fixed, params, origin)
        found = fit(pairs, counted.astype(float), start, eta=eta, ridge=config.ridge)
        params = found + jnp.where(method.fixed, 0.0, params)
        return (pairs, params), measure(config, world, params, eta=eta)

    before = measure(config, world, origin, eta=eta)
    _, after = jax.lax.scan(step, (empty, origin), jnp.arange(config.rounds))
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), before, after)


def measure(
    config: Config, world: World, params: Float[Array, " d"], *, eta: Scalar
) -> dict[str, Array]:
    """Distance of a policy to the best one in J, its KL to pi_0 and its share of rare answers."""
    logps = policy_logps(world, params, eta=eta)
    best = policy_logps(world, world.weights, eta=eta)
    ref = jnp.broadcast_to(world.ref_logps, logps.shape)
    return {
        "gap": objective(world, best, eta=eta) - objective(world, logps, eta=eta),
        "kl": exact_kl(logps, ref).mean(),
        "best_kl": exact_kl(best, ref).mean(),
        "rare": jnp.exp(logps)[:, config.common :].sum(-1).mean(),
    }
