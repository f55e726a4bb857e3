"""Batches with several hosts: each reads its own rows, and together they are the batch of one.

Started by `jax.distributed.initialize()` on every host; with one process nothing here does
anything.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rlhf_jax.data.loader import WHOLE, Share, batches
from rlhf_jax.recipes.lab import LanguageLab
from rlhf_jax.sharding import BATCH, batch_ways
from rlhf_jax.types import PyTree


def host_batches(
    lab: LanguageLab, source: Any, batch_fn: Callable[[Sequence[Any]], PyTree], *, batch_size: int
) -> Any:
    """`loader.batches` in an order of the lab's seed, split over the hosts of its mesh."""
    return batches(
        source,
        batch_size=batch_size,
        seed=lab.seed,
        batch_fn=lambda rows: join_hosts(batch_fn(rows), lab.mesh),
        share=host_share(lab.mesh),
    )


def host_share(mesh: Mesh | None) -> Share:
    """The part of a batch for the devices of this process.

    Processes with the same part of a batch, whose copy of the parameters spans them,
    read the same rows.
    """
    if mesh is None or jax.process_count() == 1:
        return WHOLE
    ways = batch_ways(mesh)
    split = NamedSharding(mesh, PartitionSpec(BATCH)).addressable_devices_indices_map((ways,))
    places = sorted({index[0].indices(ways)[0] for index in split.values() if index})
    return Share(places[0] // len(places), ways // len(places))


def join_hosts(part: PyTree, mesh: Mesh | None) -> PyTree:
    """The whole batch, of which this host holds `part`: arrays split over their rows."""
    if mesh is None or jax.process_count() == 1:
        return part
    split = NamedSharding(mesh, PartitionSpec(BATCH))
    return jax.tree.map(
        lambda x: jax.make_array_from_process_local_data(split, np.asarray(x)), part
    )
