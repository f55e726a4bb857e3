"""Checkpoints come back bit for bit, or not at all."""

import json
import os
import subprocess
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from rlhf_jax.sharding import make_mesh
from rlhf_jax.training import arrays, checkpoints, trees
from rlhf_jax.training.checkpoints import Store
from rlhf_jax.training.errors import CheckpointError, DiskFullError


class Extra(NamedTuple):
    params: dict
    key: jax.Array
    count: int


def example(seed=0):
    key = jax.random.key(seed)
    params = {
        "w": jax.random.normal(key, (5, 3)),
        "half": jax.random.normal(key, (4,)).astype(jnp.bfloat16),
        "odd/[name].x": jnp.arange(3) > 1,
        "empty": jnp.zeros((0, 2)),
        "host": np.arange(6, dtype=np.int64).reshape(2, 3),
    }
    opt_state = optax.adamw(1e-3).init({"w": params["w"]})
    return Extra(params, jax.random.split(key, 2), 7), opt_state, [None, 1.5, True]


def restored(store, like, *, step=None):
    found = checkpoints.restore(store, like, step=step)
    assert found is not None
    return found


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert type(x) is type(y)
        if isinstance(x, jax.Array | np.ndarray):
            assert x.dtype == y.dtype
            if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
                x, y = jax.random.key_data(x), jax.random.key_data(y)
            assert np.asarray(x).tobytes() == np.asarray(y).tobytes()
        else:
            assert x == y


def test_every_kind_of_leaf_comes_back(tmp_path):
    store, tree = Store(tmp_path), example()
    checkpoints.save(store, 3, tree, {"rows": 5})
    found = restored(store, example(seed=1))
    assert (found.step, found.metadata) == (3, {"rows": 5})
    assert_same(found.tree, tree)


def test_abstract_example_suffices(tmp_path):
    tree = {"w": jnp.arange(6.0).reshape(2, 3), "key": jax.random.key(2)}
    checkpoints.save(Store(tmp_path), 0, tree)
    assert_same(restored(Store(tmp_path), jax.eval_shape(lambda: tree)).tree, tree)


def test_plain_containers_need_no_example(tmp_path):
    tree = {"b": [np.arange(3), (np.float32(2.5), None)], "a": {"x": 4}}
    checkpoints.write(tmp_path / "r", tree, {})
    found, _ = checkpoints.read_checkpoint(tmp_path / "r")
    assert found["b"][1][1] is None
    assert found["a"]["x"] == 4
    np.testing.assert_array_equal(found["b"][0], np.arange(3))
    checkpoints.write(tmp_path / "s", example(), {})
    with pytest.raises(CheckpointError, match="can only be read with `like=`"):
        checkpoints.read_checkpoint(tmp_path / "s")


def test_sharded_arrays_keep_their_sharding(tmp_path):
    mesh = make_mesh(fsdp=1, model=2)
    sharding = NamedSharding(mesh, PartitionSpec("data", "model"))
    tree = {"w": jax.device_put(jnp.arange(32.0).reshape(8, 4), sharding)}
    checkpoints.save(Store(tmp_path), 1, tree)
    found = restored(Store(tmp_path), tree).tree
    assert found["w"].sharding == sharding
    assert_same(found, tree)
    assert_same(restored(Store(tmp_path), {"w": jnp.zeros((8, 4))}).tree, tree)


def test_keeps_the_last_two_and_replaces_one(tmp_path):
    store = Store(tmp_path / "deep" / "er")
    assert checkpoints.restore(store, 0.0) is None
    for step in (5, 10, 15):
        checkpoints.save(store, step, {"x": jnp.ones(2) * step})
    assert checkpoints.steps(store) == [10, 15]
    checkpoints.save(store, 15, {"x": jnp.ones(2)})
    assert checkpoints.steps(store) == [10, 15]
    assert float(restored(store, {"x": jnp.ones(2)}).tree["x"][0]) == 1
    assert float(restored(store, {"x": jnp.ones(2)}, step=10).tree["x"][0]) == 10
    with pytest.raises(CheckpointError, match=r"no checkpoint of step 5; it has \[10, 15\]"):
        restored(store, {"x": jnp.ones(2)}, step=5)
    assert sorted(os.listdir(store.root)) == ["step_0000000010", "step_0000000015"]


@pytest.mark.parametrize(
    ("like", "message"),
    [
        ({"w": jnp.zeros((3, 2))}, r"\['w'\] is float32\[2, 3\] there and float32\[3, 2\] here"),
        ({"w": jnp.zeros((2, 3), jnp.int32)}, r"float32\[2, 3\] there and int32\[2, 3\] here"),
        ({"v": jnp.zeros((2, 3))}, r"it has no \['v'\]"),
        ({}, r"it has \['w'\], unknown here"),
    ],
)
def test_another_tree_is_named(tmp_path, like, message):
    checkpoints.save(Store(tmp_path), 1, {"w": jnp.zeros((2, 3))})
    with pytest.raises(CheckpointError, match=message):
        restored(Store(tmp_path), like)


