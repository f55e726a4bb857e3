"""Low-rank adapters: of any tree, against sums written out in NumPy, and frozen bases."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_params import random_params

from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.preference import make_update
from rlhf_jax.losses import dpo_loss
from rlhf_jax.models import (
    LoRAConfig,
    MoEConfig,
    TransformerConfig,
    adapt,
    hold,
    is_matrix,
    make_lora,
    make_reward_model,
    make_transformer,
    read,
)
from rlhf_jax.policies.language import language_policy, language_reward, language_trajectory
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.training import checkpoints
from rlhf_jax.types import PreferenceBatch

MODEL = make_transformer(
    TransformerConfig(
        vocab_size=13,
        d_model=8,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=4,
        d_ff=12,
        tied_embeddings=False,
        remat="nothing",
    )
)
LINEAR = ("*/attention/*", "*/mlp/*")
BASE = random_params(MODEL.init)
IDS = jax.random.randint(jax.random.key(5), (2, 6), 0, 13)
ROWS = (IDS, jnp.broadcast_to(jnp.arange(6), (2, 6)), jnp.ones((2, 6), jnp.int32))

config = partial(LoRAConfig, rank=2, alpha=4.0, targets=LINEAR)


def moved(adapter, seed=9):
    """The adapter after a step in a random direction: B is no longer 0."""
    return random_params(lambda key: adapter, seed)


def answers(seed):
    ids = jax.random.randint(jax.random.key(seed), (2, 6), 0, 13)
    full = jnp.ones((2, 3), bool)
    return language_trajectory(ids[:, :3], full, ids[:, 3:], full)


@pytest.mark.long
@pytest.mark.parametrize("layerwise", [False, True])
def test_step_0_is_the_base_bit_for_bit(layerwise):
    lora = make_lora(config(targets=(*LINEAR, "*embed")), MODEL.axes())
    policy = adapt(language_policy(MODEL), lora, BASE, layerwise=layerwise)
    batch = answers(1)
    run = jax.jit(policy.logps)
    base = jax.jit(language_policy(MODEL).logps)(BASE, batch.inputs, batch.actions)
    first = run(policy.init(jax.random.key(0)), batch.inputs, batch.actions)
    np.testing.assert_array_equal(first, base)
    np.testing.assert_array_equal(run(None, batch.inputs, batch.actions), base)


@pytest.mark.long
def test_magnitudes_start_at_the_base_too():
    lora = make_lora(config(magnitudes=True), MODEL.axes())
    fresh = MODEL.init(jax.random.key(3))  # with layers of zeros: columns without a direction
    for base in (BASE, fresh):
        merged = lora.merge(base, lora.init(jax.random.key(0), base))
        for ours, theirs in zip(jax.tree.leaves(merged), jax.tree.leaves(base), strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("stabilised", [False, True])
def test_the_sum_written_out(stabilised):
    lora = make_lora(config(rank_stabilised=stabilised), MODEL.axes())
    adapter = moved(lora.init(jax.random.key(0), BASE))
    merged = lora.merge(BASE, adapter)["trunk"]["layers"]
    scale = 4 / np.sqrt(2) if stabilised else 4 / 2
    base = BASE["trunk"]["layers"]
    sums = {  # heads and head_dim are one side: H h columns of `query`, H h rows of `out`
        ("attention", "query"): "ndr,nrhk->ndhk",
        ("attention", "out"): "nhkr,nrd->nhkd",
        ("mlp", "down"): "nfr,nrd->nfd",
    }
    for (part, name), product in sums.items():
        each = adapter["trunk"]["layers"][part][name]
        a, b = (np.asarray(each[x], np.float64) for x in "ab")
        expected = base[part][name] + scale * np.einsum(product, a, b)
        np.testing.assert_allclose(merged[part][name], expected, rtol=2e-6, atol=1e-6)


@pytest.mark.long
def test_columns_have_the_length_of_their_magnitude():
    """DoRA in NumPy: m_j V_j / |V_j|, V = W + s A B, for each column over all inputs."""
    lora = make_lora(config(magnitudes=True), MODEL.axes())
    adapter = moved(lora.init(jax.random.key(0), BASE))
    each = adapter["trunk"]["layers"]["attention"]["out"]
    a, b, m = (np.asarray(each[x], np.float64) for x in ("a", "b", "magnitude"))
    base = np.asarray(BASE["trunk"]["layers"]["attention"]["out"], np.float64)
    v = base + 2.0 * np.einsum("nhkr,nrd->nhkd", a, b)
    expected = v * (m / np.sqrt((v**2).sum((1, 2))))[:, None, None]
    merged = lora.merge(BASE, adapter)["trunk"]["layers"]["attention"]["out"]
    np.testing.assert_allclose(merged, expected, rtol=1e-5, atol=1e-6)
    assert adapter["trunk"]["layers"]["attention"]["query"]["magnitude"].shape == (2, 4, 4)


def test_the_gradient_of_a_magnitude_sees_a_constant_norm():
    """W = (3, 4), |W| = 5, m = 5, f = first entry: df/dm = 3/5, df/dB = s A m/|W| (no norm term).

    With the norm's own gradient the second would be s A (1 - (3/5)^2).
    """
    lora = make_lora(LoRAConfig(rank=1, alpha=1.0, targets=("",), magnitudes=True), (None, None))
    base = jnp.array([[3.0], [4.0]])
    adapter = lora.init(jax.random.key(0), base) | {"a": jnp.array([[1.0], [0.0]])}
    slope = jax.grad(lambda adapter: lora.merge(base, adapter)[0, 0])(adapter)
    assert slope["magnitude"][0] == pytest.approx(0.6)
    assert slope["b"][0, 0] == pytest.approx(1.0)


@pytest.mark.long
@pytest.mark.parametrize("magnitudes", [False, True])
def test_layer_by_layer_is_the_merged_model(magnitudes):
    lora = make_lora(config(magnitudes=magnitudes, targets=(*LINEAR, "*embed")), MODEL.axes())
    adapter = moved(lora.init(jax.random.key(0), BASE))

    def loss(apply, adapter):
        return jnp.sum(jnp.sin(MODEL.hidden(apply(BASE, adapter), *ROWS)))

    whole = jax.jit(jax.value_and_grad(partial(loss, lora.merge)))(adapter)
    layers = jax.jit(jax.value_and_grad(partial(loss, lora.attach)))(adapter)
    for ours, theirs in zip(jax.tree.leaves(layers), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)


def test_what_is_trained_is_rank_times_the_sides():
    lora = make_lora(config(targets=("*/query", "*/down")), MODEL.axes())
    adapter = lora.init(jax.random.key(0), BASE)
    # per layer: query 2 (8 + 16), down 2 (12 + 8)
    assert sum(x.size for x in jax.tree.leaves(adapter)) == 2 * (2 * (8 + 16) + 2 * (12 + 8))
    query = adapter["trunk"]["layers"]["attention"]["query"]
    assert query["a"].shape == (2, 8, 2)
    assert query["b"].shape == (2, 2, 4, 4)
    assert 0.3 < jnp.abs(query["a"]).max() <= 8**-0.5


def test_axes_of_an_adapter_are_those_of_its_weights():
    lora = make_lora(config(targets=("*/out",), magnitudes=True), MODEL.axes())
    assert lora.axes()["trunk"]["layers"]["attention"]["out"] == {
        "a": ("layers", "heads", "head_dim", None),
        "b": ("layers", None, "embed"),
        "magnitude": ("layers", "embed"),
    }


def test_a_table_has_an_adapter_too():
    """3 states, 2 actions, rank 1: the table stays 0 + s a b^T."""
    lora = make_lora(LoRAConfig(rank=1, alpha=2.0, targets=("*",)), ("states", "actions"))
    policy = adapt(tabular_policy(3, 2), lora, jnp.zeros((3, 2)))
    adapter = policy.init(jax.random.key(0)) | {"b": jnp.array([[1.0, -1.0]])}
    logits = policy.logits(adapter, jnp.arange(3))
    np.testing.assert_allclose(logits, 2.0 * adapter["a"] * jnp.array([1.0, -1.0]), rtol=1e-6)


@pytest.mark.long
def test_one_step_of_dpo_changes_the_adapter_alone():
    lora = make_lora(config(), MODEL.axes())
    held = hold(BASE)
    policy = adapt(language_policy(MODEL), lora, held, layerwise=True)
    adapter = policy.init(jax.random.key(0))
    chosen, rejected = answers(1), answers(2)
    ref = [policy.logps(None, x.inputs, x.actions).sum(-1) for x in (chosen, rejected)]
    update = make_update(policy, optax.adam(1e-2), partial(dpo_loss, beta=0.1), parts=2)
    state, metrics = jax.jit(update, donate_argnums=0)(
        init_state(jax.tree.map(jnp.array, adapter), optax.adam(1e-2)),
        PreferenceBatch(chosen, rejected, *ref),
    )
    assert float(metrics["loss"].value()) == pytest.approx(np.log(2), abs=1e-6)
    assert jax.tree.structure(state.params) == jax.tree.structure(adapter)
    changed = jax.tree.map(lambda x, y: bool((x != y).any()), state.params, adapter)
    query = changed["trunk"]["layers"]["attention"]["query"]
    assert query == {"a": False, "b": True}  # dL/dA = s dL/dW B^T = 0 at B = 0
    for now, before in zip(jax.tree.leaves(read(held)), jax.tree.leaves(BASE), strict=True):
        np.testing.assert_array_equal(now, before)


def test_a_compiled_program_holds_no_copy_of_the_base():
    table = jnp.arange(64.0 * 64).reshape(64, 64)
    lora = make_lora(LoRAConfig(rank=1, alpha=1.0, targets=("*",)), (None, None))
    policy = adapt(tabular_policy(64, 64), lora, table)
    lowered = jax.jit(policy.logits).lower(policy.init(jax.random.key(0)), jnp.arange(2))
    program = lowered.as_text().splitlines()
    assert not [line for line in program if "constant" in line and "64x64" in line]
    assert [line for line in program if "@main(" in line and "%arg3: tensor<64x64xf32>" in line]


@pytest.mark.long
def test_a_reward_model_trains_its_head_whole():
    scorer = make_reward_model(MODEL.config)
    base = random_params(scorer.init)
    lora = make_lora(config(trained=("head/*",)), scorer.axes())
    reward = adapt(language_reward(scorer), lora, base, layerwise=True)
    adapter = reward.init(jax.random.key(0))
    batch = answers(1)
    np.testing.assert_array_equal(
        reward.scores(adapter, batch), language_reward(scorer).scores(base, batch)
    )
    assert set(adapter["head"]) == {"weight", "bias"}
    slope = jax.grad(lambda adapter: reward.scores(adapter, batch).sum())(adapter)
    assert float(slope["head"]["bias"]["weight"]) == pytest.approx(2.0)  # two rows


@pytest.mark.long
def test_a_bfloat16_base_trains_in_float32_and_exports_what_was_trained():
    base = jax.tree.map(lambda x: x.astype(jnp.bfloat16), BASE)
    lora = make_lora(config(), MODEL.axes())
    adapter = moved(lora.init(jax.random.key(0), base))
    assert {x.dtype for x in jax.tree.leaves(adapter)} == {jnp.dtype("float32")}
    merged = lora.merge(base, adapter)
    assert {x.dtype for x in jax.tree.leaves(merged)} == {jnp.dtype("bfloat16")}
    np.testing.assert_array_equal(
        MODEL.hidden(merged, *ROWS), MODEL.hidden(lora.attach(base, adapter), *ROWS)
    )


def test_an_adapter_survives_a_checkpoint(tmp_path):
    lora = make_lora(config(magnitudes=True), MODEL.axes())
    adapter = moved(lora.init(jax.random.key(0), BASE))
    state = init_state(adapter, optax.adam(1e-3))
    checkpoints.save(checkpoints.Store(tmp_path), 1, state)
    found = checkpoints.restore(checkpoints.Store(tmp_path), state)
    assert found is not None
    jax.tree.map(np.testing.assert_array_equal, found.tree, state)


def test_a_pattern_that_matches_nothing_names_its_neighbours():
    with pytest.raises(ValueError, match=r"'\*/quary'.*nearest are \['trunk.*/query'"):
        make_lora(config(targets=("*/quary",)), MODEL.axes())


def test_a_vector_is_no_target():
    message = r"matches no matrix: 'trunk/norm/scale' has axes \('embed',\).*`trained`"
    with pytest.raises(ValueError, match=message):
        make_lora(config(targets=("trunk/norm/*",)), MODEL.axes())
    assert not is_matrix(("layers", "heads", "head_dim"))  # a bias, or a norm of all heads as one
    assert is_matrix(("layers", "embed", "heads", "head_dim"))


def test_a_pattern_stands_for_matrices_beside_norms_and_for_each_expert():
    """A small Qwen 3 with experts: norms of queries and keys are no targets, stacks are."""
    moe = MoEConfig(experts=3, experts_per_token=2)
    kind = TransformerConfig(
        vocab_size=13,
        d_model=8,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=4,
        d_ff=12,
        qk_norm="head",
        moe=moe,
    )
    model = make_transformer(kind)
    lora = make_lora(config(), model.axes())
    names = {path.split("/layers/")[1] for path in lora.sides}
    weights = {f"attention/{name}" for name in ("query", "key", "value", "out")}
    assert names == weights | {f"mlp/{name}" for name in ("router", "gate", "up", "down")}
    base = jax.eval_shape(model.init, jax.random.key(0))
    adapter = jax.eval_shape(lora.init, jax.random.key(0), base)["trunk"]["layers"]
    # Rank 2 for each of 2 layers and 3 experts: 8 -> 12 and back; a router is one 8 x 3 a layer.
    shapes = jax.tree.map(lambda x: x.shape, adapter["mlp"])
    assert shapes["up"] == {"a": (2, 3, 8, 2), "b": (2, 3, 2, 12)}
    assert shapes["down"] == {"a": (2, 3, 12, 2), "b": (2, 3, 2, 8)}
    assert shapes["router"] == {"a": (2, 8, 2), "b": (2, 2, 3)}


def test_a_leaf_is_either_a_target_or_trained_whole():
    with pytest.raises(ValueError, match="matched by both"):
        make_lora(config(targets=("*/query",), trained=("*/query",)), MODEL.axes())


def test_the_adapter_of_another_model_is_named():
    lora = make_lora(config(targets=("*/query",)), MODEL.axes())
    adapter = lora.init(jax.random.key(0), BASE)
    wider = jax.tree.map(lambda x: jnp.concatenate([x, x], -1), BASE)
    with pytest.raises(ValueError, match=r"attention/query.*another model"):
        lora.merge(wider, adapter)


def test_the_adapter_of_another_config_is_named():
    lora = make_lora(config(targets=("*/query",)), MODEL.axes())
    adapter = lora.init(jax.random.key(0), BASE)
    for options, message in (
        ({"targets": ("*/query", "*/value")}, r"lacks 'trunk.*/value/a'"),
        ({"targets": ("*/value",)}, r"has another leaf, 'trunk.*/query/a'"),
        ({"targets": ("*/query",), "magnitudes": True}, r"lacks 'trunk.*/query/magnitude'"),
    ):
        with pytest.raises(ValueError, match=message):
            make_lora(config(**options), MODEL.axes()).merge(BASE, adapter)


@pytest.mark.parametrize(("field", "value"), [("rank", 0), ("alpha", 0.0), ("alpha", np.nan)])
def test_a_rank_or_alpha_out_of_range_is_named(field, value):
    with pytest.raises(ValueError, match=field):
        config(**{field: value})
