"""Eight simulated devices for every test, a quicker compiler, and memory given back.

Most of the suite's time goes into compiling small programs that run once. Without XLA's fusion
emitters that takes half as long, and without LLVM's optimisation less still. Flags that are already
in XLA_FLAGS come later and win.
"""

import ctypes
import gc
import os
from importlib.metadata import version
from pathlib import Path

import pytest

FLAGS = "--xla_force_host_platform_device_count=8"
if version("jaxlib").startswith("0.10."):  # XLA stops at a flag that it doesn't know
    FLAGS += " --xla_cpu_use_fusion_emitters=false --xla_backend_optimization_level=0"
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Workers that share the cores wait for each other's threads: a solve may take 0.5 s and not 1 ms.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ["XLA_FLAGS"] = f"{FLAGS} {os.environ.get('XLA_FLAGS', '')}".strip()

import jax  # noqa: E402  (the flags above must be set first)

cache = Path(__file__).parent.parent / ".cache" / "jax"
jax.config.update("jax_compilation_cache_dir", str(cache))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)

STATM = Path("/proc/self/statm")  # the second number: resident pages
ENOUGH = 4e9


@pytest.fixture(autouse=True, scope="module")
def give_memory_back():
    """JAX keeps 2 MB of every program compiled, and malloc keeps the pages it has freed."""
    yield
    if STATM.exists() and int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > ENOUGH:
        jax.clear_caches()
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
