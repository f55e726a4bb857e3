"""Several processes share a batch: each reads its rows, and the run is that of one process."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import optax
import pytest
from word_lab import VOCABULARY, WORDS, word_lab

from rlhf_jax.algos import sft
from rlhf_jax.data.loader import WHOLE
from rlhf_jax.recipes import answer_rows, pack_records
from rlhf_jax.recipes.hosts import host_batches, host_share, join_hosts
from rlhf_jax.recipes.lab import device_mesh, start_training
from rlhf_jax.training.metrics import as_number

PROGRAM = """
import json, sys
import jax
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(sys.argv[1], 2, int(sys.argv[2]))
from test_hosts import losses
from rlhf_jax.recipes.hosts import host_share
from rlhf_jax.recipes.lab import device_mesh
mesh = device_mesh()
print(json.dumps({**losses(mesh), "share": list(host_share(mesh))}), flush=True)
"""


def losses(mesh) -> dict[str, list[float]]:
    """Three steps on padded rows and three on packed ones."""
    records = [{"prompt": WORDS[i % 4], "answer": " ".join(WORDS[: 1 + i % 3])} for i in range(20)]
    lab = word_lab()._replace(mesh=mesh)
    optimizer = optax.adam(1e-1)
    update = sft.make_update(lab.policy, optimizer)
    packs = pack_records(lab, records, columns=12)
    found = {}
    for name, size, layout in (("padded", 4, {}), ("packed", 2, {"packs": packs})):
        rows = answer_rows(lab, records, batch_size=size, **layout)
        start = jax.numpy.zeros(VOCABULARY.size)
        state, step = start_training(lab, start, lab.axes["policy"], optimizer, update)
        found[name] = []
        for i in range(3):
            state, metrics = step(state, rows[i])
            found[name].append(as_number(jax.device_get(metrics["loss"])))
    return found


@pytest.mark.slow
def test_two_processes_train_as_one():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    tests = Path(__file__).parent
    paths = os.pathsep.join([str(tests), str(tests.parent), str(tests.parents[1])])
    environment = os.environ | {"PYTHONPATH": paths, "XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", PROGRAM, address]
    started = [
        subprocess.Popen([*command, str(host)], env=environment, stdout=subprocess.PIPE, text=True)
        for host in range(2)
    ]
    try:
        printed = [each.communicate(timeout=280)[0] for each in started]
    finally:
        for each in started:
            each.kill()
            each.communicate()
    found = [json.loads(text.splitlines()[-1]) for text in printed]  # after a line of Gloo's
    alone = losses(None)
    for host, each in enumerate(found):
        assert each.pop("share") == [host, 2]
        for rows in ("padded", "packed"):
            np.testing.assert_allclose(each[rows], alone[rows], rtol=1e-5)


def test_one_process_reads_whole_batches():
    mesh = device_mesh()
    assert host_share(mesh) == host_share(None) == WHOLE
    batch = {"ids": np.arange(8)}
    assert join_hosts(batch, mesh) is batch
    rows = host_batches(word_lab(), ["a", "b"], sorted, batch_size=2)
    assert rows[0] == rows[1] == ["a", "b"]
