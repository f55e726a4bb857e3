"""Weights from safetensors: what a folder must have, and what is refused."""

import json
import pickle
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from rlhf_jax.hf import Pretrained, load_model, load_reward, read_config, read_params, save_model
from rlhf_jax.models import TransformerConfig, make_reward_model, make_transformer
from rlhf_jax.sharding import make_mesh, shard_params

CONFIG = TransformerConfig(
    vocab_size=16,
    d_model=8,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    d_ff=12,
    tied_embeddings=False,
)


def random_params(config=CONFIG, make=make_transformer):
    """Parameters without zeros."""
    shapes = jax.eval_shape(make(config).init, jax.random.key(0))
    draw = np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.asarray(draw.normal(size=x.shape), x.dtype), shapes)


PARAMS = random_params()


@pytest.fixture
def folder(tmp_path):
    save_model(tmp_path / "model", Pretrained(CONFIG, PARAMS))
    return tmp_path / "model"


def equal(a, b):
    return jax.tree.all(jax.tree.map(lambda x, y: x.dtype == y.dtype and (x == y).all(), a, b))


def edit(path, change):
    """Rewrites a file of weights."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_what_is_saved_is_read_back(folder):
    model = load_model(folder)
    assert model.config == CONFIG
    assert equal(model.params, PARAMS)


def test_shards_are_as_good_as_one_file(tmp_path):
    save_model(tmp_path / "model", Pretrained(CONFIG, PARAMS), shard_bytes=1500)
    names = sorted(path.name for path in (tmp_path / "model").glob("*.safetensors"))
    assert len(names) > 3
    assert names[0] == f"model-00001-of-{len(names):05d}.safetensors"
    # Each but one that holds a single tensor is at most 1,500 bytes of numbers.
    for name in names:
        tensors = load_file(tmp_path / "model" / name)
        assert len(tensors) == 1 or sum(x.nbytes for x in tensors.values()) <= 1500
    assert equal(load_model(tmp_path / "model").params, PARAMS)


def test_parameters_arrive_in_their_shardings(folder):
    mesh = make_mesh(model=2)
    params = read_params(folder, CONFIG, mesh=mesh)
    assert equal(params, PARAMS)
    wanted = shard_params(make_transformer(CONFIG).axes(), mesh)
    assert jax.tree.map(lambda x: x.sharding, params) == wanted
    query = params["trunk"]["layers"]["attention"]["query"]
    # 8 features on 4 devices, 4 heads on 2
    assert query.addressable_shards[0].data.shape == (2, 2, 2, 6)


@pytest.mark.parametrize("stored", ["bfloat16", "float16", "float32"])
@pytest.mark.parametrize("chosen", ["bfloat16", "float32"])
def test_dtypes_of_the_file_become_the_chosen_one(tmp_path, stored, chosen):
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(stored), PARAMS)
    save_model(tmp_path / "model", Pretrained(CONFIG, params))
    found = load_model(tmp_path / "model", param_dtype=chosen)
    assert found.config == replace(CONFIG, param_dtype=chosen)
    assert equal(found.params, jax.tree.map(lambda x: x.astype(chosen), params))


def test_a_bare_trunk_has_no_prefix(tmp_path):
    config = replace(CONFIG, tied_embeddings=True)
    params = {"trunk": PARAMS["trunk"]}
    save_model(tmp_path / "model", Pretrained(config, params))
    path = tmp_path / "model" / "model.safetensors"
    save_file({name.removeprefix("model."): x for name, x in load_file(path).items()}, path)
    assert equal(load_model(tmp_path / "model").params, params)


def test_a_tied_head_may_be_stored_if_it_is_the_embedding(tmp_path):
    config = replace(CONFIG, tied_embeddings=True)
    save_model(tmp_path / "model", Pretrained(config, {"trunk": PARAMS["trunk"]}))
    path = tmp_path / "model" / "model.safetensors"
    edit(path, lambda t: t.update({"lm_head.weight": t["model.embed_tokens.weight"]}))
    assert equal(load_model(tmp_path / "model").params, {"trunk": PARAMS["trunk"]})
    edit(path, lambda t: t.update({"lm_head.weight": 2 * t["lm_head.weight"]}))
    with pytest.raises(ValueError, match=r"tensor lm_head.weight not in the model"):
        load_model(tmp_path / "model")


def test_buffers_of_old_checkpoints_are_no_parameters(folder):
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    edit(folder / "model.safetensors", lambda t: t.update({name: np.ones(3, np.float32)}))
    assert equal(load_model(folder).params, PARAMS)


def test_a_reward_model_goes_out_and_in(tmp_path):
    params = random_params(make=make_reward_model)
    with pytest.raises(ValueError, match="a sequence classifier has no bias"):
        save_model(tmp_path / "model", Pretrained(CONFIG, params))
    params["head"]["bias"] = jnp.zeros(())
    save_model(tmp_path / "model", Pretrained(CONFIG, params))
    assert equal(load_reward(tmp_path / "model").params, params)
    with pytest.raises(ValueError, match="a reward model, not a language model; use load_reward"):
        load_model(tmp_path / "model")
    entries = json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "model" / "config.json").write_text(json.dumps(entries | {"num_labels": 3}))
    with pytest.raises(ValueError, match="with 3 labels; a reward model"):
        load_reward(tmp_path / "model")


def test_a_language_model_is_no_reward_model(folder):
    with pytest.raises(ValueError, match="with 2 labels; a reward model is"):
        load_reward(folder)


def test_a_folder_with_files_is_not_written_over(folder):
    with pytest.raises(ValueError, match="has files already; name a new folder"):
        save_model(folder, Pretrained(CONFIG, PARAMS))


QUERY = "model.layers.1.self_attn.q_proj.weight"


def drop(tensors):
    del tensors[QUERY]


def add(tensors):
    tensors["model.layers.2.mlp.up_proj.weight"] = np.ones((12, 8), np.float32)


def reshape(tensors):
    tensors[QUERY] = tensors[QUERY].T.copy()


def spoil(tensors):
    tensors[QUERY][3, 1] = np.nan


def overflow(tensors):
    tensors["model.embed_tokens.weight"][3, 1] = np.inf


def quantise(tensors):
    tensors[QUERY] = tensors[QUERY].astype(np.int8)


BAD = {
    "missing": (drop, rf"tensor {QUERY} missing"),
    "extra": (add, r"tensor model.layers.2.mlp.up_proj.weight not in the model"),
    "shape": (reshape, rf"{QUERY} has shape \(8, 24\), config.json says \(24, 8\)"),
    "nan": (spoil, rf"{QUERY} has weights that are not finite"),
    "inf": (overflow, r"model.embed_tokens.weight has weights that are not finite"),
    "int8": (quantise, rf"{QUERY} is I8; expected float32, bfloat16 or float16"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD.keys())
def test_a_bad_tensor_is_named(folder, change, message):
    edit(folder / "model.safetensors", change)
    with pytest.raises(ValueError, match=message) as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)


def test_half_a_file_is_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"model.safetensors: cut off or not a safetensors file"):
        load_model(folder)


def test_a_missing_shard_and_a_wrong_index_are_refused(tmp_path):
    folder = tmp_path / "model"
    save_model(folder, Pretrained(CONFIG, PARAMS), shard_bytes=3000)
    first, second, *rest = sorted(folder.glob("*.safetensors"))
    kept = second.read_bytes()
    second.unlink()
    with pytest.raises(ValueError, match=f"1 of {2 + len(rest)} shards missing, {second.name}"):
        load_model(folder)
    second.write_bytes(first.read_bytes())
    with pytest.raises(ValueError, match=rf"{second.name}: no tensor .* which model.safetensors"):
        load_model(folder)
    second.write_bytes(kept)
    (folder / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ValueError, match="not an index of shards"):
        load_model(folder)


class Bomb:
    """Unpickling this fails the test."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_a_pickle_is_never_loaded(folder, name):
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match=r"is a pickle, which|not a safetensors file"):
        load_model(folder)


def test_a_folder_without_weights_is_refused(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"no model\.safetensors and no"):
        load_model(folder)
    assert read_config(folder) == CONFIG
