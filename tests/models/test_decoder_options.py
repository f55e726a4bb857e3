"""Every option of the decoder against NumPy, and the promises that all of them keep.

Each kind of config is compiled once for a batch of packed, whole and padded documents.
"""

import dataclasses
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from decoder_oracle import KINDS, LAYERS, WINDOW, V, cap, oracle_hidden, tiny
from random_params import random_params

from rlhf_jax.models import MoEConfig, RopeScaling, make_transformer, make_value_model
from rlhf_jax.models.blockwise import Tokens, attention_mask
from rlhf_jax.models.cache import recent, resize_cache
from rlhf_jax.models.config import Activation, QKNorm, check_names
from rlhf_jax.policies.language import language_policy, language_trajectory
from rlhf_jax.sharding import make_mesh, shard_params

P, T = 5, 4
EVERY = pytest.mark.parametrize("kind", KINDS)


@cache
def compiled(kind):
    """(model, params with noise, jitted hidden)."""
    model = make_transformer(KINDS[kind])
    return model, random_params(model.init), jax.jit(model.hidden)


def batch():
    """Rows of 9: two packed documents; one document; padding on both sides; padding inside."""
    ids = jax.random.randint(jax.random.key(0), (4, P + T), 0, V)
    segments = np.array([[1] * 4 + [2] * 5, [1] * 9, [0, 0] + [1] * 5 + [0] * 2, [1] * 9])
    segments[3, [0, 3, 4]] = 0
    positions = np.array([[*range(4), *range(5)], range(9), range(9), range(9)])
    positions[2:] = np.where(segments[2:] > 0, np.cumsum(segments[2:], axis=1) - 1, 0)
    return ids, jnp.asarray(positions), jnp.asarray(segments)


def documents(segments):
    """(row, columns) of each document."""
    for row, line in enumerate(np.asarray(segments)):
        for segment in range(1, line.max() + 1):
            yield row, np.flatnonzero(line == segment)


@pytest.mark.long
@EVERY
def test_documents_are_computed_as_if_they_stood_alone(kind):
    """Also that neither padding nor the neighbours in a packed row matter."""
    model, params, hidden = compiled(kind)
    ids, positions, segments = batch()
    got = hidden(params, ids, positions, segments)
    table = np.asarray(model.table(params), np.float64)
    for row, columns in documents(segments):
        one = np.asarray(ids)[row, columns], np.asarray(positions)[row, columns]
        want = oracle_hidden(params, model.config, *one)
        np.testing.assert_allclose(got[row, columns], want, atol=3e-5)
        logits = model.unembed(params, got[row, columns])
        np.testing.assert_allclose(logits, cap(want @ table.T, model.config), atol=3e-4)


@pytest.mark.long
@EVERY
def test_steps_continue_a_prefill(kind):
    """Prompts of 5, 3 and 1 tokens, padded on the left: each step is that of a full forward."""
    model, params, hidden = compiled(kind)
    ids = batch()[0]
    starts = jnp.array([[0], [2], [4], [4]])
    segments = (jnp.arange(P + T) >= starts).astype(jnp.int32)
    positions = jnp.where(segments > 0, jnp.arange(P + T) - starts, 0)
    want = hidden(params, ids, positions, segments)
    prompt = (x[:, :P] for x in (ids, positions, segments))
    states, kv_cache = jax.jit(model.prefill, static_argnums=4)(params, *prompt, P + T)
    real = segments[:, :P] > 0
    np.testing.assert_allclose(states[real], want[:, :P][real], atol=2e-5)
    slots = P + T if model.config.sliding_window is None else kv_cache.positions.shape[1]
    assert int(kv_cache.slot) == 0
    weights, step = model.unstack(params), jax.jit(model.decode_step, donate_argnums=1)
    for t in range(P, P + T):
        state, kv_cache = step(weights, kv_cache, ids[:, t], positions[:, t])
        np.testing.assert_allclose(state, want[:, t], atol=2e-5)
    held = jax.jit(resize_cache, static_argnums=1)(kv_cache, slots)
    last = jnp.where(segments > 0, positions, -1)[:, P + T - slots :]
    np.testing.assert_array_equal(held.positions, last)
    assert len(kv_cache.layers) == LAYERS
    heads, size = model.config.num_kv_heads, model.config.head_dim
    shapes = tuple(x.shape for x in kv_cache.layers[0])
    assert shapes == ((4, heads, size, slots), (4, heads, slots, size))


