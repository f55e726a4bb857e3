"""The trade-off as exponents: eps = T^-b over T, and d = S A over tables of several sizes.

Rewards lie in [0, scale]. The worst scale of a learner has gaps that it can just not tell apart, so
the largest mean regret over scales stands for the worst case, which the theorem is about.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, Key

from experiments.randomized_pbrl.config import Config, GrowthConfig, WorldConfig
from experiments.randomized_pbrl.curves import (
    Learner,
    Method,
    Told,
    World,
    draw_world,
    first_match,
    next_round,
    pr_lsvi,
)
from rlhf_jax.algos.planning import preference_lsvi as pr

ALWAYS, ALONE = "always asks", "each pair alone"
RIVALS = ("coin", "asks first")
MANY = 1e9


class Rule(NamedTuple):
    """When a comparison is asked for: where all of these say yes.

    threshold: the norm of the difference is above it. rate: a coin of this probability shows heads.
    budget: there were fewer queries so far. alone: 1 where the norm is that of a design matrix of
    this very difference alone, as if no other comparison told anything about it.
    """

    threshold: Array | float
    rate: Array | float = 1.0
    budget: Array | float = MANY
    alone: Array | float = 0.0


class Ends(NamedTuple):
    """Totals at the checkpoints [..., C]; differing: rounds of two different trajectories."""

    regret: Array
    queries: Array
    differing: Array


Call = Callable[..., Ends]


def rule_of(config: Config, eps: float) -> Rule:
    """PR-LSVI's own rule."""
    sigma = posterior(config, config.rounds).sigma_reward
    return Rule(float(pr.norm_threshold(eps, sigma=sigma)))


def room_of(kind: WorldConfig, rounds: int) -> int:
    """Most rows that T rounds on a table can need: T, or the number of different comparisons of two
    trajectories, whose first states are the same."""
    pairs = kind.num_states * kind.num_actions
    first = kind.num_actions * (kind.num_actions - 1) + 1
    return min(rounds, first * (pairs * (pairs - 1) + 1) ** (kind.horizon - 1))


def posterior(config: Config, room: int) -> Config:
    """Draws as wide as the teacher's noise makes the posterior, nothing tuned: near p = 1/2 a
    comparison adds slope^2 / 4 x x^T to the information, so sigma is 2 / slope, and the fit has the
    ridge of the design matrix in these units."""
    information = config.slope**2 / 4
    return replace(
        config,
        sigma_reward=information**-0.5,
        fit_ridge=information * config.ridge,
        rounds=room,
    )


def scaled_world(kind: WorldConfig, scale: Array, key: Key[Array, ""]) -> World:
    """A table with rewards in [0, scale]; of the first step only the start has features."""
    world = draw_world(kind, key)
    pairs = kind.num_states * kind.num_actions
    used = np.r_[: kind.num_actions, pairs : kind.horizon * pairs]
    mdp = replace(world.mdp, rewards=scale * world.mdp.rewards)
    return World(mdp, world.features, world.step_features[..., used])


def asker(config: Config, kind: WorldConfig, world: World, rule: Rule) -> Learner:
    """PR-LSVI with a rule in place of its own."""
    knobs = (config.sigma_reward, config.sigma_values, rule.threshold, rule.rate, 1.0)
    learner = pr_lsvi(config, kind, world, Method(*map(jnp.asarray, knobs)))

    def asks(key, state, x):
        reward = state.reward
        same = jnp.all(reward.differences == x, -1) | jnp.all(reward.differences == -x, -1)
        length = jnp.sum(x**2)
        told = config.ridge + length * jnp.sum(jnp.where(same, reward.asked, 0.0))
        wanted = jnp.where(
            rule.alone > 0,
            jnp.sqrt(length / told) > rule.threshold,
            pr.query(reward, x, threshold=rule.threshold),
        )
        heads = jax.random.uniform(key) < rule.rate
        return wanted & heads & (jnp.sum(reward.asked) < rule.budget)

    return learner._replace(asks=asks)


def run_rule(
    config: Config,
    kind: WorldConfig,
    rule: Rule,
    scale: Array,
    key: Key[Array, ""],
    rounds: Int[Array, ""],
    checkpoints: Int[Array, " C"],
) -> Ends:
    """One run of `rounds` rounds; totals at the checkpoints, 0 at those it does not reach."""
    world_key, run_key = jax.random.split(key)
    world = scaled_world(kind, scale, world_key)
    learner = asker(config, kind, world, rule)

    def step(time, carry):
        match, total, ends = carry
        round_key = jax.random.fold_in(run_key, time)
        match, told = next_round(world, learner, match, round_key, slope=config.slope)
        total = jax.tree.map(jnp.add, total, told)
        reached = checkpoints == time + 1
        return match, total, jax.tree.map(lambda e, x: jnp.where(reached, x, e), ends, total)

    total = Told(*(jnp.zeros(()) for _ in Told._fields))
    ends = jax.tree.map(lambda _: jnp.zeros(checkpoints.shape), total)
    start = (first_match(world, learner), total, ends)
    return Ends(*jax.lax.fori_loop(0, rounds, step, start)[2])


