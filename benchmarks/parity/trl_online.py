"""TRL's trainers that sample and compare: online DPO and A*-PO. Only the sampling is replaced."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
from trl.experimental.a2po import A2POConfig, A2POTrainer
from trl.experimental.online_dpo import OnlineDPOConfig, OnlineDPOTrainer

from benchmarks.parity import torch_table
from benchmarks.parity.batches import load, sequence
from benchmarks.parity.compare import Objective, Run
from benchmarks.parity.draw import LENGTH, PAIRS
from benchmarks.parity.table_policy import pair, pair_answers
from rlhf_jax.losses import preference as losses

BETA = 0.8


def build(trainer: type, config: type, reward: Callable, anchor: dict, **options):
    """A trainer, constructed for real, on the prompts of the pairs."""
    return trainer(
        model=torch_table.table_model(load("weights").policy),
        reward_funcs=reward,
        args=torch_table.arguments(config, per_device_train_batch_size=PAIRS, **options),
        train_dataset=torch_table.dataset(**torch_table.columns()),
        processing_class=torch_table.tokenizer(),
        **anchor,
    )


def first_and_second(name: str) -> np.ndarray:
    """[2 B, T] ids or mask of two answers per prompt, the better one first in half of the rows."""
    pairs = load("pairs")
    chosen, rejected = getattr(pairs, f"chosen_{name}"), getattr(pairs, f"rejected_{name}")
    ahead = pairs.desirable[:, None]
    swapped = np.where(ahead, rejected, chosen)
    return np.concatenate([np.where(ahead, chosen, rejected), swapped])


def run_online_dpo(loss_type: str) -> Run:
    """`OnlineDPOTrainer.training_step`: it orders the answers by reward, then DPO or IPO."""
    pairs, weights = load("pairs"), load("weights")

    def reward(prompts, completions, **kwargs):
        return np.concatenate([pairs.desirable, ~pairs.desirable]).astype(float).tolist()

    trainer = build(
        OnlineDPOTrainer,
        OnlineDPOConfig,
        reward,
        {"ref_model": torch_table.table_model(weights.reference)},
        beta=BETA,
        loss_type=loss_type,
        max_new_tokens=LENGTH,
    )
    prompts = [np.tile(x, (2, 1)) for x in (pairs.prompt_ids, pairs.prompt_mask)]
    sampled = [*prompts, first_and_second("ids"), first_and_second("mask")]
    tensors = [torch.from_numpy(x).long() for x in sampled]
    trainer._generate = lambda model, prompts, images=None: (*tensors, None)
    text = {"prompt": torch_table.columns()["prompt"]}
    return torch_table.descend(lambda: trainer.training_step(trainer.model, text), trainer.model)


def run_a2po() -> Run:
    """`A2POTrainer.compute_loss` on given rewards and optimal values."""
    pairs, weights = load("pairs"), load("weights")
    options = {"beta2": BETA, "max_completion_length": LENGTH}
    trainer = build(A2POTrainer, A2POConfig, lambda **kwargs: [0.0], {}, **options)
    torch_table.set_table(trainer.ref_model, weights.reference)
    ids = sequence(pairs.prompt_ids, pairs.chosen_ids)
    mask = sequence(pairs.prompt_mask, pairs.chosen_mask)
    tokens = [torch.from_numpy(x).long() for x in (ids, mask)]
    with torch.no_grad():
        anchor = trainer._get_sequence_logps(trainer.ref_model, *tokens, LENGTH)
    batch = {"input_ids": tokens[0], "attention_mask": tokens[1], "logits_to_keep": LENGTH}
    batch |= {"ref_logps": anchor, "v_star": torch.from_numpy(pairs.gaps)}
    batch |= {"rewards": torch.from_numpy(pairs.desirable).float()}
    return torch_table.run_trainer(trainer, batch)


def a2po(params: jax.Array) -> jax.Array:
    """Regression of the implicit reward on reward minus value, without DRO's half."""
    pairs, anchor = load("pairs"), pair_answers(load("weights").reference, "chosen")
    scores = jnp.asarray(pairs.desirable, jnp.float32)
    logps = pair_answers(params, "chosen").logps
    return jnp.mean(2.0 * losses.dro_loss(logps, anchor.logps, scores, pairs.gaps, beta=BETA))


def objectives() -> list[Objective]:
    """All rows of these trainers."""
    policy = load("weights").policy
    sums = "ipo_loss of sums over tokens, as in the paper; TRL's DPO trainer averages"
    online = [
        ("online DPO", "sigmoid", losses.dpo_loss, "dpo_loss"),
        ("online IPO", "ipo", losses.ipo_loss, sums),
    ]
    rows = [
        Objective(
            name,
            "TRL OnlineDPOTrainer",
            lambda loss_type=loss_type: run_online_dpo(loss_type),
            lambda params, loss=loss: jnp.mean(loss(*pair(params).logps, beta=BETA)),
            policy,
            note,
        )
        for name, loss_type, loss, note in online
    ]
    note = "2 dro_loss, values given"
    return [*rows, Objective("A*-PO", "TRL A2POTrainer", run_a2po, a2po, policy, note)]
