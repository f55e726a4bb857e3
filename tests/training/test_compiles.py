"""Compiled programs are counted, and shapes of batches by stage."""

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.training.compiles import Compiles, counting_compiles


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
