"""A plan: what every program of a job holds, computes and sends on a chip, and whether it fits."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from jax.sharding import Mesh

from rlhf_jax.plan.chips import Topology
from rlhf_jax.plan.compiler import compile_program
from rlhf_jax.plan.cost import NOTHING, program_cost
from rlhf_jax.plan.flops import useful_flops
from rlhf_jax.plan.hlo import parse_module
from rlhf_jax.plan.programs import Program, Workload, bytes_per_chip, workload_programs
from rlhf_jax.plan.roofline import Link, Roofline, Traffic, mfu, network_traffic, roofline


class ProgramPlan(NamedTuple):
    """One program, per chip.

    parts: bytes by name: its arguments, what else is in memory, and "temporaries": activations,
    gathered parameters, gradients, layout padding. compiled: False if the compiler refused it for
    its size; then flops are those of `useful` and the bound is of those alone. useful: FLOPs that
    the method needs on all chips together, see `plan.flops`. flops: of matrix products as compiled.
    """

    name: str
    parts: dict[str, float | int]
    compiled: bool
    useful: float | int
    flops: float | int
    hbm_traffic: float | int
    network: dict[Link, Traffic]
    bound: Roofline
    mfu: float | int

    @property
    def memory(self) -> float | int:
        """Bytes in all."""
        return sum(self.parts.values())


class PodPlan(NamedTuple):
    """The programs of a job on a topology. ways: of the mesh, by axis."""

    job: Workload
    topology: Topology
    ways: dict[str, int]
    programs: list[ProgramPlan]

    @property
    def largest(self) -> ProgramPlan:
        """The program that needs the most memory."""
        return max(self.programs, key=lambda one: one.memory)

    @property
    def spare(self) -> float | int:
        """Bytes of HBM that the largest program leaves; negative where it does not fit."""
        return self.topology.chip.hbm - self.largest.memory

    @property
    def fits(self) -> bool:
        """Whether every program was compiled and fits beside what else is in memory."""
        return self.spare >= 0 and all(one.compiled for one in self.programs)

    @property
    def seconds(self) -> float | int:
        """The bound of one step: of all programs in turn."""
        return sum(one.bound.seconds for one in self.programs)


def make_plan(job: Workload, topology: Topology, mesh: Mesh) -> PodPlan:
    """Lowers and compiles every program of a job.

    Args:
      mesh: of the topology's devices.
    Raises:
      ValueError: the mesh does not divide model or batch.
    """
    useful = useful_flops(job)
    programs = [
        plan_program(program, topology, mesh, useful[program.name])
        for program in workload_programs(job, mesh)
    ]
    ways = {name: size for name, size in mesh.shape.items() if size > 1}
    return PodPlan(job, topology, ways, programs)


def plan_program(
    program: Program, topology: Topology, mesh: Mesh, useful: float | int
) -> ProgramPlan:
    """Compiles one program and reads what it costs."""
    parts = held(program)
    arguments = sum(bytes_per_chip(tree) for tree in program.arguments.values())
    compiled = compile_program(program.lower(), topology, arguments)
    parts["temporaries"] = compiled.temporaries
    if compiled.text is None:
        cost = replace(NOTHING, flops=useful / topology.count)
    else:
        cost = program_cost(parse_module(compiled.text))
    network = network_traffic(cost, mesh, topology)
    bound = roofline(cost, network, topology)
    share = mfu(useful, bound.seconds, topology)
    known = compiled.text is not None
    given = (program.name, parts, known, useful, cost.flops, cost.hbm)
    return ProgramPlan(*given, network, bound, share)


def held(program: Program) -> dict[str, float | int]:
    """Bytes per chip of arguments and of what lies beside them, exact without compiling."""
    trees = {**program.arguments, **program.beside}
    return {name: float(bytes_per_chip(tree)) for name, tree in trees.items()}


def plan_json(plan: PodPlan) -> dict[str, Any]:
    """The plan as JSON values; sizes in bytes, times in seconds."""
    config = plan.job.config
    return {
        "method": plan.job.method,
        "topology": plan.topology.name,
        "chips": plan.topology.count,
        "mesh": plan.ways,
        "batch": plan.job.batch,
        "prompt_length": plan.job.prompt_length,
        "answer_length": plan.job.answer_length,
        "micro_batches": plan.job.parts,
        "remat": config.remat,
        "fits": plan.fits,
        "hbm": plan.topology.chip.hbm,
        "spare": plan.spare,
        "seconds": plan.seconds,
        "programs": {one.name: _program_json(one) for one in plan.programs},
    }


def _program_json(one: ProgramPlan) -> Mapping[str, Any]:
    return {
        "memory": one.memory,
        "parts": one.parts,
        "compiled": one.compiled,
        "useful_flops": one.useful,
        "flops_per_chip": one.flops,
        "hbm_traffic": one.hbm_traffic,
        "network": [{**link._asdict(), **each._asdict()} for link, each in one.network.items()],
        "seconds": one.bound.seconds,
        "limit": one.bound.limit,
        "times": one.bound.times,
        "mfu": one.mfu,
    }
