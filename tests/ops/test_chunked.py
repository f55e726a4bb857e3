"""Chunked log-probabilities against the dense form: value, gradient, dtype, layout, memory."""

from functools import partial

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from jax.test_util import check_grads

from rlhf_jax.ops.chunked import chunked_token_logps
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.sharding import make_mesh

V, D = 24, 5


def dense_token_logps(hidden, unembedding, actions):
    table = unembedding.astype(hidden.dtype)
    logits = jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)
    return token_logps(logits, actions)


def draw(lead, dtype=np.float32, seed=0):
    """hidden, unembedding, actions and a weight for each log-prob."""
    rng = np.random.default_rng(seed)
    hidden = jnp.asarray(rng.standard_normal((*lead, D)), dtype)
    unembedding = jnp.asarray(rng.standard_normal((V, D)), dtype)
    actions = jnp.asarray(rng.integers(0, V, lead), jnp.int32)
    return hidden, unembedding, actions, jnp.asarray(rng.standard_normal(lead), jnp.float32)


def value_and_grads(logps_of, hidden, unembedding, actions, weights):
    """Log-probs, and the gradient of their weighted sum to hidden states and table."""

    def total(hidden, unembedding):
        logps = logps_of(hidden, unembedding, actions)
        return jnp.sum(weights * logps), logps

    grads, logps = jax.grad(total, argnums=(0, 1), has_aux=True)(hidden, unembedding)
    return logps, *grads


def jitted(logps_of):
    return jax.jit(partial(value_and_grads, logps_of))


def assert_close(got, want, tolerance=1e-6):
    """Relative to the largest entry of each array."""
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, atol=tolerance * np.max(np.abs(b)), rtol=tolerance)