@pytest.mark.long
def test_a_model_of_windows_keeps_as_many_slots_as_a_window():
    model, params, _ = compiled("window")
    ids, positions, segments = (x[:, :P] for x in batch())
    kv_cache = jax.eval_shape(partial(model.prefill, length=50), params, ids, positions, segments)
    assert kv_cache[1].positions.shape == (4, WINDOW)


@pytest.mark.long
@EVERY
def test_a_fresh_layer_is_the_identity_and_every_parameter_can_learn(kind):
    """With noise, every leaf has a gradient; without, hidden states are the normed embeddings."""
    model, params, hidden = compiled(kind)
    ids, positions, segments = batch()
    fresh = jax.jit(model.init)(jax.random.key(0))
    got = hidden(fresh, ids, positions, segments)
    fresh["trunk"]["layers"] = jax.tree.map(lambda w: w[:0], fresh["trunk"]["layers"])
    bare = dataclasses.replace(model.config, num_layers=LAYERS, layer_windows=None)
    for row, columns in documents(segments):
        one = np.asarray(ids)[row, columns], np.asarray(positions)[row, columns]
        want = oracle_hidden(fresh, _without_layers(bare), *one)
        np.testing.assert_allclose(np.asarray(got)[row, columns], want, atol=1e-5)

    def read_out(params):
        states = model.unembed(params, model.hidden(params, ids, positions, segments))
        weights = jax.random.normal(jax.random.key(9), states.shape)
        loss = jnp.sum(jnp.where((segments > 0)[..., None], states, 0.0) * weights)
        return loss + (
            model.router_loss(params, ids, positions, segments) if model.config.moe else 0
        )

    for path, grad in jax.tree_util.tree_leaves_with_path(jax.jit(jax.grad(read_out))(params)):
        assert np.all(np.isfinite(grad)), path
        # Softmax does not see a bias of the keys where nothing is rotated.
        if "key_bias" not in str(path) or model.config.positions == "rope":
            assert np.max(np.abs(grad)) > 1e-4, path


def _without_layers(config):
    """The oracle's loop over layers runs zero times."""
    config = dataclasses.replace(config)
    object.__setattr__(config, "num_layers", 0)
    return config


@EVERY
def test_axes_name_every_dimension_and_have_a_rule(kind):
    config = KINDS[kind]
    sizes = {"layers": LAYERS, "vocab": V, "embed": 16, "heads": 4, "head_dim": config.head_dim}
    sizes |= {"kv_heads": config.num_kv_heads, "mlp": 20, "positions": config.max_positions}
    sizes["experts"] = config.moe and config.moe.experts
    for model in (make_transformer(config), make_value_model(config)):
        shapes = jax.eval_shape(model.init, jax.random.key(0))

        def check(leaf, names):
            assert leaf.shape == tuple(sizes[name] for name in names)

        jax.tree.map(check, shapes, model.axes())
        shard_params(model.axes(), make_mesh())


@pytest.mark.parametrize("kind", ["alternating", "experts"])
def test_bfloat16_compute_is_close(kind):
    """Log-probs over the vocabulary, all between -1 and -6 nats, move by some hundredths."""
    model, params, hidden = compiled(kind)
    half = make_transformer(dataclasses.replace(model.config, dtype="bfloat16"))
    params = {"trunk": {**params["trunk"], "embed": params["trunk"]["embed"] / 4}}
    states = jax.jit(half.hidden)(params, *batch())
    assert states.dtype == jnp.bfloat16
    got, want = half.unembed(params, states), model.unembed(params, hidden(params, *batch()))
    real = batch()[2] > 0
    difference = jnp.abs(jax.nn.log_softmax(got) - jax.nn.log_softmax(want))[real]
    assert jnp.quantile(difference, 0.95) < 0.1  # a token near a tie of the router may move more


@pytest.mark.long
@pytest.mark.parametrize("packed", [False, True])
def test_a_window_of_three_ends_after_three_tokens(packed):
    """Token 5 sees tokens 3, 4, 5; its derivative by every other embedding is exactly zero."""
    config = tiny(num_layers=1, sliding_window=WINDOW)
    model = make_transformer(config)
    params = random_params(model.init)
    segments = jnp.array([[1, 1, 2, 2, 2, 2, 2, 2]] if packed else [[0, 0, 1, 1, 1, 1, 1, 1]])
    positions = jnp.array([[0, 1, 0, 1, 2, 3, 4, 5]] if packed else [[0, 0, 0, 1, 2, 3, 4, 5]])

    def last(embed):
        params_ = {"trunk": {**params["trunk"], "embed": embed}}
        return model.hidden(params_, jnp.arange(8)[None], positions, segments)[0, -1]

    slopes = jax.jit(jax.jacobian(last))(params["trunk"]["embed"])[:, :8]
    seen = np.max(np.abs(slopes), axis=(0, 2)) > 0
    np.testing.assert_array_equal(seen, [False] * 5 + [True] * 3)


