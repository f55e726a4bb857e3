"""One large game: the library against the time that reading its matrix takes, and its memory."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from benchmarks.games import peers
from benchmarks.games.library import BETA, ETA, Prepared, both, draw
from benchmarks.games.table import print_table
from benchmarks.measure import Goal, Seconds, deviations, fastest, in_turns, ratio, threads_reading

TIME_GOAL = 1.5  # of reading the matrix two times
COPY_GOAL = 0.1  # of the matrix, in scratch memory and in growth of the process
AGREEMENT = 1e-4  # of any probability
NUMPY, THREADS, SUM = "NumPy", "2 x read by threads", "2 x read by a sum"


@dataclass(frozen=True, kw_only=True)
class One:
    """Sizes."""

    answers: int = 10_000
    iterations: int = 10


def one_game(sizes: One, turns: int) -> list[Goal]:
    """Prints the table of the large game; its goals."""
    prefs, ref = draw((), sizes.answers)
    forms = both(prefs, ref, iterations=sizes.iterations)

    def loop():
        games, refs = prefs[None], ref[None]
        return peers.numpy_games_first(
            games, refs, eta=ETA, beta=BETA, iterations=sizes.iterations
        )[0]

    apart = deviations({name: form.run for name, form in forms.items()} | {NUMPY: loop})
    matrix, added = jax.device_put(prefs), jax.jit(jnp.sum)
    readings: dict[str, Callable[[], object]] = {
        THREADS: threads_reading(prefs, len(os.sched_getaffinity(0))),
        SUM: lambda: jax.block_until_ready(added(matrix)),
    }
    for reading in readings.values():
        reading()
    runs = {name: form.run for name, form in forms.items()} | {NUMPY: loop}
    seconds = in_turns(runs | readings, turns)
    scales = dict.fromkeys(runs, 1e3 / sizes.iterations) | dict.fromkeys(readings, 2e3)
    times = {name: [t * scales[name] for t in taken] for name, taken in seconds.items()}
    print(
        f"\none game, n={sizes.answers}, {prefs.nbytes / 1e6:.1f} MB, {sizes.iterations} iterations"
    )
    print_table("ms/iteration", times, forms, apart)
    return goals(times, forms, apart, prefs.nbytes)


def goals(
    times: Seconds, forms: dict[str, Prepared], apart: dict[str, float], size: int
) -> list[Goal]:
    """Time against the faster way of reading; no form may copy the matrix."""
    ours, limit = fastest(times, [*forms]), fastest(times, [THREADS, SUM])
    value = ratio(times, ours, limit)
    temp = max(form.temp for form in forms.values()) / size
    resident = max(form.resident for form in forms.values()) / size
    found = [
        Goal(name="deviation", value=max(apart.values()), bound=AGREEMENT),
        Goal(name=f"{ours} / {limit}", value=value, bound=TIME_GOAL),
        Goal(name="temp / matrix", value=temp, bound=COPY_GOAL),
    ]
    if not math.isnan(resident):  # the kernel may not say
        found.append(Goal(name="resident / matrix", value=resident, bound=COPY_GOAL))
    return found
