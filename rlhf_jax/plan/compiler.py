"""The devices of a topology that is not here, and programs compiled for them."""

import os
import re
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax

from rlhf_jax.plan.chips import GIB, Topology
from rlhf_jax.training import UserError

# libtpu compiles and opens no chip: several of it may run at once, also beside a job on the chips,
# and it need not look for the host that it is on.
WITHOUT_CHIPS = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5e-4",
}


class Compiled(NamedTuple):
    """What the compiler says of a program, in bytes per chip.

    text: the program; None if the compiler gave it up because it does not fit. temporaries: at the
    moment of their peak; results that replace no argument and the code included.
    """

    text: str | None
    temporaries: float | int


def topology_devices(topology: Topology) -> list[Any]:
    """The devices of a TPU slice from its compiler, or simulated ones for GPUs.

    Raises:
      UserError: libtpu is not installed, or has no such slice; or too few simulated devices.
    """
    jax.config.update("jax_platforms", "cpu")
    if topology.chip.torus:
        return _slice_devices(topology)
    with suppress(RuntimeError):  # JAX has counted its devices already
        jax.config.update("jax_num_cpu_devices", topology.count)
    devices = jax.devices("cpu")
    if len(devices) < topology.count:
        raise UserError(
            f"{topology.name} needs {topology.count} simulated devices, and this process has "
            f"{len(devices)}: XLA_FLAGS=--xla_force_host_platform_device_count={topology.count}"
        )
    return devices[: topology.count]


def _slice_devices(topology: Topology) -> list[Any]:
    from jax.experimental import topologies

    for name, value in WITHOUT_CHIPS.items():
        os.environ.setdefault(name, value)
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology.name)
    except (RuntimeError, ValueError, ImportError) as error:
        if "libtpu" in str(error) and "lockfile" not in str(error):
            raise UserError(
                f"the compiler for {topology.name} is not here: pip install 'rlhf-jax[tpu]'"
            ) from error
        raise UserError(f"--topology {topology.name}: {str(error).splitlines()[0]}") from error
    return found.devices


def compile_program(lowered: Any, topology: Topology, arguments: float | int) -> Compiled:
    """Compiles for the devices of its shardings.

    Args:
      arguments: bytes of its arguments on a chip.
    """
    unkept = _not_kept() if topology.chip.torus else nullcontext()
    with tempfile.TemporaryDirectory() as folder, unkept:
        # A compiled program for a TPU is read from the compiler's own notes: `as_text` of it fails
        # at asynchronous instructions (JAX 0.10).
        options = {"xla_dump_to": folder, "xla_dump_hlo_as_text": True}
        try:
            compiled = lowered.compile(compiler_options=options if topology.chip.torus else None)
        except jax.errors.JaxRuntimeError as error:
            return Compiled(None, _wanted(error, arguments))
        text = _dumped(Path(folder)) if topology.chip.torus else compiled.as_text()
        memory = compiled.memory_analysis()
    results = memory.output_size_in_bytes - memory.alias_size_in_bytes
    temporaries = memory.temp_size_in_bytes + results + memory.generated_code_size_in_bytes
    return Compiled(text, temporaries)


@contextmanager
def _not_kept() -> Generator[None]:
    """The cache of compiled programs could not read those of chips that are not here."""
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    jax.config.update(name, float("inf"))
    try:
        yield
    finally:
        jax.config.update(name, before)


def _dumped(folder: Path) -> str:
    """The largest program among the notes of the compiler, after all of its passes."""
    notes = folder.rglob("*.after_optimizations.txt")
    return max(notes, key=lambda path: path.stat().st_size).read_text()


def _wanted(error: Exception, arguments: float | int) -> float | int:
    """Bytes of temporaries that a refused program wants; other errors are raised again."""
    size = r"([\d.]+)([KMGT]?)"
    scale = {"": 1, "K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}
    if found := re.search(rf"HLO temporaries \({size}\)", str(error)):
        return float(found[1]) * scale[found[2]]
    if found := re.search(rf"Used {size} of [\d.]+[KMGT]? hbm", str(error)):  # arguments too
        return max(float(found[1]) * scale[found[2]] - arguments, 0.0)
    raise error
