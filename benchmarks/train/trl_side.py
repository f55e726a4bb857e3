"""TRL's side: its trainers' own losses and generation, without gradient checkpointing.

It imports nothing of this library: its environment may be another one.
"""

import os
import tempfile
from collections.abc import Callable
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}

import datasets
import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from benchmarks.train.child import Job, Turn, Work, best_rate, serve
from benchmarks.train.sizes import BETA, DECAY, KL, ONLINE_RATE, RATE, Sizes

SCRATCH = tempfile.TemporaryDirectory(prefix="train_")


def tokenizer(sizes: Sizes) -> transformers.PreTrainedTokenizerFast:
    """w4, w5, ... after four special tokens."""
    names = ["<pad>", "<eos>", "<unk>", "<bos>", *(f"w{i}" for i in range(4, sizes.vocab))]
    vocabulary = {name: i for i, name in enumerate(names)}
    split = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    split.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=split, **special)


def trainer(kind: type, config: type, work: Work, columns: dict, options: dict, **given: Any):
    """A trainer of this model, constructed for real on a few rows."""
    quiet: dict[str, Any] = {"use_cpu": True, "bf16": False, "report_to": [], "save_strategy": "no"}
    quiet |= {"gradient_checkpointing": False, "disable_tqdm": True, "output_dir": SCRATCH.name}
    quiet |= {"remove_unused_columns": False, "learning_rate": RATE}
    return kind(
        model=str(work.folder),
        args=config(**quiet, model_init_kwargs={"dtype": torch.float32}, **options),
        train_dataset=datasets.Dataset.from_dict(columns),
        processing_class=tokenizer(work.sizes),
        **given,
    )


def repeat(
    owner: Any, make: Callable[[], dict], turn: Turn, *, rate: float = RATE, times: int = 10_000
) -> Any:
    """Steps of AdamW on the trainer's loss; `make` gives its inputs."""
    owner.model.train()
    optimizer = torch.optim.AdamW(owner.model.parameters(), lr=rate, weight_decay=DECAY)
    for _ in range(times):
        learn(owner, optimizer, make(), turn)
    return optimizer


def learn(owner: Any, optimizer: torch.optim.Optimizer, inputs: dict, turn: Turn, **more) -> None:
    """One step."""
    loss = owner.compute_loss(owner.model, inputs)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    turn(loss=float(loss.detach()), **more)


def full_rows(prompts: np.ndarray, answers: np.ndarray) -> dict[str, torch.Tensor]:
    """Ids of whole rows, and which of their tokens are the answer's."""
    ids = np.concatenate([prompts, answers], axis=1).astype(np.int64)
    counted = np.concatenate([np.zeros_like(prompts), np.ones_like(answers)], axis=1)
    found = {"input_ids": ids, "attention_mask": np.ones_like(ids), "completion_mask": counted}
    return {name: torch.from_numpy(x.astype(np.int64)) for name, x in found.items()}


def dpo(work: Work, turn: Turn) -> None:
    """`DPOTrainer` with reference log-probs in the batch."""
    arrays = work.arrays
    words = {name: ["w5 w6", "w7 w8"] for name in ("prompt", "chosen", "rejected")}
    words["rejected"] = ["w6 w6", "w8 w8"]
    options = {"beta": BETA, "precompute_ref_log_probs": True, "per_device_train_batch_size": 2}
    owner = trainer(DPOTrainer, DPOConfig, work, words, options)
    answers = np.concatenate([arrays["chosen"], arrays["rejected"]])
    inputs = full_rows(np.tile(arrays["prompt"], (2, 1)), answers)
    with torch.no_grad():
        logits = owner.model(input_ids=inputs["input_ids"]).logits[:, :-1]
        logps = logits.log_softmax(-1).gather(-1, inputs["input_ids"][:, 1:, None])[..., 0]
        known = (logps * inputs["completion_mask"][:, 1:]).sum(-1)
        del logits, logps
    inputs["ref_chosen_logps"], inputs["ref_rejected_logps"] = known.chunk(2)
    repeat(owner, lambda: dict(inputs), turn)


def fine_tuning(work: Work, turn: Turn) -> None:
    """`SFTTrainer` on the answers."""
    words = {"prompt": ["w5 w6"] * 2, "completion": ["w7 w8"] * 2}
    options = {"completion_only_loss": True, "max_length": None}
    owner = trainer(SFTTrainer, SFTConfig, work, words, options)
    answers = np.concatenate([work.arrays["chosen"], work.arrays["rejected"]])
    inputs = full_rows(np.tile(work.arrays["prompt"], (2, 1)), answers)
    counted = inputs.pop("completion_mask")
    inputs["labels"] = inputs["input_ids"].masked_fill(counted == 0, -100)
    repeat(owner, lambda: dict(inputs), turn)


def group_iterations(work: Work, turn: Turn) -> None:
    """Three steps on given answers, then generation and a step of `GRPOTrainer`."""
    sizes, arrays = work.sizes, work.arrays
    rows = sizes.prompts * sizes.samples
    text = [" ".join(f"w{i}" for i in row) for row in arrays["group_prompt"][:: sizes.samples]]
    options: dict[str, Any] = {
        "num_generations": sizes.samples,
        "max_completion_length": sizes.online_answer,
    }
    options |= {"beta": KL, "loss_type": "grpo", "per_device_train_batch_size": rows}
    options |= {"temperature": 1.0, "top_k": 0, "epsilon": 0.2}
    options["generation_kwargs"] = {"min_new_tokens": sizes.online_answer}
    given = {"reward_funcs": even_words}
    owner = trainer(GRPOTrainer, GRPOConfig, work, {"prompt": text}, options, **given)
    owner.current_gradient_accumulation_steps = 1  # its `train` loop says so
    optimizer = repeat(owner, lambda: fixed_answers(owner, arrays), turn, rate=ONLINE_RATE, times=3)
    asked = [{"prompt": each} for each in text for _ in range(sizes.samples)]
    while True:
        inputs = owner._generate_and_score_completions(asked)
        learn(owner, optimizer, inputs, turn)


def fixed_answers(owner: Any, arrays: dict[str, np.ndarray], known: dict = {}) -> dict:  # noqa: B006
    """Inputs of the loss for the answers of the work; the first model is old and reference."""
    if not known:
        sides = {"prompt": arrays["group_prompt"], "completion": arrays["group_answer"]}
        for name, ids in sides.items():
            known[f"{name}_ids"] = torch.from_numpy(ids.astype(np.int64))
            known[f"{name}_mask"] = torch.ones_like(known[f"{name}_ids"])
        ids = torch.cat([known["prompt_ids"], known["completion_ids"]], dim=1)
        keep = known["completion_ids"].shape[1]
        with torch.no_grad():
            logps = owner._get_per_token_logps_and_entropies(
                owner.model, ids, torch.ones_like(ids), keep
            )[0]
        known |= {"old_per_token_logps": logps, "ref_per_token_logps": logps}
        known["advantages"] = torch.from_numpy(arrays["advantages"])
    return dict(known)


def even_words(completions: list[str], **_: Any) -> list[float]:
    """How many words of each answer have an even number."""
    ends = tuple(f"{i}" for i in range(0, 10, 2))
    return [float(sum(word.endswith(ends) for word in text.split())) for text in completions]


def roof(size: int) -> float:
    """Of torch."""
    x = torch.ones(size, size)
    return best_rate(lambda: x @ x, size)


JOBS: dict[str, Job] = {"dpo": dpo, "sft": fine_tuning, "grpo": group_iterations}

if __name__ == "__main__":
    serve(JOBS, roof)
