"""The table of a measurement."""

import statistics

from benchmarks.games.library import Prepared
from benchmarks.measure import Seconds, fastest, ratio


def print_table(
    unit: str, times: Seconds, forms: dict[str, Prepared], apart: dict[str, float]
) -> None:
    """A line per form: medians, ratios to the library's fastest, memory of the library's forms."""
    ours = fastest(times, [*forms])
    print(f"{'':20}  {unit:>12}  ratio  temp MB  resident MB  deviation")
    for name, taken in times.items():
        memory, deviated = f"{'-':>7}  {'-':>11}", f"{'-':>9}"
        if name in forms:
            memory = f"{forms[name].temp / 1e6:7.2f}  {forms[name].resident / 1e6:11.2f}"
        if name in apart:
            deviated = f"{apart[name]:9.1e}"
        line = f"{name:20}  {statistics.median(taken):12.1f}  {ratio(times, name, ours):5.2f}"
        print(f"{line}  {memory}  {deviated}")
