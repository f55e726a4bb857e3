"""Other meshes, remat policies, micro-batches and numbers of chips: planned and ranked."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from rlhf_jax.models.config import Remat
from rlhf_jax.plan.chips import SHAPES, Topology, read_topology
from rlhf_jax.plan.compiler import topology_devices
from rlhf_jax.plan.estimate import PodPlan, held, make_plan
from rlhf_jax.plan.programs import Workload, workload_programs
from rlhf_jax.sharding import make_mesh
from rlhf_jax.training import UserError

MOST_MODEL = 16  # ways of "model": more of it sends more for each token than it saves


class Candidate(NamedTuple):
    """A job and the ways of a mesh for it."""

    job: Workload
    ways: dict[str, int]


def search(
    job: Workload, topology: Topology, *, tries: int, say: Callable[[str], None] = lambda line: None
) -> list[PodPlan]:
    """Plans of the most promising candidates: those that fit first, then by the bound.

    Candidates whose parameters and optimizer alone exceed the HBM are not compiled; nor is, for a
    mesh that fits as it is, a variant with less memory.

    Args:
      tries: programs' plans that are compiled, at most.
      say: is given a line for each.
    Raises:
      UserError: no candidate is left to compile.
    """
    plans: list[PodPlan] = []
    settled: set[tuple] = set()
    for candidate in candidates(job, topology):
        mesh_key = tuple(sorted(candidate.ways.items()))
        if len(plans) == tries or mesh_key in settled:
            continue
        if (plan := _tried(candidate, topology)) is None:
            continue
        plans.append(plan)
        settled |= {mesh_key} if plan.fits else set()
        say(f"{len(plans)}: {_words(candidate)}: {'fits' if plan.fits else 'does not fit'}")
    if not plans:
        raise UserError(
            f"no mesh of {topology.name} divides this model and a batch of {job.batch} and holds "
            "its parameters: take more chips or another --batch"
        )
    return sorted(plans, key=lambda plan: (not plan.fits, plan.seconds))


def candidates(job: Workload, topology: Topology) -> Iterator[Candidate]:
    """Settings in the order in which they are tried.

    From the one with the least recomputation and the fewest model ways to the one with the least
    memory; micro-batches double while the rows of a part divide over the devices.
    """
    for remat, parts in _settings(job):
        for model in _powers(min(MOST_MODEL, topology.count)):
            fsdp = topology.count // model
            rows = job.batch * job.samples
            if topology.count % model or job.batch % fsdp or rows % (parts * fsdp):
                continue
            config = replace(job.config, remat=remat)
            yield Candidate(
                job._replace(config=config, parts=parts), {"fsdp": fsdp, "model": model}
            )


def sweep(
    job: Workload, topology: Topology, *, say: Callable[[str], None] = lambda line: None
) -> list[PodPlan]:
    """Plans for the slices of 8 chips up to the topology, with the fewest model ways that divide.

    Slices that hold no mesh for the batch are left out.
    """
    plans = []
    for each in _smaller(topology):
        for model in _powers(MOST_MODEL):
            ways = {"fsdp": each.count // model, "model": model}
            if each.count % model or not ways["fsdp"] or job.batch % ways["fsdp"]:
                continue
            if (plan := _tried(Candidate(job, ways), each, prune=False)) is not None:
                plans.append(plan)
                say(f"{each.name}: {'fits' if plan.fits else 'does not fit'}")
                break
    return plans


def _tried(candidate: Candidate, topology: Topology, *, prune: bool = True) -> PodPlan | None:
    """The plan; None if the mesh does not divide the model, or its state alone does not fit."""
    mesh = make_mesh(**candidate.ways, devices=topology_devices(topology))
    try:
        programs = workload_programs(candidate.job, mesh)
    except ValueError:
        return None
    resident = max(sum(held(program).values()) for program in programs)
    if prune and resident > topology.chip.hbm:
        return None
    return make_plan(candidate.job, topology, mesh)


def _settings(job: Workload) -> Iterator[tuple[Remat, int]]:
    """(remat, micro-batches)."""
    yield "dots", job.parts
    parts = job.parts
    while job.batch * job.samples % parts == 0:
        yield "nothing", parts
        parts *= 2


def _smaller(topology: Topology) -> list[Topology]:
    """Published slices, or powers of two of GPUs, of 8 chips up to this one."""
    kind = topology.name.partition(":")[0]
    sizes = SHAPES.get(kind, [str(8 * 2**i) for i in range(12)])
    found = [read_topology(f"{kind}:{size}") for size in sizes]
    return [each for each in found if 8 <= each.count <= topology.count]


def _powers(most: int) -> list[int]:
    return [2**i for i in range(int(math.log2(most)) + 1)]


def _words(candidate: Candidate) -> str:
    ways = ",".join(f"{name}={size}" for name, size in candidate.ways.items() if size > 1)
    return f"{ways}, remat {candidate.job.config.remat}, {candidate.job.parts} micro-batches"
