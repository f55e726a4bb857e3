"""Every form of attention gives the numbers of the dense one; all others are linear in memory."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_params import random_params

from rlhf_jax.models import TransformerConfig, attend, kernels, make_transformer
from rlhf_jax.models.attend import choose_form, dense
from rlhf_jax.models.blockwise import Tokens, blockwise
from rlhf_jax.plan import read_topology, topology_devices
from rlhf_jax.sharding import make_mesh

G, R, H = 2, 2, 8
WINDOW = 7


def tokens(length, window=None):
    """Packed documents with a gap, padding before one document, padding after one."""
    cut = length // 2
    segments = np.ones((3, length), np.int32)
    segments[0, cut:], segments[0, cut - 3 : cut], segments[0, cut + 2 : cut + 4] = 2, 0, 0
    segments[1, : length // 3], segments[2, -3:] = 0, 0
    positions = np.zeros_like(segments)
    for row, of in zip(segments, positions, strict=True):
        for document in (1, 2):
            of[row == document] = np.arange(np.sum(row == document))
    columns = np.broadcast_to(np.arange(length, dtype=np.int32), segments.shape)
    first = None if window is None else positions - (window - 1)
    return Tokens(
        *(None if x is None else jnp.asarray(x) for x in (segments, positions, columns, first))
    )


def draw(length, dtype=jnp.float32):
    """Queries, keys, values, and weights of the outputs."""
    keys = jax.random.split(jax.random.key(0), 4)
    shapes = (3, length, G, R, H), (3, length, G, H), (3, length, G, H), (3, length, G, R, H)
    return [
        jax.random.normal(k, shape).astype(dtype) for k, shape in zip(keys, shapes, strict=True)
    ]


def run(form, seen, arrays):
    """The outputs of real tokens, and the gradient of their weighted sum."""
    real = (seen.segments > 0)[:, :, None, None, None]

    def total(query, key, value):
        out = jnp.where(real, form(query, key, value, seen), 0.0)
        return jnp.sum(out * arrays[3]), out

    grads, out = jax.jit(jax.grad(total, argnums=(0, 1, 2), has_aux=True))(*arrays[:3])
    return out, *grads


def assert_equal(got, want, tolerance=1e-5):
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max(), rtol=0)


@pytest.mark.parametrize(
    ("window", "cap", "size", "whole"),
    [
        (None, None, 8, False),  # 37 tokens: five blocks, the last one shorter
        pytest.param(WINDOW, 2.0, 16, False, marks=pytest.mark.long),
        pytest.param(WINDOW, None, 8, True, marks=pytest.mark.long),
        pytest.param(None, 2.0, 64, False, marks=pytest.mark.long),  # one block
    ],
)
def test_blockwise_is_dense(window, cap, size, whole):
    seen, arrays = tokens(37, window), draw(37)
    form = partial(blockwise, cap=cap, size=size, whole=whole)
    assert_equal(run(form, seen, arrays), run(partial(dense, cap=cap), seen, arrays))


@pytest.mark.long
def test_blockwise_of_bfloat16_is_close_and_of_float64_is_exact():
    seen, arrays = tokens(37, WINDOW), draw(37, jnp.bfloat16)
    want = run(dense, seen, [x.astype(jnp.float32) for x in arrays])
    got = run(partial(blockwise, size=8), seen, arrays)
    assert all(x.dtype == jnp.bfloat16 for x in got[1:])
    assert_equal([x.astype(jnp.float32) for x in got], want, 0.02)
    with jax.enable_x64(True):
        wide = [x.astype(jnp.float64) for x in arrays]
        form = partial(blockwise, size=8, cap=3.0)
        assert_equal(run(form, seen, wide), run(partial(dense, cap=3.0), seen, wide), 1e-13)


@pytest.mark.long
@pytest.mark.parametrize("window", [None, WINDOW])
def test_flash_is_dense_for_documents_with_padding_and_for_packed_ones(window):
    """XLA in the place of cuDNN."""
    form = partial(kernels.flash, window=window, implementation="xla")
    seen, arrays = tokens(37, window), draw(37)
    assert_equal(run(form, seen, arrays), run(dense, seen, arrays))  # packed
    single, fewer = jax.tree.map(lambda x: x[1:], seen), [x[1:] for x in arrays]
    assert_equal(run(form, single, fewer), run(dense, single, fewer))


@pytest.mark.long
@pytest.mark.parametrize(("window", "cap"), [(None, 2.0), (WINDOW, None)])
def test_splash_is_dense(window, cap):
    """The TPU kernel, interpreted; 40 tokens are padded to its 128."""
    form = partial(kernels.splash, window=window, cap=cap, interpret=True)
    seen, arrays = tokens(40, window), draw(40)
    assert_equal(run(form, seen, arrays), run(partial(dense, cap=cap), seen, arrays), 1e-4)


@pytest.mark.long
@pytest.mark.parametrize("ways", [{"fsdp": 2, "model": 2}, {"fsdp": 2, "sequence": 2}])
def test_a_mesh_that_splits_rows_heads_or_tokens_changes_nothing(ways, monkeypatch):
    """Two documents of different kinds of layers, in blocks of 8 of 32 tokens."""
    monkeypatch.setattr(attend, "SHORTEST", 8)
    monkeypatch.setattr(attend, "CPU_BLOCK", 8)
    mesh = make_mesh(devices=jax.devices()[:4], **ways)
    config = tiny(sliding_window=WINDOW, layer_windows=(True, False))
    model, split = make_transformer(config), make_transformer(config, mesh)
    params = random_params(model.init)
    seen = jax.tree.map(lambda x: jnp.concatenate([x, x[:1]]), tokens(32))
    ids = jax.random.randint(jax.random.key(1), seen.segments.shape, 0, 13)
    real = (seen.segments > 0)[..., None]

    def total(params, hidden):
        return jnp.sum(
            jnp.where(real, jnp.sin(hidden(params, ids, seen.positions, seen.segments)), 0)
        )

    got, want = (jax.jit(jax.grad(partial(total, hidden=m.hidden)))(params) for m in (split, model))
    assert_equal(jax.tree.leaves(got), jax.tree.leaves(want), 1e-4)


tiny = partial(
    TransformerConfig,
    vocab_size=13,
    d_model=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    d_ff=20,
)


def temporaries(length, **options):
    """Bytes of the compiled gradient of one row."""
    model = make_transformer(tiny(**options))
    row = jax.ShapeDtypeStruct((1, length), jnp.int32)
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    slope = jax.grad(lambda params, *row: jnp.sum(model.hidden(params, *row)))
    memory = jax.jit(slope).lower(shapes, row, row, row).compile().memory_analysis()
    assert memory is not None
    return memory.temp_size_in_bytes


def test_memory_grows_with_the_length_and_not_with_its_square():
    short, long = (temporaries(length) for length in (1024, 8192))
    assert 7 * short < long < 9 * short


@pytest.mark.long
def test_remat_keeps_less():
    few, most = (temporaries(512, remat=name) for name in ("nothing", "everything"))
    assert few < temporaries(512) < most


def test_the_form_suits_length_dtype_and_devices(monkeypatch):
    query = jnp.zeros((1, 65, 1, 1, 8))
    assert choose_form(query[:, :64], tiny(), None) == "dense"
    assert choose_form(query, tiny(), None) == "blockwise"
    monkeypatch.setattr(attend, "platform_of", lambda mesh: "tpu")
    assert choose_form(query, tiny(), None) == "splash"
    assert choose_form(query, tiny(), make_mesh(sequence=2)) == "blockwise"
    monkeypatch.setattr(attend, "platform_of", lambda mesh: "gpu")
    assert choose_form(query, tiny(), None) == "blockwise"
    assert choose_form(query.astype(jnp.bfloat16), tiny(attention_softcap=2.0), None) == "blockwise"


@pytest.mark.slow
def test_the_kernel_compiles_for_a_tpu():
    """One mesh of rows and heads; a window and none."""
    pytest.importorskip("libtpu")
    devices = topology_devices(read_topology("v5p:2x2x1"))
    mesh = make_mesh(fsdp=2, model=2, devices=devices)
    model = make_transformer(
        tiny(dtype="bfloat16", sliding_window=9, layer_windows=(True, False)), mesh
    )
    rows = jax.sharding.NamedSharding(mesh, jax.P(("data", "fsdp")))
    row = jax.ShapeDtypeStruct((4, 200), jnp.int32, sharding=rows)
    whole = jax.sharding.NamedSharding(mesh, jax.P())
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole),
        jax.eval_shape(model.init, jax.random.key(0)),
    )
    slope = jax.grad(lambda params, *row: jnp.sum(model.hidden(params, *row).astype(jnp.float32)))
    text = str(jax.jit(slope).lower(shapes, row, row, row).compile().as_text())
    # Forward, gradient of queries, gradient of keys and values, for each kind of layer.
    assert text.count('custom_call_target="tpu_custom_call"') == 6
    assert "bf16[4,200,2,2,8]" not in text  # no device has all rows
