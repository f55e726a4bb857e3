"""Markov decision processes as tables, with a finite horizon or a discount.

Two records of arrays with free leading axes. A bandit has a horizon of one. Rewards are expected
ones, r(s, a); `envs.table_formats` converts other layouts, e.g. r(s, a, s').
"""

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Key
from numpy.typing import ArrayLike

from rlhf_jax.types import Env, TimeStep, record


@record
class FiniteMDP:
    """H steps. transitions: [*B, H, S, A, S] P_h(s' | s, a); rewards: [*B, H, S, A]; initial:
    [*B, S] distribution of the first state."""

    transitions: Array
    rewards: Array
    initial: Array


@record
class DiscountedMDP:
    """Infinite horizon. transitions: [*B, S, A, S] P(s' | s, a); rewards: [*B, S, A]; initial: [*B,
    S] distribution of the first state; gamma: [*B] discount in [0, 1).

    In a terminal state every action stays and pays 0; see `absorbing_states`.
    """

    transitions: Array
    rewards: Array
    initial: Array
    gamma: Array


MDP = TypeVar("MDP", FiniteMDP, DiscountedMDP)


def check_mdp(mdp: MDP) -> MDP:
    """The MDP as JAX arrays of one float type, after checking its arrays; not under jit.

    Call it on the input of a user: NumPy arrays, nested lists, integers.

    Raises:
      ValueError: shapes do not fit; horizon, states or actions are 0; a row of transitions or the
        initial distribution is not a probability vector; a reward is not finite; gamma is outside
        [0, 1). The message names batch element, step, state and action.
    """
    mdp = replace(mdp, **{each.name: np.asarray(getattr(mdp, each.name)) for each in fields(mdp)})
    tables = (mdp.transitions, mdp.rewards, mdp.initial)
    transitions, rewards, initial = (np.asarray(table) for table in tables)
    steps = 1 if isinstance(mdp, FiniteMDP) else 0
    axes = "[*B, H, S, A, S]" if steps else "[*B, S, A, S]"
    if transitions.ndim < 3 + steps or transitions.shape[-1] != transitions.shape[-3]:
        raise ValueError(
            f"transitions must have shape {axes}, got {transitions.shape}; "
            "envs.table_formats.from_mdptoolbox takes [A, S, S]"
        )
    lead = transitions.shape[: -3 - steps]
    if 0 in transitions.shape[-3 - steps :]:
        raise ValueError(f"horizon, states and actions must be >= 1, got {transitions.shape}")
    if rewards.shape != transitions.shape[:-1]:
        raise ValueError(
            f"rewards must have shape {transitions.shape[:-1]}, got {rewards.shape}; "
            "envs.table_formats.expected_rewards averages r(s, a, s') over s'"
        )
    if initial.shape != (*lead, transitions.shape[-1]):
        raise ValueError(f"initial must have shape {(*lead, transitions.shape[-1])}")
    names = [*(f"batch axis {i}" for i in range(len(lead)))]
    places = [*names, *(["step"] * steps), "state", "action"]
    _check_rows(transitions, "transitions", places)
    _check_rows(initial, "initial", names)
    _complain("rewards must be finite", ~np.isfinite(rewards), rewards, places)
    if isinstance(mdp, DiscountedMDP):
        gamma = mdp.gamma
        _complain("gamma must be in [0, 1)", ~((gamma >= 0) & (gamma < 1)), gamma, names)
    dtype = jnp.result_type(float, transitions, rewards, initial)
    return jax.tree.map(partial(jnp.asarray, dtype=dtype), mdp)


def _check_rows(probs: np.ndarray, name: str, places: Sequence[str]) -> None:
    """ValueError unless every last axis is a probability vector, up to rounding of its dtype."""
    tolerance = 1e-5 if probs.dtype == np.float32 else 1e-9
    _complain(f"{name} must be >= 0", ~(probs >= 0), probs, [*places, "next state"])
    sums = probs.sum(-1)
    _complain(f"{name} must sum to 1", ~(np.abs(sums - 1) <= tolerance), sums, places)