def test_folders_of_other_names_are_not_looked_at(tmp_path):
    store, tree = Store(tmp_path), {"w": jnp.arange(4.0)}
    strays = (
        "step_0000000001-backup",
        "step_best",
        "step_0000000009 (copy)",
        "step_7",
        ".DS_Store",
    )
    for name in strays:
        (tmp_path / name).mkdir()
    (tmp_path / "step_0000000099").write_text("a file")
    assert checkpoints.restore(store, tree) is None
    for step in (1, 2, 3):
        checkpoints.save(store, step, tree)
    assert restored(store, tree).step == 3
    assert checkpoints.steps(store) == [2, 3]
    assert all((tmp_path / name).is_dir() for name in strays)


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("damage", [flip, truncate, os.remove])
def test_any_damage_to_any_file_is_named(tmp_path, damage):
    store, tree = Store(tmp_path / "store"), {"w": jnp.arange(64.0)}
    checkpoints.save(store, 1, tree)
    checkpoints.save(store, 2, tree)
    folder = store.root / "step_0000000002"
    for path in files_of(folder):
        before = path.read_bytes()
        if not before:  # an empty marker file has nothing to flip or cut
            continue
        damage(path)
        with pytest.raises(CheckpointError) as error:
            restored(store, tree)
        assert str(folder) in str(error.value)
        assert "delete this folder, then resume: its work is repeated" in str(error.value)
        assert "\n" not in str(error.value)
        path.write_bytes(before)
    assert_same(restored(store, tree).tree, tree)


def test_an_array_that_differs_from_its_digest_is_damage(tmp_path):
    """Even where every file is as it was written: what counts is the values."""
    folder = checkpoints.save(Store(tmp_path), 1, {"w": jnp.arange(4.0)})
    record = json.loads((folder / "checkpoint.json").read_text())
    record["leaves"][0]["sha256"] = "0" * 64
    del record["sha256"]
    digest = checkpoints.json_digest(record)
    (folder / "checkpoint.json").write_text(json.dumps(record | {"sha256": digest}))
    with pytest.raises(CheckpointError, match=r"is damaged \(\['w'\] has changed\)"):
        restored(Store(tmp_path), {"w": jnp.arange(4.0)})


def test_a_half_written_one_is_never_seen(tmp_path, monkeypatch):
    store, tree = Store(tmp_path), {"w": jnp.arange(4.0)}
    checkpoints.save(store, 1, tree)

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.os, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.save(store, 2, tree)
    assert checkpoints.steps(store) == [1]
    (tmp_path / ".tmp-step_0000000002-99").mkdir()
    assert restored(store, tree).step == 1
    checkpoints.clean(tmp_path)
    assert os.listdir(tmp_path) == ["step_0000000001"]


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 400 kB, where the machine lets us mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("no mount command")
    if done.returncode:
        pytest.skip("may not mount a small file system")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


# The writes that were still under way answer to an event loop that has been closed.
@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_full_disk_keeps_what_was_saved(tiny_disk, capfd):
    store = Store(tiny_disk / "store")
    small, large = {"w": jnp.arange(16.0)}, {"w": jax.random.normal(jax.random.key(0), (300_000,))}
    checkpoints.save(store, 1, small)
    with pytest.raises(DiskFullError, match=r"no space left on the disk of .*--resume"):
        checkpoints.save(store, 2, large)
    assert checkpoints.steps(store) == [1]
    assert_same(restored(store, small).tree, small)
    assert os.listdir(store.root) == ["step_0000000001"]
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.filterwarnings("ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning")
def test_a_save_in_the_background_that_fails_is_told_at_the_next_look(tiny_disk):
    store = Store(tiny_disk / "store")
    large = {"w": jax.random.normal(jax.random.key(0), (300_000,))}
    message = rf"no space left on the disk of {store.root / 'step_0000000001'}.*--resume"
    with checkpoints.saving(store) as saver:
        saver.start(1, large)
        saver.under_way.exception()  # until it has failed
        with pytest.raises(DiskFullError, match=message):
            saver.check()
        saver.check()  # once
    assert checkpoints.steps(store) == []


def test_a_save_in_the_background_is_of_the_tree_as_it_was(tmp_path):
    store, tree = Store(tmp_path), {"w": np.zeros(4), "x": jnp.zeros(4)}
    step = jax.jit(lambda x: x + 1, donate_argnums=0)
    with checkpoints.saving(store) as saver:
        for number in range(1, 4):
            saver.start(number, tree)
            tree["w"] += 1
            tree["x"] = step(tree["x"])
    assert checkpoints.steps(store) == [2, 3]
    for number in (2, 3):
        found = restored(store, {"w": np.zeros(4), "x": jnp.zeros(4)}, step=number).tree
        np.testing.assert_array_equal([*found["w"], *found["x"]], number - 1)


def test_parts_of_an_array_are_compared_where_they_are_held():
    """As saved by several processes: each region has a digest of its own."""
    array = np.arange(8, dtype=np.float32).reshape(4, 2)
    saved = {"0:2,0:2": trees.digest(array[:2]), "2:4,0:2": trees.digest(array[2:])}
    mesh = make_mesh(data=2, fsdp=1, devices=jax.devices()[:2])
    halves = jax.device_put(array, NamedSharding(mesh, PartitionSpec("data")))
    for held in (array, jnp.asarray(array), halves):
        assert not arrays.changed(held, saved)
    array[3, 1] = 0
    assert arrays.changed(array, saved)
    assert arrays.changed(array, {arrays.WHOLE: trees.digest(array + 1)})
