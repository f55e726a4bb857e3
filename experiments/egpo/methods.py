"""The methods of EGPO's simulations: gradient descent on the losses that a language model has.

Every pair of answers is enumerated, so a gradient is exact up to the oracle. A policy is
`logps(params) -> [G, n]`, of G games: a table of logits, or a network that all games share.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from rlhf_jax.algos.games.oracles import Oracle
from rlhf_jax.algos.gradient import gradient_step, init_state
from rlhf_jax.losses.games import nash_md_pg_loss, online_ipo_loss, online_ipo_v2_loss
from rlhf_jax.ops.masking import Mean
from rlhf_jax.types import TrainState


class Task(NamedTuple):
    """What is played: P [G, n, n], log mu [G, n], the oracle of P, the KL weight, the SGD rate."""

    prefs: jax.Array
    ref_logps: jax.Array
    oracle: Oracle
    beta: jax.Array | float
    rate: jax.Array | float


def table(params: jax.Array) -> jax.Array:
    """The policy whose parameters are its logits [G, n]."""
    return jax.nn.log_softmax(params, axis=-1)


def network(params: dict[str, jax.Array]) -> jax.Array:
    """Three linear layers with ReLU between them, on a learned input for each game."""
    hidden = params["inputs"]
    for weight in ("first", "second"):
        hidden = jax.nn.relu(hidden @ params[weight] + params[f"{weight}_bias"])
    return jax.nn.log_softmax(hidden @ params["last"] + params["last_bias"], axis=-1)


def init_network(key: jax.Array, games: int, width: int, n: int) -> dict[str, jax.Array]:
    """Inputs and weights as the authors draw them: standard normal, and Glorot normal."""
    keys = jax.random.split(key, 4)
    glorot = jax.nn.initializers.glorot_normal()
    return {
        "inputs": jax.random.normal(keys[0], (games, width)),
        "first": glorot(keys[1], (width, width), float),
        "first_bias": jnp.zeros(width),
        "second": glorot(keys[2], (width, width), float),
        "second_bias": jnp.zeros(width),
        "last": glorot(keys[3], (width, n), float),
        "last_bias": jnp.zeros(n),
    }


def all_pairs(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """First and second [G, n, n] of every ordered pair, from [G, n]."""
    shape = (*x.shape, x.shape[-1])
    return jnp.broadcast_to(x[..., :, None], shape), jnp.broadcast_to(x[..., None, :], shape)


def online_ipo(task: Task, logps: jax.Array, wins: jax.Array) -> jax.Array:
    """First form, uniform pairs: [G]."""
    gaps = wins[..., :, None] - wins[..., None, :]
    pairs = *all_pairs(logps), *all_pairs(task.ref_logps)
    return jnp.mean(online_ipo_loss(*pairs, gaps, beta=task.beta), axis=(-2, -1))


def online_ipo_v2(task: Task, logps: jax.Array) -> jax.Array:
    """Second form, pairs of the policy: [G]."""
    first, second = all_pairs(logps)
    weights = jnp.exp(jax.lax.stop_gradient(first + second))
    refs = all_pairs(task.ref_logps)
    losses = online_ipo_v2_loss(first, second, *refs, task.prefs, beta=task.beta)
    return jnp.sum(weights * losses, axis=(-2, -1))


def nash_md_pg(task: Task, logps: jax.Array, wins: jax.Array) -> jax.Array:
    """Policy gradient, answers of the policy: [G]."""
    tokens, ref_tokens = logps[..., None], task.ref_logps[..., None]
    mask = jnp.ones(tokens.shape, bool)
    losses = nash_md_pg_loss(tokens, ref_tokens, wins, mask, beta=task.beta)
    return jnp.sum(jnp.exp(jax.lax.stop_gradient(logps)) * losses, axis=-1)


Update = Callable[[TrainState, jax.Array], TrainState]


def make_updates(policy: Callable, task: Task) -> dict[str, Update]:
    """Each method as a pure `update(state, key) -> state`, plain SGD at the task's rate."""
    optimizer = optax.sgd(task.rate)
    ref_weight = 4.0 * task.rate / task.ref_logps.shape[-1]  # eta beta

    def descend(state: TrainState, loss: Callable) -> TrainState:
        """One step on the sum over games of `loss(logps) [G]`."""

        def objective(params):
            return Mean(jnp.sum(loss(policy(params))), jnp.ones(())), {}

        return gradient_step(state, objective, optimizer)[0]

    def against(opponent: jax.Array, key: jax.Array, loss: Callable) -> Callable:
        """`logps -> [G]` of a loss whose opponent is held fixed."""
        return partial(loss, task, wins=task.oracle(opponent, key))

    def mixed(state: TrainState, weight: jax.Array | float = ref_weight) -> jax.Array:
        """Nash-MD's geometric mixture of the policy and the reference."""
        return table((1.0 - weight) * policy(state.params) + weight * task.ref_logps)

    def egpo(state: TrainState, key: jax.Array) -> TrainState:
        first, second = jax.random.split(key)
        half = descend(state, against(policy(state.params), first, online_ipo))
        # From where it started, parameters and optimiser state alike: nothing is to be restored.
        return descend(state, against(policy(half.params), second, online_ipo))

    return {
        "EGPO": egpo,
        "OMD": lambda state, key: descend(state, against(policy(state.params), key, online_ipo)),
        "Nash-MD": lambda state, key: descend(state, against(mixed(state), key, online_ipo)),
        # The authors' code takes 2 lr for the 4 lr of the step.
        "Nash-MD, half mixture": lambda state, key: descend(
            state, against(mixed(state, 0.5 * ref_weight), key, online_ipo)
        ),
        "Online IPO 2": lambda state, key: descend(state, partial(online_ipo_v2, task)),
        "Nash-MD-PG": lambda state, key: descend(state, against(mixed(state), key, nash_md_pg)),
    }


def follow(
    update: Update, params, key: jax.Array, *, rate: jax.Array | float, steps: int, record: Callable
):
    """`record(params)` before the first and after every update, leading axis [steps + 1]."""

    def step(state: TrainState, t: jax.Array):
        return update(state, jax.random.fold_in(key, t)), record(state.params)

    state = init_state(params, optax.sgd(rate))
    return jax.lax.scan(step, state, jnp.arange(steps + 1))[1]