def test_masks_by_hand():
    segments, positions = jnp.array([[1, 1, 1, 0, 2, 2]]), jnp.array([[0, 1, 2, 0, 0, 1]])
    want = [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 1, 1],
    ]
    tokens = Tokens(segments, positions, jnp.arange(6)[None], positions - 1)
    np.testing.assert_array_equal(attention_mask(tokens, tokens)[0], want)
    # The last two tokens, wherever their slots are.
    seen = jnp.array([[-1, 0, 1, -1, 2, -1], [3, 0, 1, 2, -1, -1], [-1, -1, 0, -1, -1, -1]])
    want = [[0, 0, 1, 0, 1, 0], [1, 0, 0, 1, 0, 0], [0, 0, 1, 0, 0, 0]]
    np.testing.assert_array_equal(recent(seen, jnp.array([2, 3, 0]), 2), want)
    np.testing.assert_array_equal(recent(seen, jnp.array([2, 3, 0]), None), seen >= 0)


@pytest.mark.parametrize("kind", ["gpt", "post-norms"])
def test_positions_beyond_the_last_are_nan_and_a_cache_for_them_is_refused(kind):
    model, params, hidden = compiled(kind)
    limit = {"gpt": 11, "post-norms": 40}[kind]
    assert model.config.position_limit == limit
    ids, positions, segments = batch()
    positions = positions.at[1].set(jnp.arange(9) + limit - 8)  # the last one is too far
    states = hidden(params, ids, positions, segments)
    assert jnp.isnan(states[1]).all()
    assert jnp.isfinite(states[0]).all()
    assert jnp.isfinite(hidden(params, ids, positions - 1, segments)[1]).all()
    with pytest.raises(ValueError, match=f"more than the {limit} positions of this model"):
        model.prefill(params, ids, positions, segments, limit + 1)


@pytest.mark.long
def test_chunked_log_probs_have_the_soft_cap():
    model, params, _ = compiled("alternating")
    ids = batch()[0]
    trajectory = language_trajectory(
        ids[:, :P], jnp.ones((4, P), bool), ids[:, P:], jnp.ones((4, T), bool)
    )
    whole, chunked = (
        language_policy(model, chunk=chunk).logps(params, trajectory.inputs, trajectory.actions)
        for chunk in (T, 2)
    )
    np.testing.assert_allclose(chunked, whole, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positions": "learned"}, "need max_positions"),
        ({"rope_local_theta": 10.0}, "need a sliding_window"),
        ({"sliding_window": 2, "layer_windows": (True,)}, "one entry for each of the 3 layers"),
        ({"sliding_window": 0}, r"sliding_window must be in \[1, inf\)"),
        ({"final_softcap": 0.0}, r"final_softcap must be in \(0, inf\)"),
        (
            {"positions": "learned", "max_positions": 9, "rope_local_theta": 1.0},
            "need positions 'rope'",
        ),
        (
            {"moe": MoEConfig(experts=2, experts_per_token=1), "gated_mlp": False},
            "experts are gated",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        tiny(**change)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RopeScaling(kind="yarn", factor=2.0), "needs original_max_positions"),
        (lambda: RopeScaling(kind="linear", factor=0.5), r"factor must be in \[1, inf\)"),
        (lambda: MoEConfig(experts=2, experts_per_token=3), r"must be in \[1, 2\]"),
    ],
)
def test_parts_of_a_config_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@dataclasses.dataclass(frozen=True)
class Names:
    """As in TransformerConfig, which the type checker of the test run guards before we can."""

    activation: Activation
    qk_norm: QKNorm | None


def test_names_are_checked_where_no_type_checker_runs():
    check_names(Names("gelu", None))
    with pytest.raises(ValueError, match="qk_norm must be one of head, full, got 'heads'"):
        check_names(Names("silu", "heads"))
    with pytest.raises(ValueError, match="activation must be one of silu, gelu, gelu_tanh"):
        check_names(Names(None, "full"))
