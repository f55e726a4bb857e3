"""The benchmark of planning: its peers solve what the library solves; a goal can be missed."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from benchmarks.mdp import library, peers, seeds, worlds
from rlhf_jax.envs.tabular_mdp import random_mdp

ROOT = Path(__file__).parents[2]


def test_peers_agree_with_each_other():
    world = worlds.dense((3,), 6)
    want = peers.numpy_values(world, sweeps=40)
    np.testing.assert_allclose(peers.numpy_values_one_by_one(world, sweeps=40), want, rtol=1e-5)
    assert np.abs(peers.numpy_values(world, sweeps=39) - want).max() > 1e-3
    best = peers.numpy_values(world, sweeps=400)
    for peer in (peers.numpy_values, peers.numpy_values_one_by_one):
        np.testing.assert_allclose(peer(world, sweeps=20, shifted=True), best, rtol=1e-4)
    few = worlds.sparse((3,), 6, 4)
    spread = np.zeros((*few.rewards.shape, 6), np.float32)
    for place in np.ndindex(few.probs.shape):
        spread[(*place[:-1], few.successors[place])] += few.probs[place]
    dense = peers.numpy_values(worlds.Dense(spread, few.rewards), sweeps=40, shifted=True)
    np.testing.assert_allclose(peers.numpy_sparse_values(few, sweeps=40), dense, rtol=1e-5)


@pytest.mark.parametrize("split", [True, False])
def test_the_library_solves_what_the_peers_solve(split):
    world = worlds.dense((jax.device_count(),), 6, apart=True)
    ours = library.sweeps(world, count=40, split=split)()
    want = peers.numpy_values(world, sweeps=40, shifted=True)
    np.testing.assert_allclose(ours, want, rtol=1e-5)
    assert np.abs(ours - peers.numpy_values(world, sweeps=400)).max() > 1e-3


@pytest.mark.long
def test_the_loop_over_seeds_is_the_same_algorithm():
    """Same plan from the same counts: only the draws differ."""
    mdp = random_mdp(jax.random.key(0), horizon=3, num_states=3, num_actions=2)
    tables = jax.tree.map(np.asarray, mdp)
    ours = float(seeds.regret(mdp, jax.random.key(0), 1)[0])
    np.testing.assert_allclose(seeds.numpy_regret(tables, 0, 1)[0], ours, rtol=1e-4)


@pytest.mark.slow
def test_the_command():
    command = [sys.executable, "-m", "benchmarks.mdp", "--quick"]
    settings = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    done = subprocess.run(
        command, check=False, cwd=ROOT, capture_output=True, text=True, env=settings
    )
    assert done.returncode in (0, 3), done.stderr[-2000:]
    assert done.returncode == (3 if "MISSED" in done.stdout else 0)
    assert done.stdout.count("deviation <=") >= 5
    assert "QuantEcon" in done.stdout
