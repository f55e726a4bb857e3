"""Two junctions in a row: queues, lights, six factors of a step, and the travel time that counts.

At most one vehicle a step comes on each road. Those of the main road pass junction 0, drive on for
DRIVE steps and queue at junction 1; each junction has a side road too. A green queue lets `service`
vehicles through in a step; a step in which the light changes lets none through.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from rlhf_jax.types import PyTree

DRIVE = 3  # steps from one junction to the next
FACTORS = ("queue", "waiting", "standing", "switches", "passed", "longest wait")
FEATURES = 6  # of a junction, which its light is switched by


class Demand(NamedTuple):
    """arrivals: [3] probability of a vehicle in a step, on the main road and on the side roads;
    service: vehicles a step at a green light."""

    arrivals: Float[Array, "3"]
    service: Float[Array, ""]


class Junctions(NamedTuple):
    """queues, waits: [2, 2] junctions, main and side; vehicles, and the steps that they wait in
    sum. green: [2] 0 main, 1 side. held: [2] steps of it. road: [DRIVE] vehicles between."""

    queues: Array
    waits: Array
    green: Array
    held: Array
    road: Array


def empty_roads() -> Junctions:
    """Nobody is there, the main road is green."""
    nothing = jnp.zeros((2, 2))
    return Junctions(nothing, nothing, jnp.zeros(2), jnp.zeros(2), jnp.zeros(DRIVE))


def light_features(now: Junctions) -> Float[Array, "2 FEATURES"]:
    """What a light reads: 1, the queues at green and at red, the mean wait at red, how long it is
    green, and the vehicles that are on their way to it."""
    rows = jnp.arange(2)
    seen, unseen = now.green.astype(int), 1 - now.green.astype(int)
    red = now.queues[rows, unseen]
    wait = now.waits[rows, unseen] / jnp.maximum(red, 1.0)
    coming = jnp.array([0.0, 1.0]) * now.road.sum()
    columns = (jnp.ones(2), now.queues[rows, seen], red, wait, now.held, coming)
    return jnp.stack(columns, axis=-1) / jnp.array([1.0, 5.0, 5.0, 10.0, 10.0, 3.0])


def drive_step(
    come: Float[Array, "3"], now: Junctions, switch: Array, demand: Demand
) -> tuple[Junctions, Array, Array]:
    """The next state, the six factors of the step (larger is better), vehicles that are there.

    Args:
      come: [3] vehicles that arrive. switch: [2] bool.
    """
    green = jnp.where(switch, 1 - now.green, now.green)
    open_ = (jnp.arange(2) == green[:, None]) & ~switch[:, None]
    served = jnp.where(open_, jnp.minimum(now.queues, demand.service), 0.0)
    left = now.queues - served
    # Who waits longest goes first, but only sums are kept: those who go take a mean wait along.
    waits = now.waits * left / jnp.maximum(now.queues, 1e-6)
    added = jnp.array([[come[0], come[1]], [now.road[-1], come[2]]])
    road = jnp.concatenate([served[0, :1], now.road[:-1]])
    queues, held = left + added, jnp.where(switch, 0.0, now.held + 1)
    after = Junctions(queues, waits + left, green, held, road)
    per_head = after.waits / jnp.maximum(queues, 1.0)
    factors = jnp.stack(
        [
            -queues.sum(),
            -after.waits.sum(),
            -jnp.sum(left > 0).astype(jnp.float32),
            -switch.sum().astype(jnp.float32),
            served.sum() - served[0, 0],
            -per_head.max(),
        ]
    )
    return after, factors, queues.sum() + road.sum()


def drive(
    key: Key[Array, ""], weights: PyTree, demand: Demand, *, steps: int
) -> tuple[Float[Array, "6"], Float[Array, ""]]:
    """Mean factors of `steps` steps, and the travel time: vehicles there over arrivals a step.

    Args:
      weights: [FEATURES] of `light_features`; both lights switch where the sum is above 0.
    Reference: the travel time is Little's law, L = lambda W.
    """

    def step(now, come):
        switch = light_features(now) @ weights > 0
        after, factors, there = drive_step(come, now, switch, demand)
        return after, (factors, there)

    come = (jax.random.uniform(key, (steps, 3)) < demand.arrivals).astype(jnp.float32)
    _, (factors, there) = jax.lax.scan(step, empty_roads(), come)
    return factors.mean(0), there.mean() / demand.arrivals.sum()
