"""What a compiler that refuses a program for its size says of it."""

import jax
import pytest

from rlhf_jax.plan.chips import GIB, read_topology
from rlhf_jax.plan.compiler import Compiled, compile_program, topology_devices
from rlhf_jax.training import UserError


def shortest_kept() -> float:
    """Seconds of compilation from which a program is kept for the next process."""
    name = "jax_persistent_cache_min_compile_time_secs"
    return getattr(jax.config, name)


class Refused:
    """A program that the compiler refuses."""

    def __init__(self, message):
        self.message = message

    def compile(self, compiler_options=None):
        self.kept_after = shortest_kept()
        raise jax.errors.JaxRuntimeError(self.message)


@pytest.mark.parametrize(
    ("message", "gib"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
            "temporaries (34.07G) exceeds available HBM (15.75G).",
            34.07,
        ),
        # 20 GiB in all, of which 8 are arguments
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory "
            "space hbm. Used 20.00G of 15.75G hbm. Exceeded hbm capacity by 4.25G.",
            12.0,
        ),
    ],
)
def test_a_refusal_says_how_much_is_wanted(message, gib):
    found = compile_program(Refused(message), read_topology("v5e:2x2"), 8.0 * GIB)
    assert found == Compiled(None, pytest.approx(gib * GIB))


def test_programs_of_absent_chips_are_not_kept_for_the_next_process():
    """Only their own compiler could read them again, and it is no client of JAX's cache."""
    before = shortest_kept()
    seen = {}
    for name in ("v5e:2x2", "h100:8"):
        refused = Refused("Ran out of memory: HLO temporaries (1.00G) exceeds")
        compile_program(refused, read_topology(name), 0)
        seen[name] = refused.kept_after
    assert seen == {"v5e:2x2": float("inf"), "h100:8": before}
    assert shortest_kept() == before


def test_another_failure_of_the_compiler_is_not_hidden():
    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        compile_program(Refused("INTERNAL: bug"), read_topology("h100:8"), 0)


def test_more_simulated_devices_than_there_are_is_named():
    assert jax.device_count() == 8  # counted already, so that no more can be simulated
    with pytest.raises(UserError, match=r"needs 512 simulated devices, .*count=512"):
        topology_devices(read_topology("h100:512"))


@pytest.mark.slow
def test_a_step_compiles_for_a_slice_that_is_not_here():
    """The products that a TPU's compiler writes as convolutions are those of the step."""
    pytest.importorskip("libtpu")
    from rlhf_jax.models import TransformerConfig
    from rlhf_jax.models.flops import TokenRows, forward_flops
    from rlhf_jax.plan.cost import program_cost
    from rlhf_jax.plan.hlo import parse_module
    from rlhf_jax.plan.programs import Workload, workload_programs
    from rlhf_jax.sharding import make_mesh

    config = TransformerConfig(
        vocab_size=1024,
        d_model=256,
        num_layers=4,
        num_heads=4,
        num_kv_heads=2,
        head_dim=64,
        d_ff=512,
        dtype="bfloat16",
    )
    topology = read_topology("v5p:2x2x1")
    mesh = make_mesh(fsdp=2, model=2, devices=topology_devices(topology))
    job = Workload("sft", config, batch=8, prompt_length=128, answer_length=128)
    (step,) = workload_programs(job, mesh)
    compiled = compile_program(step.lower(), topology, 0)
    cost = program_cost(parse_module(compiled.text))
    # Rows of 256 are one block, of which the kernel skips nothing. It makes the scores again for
    # each of two gradients: 2 + 3 + 4 products for a pair, where three passes of two are 6.
    pairs = 4 * 256**2 * 9 // 6
    by_hand = 3 * forward_flops(config, TokenRows(8, 256, 128), pairs=pairs)
    assert 4 * cost.flops == pytest.approx(by_hand, rel=0.02)
    assert {one.kind for one in cost.collectives} >= {"reduce-scatter"}
