"""Ensembles of reward models on the same pairs, and what each way to combine them scores."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key

from experiments.rm_ensembles.config import Config
from experiments.rm_ensembles.worlds import FEATURES, answers, preferences
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.reward_ensemble import (
    average_members,
    make_shared_update,
    make_update,
    separate_trunks,
    shared_trunk,
)
from rlhf_jax.models.mlp import make_mlp
from rlhf_jax.ops.ensembles import (
    mean_scores,
    member_scale,
    standardised_scores,
    uncertainty_penalised_scores,
    worst_case_scores,
)
from rlhf_jax.types import Params, RewardFn

Scores = Float[Array, "N *B"]


def network_reward(*widths: int, start: float) -> RewardFn:
    """A reward of the features: the last layer is its "head", those before it its "trunk".

    Args:
      start: factor on the first weights.
    """
    network = make_mlp((FEATURES, *widths, 1))

    def init(key: Key[Array, ""]) -> Params:
        *trunk, head = jax.tree.map(lambda x: start * x, network.init(key))
        return {"trunk": tuple(trunk), "head": head}

    def scores(params: Params, trajectory) -> Array:
        return network.apply((*params["trunk"], params["head"]), trajectory.inputs)[..., 0]

    return RewardFn(init, scores)


def fit_families(
    config: Config, key: Key[Array, ""], pairs: Float[Array, "P 2 12"]
) -> Callable[[Float[Array, "*B 12"]], dict[str, Scores]]:
    """Trains every family; `x -> raw scores of the members, by family`. All see the same pairs,
    and as often.

    separate: N members with their own start and order; narrow: the same with smaller first weights;
    one start: the same with the start of the first, and averaged: the mean of their weights. shared
    trunk: N heads, one order. wide: one member with N times the units.
    """
    size, init_key, order_key = config.members, *jax.random.split(key)
    reward = network_reward(config.width, start=config.start)
    wide = network_reward(size * config.width, start=config.start)
    apart, shared = separate_trunks(reward, members=size), shared_trunk(reward, members=size)
    alone = separate_trunks(wide, members=1)
    orders = draw_orders(order_key, config, members=size)
    first = apart.init(init_key)
    smaller = jax.tree.map(lambda x: config.narrow / config.start * x, first)
    same = jax.tree.map(lambda x: jnp.broadcast_to(x[:1], x.shape), first)
    # One program for these three: members that share nothing train as they would alone.
    starts = jax.tree.map(lambda *x: jnp.concatenate(x), first, smaller, same)
    many = fit_apart(config, reward, starts, jnp.tile(orders, (3, 1, 1)), pairs=pairs)
    heads = fit_shared(config, shared, shared.init(init_key), orders[0], pairs)
    big = fit_apart(config, wide, alone.init(init_key), orders[:1], pairs=pairs)
    average = average_members(jax.tree.map(lambda x: x[-size:], many))

    def score(x: Float[Array, "*B 12"]) -> dict[str, Scores]:
        seen = answers(x)
        found = jnp.split(apart.scores(many, seen), 3)
        return {
            **dict(zip(("separate", "narrow", "one start"), found, strict=True)),
            "shared trunk": shared.scores(heads, seen),
            "averaged": reward.scores(average, seen)[None],
            "wide": alone.scores(big, seen),
        }

    return score


def fit_linear(
    config: Config, key: Key[Array, ""], pairs: Float[Array, "P 2 12"]
) -> Callable[[Float[Array, "*B 12"]], dict[str, Scores]]:
    """`fit_families` of separate linear members, which all extrapolate alike."""
    init_key, order_key = jax.random.split(key)
    reward = network_reward(start=config.narrow)
    ensemble = separate_trunks(reward, members=config.members)
    orders = draw_orders(order_key, config, members=config.members)
    params = fit_apart(config, reward, ensemble.init(init_key), orders, pairs=pairs)
    return lambda x: {"separate": ensemble.scores(params, answers(x))}


def draw_orders(key: Key[Array, ""], config: Config, *, members: int) -> Int[Array, "N T B"]:
    """Which pairs each member reads at each step: every pass is a permutation of its own."""
    steps = config.pairs // config.batch
    keys = jax.random.split(key, (members, config.epochs))
    orders = jax.vmap(jax.vmap(lambda k: jax.random.permutation(k, config.pairs)))(keys)
    kept = orders[..., : steps * config.batch]
    return kept.reshape(members, config.epochs * steps, config.batch)


def fit_apart(
    config: Config,
    reward: RewardFn,
    params: Params,
    orders: Int[Array, "N T B"],
    *,
    pairs: Float[Array, "P 2 12"],
) -> Params:
    """Members that share nothing, from params [N]."""
    optimizer = optax.adam(config.rate)
    update = make_update(reward, optimizer)

    def step(state, rows):
        return update(state, preferences(pairs[rows]))[0], None

    state = jax.vmap(lambda params: init_state(params, optimizer))(params)
    return jax.lax.scan(step, state, jnp.swapaxes(orders, 0, 1))[0].params


def fit_shared(config: Config, ensemble, params: Params, order, pairs) -> Params:
    """Heads on one trunk, from one order [T, B]."""
    optimizer = optax.adam(config.rate)
    update = make_shared_update(ensemble, optimizer)

    def step(state, rows):
        return update(state, preferences(pairs[rows]))[0], None

    return jax.lax.scan(step, init_state(params, optimizer), order)[0].params


def combinations(config: Config, raw: Scores) -> dict[str, Scores]:
    """Name -> proxies [1, *B], from the members' standardised scores; "single" is all of them
    [N, *B], each optimised alone."""
    scores = standardised_scores(raw, member_scale(raw))
    found = {
        "single": scores,
        "mean": mean_scores(scores)[None],
        "WCO": worst_case_scores(scores)[None],
        "WCO, raw": worst_case_scores(raw)[None],
    }
    for penalty in config.penalties:
        found[uwo(penalty)] = uncertainty_penalised_scores(scores, penalty=penalty)[None]
    return found


def uwo(penalty: float) -> str:
    """The name of UWO with this lambda."""
    return f"UWO({penalty:g})"
