"""Compiled programs are counted, and shapes of batches by stage; programs are kept on disk."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.training.compiles import Compiles, counting_compiles, keep_programs


def test_a_program_counts_once_for_each_shape_within_the_block():
    double = jax.jit(lambda x: 2 * x)
    two, three = np.ones(2), np.ones(3)
    with counting_compiles() as found:
        double(two), double(two), double(three)
    double(np.ones(4))
    assert found.programs == 2
    assert found.seconds > 0


def test_the_note_says_how_many_shapes_a_stage_had():
    found = Compiles(programs=12, seconds=1.26)
    for columns in (2, 3, 2):
        found.see("sft", {"ids": jnp.ones((4, columns)), "weight": 1.0})
    found.see("reward", jnp.ones(2))
    line = (
        "compiled: 12 programs in 1.3 s, sft for 2 shapes of batches, reward for 1 shape of batches"
    )
    assert found.note() == line
    assert found.as_json() == {
        "programs": 12,
        "seconds": 1.26,
        "batch_shapes": {"sft": 2, "reward": 1},
    }


def test_compiled_programs_are_kept_where_nobody_has_chosen_a_folder(monkeypatch, tmp_path):
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = [getattr(jax.config, name) for name in names]
    keep_programs()
    assert [getattr(jax.config, name) for name in names] == before
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        jax.config.update(names[0], None)
        keep_programs()
        assert getattr(jax.config, names[0]) == str(tmp_path / "rlhf_jax" / "jax")
    finally:
        for name, value in zip(names, before, strict=True):
            jax.config.update(name, value)


@pytest.mark.long
def test_a_command_on_data_imports_nothing_that_its_first_step_does_not_need():
    slow = ["matplotlib", "scipy.stats", "tensorboardX", "tensorflow_datasets", "torch"]
    program = (
        f"import sys, rlhf_jax.cli.offline\nprint([name for name in {slow} if name in sys.modules])"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
