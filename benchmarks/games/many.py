"""Many small games: the library against the same iterations in NumPy and torch."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.games import peers
from benchmarks.games.library import BETA, ETA, alone, both, draw
from benchmarks.games.table import print_table
from benchmarks.measure import Goal, Seconds, deviations, fastest, in_turns, ratio

NUMPY_GOAL, TORCH_GOAL = 5.0, 100.0  # times as fast as the loop
AGREEMENT = 1e-4  # of any probability
FIRST, LAST, TORCH = "NumPy, games first", "NumPy, games last", "torch, game by game"


@dataclass(frozen=True, kw_only=True)
class Many:
    """Sizes. Values are compared after `checked` iterations; torch runs less and is scaled up."""

    games: int = 1024
    answers: int = 10
    iterations: int = 10_000
    checked: int = 100
    torch_games: int = 8
    torch_iterations: int = 500


def many_games(sizes: Many, turns: int) -> list[Goal]:
    """Prints the table of the small games; its goals."""
    prefs, ref = draw((sizes.games,), sizes.answers)
    forms = both(prefs, ref, iterations=sizes.iterations)
    others = loops(prefs, ref, sizes)
    short = both(prefs, ref, iterations=sizes.checked)
    checks = {name: form.run for name, form in short.items()}
    checks |= {name: partial(loop, iterations=sizes.checked) for name, loop in others.items()}
    apart = deviations(checks)
    parts = alone(prefs, ref, iterations=sizes.iterations)
    iterations = dict.fromkeys([*forms, FIRST, LAST, *parts], sizes.iterations)
    iterations[TORCH] = sizes.torch_iterations
    runs = {name: form.run for name, form in forms.items()}
    runs |= {name: partial(loop, iterations=iterations[name]) for name, loop in others.items()}
    for part in parts.values():
        part()
    seconds = in_turns(runs | parts, turns)
    scales = {name: 1e6 / iterations[name] for name in seconds}
    if TORCH in runs:
        scales[TORCH] *= sizes.games / sizes.torch_games
    times = {name: [t * scales[name] for t in taken] for name, taken in seconds.items()}
    print(f"{sizes.games} games, n={sizes.answers}, {prefs.nbytes / 1e6:.1f} MB, ", end="")
    print(f"{sizes.iterations} iterations; deviation after {sizes.checked}")
    if TORCH in times:
        print(f"torch: {sizes.torch_games} games, {sizes.torch_iterations} iterations, scaled up")
    else:
        print("torch: skipped, not installed (pip install -e '.[parity]')")
    print_table("us/iteration", times, forms, apart)
    return goals(times, [*forms], apart)


def loops(prefs: np.ndarray, ref: np.ndarray, sizes: Many) -> dict[str, Callable]:
    """The peers at hand, each of which waits for its number of iterations."""
    numbers = {"eta": ETA, "beta": BETA}
    found: dict[str, Callable] = {
        FIRST: partial(peers.numpy_games_first, prefs, ref, **numbers),
        LAST: partial(peers.numpy_games_last, prefs, ref, **numbers),
    }
    if peers.torch_is_there():
        few = slice(sizes.torch_games)
        found[TORCH] = partial(peers.torch_game_by_game, prefs[few], ref[few], **numbers)
    return found


def goals(times: Seconds, forms: list[str], apart: dict[str, float]) -> list[Goal]:
    """Against the faster of the NumPy loops, and torch if it ran."""
    ours, numpy = fastest(times, forms), fastest(times, [FIRST, LAST])
    found = [Goal(name="deviation", value=max(apart.values()), bound=AGREEMENT)]
    for name, bound in ((numpy, NUMPY_GOAL), (TORCH, TORCH_GOAL)):
        if name in times:
            title, value = f"{name} / {ours}", ratio(times, name, ours)
            found.append(Goal(name=title, value=value, bound=bound, at_least=True))
    return found