def make_call(config: Config, kind: WorldConfig, worlds: int, scales: Sequence[float]) -> Call:
    """`call(rule, rounds) -> Ends [worlds, scales, T]`, compiled once; 0 at T above `rounds`."""
    one = partial(run_rule, posterior(config, room_of(kind, max(config.growth.rounds))), kind)
    over_scales = jax.vmap(one, (0, 0, None, None, None))
    run = jax.jit(jax.vmap(over_scales, (0, None, 0, None, None)))
    keys = jax.random.split(jax.random.key(config.seed), worlds)
    sizes, checkpoints = jnp.asarray(scales), jnp.asarray(config.growth.rounds)

    def call(rule: Rule, rounds: int) -> Ends:
        lanes = (jnp.broadcast_to(jnp.asarray(x, float), (worlds, len(scales))) for x in rule)
        ends = run(Rule(*lanes), sizes, keys, jnp.asarray(rounds), checkpoints)
        return jax.tree.map(np.asarray, ends)

    return call


def named(name: str, ends: Ends, at: Sequence[int]) -> dict[str, np.ndarray]:
    """name/regret, name/queries [worlds, scales, ...] at some of the checkpoints."""
    regrets, queries = np.asarray(ends.regret), np.asarray(ends.queries)
    return {f"{name}/regret": regrets[..., at], f"{name}/queries": queries[..., at]}


def trade_off(config: Config) -> dict[str, np.ndarray]:
    """name/regret, name/queries [worlds, scales, T].

    "b = ..." has eps = T^-b, a run of its own for each T. Up to T = base: "eps = ..." fixed at that
    of the shortest T, and `ALWAYS`. At T = base alone, RIVALS with as many queries as each b.
    """
    growth = config.growth
    early = [i for i, rounds in enumerate(growth.rounds) if rounds <= growth.base]
    base = early[-1:]
    with jax.enable_x64(True):
        kind = growth.world(growth.sizes[0])
        call = make_call(config, kind, growth.num_worlds, growth.scales)
        found = named(ALWAYS, call(Rule(0.0), growth.base), early)
        for b in growth.exponents:
            runs = [call(rule_of(config, rounds**-b), rounds) for rounds in growth.rounds]
            own = [named(f"b = {b:g}", ends, [i]) for i, ends in enumerate(runs)]
            found |= {name: np.concatenate([each[name] for each in own], -1) for name in own[0]}
            eps = growth.rounds[0] ** -b
            found |= named(fixed(growth, b), call(rule_of(config, eps), growth.base), early)
            queries, differing = (x[..., base[0]] for x in runs[base[0]][1:])
            rivals = (
                Rule(0.0, rate=queries / np.maximum(differing, 1)),
                Rule(0.0, budget=queries),
            )
            for name, rule in zip(RIVALS, rivals, strict=True):
                found |= named(f"{name}, b = {b:g}", call(rule, growth.base), base)
        return found


def fixed(growth: GrowthConfig, b: float) -> str:
    """Name of the runs with eps of the shortest T at every T."""
    return f"eps = {growth.rounds[0] ** -b:.3g}"


def sizes(config: Config) -> dict[str, np.ndarray]:
    """rule/regret, rule/queries [worlds, scales, d] at T = base: eps = T^-b at the middle b,
    `ALWAYS`, and `ALONE` with that eps."""
    growth = config.growth
    at = growth.rounds.index(growth.base)
    own = rule_of(config, growth.base**-growth.middle)
    rules = {"rule": own, ALWAYS: Rule(0.0), ALONE: own._replace(alone=1.0)}
    found = []
    with jax.enable_x64(True):
        for size in growth.sizes:
            call = make_call(config, growth.world(size), growth.size_worlds, growth.size_scales)
            ends = {name: call(rule, growth.base) for name, rule in rules.items()}
            each = [named(name, end, [at]) for name, end in ends.items()]
            found.append({name: x for part in each for name, x in part.items()})
    return {name: np.concatenate([each[name] for each in found], -1) for name in found[0]}