def _complain(rule: str, bad: ArrayLike, values: ArrayLike, places: Sequence[str]) -> None:
    """ValueError that names the first bad entry and the number of them."""
    bad, values = np.asarray(bad), np.asarray(values)
    if not bad.any():
        return
    where = tuple(int(i) for i in np.argwhere(bad)[0])
    named = ", ".join(f"{place} {i}" for place, i in zip(places, where, strict=False))
    raise ValueError(
        f"{rule}; {f'at {named} ' if named else ''}it is {values[where]:g} ({bad.sum()} such)"
    )


def random_mdp(
    key: Key[Array, ""],
    *,
    horizon: int,
    num_states: int,
    num_actions: int,
    concentration: float = 0.15,
    reward_share: float = 0.3,
) -> FiniteMDP:
    """A Garnet MDP: P_h(. | s, a) ~ Dirichlet(concentration), r = U[0, 1] times Bernoulli(share).

    Args:
      concentration: > 0; below 1 few next states are likely.
      reward_share: share of (h, s, a) that pay anything.
    Returns:
      FiniteMDP that starts in state 0, rewards in [0, 1].
    Raises:
      ValueError: a size below 1.
    """
    if min(horizon, num_states, num_actions) < 1:
        raise ValueError(
            f"horizon, num_states, num_actions must be >= 1: {horizon}, {num_states}, {num_actions}"
        )
    transition_key, reward_key, pay_key = jax.random.split(key, 3)
    shape = (horizon, num_states, num_actions)
    alphas = jnp.full(num_states, float(concentration))
    pays = jax.random.bernoulli(pay_key, reward_share, shape)
    return FiniteMDP(
        transitions=jax.random.dirichlet(transition_key, alphas, shape),
        rewards=jnp.where(pays, jax.random.uniform(reward_key, shape), 0.0),
        initial=jnp.zeros(num_states).at[0].set(1.0),
    )


def absorbing_states(mdp: DiscountedMDP) -> Bool[Array, "*B S"]:
    """True where every action stays with probability 1 and pays 0: the episode has ended."""
    stays = jnp.diagonal(mdp.transitions, axis1=-3, axis2=-1)  # [*B, A, S]
    return jnp.all(stays == 1, axis=-2) & jnp.all(mdp.rewards == 0, axis=-1)


def _draw(key: Key[Array, ""], probs: Float[Array, " S"]) -> Array:
    return jax.random.categorical(key, jnp.log(probs))


def finite_env(mdp: FiniteMDP) -> Env:
    """The MDP as an environment. The observation is h * S + s, for a policy table [H * S, A]; the
    state is (h, s). After the last step the state stays and rewards are 0."""
    mdp = jax.tree.map(jnp.asarray, mdp)  # NumPy arrays cannot be indexed by tracers
    horizon, num_states = mdp.rewards.shape[-3:-1]

    def observe(state):
        return jnp.minimum(state[0], horizon - 1) * num_states + state[1]

    def reset(key):
        state = (jnp.zeros((), int), _draw(key, mdp.initial))
        return state, observe(state)

    def step(key, state, action):
        time, place = state
        over = time >= horizon
        now = jnp.minimum(time, horizon - 1)
        drawn = _draw(key, mdp.transitions[now, place, action])
        reward = jnp.where(over, 0.0, mdp.rewards[now, place, action])
        new = (jnp.minimum(time + 1, horizon), jnp.where(over, place, drawn))
        discount = jnp.where(new[0] < horizon, 1.0, 0.0)
        return new, TimeStep(observe(new), reward, discount)

    return Env(reset, step)


def discounted_env(mdp: DiscountedMDP) -> Env:
    """The MDP as an environment. Observation and state are s; the episode ends on entering an
    absorbing state. The discount of a step is 1 or 0; the caller applies gamma."""
    mdp = jax.tree.map(jnp.asarray, mdp)  # NumPy arrays cannot be indexed by tracers
    ends = absorbing_states(mdp)

    def reset(key):
        state = _draw(key, mdp.initial)
        return state, state

    def step(key, state, action):
        new = _draw(key, mdp.transitions[state, action])
        discount = jnp.where(ends[new], 0.0, 1.0)
        return new, TimeStep(new, mdp.rewards[state, action], discount)

    return Env(reset, step)
