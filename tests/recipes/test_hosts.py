"""Several processes share a batch: each reads its rows, and the run is that of one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from word_lab import word_lab

from rlhf_jax.data.loader import WHOLE
from rlhf_jax.recipes.hosts import host_batches, host_share, join_hosts
from rlhf_jax.recipes.lab import device_mesh

PROGRAM = """
import json, sys
import jax
address, hosts, host = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if hosts > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, hosts, host)
import numpy as np, optax
from random_params import random_params
from word_lab import VOCABULARY, transformer_lab
from rlhf_jax.algos import sft
from rlhf_jax.recipes import answer_rows, pack_records
from rlhf_jax.recipes.hosts import host_share
from rlhf_jax.recipes.lab import device_mesh, start_training
from rlhf_jax.training.metrics import as_number
words = ["red", "green", "blue", "grey"]
records = [{"prompt": words[i % 4], "answer": " ".join(words[: 1 + i % 3])} for i in range(20)]
lab = transformer_lab()._replace(mesh=device_mesh())
optimizer = optax.adam(1e-2)
update = sft.make_update(lab.policy, optimizer)
def losses(rows):
    state, step = start_training(
        lab, random_params(lab.policy.init), lab.axes["policy"], optimizer, update
    )
    found = []
    for i in range(3):
        state, metrics = step(state, rows[i])
        found.append(as_number(jax.device_get(metrics["loss"])))
    return found
padded = losses(answer_rows(lab, records, batch_size=4))
packs = pack_records(lab, records, columns=12)
packed = losses(answer_rows(lab, records, batch_size=2, packs=packs))
share = list(host_share(lab.mesh))
print(json.dumps({"padded": padded, "packed": packed, "share": share}), flush=True)
"""


def results(hosts: int) -> list[dict]:
    """What each of the processes prints; every one has a single device."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    tests = Path(__file__).parent
    paths = os.pathsep.join([str(tests), str(tests.parent), str(tests.parents[1])])
    environment = os.environ | {"PYTHONPATH": paths, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, address, str(hosts), str(host)],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        for host in range(hosts)
    ]
    try:
        return [json.loads(each.communicate(timeout=500)[0]) for each in started]
    finally:
        for each in started:
            each.kill()
            each.communicate()


@pytest.mark.slow
def test_two_processes_train_as_one():
    (alone,), both = results(1), results(2)
    assert [found["share"] for found in both] == [[0, 2], [1, 2]]
    assert alone["share"] == [0, 1]
    for found in both:
        for rows in ("padded", "packed"):
            np.testing.assert_allclose(found[rows], alone[rows], rtol=1e-5)


def test_one_process_reads_whole_batches():
    mesh = device_mesh()
    assert host_share(mesh) == host_share(None) == WHOLE
    batch = {"ids": np.arange(8)}
    assert join_hosts(batch, mesh) is batch
    rows = host_batches(word_lab(), ["a", "b"], sorted, batch_size=2)
    assert rows[0] == rows[1] == ["a", "b"]
