"""EGPO as the library runs it, in one jitted call: on one device, or split over all of them."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from benchmarks.measure import resident_growth
from rlhf_jax.algos.games import nash_mp
from rlhf_jax.algos.games.many import columnwise_win_rates
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.algos.games.runs import run_updates
from rlhf_jax.envs.games import random_game, random_reference

ONE, ALL, WIDE = "library, one device", "library, all devices", "library, wide vectors"
EXPONENTIALS, PRODUCTS = "4 exponentials alone", "2 products alone"
WIDEST = {"xla_cpu_prefer_vector_width": 512}  # bits, where the CPU has them; XLA uses half of that
BETA = 0.1
ETA = 2.0 / (1.0 + 2.0 * BETA)  # the largest step of which linear convergence is known


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A compiled run on its arrays.

    Attributes:
      run: () -> probabilities of the last policy, [*B, n].
      temp: bytes of scratch memory that the compiled program asks for, on all devices.
      resident: bytes by which the process grew in the first run.
    """

    run: Callable[[], np.ndarray]
    temp: float
    resident: float


def draw(shape: tuple[int, ...], answers: int) -> tuple[np.ndarray, np.ndarray]:
    """Games [*shape, n, n] and references [*shape, n], in float32."""
    games, refs = jax.random.split(jax.random.key(0))
    make = jax.jit(lambda key: random_game(key, answers))
    prefs = make(jax.random.split(games, shape) if shape else games)
    ref = random_reference(jax.random.split(refs, shape) if shape else refs, answers)
    return np.asarray(prefs), np.asarray(ref)


def both(prefs: np.ndarray, ref_logps: np.ndarray, *, iterations: int) -> dict[str, Prepared]:
    """On one device, and on all of them where there are more; on a CPU also with wide vectors."""
    devices = jax.devices()
    places = {ONE: devices[:1]} | ({ALL: devices} if len(devices) > 1 else {})
    found = {
        name: prepared(prefs, ref_logps, iterations=iterations, devices=chosen)
        for name, chosen in places.items()
    }
    if devices[0].platform == "cpu":
        found[WIDE] = prepared(
            prefs, ref_logps, iterations=iterations, devices=devices, options=WIDEST
        )
    return found


def alone(prefs: np.ndarray, ref_logps: np.ndarray, *, iterations: int) -> dict[str, Callable]:
    """What an iteration of many small games cannot leave out, each part in a loop of its own.

    Four exponentials of every entry, two for the policies and two for their sums, and two products
    of every matrix; answers first, on all devices, with wide vectors on a CPU.
    """
    devices = jax.devices()
    mesh = jax.make_mesh((len(devices),), ("games",), (AxisType.Auto,), devices=devices)
    rows = prefs / prefs.sum(-1, keepdims=True)  # of sum 1: products stay as large as they are
    table, start = (
        jax.device_put(x, NamedSharding(mesh, PartitionSpec(*[None] * (x.ndim - 1), "games")))
        for x in (rows.transpose(1, 2, 0), ref_logps.T)
    )

    def exponential(table: jax.Array, x: jax.Array) -> jax.Array:
        return -jax.numpy.exp(x)

    def loop(part: Callable[[jax.Array, jax.Array], jax.Array], times: int) -> Callable:
        def run(table: jax.Array, x: jax.Array) -> jax.Array:
            return jax.lax.fori_loop(0, times * iterations, lambda _, x: part(table, x), x)

        options = WIDEST if devices[0].platform == "cpu" else {}
        compiled = jax.jit(run, compiler_options=options).lower(table, start).compile()
        return lambda: jax.block_until_ready(compiled(table, start))

    return {EXPONENTIALS: loop(exponential, 4), PRODUCTS: loop(columnwise_win_rates, 2)}


def prepared(
    prefs: np.ndarray,
    ref_logps: np.ndarray,
    *,
    iterations: int,
    devices: list[jax.Device],
    options: dict[str, int] | None = None,
) -> Prepared:
    """`nash_mp` from the reference; the first axis of the arrays is split over the devices.

    For many games that is the games; for one, the rows of its matrix. `options` are XLA's.
    """

    def run(prefs: jax.Array, ref: jax.Array) -> jax.Array:
        method = nash_mp(ref, eta=ETA, beta=BETA)
        state, _ = run_updates(
            method.update,
            method.init(ref),
            exact_oracle(prefs),
            jax.random.key(0),
            times=(iterations,),
            record=lambda state, metrics: (),
        )
        return jax.numpy.exp(state.logps)

    mesh = jax.make_mesh((len(devices),), ("first",), (AxisType.Auto,), devices=devices)
    split = NamedSharding(mesh, PartitionSpec("first"))
    arrays = jax.device_put((prefs, ref_logps), split)
    jax.block_until_ready(arrays)
    compiled = jax.jit(run, compiler_options=options).lower(*arrays).compile()
    memory = compiled.memory_analysis()
    temp = float("nan") if memory is None else memory.temp_size_in_bytes * len(devices)

    def again() -> np.ndarray:
        return np.asarray(compiled(*arrays))

    return Prepared(run=again, temp=temp, resident=resident_growth(again))
