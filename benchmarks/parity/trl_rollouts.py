"""Batches of TRL's GRPO and RLOO trainers, made by the trainers themselves.

Nothing is generated: the committed answers enter through the trainer's own `rollout_func`. The
rest is TRL's: old and reference log-probs, rewards, advantages.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import torch
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer
from trl.experimental.gmpo import GMPOConfig, GMPOTrainer

from benchmarks.parity import torch_table
from benchmarks.parity.batches import load
from benchmarks.parity.compare import Run
from benchmarks.parity.draw import GROUP, LENGTH
from benchmarks.parity.table_policy import group_answers
from rlhf_jax.ops import groups


class Batch:
    """All answers, flat [N], under the policy, the sampling policy and the reference."""

    def __init__(self, params: jax.Array):
        weights = load("weights")
        self.now, self.old, self.reference = (
            group_answers(table) for table in (params, weights.old, weights.reference)
        )
        self.mask = self.now.mask
        self.scores = load("groups").scores

    def advantages(self) -> jax.Array:
        """GRPO's, [N]."""
        return groups.group_normalised_advantages(self.scores).reshape(-1)

    def answers(self) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
        """What the group losses begin with: log-probs, old log-probs, advantages, mask."""
        return self.now.token_logps, self.old.token_logps, self.advantages(), self.mask

    def steps(self) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Log-probs, old log-probs and advantages of each token, [N, T]."""
        spread = jnp.broadcast_to(self.advantages()[:, None], self.mask.shape)
        return self.now.token_logps, self.old.token_logps, spread


def rollout(sampler_logps: np.ndarray | None = None) -> dict[str, list | None]:
    """What a `rollout_func` returns: the committed answers, without padding."""
    data = load("groups")
    prompt_ids, prompt_mask = (x.repeat(GROUP, axis=0) for x in (data.prompt_ids, data.prompt_mask))

    def ragged(rows, masks):
        return [row[mask].tolist() for row, mask in zip(rows, masks, strict=True)]

    logps = None if sampler_logps is None else ragged(sampler_logps, data.completion_mask)
    completions = ragged(data.completion_ids, data.completion_mask)
    prompts = ragged(prompt_ids, prompt_mask)
    return {"prompt_ids": prompts, "completion_ids": completions, "logprobs": logps}


def scores(prompts, completions, **kwargs) -> list[float]:
    """The reward function: the committed scores."""
    return load("groups").scores.reshape(-1).tolist()


@functools.cache
def reference_folder() -> str:
    """The reference as a checkpoint, which is how these trainers want it."""
    folder = Path(torch_table.SCRATCH.name) / "reference"
    torch_table.table_model(load("weights").reference).save_pretrained(folder)
    return str(folder)


def build(trainer: type, config: type, **options):
    """A trainer, constructed for real; two iterations make it keep the old log-probs."""
    model = torch_table.table_model(load("weights").policy)
    model.config._name_or_path = reference_folder()
    data = load("groups")
    size = data.scores.size
    sizes = {"per_device_train_batch_size": size, "num_generations": GROUP, "num_iterations": 2}
    arguments = torch_table.arguments(config, max_completion_length=LENGTH, **sizes, **options)
    built = trainer(
        model=model,
        reward_funcs=scores,
        args=arguments,
        train_dataset=torch_table.dataset(prompt=[torch_table.text(x) for x in data.prompt_ids]),
        processing_class=torch_table.tokenizer(),
    )
    built.current_gradient_accumulation_steps = 1  # `train` would set it
    return built


def generate(trainer) -> dict[str, torch.Tensor]:
    """TRL's batch: sampled by the old policy, scored, with TRL's advantages."""
    weights, prompts = load("weights"), [torch_table.text(x) for x in load("groups").prompt_ids]
    rows = [{"prompt": prompt} for prompt in prompts for _ in range(GROUP)]
    torch_table.set_table(trainer.model, weights.old)
    batch = trainer._generate_and_score_completions(rows)
    torch_table.set_table(trainer.model, weights.policy)
    return batch


def grpo(trainer: type = GRPOTrainer, config: type = GRPOConfig, **options):
    """A GRPO trainer and its batch."""
    built = build(trainer, config, **({"beta": 0.0} | options))
    built.rollout_func = lambda prompts, owner: rollout()
    if options.get("vllm_importance_sampling_mode"):
        sampled = np.asarray(group_answers(load("weights").old).token_logps)
        sampled = sampled + load("groups").sampler_gaps
        built.rollout_func = lambda prompts, owner: rollout(sampled)
        built.use_vllm, built._last_loaded_step = True, 0  # the correction, without an engine
    return built, generate(built)


def gmpo(**options):
    """A GMPO trainer and its batch."""
    return grpo(GMPOTrainer, GMPOConfig, **options)


def rloo(**options):
    """An RLOO trainer, which has no `rollout_func`, and its batch."""
    trainer = build(RLOOTrainer, RLOOConfig, **options)
    drawn = rollout()
    texts = [""] * load("groups").scores.size
    trainer._generate = lambda prompts: (drawn["prompt_ids"], drawn["completion_ids"], texts)
    return trainer, generate(trainer)


def run(make: Callable, options: dict) -> Run:
    """A trainer's loss on its own batch."""
    trainer, batch = make(**options)
    return torch_table.run_trainer(trainer, batch)
