"""Records go through JAX's tree functions whatever their leaves become."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from rlhf_jax.algos.ppo import PPOBatch
from rlhf_jax.envs.bandit import random_bandit
from rlhf_jax.sharding import make_mesh
from rlhf_jax.types import PreferenceBatch, Trajectory

B, T = 8, 3
STEPS = jnp.ones((B, T))
TRAJECTORY = Trajectory(jnp.zeros((B, T), jnp.int32), jnp.ones((B, T), jnp.int32), STEPS > 0)
RECORDS = {
    "trajectory": TRAJECTORY,
    "trajectory with a tool": replace(TRAJECTORY, valid=STEPS > 0),
    "pairs": PreferenceBatch(TRAJECTORY, TRAJECTORY, weights=jnp.ones(B)),
    "pairs with a reference": PreferenceBatch(TRAJECTORY, TRAJECTORY, STEPS[:, 0], STEPS[:, 0]),
    "ppo": PPOBatch(TRAJECTORY, STEPS, STEPS, STEPS, STEPS),
    "bandit": random_bandit(jax.random.key(0), num_states=B, num_actions=T),
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
def test_records_are_rebuilt_around_any_leaves(record):
    host = jax.device_get(record)
    assert all(isinstance(x, np.ndarray) for x in jax.tree.leaves(host))
    shapes = jax.eval_shape(lambda: record)
    assert {x.shape[0] for x in jax.tree.leaves(shapes)} == {B}
    spread = NamedSharding(make_mesh(), PartitionSpec("data"))
    shardings = jax.tree.map(lambda _: spread, record)
    placed = jax.device_put(host, shardings)
    for got, want in zip(jax.tree.leaves(placed), jax.tree.leaves(record), strict=True):
        assert got.sharding == spread
        np.testing.assert_array_equal(got, want)
    emptied = jax.tree.map(lambda _: None, record)
    assert type(emptied) is type(record)
    assert jax.tree.leaves(emptied) == []
    rows = jax.vmap(lambda row: row, in_axes=(jax.tree.map(lambda _: 0, record),))(record)
    assert jax.tree.structure(rows) == jax.tree.structure(record)
