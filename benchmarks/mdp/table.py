"""The table of a measurement."""

import statistics
from collections.abc import Mapping

from benchmarks.measure import Seconds, fastest, ratio


def print_table(unit: str, times: Seconds, apart: Mapping[str, float] | None = None) -> None:
    """A line per form: median, ratio to the library's fastest form, deviation from its first."""
    ours = fastest(times, [name for name in times if name.startswith("library")])
    print(f"{'':26}  {unit:>10}  ratio  deviation")
    for name, taken in times.items():
        deviation = f"{apart[name]:9.1e}" if apart and name in apart else f"{'-':>9}"
        numbers = f"{statistics.median(taken):10.3f}  {ratio(times, name, ours):5.2f}"
        print(f"{name:26}  {numbers}  {deviation}")
