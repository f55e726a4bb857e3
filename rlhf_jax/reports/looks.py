"""One look for each method in all figures: its colour, line and marker."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, NamedTuple

# Okabe and Ito's palette, which colour-blind readers can tell apart, without its pale yellow.
BLUE, RED, GREEN, PINK, SKY, ORANGE, BLACK = (
    *("#0072B2", "#D55E00", "#009E73", "#CC79A7"),
    *("#56B4E9", "#E69F00", "#000000"),
)
GREY = "#888888"
COLOURS = (BLUE, RED, GREEN, PINK, SKY, ORANGE, BLACK)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
SOLID, DASHED, CHAINED, DOTTED = "-", (0, (4, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1, 1.2))
LINES = (SOLID, DASHED, CHAINED, DOTTED, (0, (7, 1)), (0, (3, 1, 1, 1, 1, 1)), (0, (2, 2)))


class Look(NamedTuple):
    """How one name is drawn."""

    colour: str
    line: Any = SOLID
    marker: str = ""

    def style(self) -> dict[str, Any]:
        """Keywords of `Axes.plot`."""
        return {"color": self.colour, "linestyle": self.line, "marker": self.marker}


# A name takes the look of the longest entry that it begins with, up to the end of a word.
# Self-play against oneself is one method under several names, and has one colour.
LOOKS = {
    "OMD": Look(BLUE, SOLID, "o"),
    "INPO": Look(BLUE, SOLID, "o"),
    "Hedge": Look(RED, SOLID, "s"),
    "Hedge, average": Look(RED, SOLID, "s"),
    "Hedge, last": Look(RED, DOTTED, "s"),
    "SPO": Look(RED, SOLID, "s"),
    "SPO, average": Look(RED, SOLID, "s"),
    "SPO, last": Look(RED, DOTTED, "s"),
    "EGPO": Look(GREEN, SOLID, "^"),
    "Nash-MP": Look(GREEN, DASHED, "P"),
    "Nash-MD": Look(ORANGE, SOLID, "D"),
    "Nash-EMA": Look(ORANGE, DASHED, "v"),
    "ONPO": Look(PINK, SOLID, "v"),
    "MNPO": Look(SKY, SOLID, "X"),
    "TD-MNPO": Look(SKY, SOLID, "X"),
    "HT-MNPO": Look(SKY, DASHED, "X"),
    "IPO": Look(SKY, SOLID, "D"),
    "Online IPO": Look(SKY, DASHED, "D"),
    "DPO": Look(PINK, SOLID, "P"),
    "online DPO": Look(PINK, DASHED, "P"),
    "iterative DPO": Look(PINK, CHAINED, "P"),
    "PPO": Look(BLACK, SOLID, "X"),
    "PPO, no KL": Look(BLACK, DOTTED, "X"),
    "SFT": Look(GREY, SOLID, "o"),
    "best of n": Look(GREEN, SOLID, "o"),
    "reward model": Look(BLACK, SOLID, "P"),
    "expert": Look(GREY, SOLID),
    "uniform": Look(GREY, DOTTED),
    "random": Look(GREY, DASHED),
    "oracle": Look(GREY, CHAINED),
    "HG-DAgger": Look(RED, DASHED, "s"),
    "RLIF": Look(BLUE, SOLID, "o"),
    "BC": Look(RED, DASHED, "s"),
    "CPL": Look(BLUE, SOLID, "o"),
    "HERON": Look(BLUE, SOLID, "o"),
    "table": Look(BLUE, SOLID, "o"),
    "log-linear": Look(RED, SOLID, "s"),
    "transformer": Look(GREEN, SOLID, "^"),
    "regret": Look(BLUE, SOLID, "o"),
    "partial return": Look(RED, SOLID, "s"),
}


def method_of(name: str) -> str:
    """The longest entry of `LOOKS` that the name begins with; "" if there is none."""
    begins = (
        method
        for method in LOOKS
        if name.startswith(method) and not name[len(method) : len(method) + 1].isalnum()
    )
    return max(begins, key=len, default="")


def looks(names: Sequence[str]) -> dict[str, Look]:
    """A look for each name of one figure, no two alike.

    Variants of a method keep its colour and differ by line and marker. Names that are not in
    `LOOKS` take the colours that no method of the figure has, then all colours with other lines.
    """
    found: dict[str, Look] = {}
    for name in names:
        if method := method_of(name):
            found[name] = _unlike(LOOKS[method], list(found.values()))
    rest = _others({look.colour for look in found.values()})
    for name in names:
        if name not in found:
            found[name] = next(look for look in rest if look not in found.values())
    return {name: found[name] for name in names}


def _unlike(look: Look, taken: Sequence[Look]) -> Look:
    """The look itself, or one of its colour with another line and marker."""
    start = MARKERS.index(look.marker) if look.marker else 0
    markers = [*MARKERS[start:], *MARKERS[:start]]
    near = zip(LINES, markers, strict=True)
    choices = [look, *(Look(look.colour, *pair) for pair in (*near, *product(LINES, MARKERS)))]
    return next(each for each in choices if each not in taken)


def _others(used: set[str]) -> Iterator[Look]:
    """Looks that neighbours tell apart by colour, line and marker."""
    free = [i for i, colour in enumerate(COLOURS) if colour not in used]
    for shift in range(len(LINES)):
        for i in free:
            place = (i + shift) % len(LINES)
            yield Look(COLOURS[i], LINES[place], MARKERS[place])
    yield from (Look(*parts) for parts in product(COLOURS, LINES, MARKERS))
