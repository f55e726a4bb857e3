"""A lab of adapters: the recipes on it, its reference, its reward model, devices that share it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_params import random_params
from word_lab import RED, VOCABULARY, transformer_lab

from rlhf_jax.models import LoRAConfig, TransformerConfig, make_lora
from rlhf_jax.ops.kl import k3
from rlhf_jax.recipes import (
    Fit,
    Penalty,
    answer_rows,
    grpo,
    lora_lab,
    make_lab,
    make_prompts,
    online,
    pair_rows,
    prompt_rows,
    reward_model,
    supervised,
    task_reward,
    text_task,
)
from rlhf_jax.recipes.lab import device_mesh
from rlhf_jax.recipes.offline import preference_of
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.training import read_metrics

LAB = transformer_lab()
BASE = random_params(LAB.policy.init)
CONFIG = LoRAConfig(rank=2, alpha=4.0, targets=("*/attention/*", "*/mlp/*", "*embed"))
LORA = make_lora(CONFIG, LAB.axes["policy"])
SMALL = lora_lab(LAB, LORA, BASE)
ADAPTER = SMALL.policy.init(jax.random.key(0))
TASK = text_task(
    ["red green", "blue", "grey red", "green"] * 2,
    lambda prompts, answers: {"red": [answer.count("red") for answer in answers]},
    objective="red",
    heldout=2,
)
PAIRS = [{"prompt": "red", "chosen": "red", "rejected": "blue"}] * 8


@pytest.mark.long
def test_grpo_trains_the_adapter_and_its_reference_is_the_base(stage):
    method = grpo(SMALL, samples=4, kl=Penalty(0.05, k3))
    rows = prompt_rows(TASK, batch_size=4, seed=0)
    fit = Fit(optax.adam(3e-2), steps=4)
    args = (stage, SMALL, TASK, method, task_reward(SMALL, TASK), ADAPTER, rows, fit)
    trained = online(*args, key=jax.random.key(1))
    logged = read_metrics(stage.run.out)
    assert logged[0]["kl/ref"] == pytest.approx(0.0, abs=1e-5)
    assert logged[-1]["kl/ref"] > 1e-3
    assert jax.tree.structure(trained) == jax.tree.structure(ADAPTER)
    prompts = make_prompts(LAB, TASK, np.arange(2))
    # The merged model samples and scores as the lab of adapters does.
    merged = LORA.merge(BASE, trained)
    key = jax.random.key(2)
    ours, theirs = SMALL.draw(trained, prompts, key, 2), LAB.draw(merged, prompts, key, 2)
    np.testing.assert_array_equal(ours.trajectory.actions, theirs.trajectory.actions)
    np.testing.assert_allclose(
        SMALL.token_logps(trained, ours.trajectory),
        LAB.token_logps(merged, ours.trajectory),
        rtol=1e-4,
        atol=1e-5,
    )
    now, before = (
        float(SMALL.token_logps(each, ours.trajectory)[ours.trajectory.actions == RED].mean())
        for each in (trained, None)
    )
    assert now > before  # 4 steps of rewarded reds; None is the base


def test_none_draws_from_the_base():
    prompts = make_prompts(LAB, TASK, np.arange(2))
    greedy = SamplingConfig(max_new_tokens=4, temperature=0.0, stop_ids=VOCABULARY.stop_ids)
    key = jax.random.key(2)
    ours = SMALL.draw(None, prompts, key, 1, sampling=greedy)
    theirs = LAB.draw(BASE, prompts, key, 1, sampling=greedy)
    np.testing.assert_array_equal(ours.trajectory.actions, theirs.trajectory.actions)


@pytest.mark.long
def test_a_reward_model_is_fitted_by_an_adapter_and_its_head(stage):
    base = LAB.reward.init(jax.random.key(3)) | {"trunk": BASE["trunk"]}
    config = LoRAConfig(rank=1, alpha=1.0, targets=("*/query",), trained=("head/*",))
    small = lora_lab(LAB, make_lora(config, LAB.axes["reward"]), base, part="reward")
    adapter = small.reward.init(jax.random.key(0))
    rows = pair_rows(small, PAIRS, batch_size=8)
    fitted = reward_model(stage, small, rows, adapter, Fit(optax.adam(1e-1), steps=5))
    losses = [row["loss"] for row in read_metrics(stage.run.out)]
    assert losses[-1] < losses[0]
    batch = rows[0]
    logit = preference_of(small).logits(fitted, batch.chosen, batch.rejected)
    np.testing.assert_allclose(
        logit, -preference_of(small).logits(fitted, batch.rejected, batch.chosen), atol=1e-6
    )


@pytest.mark.long
def test_a_critic_may_have_an_adapter():
    critic = random_params(LAB.value.init)
    config = LoRAConfig(rank=1, alpha=1.0, targets=("*/query",), trained=("head/*",))
    small = lora_lab(LAB, make_lora(config, LAB.axes["value"]), critic, part="value")
    inputs = answer_rows(LAB, [{"prompt": "red", "answer": "blue"}], batch_size=1)[0].inputs
    adapter = small.value.init(jax.random.key(0))
    np.testing.assert_array_equal(
        small.value.values(adapter, inputs), LAB.value.values(critic, inputs)
    )


@pytest.mark.long
def test_devices_share_base_and_adapter(stage):
    """One step of SFT on a mesh of 4 x 2 devices is the step of one device."""
    config = TransformerConfig(
        vocab_size=VOCABULARY.size + VOCABULARY.size % 2,
        d_model=8,
        num_layers=1,
        num_heads=2,
        num_kv_heads=2,
        head_dim=4,
        d_ff=8,
    )
    records = [{"prompt": "red", "answer": "green"}, {"prompt": "blue", "answer": "red grey"}] * 2
    found = []
    for mesh, name in ((None, "one"), (device_mesh({"model": 2}), "many")):
        lab = make_lab(config, VOCABULARY, prompt_length=2, answer_length=3, mesh=mesh)
        lora = make_lora(LoRAConfig(rank=2, alpha=4.0, targets=("*/mlp/*",)), lab.axes["policy"])
        small = lora_lab(lab, lora, random_params(lab.policy.init))
        adapter = small.policy.init(jax.random.key(0))
        part = type(stage)(stage.run, name)
        rows = answer_rows(small, records, batch_size=4)
        found.append(supervised(part, small, rows, adapter, Fit(optax.sgd(1.0), steps=1)))
    for ours, theirs in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    down = found[1]["trunk"]["layers"]["mlp"]["up"]["b"]
    assert down.sharding.spec == jax.sharding.PartitionSpec(None, None, "model")
    assert float(jnp.abs(down).max()) > 0
