"""Every recipe trains a mixture of experts with its load-balance loss, and no other model."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from random_params import random_params

from rlhf_jax.algos import sft
from rlhf_jax.algos.ppo import ActorCritic
from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.models import LoRAConfig, MoEConfig, TransformerConfig, make_lora
from rlhf_jax.policies.language import language_router_loss
from rlhf_jax.recipes import Fit, lora_lab, make_lab, supervised
from rlhf_jax.recipes.experts import adapted_losses, balance, router_losses, trajectories
from rlhf_jax.recipes.lab import make_trajectories
from rlhf_jax.recipes.offline import step_options
from rlhf_jax.training import read_metrics
from rlhf_jax.types import PreferenceBatch

VOCABULARY = standard_vocabulary(train_word_tokenizer(["red", "blue"]))
CONFIG = TransformerConfig(
    vocab_size=VOCABULARY.size,
    d_model=8,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=8,
    d_ff=8,
    moe=MoEConfig(experts=3, experts_per_token=1, load_balance_weight=0.5),
)


def lab_of(config):
    return make_lab(config, VOCABULARY, prompt_length=3, answer_length=3)


LAB = lab_of(CONFIG)


def batch_of(*answers):
    return make_trajectories(LAB, ["red"] * len(answers), answers)


@pytest.mark.long
def test_the_gradient_of_a_router_is_the_sum_of_both_parts(stage):
    """One step of gradient descent: likelihood plus 1/2 of the router loss."""
    params, batch = random_params(LAB.policy.init), batch_of("blue", "red blue")
    start = jax.tree.map(np.asarray, params)
    after = supervised(stage, LAB, [batch], params, Fit(optax.sgd(1.0), 1))

    @jax.jit
    def slopes(params):
        plain = jax.grad(lambda p: sft.make_objective(LAB.policy)(p, batch)[0].value())(params)
        extra = jax.grad(lambda p: language_router_loss(LAB.model)(p, batch.inputs))(params)
        return plain, extra

    plain, extra = slopes(params)
    jax.tree.map(
        lambda a, b, x, y: np.testing.assert_allclose(a - b, x + y, rtol=1e-4, atol=1e-5),
        *(start, after, plain, extra),
    )
    assert np.abs(extra["trunk"]["layers"]["mlp"]["router"]).max() > 1e-3
    (row,) = read_metrics(stage.run.out)
    loss = sft.make_objective(LAB.policy)(params, batch)[0].value()
    assert row["loss"] == pytest.approx(float(loss) + row["penalty"], rel=1e-5)


def test_a_model_without_experts_or_without_a_weight_has_no_penalty():
    moe = MoEConfig(experts=3, experts_per_token=1)
    for config in (replace(CONFIG, moe=None), replace(CONFIG, moe=moe)):
        lab = lab_of(config)
        assert lab.router_losses == router_losses(config, {"policy": lab.model}) == {}
        assert step_options(lab, Fit(optax.sgd(1.0), 1)) == {"parts": 1, "penalty": None}


@pytest.mark.long
def test_pairs_reward_models_critics_and_adapters_have_the_penalty_of_what_they_train():
    first, second = batch_of("blue"), batch_of("red blue")
    pairs = PreferenceBatch(first, second)
    assert [len(trajectories(each)) for each in (first, pairs)] == [1, 2]
    params = random_params(LAB.policy.init)
    values = {**random_params(LAB.value.init), "trunk": params["trunk"]}
    # The trunk alone is read: policy, reward model and critic have one loss, a pair its mean.
    run = jax.jit(LAB.router_losses["policy"])
    one, other = (float(run(params, each.inputs)) for each in (first, second))
    penalty, of_reward = balance(LAB.router_losses), balance(LAB.router_losses, "reward")
    assert float(jax.jit(penalty)(params, pairs)) == pytest.approx((one + other) / 2, rel=1e-5)
    assert float(jax.jit(of_reward)(values, first)) == pytest.approx(one, rel=1e-5)
    both = jax.jit(penalty)(ActorCritic(params, values), first)
    assert float(both) == pytest.approx(2 * one, rel=1e-5)
    config = LoRAConfig(rank=1, alpha=1.0, targets=("*/router",))
    small = lora_lab(LAB, make_lora(config, LAB.axes["policy"]), params)
    adapter = small.policy.init(jax.random.key(0))
    found = jax.jit(small.router_losses["policy"])(adapter, first.inputs)
    assert float(found) == pytest.approx(one, rel=1e-5)
    assert adapted_losses({}, "policy", make_lora(config, LAB.axes["policy"]), None) == {}
    assert balance(small.router_losses) is balance(small.router_losses)


def test_the_first_loss_of_a_mixture_is_known_without_its_penalty(stage):
    """log 2 + 0.7 is the loss of a first step with a penalty of 0.7."""
    from rlhf_jax.recipes.offline import fit_state

    def step(state, batch):
        return state, {"loss": jnp.log(2.0) + 0.7, "penalty": jnp.array(0.7)}

    fit = Fit(optax.sgd(1.0), 1, first_loss=float(np.log(2.0)))
    found = fit_state(stage, step, {"w": jnp.ones(1)}, [batch_of("red")], fit, lambda state: state)
    assert found["w"] == 1.0
