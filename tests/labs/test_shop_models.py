"""Shipped models: read as they were written, refused where they do not fit, and good enough."""

from dataclasses import replace

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rlhf_jax.envs import shop
from rlhf_jax.labs.forgetting import drill_text
from rlhf_jax.labs.shop import SPLITS, shop_lab, shop_task
from rlhf_jax.labs.shop_models import GATES, SHIPPED, competence, ship, shipped
from rlhf_jax.labs.size import Size
from rlhf_jax.labs.train_shop import (
    Schedule,
    ShopModels,
    corpus_text,
    ideal_text,
    remake,
)
from rlhf_jax.training import UserError, open_run

SMALL = Size(d_model=16, num_layers=1, num_heads=2, num_kv_heads=1, d_ff=16)
SCHEDULE = Schedule(
    batch_size=8, base_rows=60, base_steps=2, ideal_rows=60, ideal_steps=2, sft_rows=60, sft_steps=2
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    return shop_lab(SMALL, tmp_path_factory.mktemp("lab"), seed=0)


@pytest.mark.long
def test_a_shipped_model_comes_back_rounded_to_bfloat16(lab, tmp_path):
    params = lab.policy.init(jax.random.key(1))
    ship(tmp_path / "sft.safetensors", params)
    found = shipped(lab, "sft", tmp_path)
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(x.dtype), params)
    chex.assert_trees_all_equal(found, rounded)


def test_a_model_that_does_not_fit_is_refused(lab, tmp_path, monkeypatch):
    params = lab.policy.init(jax.random.key(1))
    ship(tmp_path / "sft.safetensors", params)
    with pytest.raises(UserError, match=r"no shipped model 'base'; it has \['sft'\]"):
        shipped(lab, "base", tmp_path)
    wider = shop_lab(replace(SMALL, d_ff=32), tmp_path, seed=0)
    with pytest.raises(UserError, match="another size"):
        shipped(wider, "sft", tmp_path)
    whole = (tmp_path / "sft.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cut off or damaged"):
        shipped(lab, "cut", tmp_path)
    monkeypatch.setattr(shop, "world_hash", lambda: "another")
    with pytest.raises(UserError, match=r"was trained on world \w{16}, this one is another"):
        shipped(lab, "sft", tmp_path)


def test_both_models_of_the_package_are_small_and_of_this_world(tmp_path):
    lab = shop_lab(Size(), tmp_path, seed=0)
    for name in SHIPPED:
        leaves = jax.tree.leaves(shipped(lab, name))
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in leaves)
        assert 2 * sum(leaf.size for leaf in leaves) < 2e6


def test_texts_of_every_stage_are_words_of_the_world():
    known = {*shop.words()}
    for text in (drill_text, ideal_text, corpus_text):
        for index in range(60):
            row = text(0, index)
            assert {*row["prompt"].split(), *row["answer"].split()} <= known
            assert row["answer"]


def test_remade_models_are_written(tmp_path):
    """And a share of answers that name listed products is known even of a model that knows none."""
    config = ShopModels(size=SMALL, schedule=SCHEDULE, heldout=16)
    with open_run(tmp_path / "out", slug="train_shop", config=config) as job:
        reached = remake(job, config)
    assert {*GATES} <= {*reached}
    assert sorted(path.stem for path in (tmp_path / "out").glob("*.safetensors")) == ["base", "sft"]


@pytest.mark.long
def test_the_shipped_policy_passes_its_gates(tmp_path):
    """Means over 512 held-out prompts; the intervals are those of experiments/shop."""
    lab, task = shop_lab(Size(), tmp_path, seed=0), shop_task(0)
    indices = np.array(SPLITS["heldout"][:512])
    found = competence(lab, task, shipped(lab, "sft"), indices, world=0)
    reached = {name: np.nanmean(found[name]) for name in GATES}
    assert all(reached[name] >= gate for name, gate in GATES.items()), reached
