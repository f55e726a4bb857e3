"""Accelerators: published peaks, and the networks between them.

v5e, v5p, v6e     cloud.google.com/tpu/docs/v5e, /v5p, /v6e: peak bf16 FLOP/s, HBM size and
                  bandwidth; a link is the interchip bandwidth over its links (4 in a 2D torus,
                  6 in a 3D torus), one way.
a100, h100, h200  NVIDIA's data sheets of the SXM boards (80 GB for a100 and h100): dense bf16
                  FLOP/s, half of the NVLink bandwidth (one way), and a 400 Gbit/s (a100: 200)
                  network card for each of the eight GPUs of a node.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from rlhf_jax.training import UserError

GIB = 2**30
NODE = 8  # GPUs behind one switch


class Chip(NamedTuple):
    """flops: bf16 a second. hbm: bytes that a program may use. bandwidth: bytes of HBM a second.

    link: bytes a second one way over one link. torus: dimensions of the network of a TPU, 0 for
    GPUs. wrap: a dimension of this multiple closes to a ring. network: bytes a second of a GPU to
    other nodes.
    """

    flops: float | int
    hbm: float | int
    bandwidth: float | int
    link: float | int
    torus: int
    wrap: int = 0
    network: float | int = 0.0


# The HBM of a TPU is what its compiler fills before it refuses a program.
CHIPS = {
    "v5e": Chip(197e12, 15.75 * GIB, 0.82e12, 50e9, 2, wrap=16),  # 16 GB; 1,600 Gbit/s
    "v5p": Chip(459e12, 95.74 * GIB, 2.765e12, 100e9, 3, wrap=4),  # 95 GB; 4,800 Gbit/s
    "v6e": Chip(918e12, 31.25 * GIB, 1.64e12, 112e9, 2, wrap=16),  # 32 GB; 3,584 Gbit/s
    "a100": Chip(312e12, 80e9, 2.039e12, 300e9, 0, network=25e9),
    "h100": Chip(989e12, 80e9, 3.35e12, 450e9, 0, network=50e9),
    "h200": Chip(989e12, 141e9, 4.8e12, 450e9, 0, network=50e9),
}
SHAPES = {  # of published slices
    "v5e": ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
    "v5p": ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16"),
    "v6e": ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16"),
}

DEVICE_KINDS = {  # part of what JAX calls a device -> CHIPS; a longer name before its beginning
    **{"TPU v5 lite": "v5e", "TPU v6 lite": "v6e", "TPU v5": "v5p"},
    **{"A100": "a100", "H100": "h100", "H200": "h200"},
}


class Topology(NamedTuple):
    """A number of chips of one kind; `shape` of a TPU slice, () for GPUs."""

    name: str
    chip: Chip
    count: int
    shape: tuple[int, ...]


def read_topology(name: str) -> Topology:
    """`v5p:8x8x8`, a slice of TPUs, or `h100:64`, a number of GPUs.

    Raises:
      UserError: unknown; it lists the known ones.
    """
    kind, _, size = name.partition(":")
    parts = size.split("x")
    if kind in CHIPS and all(part.isdecimal() and int(part) > 0 for part in parts):
        chip, shape = CHIPS[kind], tuple(int(part) for part in parts)
        if len(shape) == (chip.torus or 1):
            return Topology(name, chip, int(np.prod(shape)), shape if chip.torus else ())
    known = [f"{kind}:{shape}" for kind, shapes in SHAPES.items() for shape in shapes]
    gpus = [f"{kind}:N" for kind, chip in CHIPS.items() if not chip.torus]
    raise UserError(
        f"--topology {name} is not known; choose from {', '.join(known)}, "
        f"or N GPUs as {', '.join(gpus)}"
    )


def local_topology(devices: Sequence[Any]) -> Topology | None:
    """The devices of this process as a topology, with their HBM; None for an unknown kind."""
    kind = next(
        (kind for name, kind in DEVICE_KINDS.items() if name in devices[0].device_kind), None
    )
    if kind is None:
        return None
    chip = CHIPS[kind]
    limit = (devices[0].memory_stats() or {}).get("bytes_limit", chip.hbm)
    places = np.array([getattr(device, "coords", ()) for device in devices])
    shape = tuple(int(extent) for extent in np.ptp(places, axis=0)[: chip.torus] + 1)
    return Topology(f"{kind}:local", chip._replace(hbm=float(limit)), len(devices), shape)


def bandwidth(topology: Topology, members: Sequence[Any]) -> float | int:
    """Bytes a second, one way, that a chip can send in a ring of these devices.

    A TPU uses both directions of a ring along each dimension of the network that the members fill,
    and one direction where the dimension does not close.
    """
    chip = topology.chip
    if not chip.torus:
        nodes = {device.id // NODE for device in members}
        return chip.link if len(nodes) == 1 else chip.network
    places = np.array([device.coords for device in members])
    spread = [len(set(column)) for column in places.T]
    along = [i for i, extent in enumerate(spread) if extent > 1]
    if int(np.prod(spread)) != len(members):  # no block of the torus: count on one ring
        along = along[:1]
    closed = [spread[i] == topology.shape[i] and not spread[i] % chip.wrap for i in along]
    return chip.link * max(sum(2 if each else 1 for each in closed), 1)
