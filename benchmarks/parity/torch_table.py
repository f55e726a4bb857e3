"""A table as a `transformers` language model, and its tokenizer: TRL's trainers accept both.

The logits after token s are row s of one [V, V] matrix, the parameters of this library's
`tabular_policy`. So TRL runs as it is, from text to gradient, on exactly our weights.
"""

import os
import tempfile
from collections.abc import Callable
from typing import ClassVar

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "DO_NOT_TRACK": "1"}
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import datasets
import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers.modeling_outputs import (
    BaseModelOutput,
    CausalLMOutput,
    SequenceClassifierOutput,
)

from benchmarks.parity.batches import load
from benchmarks.parity.compare import STEPS, Run, step_size
from benchmarks.parity.draw import EOS, FIRST_WORD, PAD, PAIRS, VOCABULARY

SCRATCH = tempfile.TemporaryDirectory(prefix="parity_")  # gone when the process ends
NAMES = {PAD: "<pad>", EOS: "<eos>", 2: "<unk>"}
NAMES |= {word: f"w{word}" for word in range(FIRST_WORD, VOCABULARY)}


class TableConfig(transformers.PretrainedConfig):
    """Nothing but a vocabulary size."""

    model_type = "parity_table"
    auto_map: ClassVar[dict[str, str]] = {}  # TRL asks where the code of an unknown model is

    def __init__(self, vocab_size: int = VOCABULARY, **kwargs):
        self.vocab_size = self.hidden_size = vocab_size
        tokens = {"eos_token_id": EOS, "pad_token_id": PAD, "tie_word_embeddings": False}
        super().__init__(**(tokens | kwargs))


class OneHot(torch.nn.Module):
    """The backbone: the hidden state of a token is its one-hot vector."""

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, input_ids, attention_mask=None, **kwargs):
        one_hot = torch.nn.functional.one_hot(input_ids, self.size)
        return BaseModelOutput(last_hidden_state=one_hot.float())


class TableLM(transformers.PreTrainedModel, transformers.GenerationMixin):
    """logits = W[token]; `lm_head.weight` is W transposed."""

    config_class = TableConfig
    base_model_prefix = "model"

    def __init__(self, config: TableConfig):
        super().__init__(config)
        self.model = OneHot(config.vocab_size)
        self.lm_head = torch.nn.Linear(config.vocab_size, config.vocab_size, bias=False)
        self.post_init()

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids, attention_mask=None, labels=None, **kwargs):
        return CausalLMOutput(logits=self.lm_head(self.model(input_ids).last_hidden_state))


class TableScorer(transformers.PreTrainedModel):
    """score = sum over the real tokens of W[token before, token]; `lm_head.weight` is W^T."""

    config_class = TableConfig
    base_model_prefix = "model"

    def __init__(self, config: TableConfig):
        super().__init__(config)
        self.lm_head = torch.nn.Linear(config.vocab_size, config.vocab_size, bias=False)
        self.post_init()

    def forward(self, input_ids, attention_mask, **kwargs):
        real = attention_mask[:, 1:] * attention_mask[:, :-1]
        rewards = self.lm_head.weight[input_ids[:, 1:], input_ids[:, :-1]]
        return SequenceClassifierOutput(logits=(rewards * real).sum(-1, keepdim=True))


datasets.disable_progress_bars()
transformers.utils.logging.disable_progress_bar()
transformers.AutoConfig.register(TableConfig.model_type, TableConfig)
transformers.AutoModelForCausalLM.register(TableConfig, TableLM)


def table_model(table: np.ndarray, kind: type = TableLM) -> transformers.PreTrainedModel:
    """A model that holds the [V, V] table."""
    model = kind(TableConfig(num_labels=1))
    set_table(model, table)
    return model


def set_table(model: transformers.PreTrainedModel, table: np.ndarray) -> None:
    """Overwrite the table."""
    with torch.no_grad():
        model.lm_head.weight.copy_(torch.from_numpy(table).T)


def parameters(model: transformers.PreTrainedModel) -> np.ndarray:
    """The [V, V] table as it is now."""
    return model.lm_head.weight.detach().numpy().T.copy()


def gradient(model: transformers.PreTrainedModel) -> np.ndarray:
    """The [V, V] gradient of the table."""
    return model.lm_head.weight.grad.numpy().T.copy()


def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """Words split at spaces; ids are those of `draw.py`."""
    vocabulary = {name: token for token, name in NAMES.items()}
    split = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    split.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=split, **names)


def text(ids: np.ndarray) -> str:
    """Words of one row, without padding and without the end, which trainers add themselves."""
    return " ".join(NAMES[token] for token in ids.tolist() if token not in (PAD, EOS))


def columns(*names: str) -> dict[str, list[str]]:
    """Text columns of the committed pairs, an answer beginning with the space before it."""
    pairs = load("pairs")
    columns = {"prompt": [text(row) for row in pairs.prompt_ids]}
    for name in names:
        columns[name] = [" " + text(row) for row in getattr(pairs, f"{name}_ids")]
    return columns


def dataset(**columns) -> datasets.Dataset:
    """A table in memory."""
    return datasets.Dataset.from_dict(columns)


def arguments(config: type, **options):
    """A trainer's configuration: float32 on CPU, no logging, nothing written that stays."""
    quiet: dict[str, object] = {"bf16": False, "use_cpu": True, "save_strategy": "no"}
    quiet |= {"report_to": [], "disable_tqdm": True, "gradient_checkpointing": False}
    quiet |= {"remove_unused_columns": False}
    return config(output_dir=SCRATCH.name, **(quiet | options))


def descend(backward: Callable[[], torch.Tensor], model: transformers.PreTrainedModel) -> Run:
    """Loss, gradient and five steps of `torch.optim.SGD`; `backward` leaves the gradient."""
    values, gradients, path = [], [], []
    for _ in range(STEPS):
        model.zero_grad()
        values.append(backward().detach().numpy())
        gradients.append(gradient(model))
        if not path:
            rate = step_size(gradients[0])
            optimizer = torch.optim.SGD([model.lm_head.weight], lr=rate)
        optimizer.step()
        path.append(parameters(model))
    return Run(np.stack(values), gradients[0], np.stack(path), rate)


def run_trainer(trainer, batch: dict | None = None) -> Run:
    """The trainer's own loss, on `batch` or on its whole data set through its own collator."""
    if batch is None:
        batch = trainer.data_collator([trainer.train_dataset[row] for row in range(PAIRS)])

    def backward():
        loss = trainer.compute_loss(trainer.model, dict(batch))
        loss.backward()
        return loss

    return descend(backward, trainer.model)