def test_golden_numbers():
    """Two tokens of logits (0, log 3): probabilities 1/4 and 3/4."""
    hidden = jnp.array([[1.0], [1.0]])
    table = jnp.array([[0.0], [np.log(3.0)]])
    actions = jnp.array([0, 1])
    of = partial(chunked_token_logps, chunk=1)
    logps, to_hidden, to_table = value_and_grads(of, hidden, table, actions, jnp.ones(2))
    np.testing.assert_allclose(logps, [np.log(0.25), np.log(0.75)], rtol=1e-6)
    # d/dh = table[a] - E[table]: 0 - 0.75 log 3 and log 3 - 0.75 log 3
    np.testing.assert_allclose(to_hidden[:, 0], np.log(3.0) * np.array([-0.75, 0.25]), rtol=1e-6)
    # d/dtable[v] = sum_t 1[v = a_t] - p_v: 1 - 0.5 and 1 - 1.5
    np.testing.assert_allclose(to_table[:, 0], [0.5, -0.5], rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("lead", [(7,), (3, 7), (2, 3, 7), (2, 1)])
@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_equals_the_dense_form(lead, chunk):
    """Any leading axes, and T = 7 is no multiple of the chunk."""
    arrays = draw(lead)
    got = jitted(partial(chunked_token_logps, chunk=chunk))(*arrays)
    assert_close(got, jitted(dense_token_logps)(*arrays), 2e-6)


def test_bfloat16_equals_the_dense_form():
    """Logits and sums over chunks are float32; gradients come back in bfloat16."""
    arrays = draw((4, 7), jnp.bfloat16)
    got = jitted(partial(chunked_token_logps, chunk=3))(*arrays)
    want = jitted(dense_token_logps)(*arrays)
    assert [x.dtype for x in got] == [jnp.float32, jnp.bfloat16, jnp.bfloat16]
    assert_close(got[:1], want[:1], 2e-6)
    assert_close(got[1:], want[1:], 2**-7)


def test_table_of_another_dtype_keeps_it():
    """A float32 table under bfloat16 states, as in a transformer that computes in bfloat16."""
    hidden, _, actions, weights = draw((4, 7), jnp.bfloat16)
    table = draw((1,))[1]
    got = jitted(partial(chunked_token_logps, chunk=3))(hidden, table, actions, weights)
    want = jitted(dense_token_logps)(hidden, table, actions, weights)
    assert got[2].dtype == jnp.float32
    assert_close(got[:1], want[:1], 2e-6)
    assert_close(got[1:], want[1:], 2**-7)


def test_many_chunks_of_bfloat16_lose_nothing_in_the_table():
    """512 equal slopes, one chunk each: a bfloat16 running sum would stop at 256."""
    hidden = jnp.ones((512, 1), jnp.bfloat16)
    table = jnp.zeros((2, 1), jnp.bfloat16)
    of = partial(chunked_token_logps, chunk=1)
    actions, weights = jnp.zeros(512, jnp.int32), jnp.full(512, 2.0)
    grad = jitted(of)(hidden, table, actions, weights)[2]
    np.testing.assert_array_equal(np.asarray(grad, np.float32), [[512.0], [-512.0]])


@pytest.mark.long
def test_gradient_equals_finite_differences():
    with jax.enable_x64(True):
        hidden, table, actions, _ = draw((2, 5), np.float64)
        check_grads(
            lambda h, u: chunked_token_logps(jnp.asarray(h), jnp.asarray(u), actions, chunk=2),
            (hidden, table),
            order=1,
            modes=["rev"],
            eps=1e-5,
        )


def test_float64_equals_log_softmax():
    with jax.enable_x64(True):
        hidden, table, actions, _ = draw((3, 7), np.float64)
        got = chunked_token_logps(hidden, table, actions, chunk=2)
        logits = np.asarray(hidden) @ np.asarray(table).T
        want = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        want = np.take_along_axis(want, np.asarray(actions)[..., None], -1)[..., 0]
        np.testing.assert_allclose(got, want, rtol=1e-13)


def test_extreme_logits_are_finite_and_keep_their_digits():
    """Logits of 1e4: a certain action, an impossible one, a tie, and one unit apart."""
    hidden = jnp.array([[1e4, 0.0], [1e4, 0.0], [0.0, 0.0], [1e4, 1.0]])
    table = jnp.array([[1.0, 0.0], [-1.0, 0.0], [1.0, 1.0]])
    of = partial(chunked_token_logps, chunk=3)
    actions, weights = jnp.array([0, 1, 2, 2]), jnp.ones(4)
    got = jitted(of)(hidden, table, actions, weights)
    # log 1/2 (rows 0 and 2 of the table tie); -1e4 - (1e4 + log 2); log 1/3; -log(1 + e^-1)
    want = [-np.log(2.0), -2e4 - np.log(2.0), -np.log(3.0), -np.log1p(np.exp(-1.0))]
    np.testing.assert_allclose(got[0], want, rtol=1e-6)
    assert_close(got, jitted(dense_token_logps)(hidden, table, actions, weights), 2e-6)
    assert all(np.all(np.isfinite(x)) for x in got)


def test_a_weight_of_zero_silences_a_position():
    hidden, table, actions, weights = draw((3, 7))
    weights = weights.at[:, 4:].set(0.0)
    of = jitted(partial(chunked_token_logps, chunk=2))
    _, to_hidden, to_table = of(hidden, table, actions, weights)
    np.testing.assert_array_equal(to_hidden[:, 4:], 0.0)
    short = jitted(partial(chunked_token_logps, chunk=2))(
        hidden[:, :4], table, actions[:, :4], weights[:, :4]
    )
    assert_close([to_table], [short[2]], 2e-6)


def test_jit_equals_eager():
    arrays = draw((2, 7))
    of = partial(chunked_token_logps, chunk=3)
    assert_close(jitted(of)(*arrays), value_and_grads(of, *arrays))


@pytest.mark.long
def test_vmap_equals_batched():
    hidden, table, actions, weights = draw((3, 7))
    run = partial(value_and_grads, partial(chunked_token_logps, chunk=3))
    mapped = jax.vmap(run, in_axes=(0, None, 0, 0))(hidden, table, actions, weights)
    logps, to_hidden, to_table = run(hidden, table, actions, weights)
    assert_close(mapped[:2], (logps, to_hidden))
    assert_close([mapped[2].sum(0)], [to_table], 2e-6)
    tables = jnp.stack([table, -2.0 * table])
    swept = jax.vmap(run, in_axes=(None, 0, None, None))(hidden, tables, actions, weights)
    assert_close([x[1] for x in swept], run(hidden, tables[1], actions, weights))


def test_works_under_checkpoint_and_scan():
    hidden, table, actions, weights = draw((4, 3, 7))
    of = partial(chunked_token_logps, chunk=3)

    def looped(hidden, table, actions):
        step = jax.checkpoint(lambda _, part: (None, of(part[0], table, part[1])))
        return jax.lax.scan(step, None, (hidden, actions))[1]

    want = jitted(of)(hidden, table, actions, weights)
    assert_close(jitted(looped)(hidden, table, actions, weights), want, 2e-6)


@pytest.mark.parametrize("model", [1, 2, 8])
def test_eight_devices_equal_one(model):
    """Batch over "data", vocabulary over "model"; no device ever makes the others' logits."""
    hidden, table, actions, weights = draw((8, 6))
    run = jitted(partial(chunked_token_logps, chunk=2, ways=(8 // model, 1)))
    want = run(hidden, table, actions, weights)
    mesh = make_mesh(fsdp=1, model=model)
    rows, words = (NamedSharding(mesh, PartitionSpec(axis)) for axis in ("data", "model"))
    placed = (
        jax.device_put(hidden, rows),
        jax.device_put(table, words),
        *jax.device_put((actions, weights), rows),
    )
    assert_close(run(*placed), want, 2e-6)
    text = run.lower(*placed).compile().as_text()
    split = V // model
    assert f"f32[1,2,{split}]" in text or f"f32[2,{split}]" in text
    assert "all-gather" not in text


def test_never_holds_the_whole_logits():
    """Peak memory of the compiled gradient falls with the chunk; no array has T x V elements."""
    length, vocab = 64, 1024
    shapes = (
        jax.ShapeDtypeStruct((2, length, 8), jnp.float32),
        jax.ShapeDtypeStruct((vocab, 8), jnp.float32),
        jax.ShapeDtypeStruct((2, length), jnp.int32),
        jax.ShapeDtypeStruct((2, length), jnp.float32),
    )

    def compiled(logps_of):
        return jitted(logps_of).lower(*shapes).compile()

    dense = compiled(dense_token_logps)
    small = compiled(partial(chunked_token_logps, chunk=4))
    assert f"[2,{length},{vocab}]" in dense.as_text()
    assert f"{length},{vocab}]" not in small.as_text()
    peak = small.memory_analysis().temp_size_in_bytes
    assert peak < dense.memory_analysis().temp_size_in_bytes / 4


def test_no_positions_give_no_logps():
    hidden, table, actions, weights = draw((2, 0))
    logps, to_hidden, to_table = value_and_grads(
        partial(chunked_token_logps, chunk=3), hidden, table, actions, weights
    )
    assert logps.shape == (2, 0)
    assert to_hidden.shape == (2, 0, D)
    np.testing.assert_array_equal(to_table, 0.0)


def test_the_log_prob_of_an_action_that_does_not_exist_is_nan():
    hidden, table, actions, _ = draw((2, 3))
    actions = actions.at[0, 0].set(-1).at[1, 2].set(V)
    logps = chunked_token_logps(hidden, table, actions, chunk=2)
    np.testing.assert_array_equal(np.isnan(logps), [[1, 0, 0], [0, 0, 1]])


def test_bad_arguments_are_refused():
    hidden, table, actions, _ = draw((2, 3))
    errors = (AssertionError, jaxtyping.TypeCheckError)
    with pytest.raises(ValueError, match="chunk must be in"):
        chunked_token_logps(hidden, table, actions, chunk=0)
    with pytest.raises(errors):
        chunked_token_logps(hidden, table, actions[:, :2], chunk=2)
    with pytest.raises(errors):
        chunked_token_logps(hidden, table.T, actions, chunk=2)


def test_a_soft_cap_equals_the_dense_form_value_and_gradient():
    hidden, table, actions, weights = draw((3, 7))

    def dense(hidden, table, actions):
        logits = jnp.einsum("...d,vd->...v", hidden, table)
        return token_logps(2.0 * jnp.tanh(logits / 2.0), actions)

    got = jitted(partial(chunked_token_logps, chunk=3, softcap=2.0))(
        hidden, table, actions, weights
    )
    assert_close(got, jitted(dense)(hidden, table, actions, weights), 2e-6)
    # Logits 0 and 2 tanh(log 3 / 2) = 2 (3 - 1) / (3 + 1) = 1: log-probs -log(1 + e) and 1 more
    logps = chunked_token_logps(
        jnp.ones((2, 1)),
        jnp.array([[0.0], [np.log(3.0)]]),
        jnp.array([0, 1]),
        chunk=1,
        softcap=2.0,
    )
    np.testing.assert_allclose(logps, [-np.log1p(np.e), 1 - np.log1p(np.e)], rtol=1e-6)
