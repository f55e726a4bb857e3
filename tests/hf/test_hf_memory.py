"""Peak host memory of reading a checkpoint, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STATUS = Path("/proc/self/status")

PROGRAM = """
import sys, threading, time
import jax, jax.numpy as jnp
from pathlib import Path
from rlhf_jax.hf import Pretrained, read_params, save_model
from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.sharding import make_mesh

folder, devices = Path(sys.argv[1]), int(sys.argv[2])
config = TransformerConfig(
    vocab_size=8000, d_model=256, num_layers=24, num_heads=4, num_kv_heads=4, head_dim=64,
    d_ff=1024, param_dtype="bfloat16", tied_embeddings=False,
)
if not folder.exists():
    shapes = jax.eval_shape(make_transformer(config).init, jax.random.key(0))
    params = jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), shapes)
    save_model(folder, Pretrained(config, params), shard_bytes=10_000_000)
    sys.exit()

def anonymous():  # not the mapped files: those pages are the disk's cache, given back on demand
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

mesh = make_mesh(model=devices) if devices > 1 else None
jax.block_until_ready(jnp.ones(3) + 1)
jax.eval_shape(make_transformer(config).init, jax.random.key(0))
peak, done, start = [0], threading.Event(), anonymous()

def watch():
    while not done.is_set():
        peak[0] = max(peak[0], anonymous())
        time.sleep(0.001)

thread = threading.Thread(target=watch)
thread.start()
params = read_params(folder, config, mesh=mesh)
jax.block_until_ready(params)
done.set()
thread.join()
# Every device has memory of its own here, so copies count.
size = sum(part.data.nbytes for x in jax.tree.leaves(params) for part in x.addressable_shards)
shard = max(path.stat().st_size for path in folder.glob("*.safetensors"))
print(peak[0] - start, size, shard)
"""


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="reads /proc")
@pytest.mark.parametrize("devices", [1, 4])
def test_reading_takes_little_memory_above_the_parameters(tmp_path, devices):
    def run():
        command = [sys.executable, "-c", PROGRAM, str(tmp_path / "model"), str(devices)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        return done.stdout

    run()
    peak, size, shard = map(int, run().split())
    assert size > 50_000_000
    assert shard < size / 4
    assert peak < size + 1.3 * shard
