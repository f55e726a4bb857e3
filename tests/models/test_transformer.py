"""The promises of the transformer's door; see test_decoder_options for its options."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_oracle import oracle_hidden
from random_params import random_params

from rlhf_jax.models import TransformerConfig, make_transformer
from rlhf_jax.models.layers import Norm

tiny = partial(
    TransformerConfig,
    vocab_size=13,
    d_model=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    d_ff=20,
)
ROWS, LENGTH = 3, 7


def rows(seed=0):
    """Ids, positions and segments: two packed documents, one document, one with padding."""
    ids = jax.random.randint(jax.random.key(seed), (ROWS, LENGTH), 0, 13)
    segments = jnp.array([[1, 1, 1, 2, 2, 2, 2], [1] * 7, [0, 0, 1, 1, 1, 0, 0]])
    positions = jnp.array([[0, 1, 2, 0, 1, 2, 3], list(range(7)), [0, 0, 0, 1, 2, 0, 0]])
    return ids, positions, segments


@pytest.mark.long
def test_only_relative_positions_matter():
    model = make_transformer(tiny())
    params = random_params(model.init)
    ids, positions, segments = rows()
    run = jax.jit(model.hidden)
    real = segments > 0
    want = run(params, ids, positions, segments)[real]
    shifted = run(params, ids, positions + 50, segments)[real]
    np.testing.assert_allclose(shifted, want, atol=2e-5)
    stretched = run(params, ids, positions * 2, segments)[real]
    assert np.max(np.abs(stretched - want)) > 1e-2


@pytest.mark.long
def test_theta_is_used():
    low, high = (make_transformer(tiny(rope_theta=t)) for t in (10.0, 10_000.0))
    params = random_params(low.init)
    low_hidden, high_hidden = (jax.jit(m.hidden)(params, *rows()) for m in (low, high))
    difference = low_hidden - high_hidden
    assert np.max(np.abs(difference)) > 1e-2


def gradients(config, params):
    """Hidden states of the three rows, and the gradient of a fixed random read-out of them."""
    model = make_transformer(config)
    ids, positions, segments = rows()
    weights = jax.random.normal(jax.random.key(9), (ROWS, LENGTH, 13)) * (segments > 0)[..., None]

    def loss(params):
        hidden = model.hidden(params, ids, positions, segments)
        return jnp.sum(model.unembed(params, hidden) * weights), hidden

    grads, hidden = jax.jit(jax.grad(loss, has_aux=True))(params)
    return jnp.where((segments > 0)[..., None], hidden, 0.0), grads


def assert_trees_close(got, want, atol):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=1e-4), got, want)


@pytest.mark.long
def test_remat_changes_nothing():
    config = tiny()
    params = random_params(make_transformer(config).init)
    want = gradients(config, params)
    got = gradients(dataclasses.replace(config, remat="nothing"), params)
    assert_trees_close(got, want, 1e-4)


def test_layers_are_traced_once():
    """The program of six layers is no longer than that of two."""

    def lines(num_layers):
        model = make_transformer(tiny(num_layers=num_layers))
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        return jax.jit(model.hidden).lower(shapes, *rows()).as_text().count("\n")

    assert lines(6) == lines(2)


def test_scanned_layers_are_a_chain_of_single_ones():
    """A model of two layers is the one-layer model with the second layer put after the first."""
    config = tiny()
    model = make_transformer(config)
    params = random_params(model.init)
    ids, positions, segments = rows()
    swapped = jax.tree.map(lambda w: w[::-1], params["trunk"]["layers"])
    backwards = {"trunk": {**params["trunk"], "layers": swapped}}
    want = oracle_hidden(backwards, config, ids[1], positions[1])
    run = jax.jit(model.hidden)
    got = run(backwards, ids, positions, segments)[1]
    np.testing.assert_allclose(got, want, atol=2e-5)
    assert np.max(np.abs(got - run(params, ids, positions, segments)[1])) > 1e-2


@pytest.mark.long
@pytest.mark.parametrize("tied", [True, False])
def test_gradient_reaches_every_parameter(tied):
    config = tiny(tied_embeddings=tied, qkv_bias=True)
    _, grads = gradients(config, random_params(make_transformer(config).init))
    for path, grad in jax.tree_util.tree_leaves_with_path(grads):
        assert np.all(np.isfinite(grad)), path
        assert np.max(np.abs(grad)) > 1e-4, path


@pytest.mark.long
def test_bfloat16_compute_is_close_and_logits_are_float32():
    config = tiny()
    model = make_transformer(config)
    half = make_transformer(dataclasses.replace(config, dtype="bfloat16"))
    params = random_params(model.init)
    params["trunk"]["embed"] = params["trunk"]["embed"] / 4  # logits, and their errors, near 1
    hidden = jax.jit(half.hidden)(params, *rows())
    assert hidden.dtype == jnp.bfloat16
    logits = half.unembed(params, hidden)
    assert logits.dtype == jnp.float32
    want = jax.nn.log_softmax(model.unembed(params, jax.jit(model.hidden)(params, *rows())))
    np.testing.assert_allclose(jax.nn.log_softmax(logits), want, atol=0.05)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(params))


@pytest.mark.long
def test_parameters_are_plain_and_tied_embeddings_are_one_leaf():
    tied, untied = (
        jax.jit(make_transformer(tiny(tied_embeddings=t)).init)(jax.random.key(0))
        for t in (True, False)
    )
    assert type(tied) is dict
    assert all(isinstance(x, jax.Array) for x in jax.tree.leaves(tied))
    assert "unembed" not in tied
    assert len(jax.tree.leaves(untied)) == len(jax.tree.leaves(tied)) + 1


@pytest.mark.long
@pytest.mark.parametrize("tied", [True, False])
def test_a_fresh_layer_is_the_identity_and_can_learn_to_be_another(tied):
    """Hidden states are the normed embeddings; the two projections that are zero have gradients."""
    config = tiny(tied_embeddings=tied, qkv_bias=True)
    model = make_transformer(config)
    params = jax.jit(model.init)(jax.random.key(0))
    ids, positions, segments = rows()
    got = jax.jit(model.hidden)(params, ids, positions, segments)
    x = np.asarray(params["trunk"]["embed"])[np.asarray(ids)]
    want = x / np.sqrt(np.mean(x**2, -1, keepdims=True) + config.norm_eps)
    real = np.asarray(segments) > 0  # at padding the embedding read is another
    np.testing.assert_allclose(np.asarray(got)[real], want[real], atol=1e-5)
    _, grads = gradients(config, params)
    layers = grads["trunk"]["layers"]
    for grad in (layers["attention"]["out"], layers["mlp"]["down"]):
        assert np.all(np.max(np.abs(grad), axis=tuple(range(1, grad.ndim))) > 1e-3)  # each layer


@pytest.mark.long
def test_embeddings_start_with_rows_of_length_about_one():
    params = jax.jit(make_transformer(tiny(vocab_size=1000)).init)(jax.random.key(0))
    squares = np.sum(np.asarray(params["trunk"]["embed"]) ** 2, axis=-1)
    assert abs(np.mean(squares) - 1) < 0.05


@pytest.mark.long
def test_init_is_a_function_of_the_key_and_vmaps_over_seeds():
    model = make_transformer(tiny())
    keys = jax.random.split(jax.random.key(0), 3)
    many, init = jax.jit(jax.vmap(model.init))(keys), jax.jit(model.init)
    for i in range(3):
        one = init(keys[i])
        jax.tree.map(lambda a, b, i=i: np.testing.assert_allclose(a[i], b, atol=1e-6), many, one)
    query = many["trunk"]["layers"]["attention"]["query"]
    assert not np.allclose(query[0], query[1])
    assert not np.allclose(query[0, 0], query[0, 1])  # layers differ too
    run = jax.jit(jax.vmap(model.hidden, in_axes=(0, None, None, None)))
    hidden = run(many, *rows())
    assert hidden.shape == (3, ROWS, LENGTH, 16)


def test_parameters_can_be_donated():
    model = make_transformer(tiny())
    params = jax.jit(model.init)(jax.random.key(0))
    halve = jax.jit(lambda p: jax.tree.map(lambda x: x / 2, p), donate_argnums=0)
    want = jax.tree.map(lambda x: np.asarray(x) / 2, params)
    assert_trees_close(halve(params), want, 1e-6)
    assert params["trunk"]["embed"].is_deleted()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_kv_heads": 3}, "multiple of num_kv_heads"),
        ({"head_dim": 5}, "head_dim must be even"),
        ({"d_ff": 0}, r"d_ff must be in \[1, inf\)"),
        ({"rope_theta": -1.0}, r"rope_theta must be in \(0, inf\)"),
    ],
)
def test_bad_sizes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        tiny(**change)


def test_a_stream_too_large_to_square_is_nan_and_not_silence():
    norm = Norm(tiny(), {"embed": 16})
    assert jnp.isfinite(norm(jnp.full((16,), 1e18))).all()
    assert jnp.isnan(norm(jnp.full((16,), 1e20))).all()  # 16 squares of 1e40


def test_params_of_another_model_are_refused_by_name():
    """A larger vocabulary or a second table would otherwise be read and trained without a word."""
    model, ids = make_transformer(tiny(vocab_size=11)), jnp.ones((1, 3), int)
    others = [
        (tiny(vocab_size=12), r"params\['trunk'\]\['embed'\] must be \(11, 16\).*got \(12, 16\)"),
        (tiny(vocab_size=11, tied_embeddings=False), r"params\['unembed'\] must be left out"),
    ]
    for config, message in others:
        params = jax.eval_shape(make_transformer(config).init, jax.random.key(0))
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(model.hidden, params, ids, ids, ids)
