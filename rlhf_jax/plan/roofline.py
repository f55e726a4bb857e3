"""The shortest time of a program on a chip: products, memory and network, each at its peak.

    seconds = max(flops / peak, HBM bytes / bandwidth, sum of collectives)

A bound: everything overlaps, nothing waits, and no kernel is slower than the peak.
"""

import math
from collections import defaultdict
from typing import Any, NamedTuple

from jax.sharding import Mesh

from rlhf_jax.plan.chips import Topology, bandwidth
from rlhf_jax.plan.cost import Cost
from rlhf_jax.plan.groups import axes_of, parse_groups

# Bytes that a chip sends for one byte of its own that goes in, among n: ring algorithms.
SENT = {
    "all-gather": lambda n: n - 1,
    "reduce-scatter": lambda n: (n - 1) / n,
    "all-reduce": lambda n: 2 * (n - 1) / n,
    "all-to-all": lambda n: (n - 1) / n,
    "collective-permute": lambda n: 1.0,
}


class Link(NamedTuple):
    """A kind of collective along the axes of a mesh, e.g. all-gather, fsdp."""

    kind: str
    axes: str


class Traffic(NamedTuple):
    """sent: bytes that a chip sends. seconds: at the peak of the links that the axes have."""

    sent: float | int
    seconds: float | int


class Roofline(NamedTuple):
    """seconds: the bound. limit: compute, HBM or network. times: seconds of each alone."""

    seconds: float | int
    limit: str
    times: dict[str, float | int]


def network_traffic(cost: Cost, mesh: Mesh, topology: Topology) -> dict[Link, Traffic]:
    """What every kind of collective sends along every set of axes, largest first."""
    sent: dict[Link, float] = defaultdict(float)
    seconds: dict[Link, float] = defaultdict(float)
    for one, payload in cost.collectives.items():
        groups = parse_groups(one.groups, mesh.size)
        if one.kind == "collective-permute":  # pairs of source and target
            groups = groups[groups[:, 0] != groups[:, 1]]
        if groups.size == 0 or groups.shape[1] < 2:
            continue
        axes = axes_of(groups, mesh.devices.shape, mesh.axis_names)
        link = Link(one.kind, "+".join(axes))
        size = payload * SENT[one.kind](groups.shape[1])
        sent[link] += size
        seconds[link] += size / bandwidth(topology, _along(mesh, axes))
    largest = sorted(sent, key=lambda link: -sent[link])
    return {link: Traffic(sent[link], seconds[link]) for link in largest}


def _along(mesh: Mesh, axes: tuple[str, ...]) -> list[Any]:
    """The devices that differ from the first one in these axes only."""
    place = tuple(slice(None) if name in axes else 0 for name in mesh.axis_names)
    return list(mesh.devices[place].flat)


def roofline(cost: Cost, traffic: dict[Link, Traffic], topology: Topology) -> Roofline:
    """The bound, and the resource that sets it."""
    times = {
        "compute": cost.flops / topology.chip.flops,
        "HBM": cost.hbm / topology.chip.bandwidth,
        "network": math.fsum(each.seconds for each in traffic.values()),
    }
    limit = max(times, key=lambda name: times[name])
    return Roofline(times[limit], limit, times)


def mfu(useful: float | int, seconds: float | int, topology: Topology) -> float | int:
    """Useful FLOPs of all chips over what the chips could do in this time."""
    return useful / (seconds * topology.count * topology.chip.flops) if seconds else math.nan
