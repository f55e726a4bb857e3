"""Tunix's side: the compiled steps of its DPO and PEFT trainers on its Qwen2.

It imports nothing of this library: its environment is another one.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from tunix.rl import common
from tunix.sft.dpo.dpo_trainer import DPOTrainer, DPOTrainingConfig, TrainingInput
from tunix.sft.peft_trainer import PeftTrainer, TrainingConfig

from benchmarks.train.child import Turn, Work, best_rate, serve
from benchmarks.train.sizes import BETA, DECAY, RATE
from benchmarks.tunix_shape import tunix_model

ADAMW = optax.adamw(RATE, weight_decay=DECAY)


def repeat(owner: PeftTrainer, example: Any, turn: Turn) -> None:
    """The same batch again and again."""
    step, _ = owner.jit_train_and_eval_step()
    while True:
        turn(loss=float(step(example)[0]))


def dpo(work: Work, turn: Turn) -> None:
    """`DPOTrainer`, its reference log-probs computed once."""
    config = DPOTrainingConfig(eval_every_n_steps=10_000, beta=BETA, algorithm="dpo")
    model, reference = (tunix_model(work.folder, work.sizes) for _ in range(2))
    owner = DPOTrainer(model, reference, ADAMW, config)
    fields = {f"{name}_ids": work.arrays[name] for name in ("prompt", "chosen", "rejected")}
    fields |= {name.replace("_ids", "_mask"): np.ones_like(x) for name, x in fields.items()}
    example = owner._prepare_inputs(TrainingInput(**fields))
    owner.ref_model = None
    repeat(owner, example, turn)


def fine_tuning(work: Work, turn: Turn) -> None:
    """`PeftTrainer` with its default loss, on the answers."""
    owner = PeftTrainer(
        tunix_model(work.folder, work.sizes), ADAMW, TrainingConfig(eval_every_n_steps=10_000)
    )
    prompts = np.tile(work.arrays["prompt"], (2, 1))
    answers = np.concatenate([work.arrays["chosen"], work.arrays["rejected"]])
    ids = np.concatenate([prompts, answers], axis=1)
    counted = np.concatenate([np.zeros_like(prompts), np.ones_like(answers)], axis=1)
    real = jnp.ones(ids.shape, bool)
    example = {
        "input_tokens": jnp.asarray(ids),
        "input_mask": jnp.asarray(counted),
        "positions": common.build_positions_from_mask(real),
        "attention_mask": common.make_causal_attn_mask(real),
    }
    repeat(owner.with_gen_model_input_fn(lambda batch: batch), example, turn)


def roof(size: int) -> float:
    """Of XLA."""
    x = jnp.ones((size, size))
    product = jax.jit(jnp.matmul)
    return best_rate(lambda: product(x, x).block_until_ready(), size)


if __name__ == "__main__":
    serve({"dpo": dpo, "sft": fine_tuning}, roof)
