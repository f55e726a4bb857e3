"""Whole checkpoints: a folder in, a model with its tokenizer; a model in, a folder.

model = load_model("SmolLM2-135M")
...
save_model("tuned", model._replace(params=params))
"""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh

from rlhf_jax.data.templates import ChatTemplate
from rlhf_jax.hf.config import (
    CONFIG,
    check_one_label,
    is_reward,
    parse_entries,
    read_config,
    read_entries,
    write_entries,
)
from rlhf_jax.hf.families import FAMILIES
from rlhf_jax.hf.params import read_leaves, written
from rlhf_jax.hf.tensors import write_tensors
from rlhf_jax.hf.tokenizer_files import token_ids, tokenizer_files
from rlhf_jax.hf.vocabulary import read_chat_template, read_vocabulary
from rlhf_jax.models import TransformerConfig, make_reward_model, make_transformer
from rlhf_jax.models.config import FloatName
from rlhf_jax.types import Params, Vocabulary

# The files (patterns) of a checkpoint folder that a model saved from it keeps.
KEPT = (
    *(CONFIG, "generation_config.json", "chat_template.jinja", "tokenizer.json"),
    *("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("tokenizer.model", "vocab.json", "merges.txt", "chat_template.json"),
    "additional_chat_templates/*.jinja",
    "process_reward.json",  # of `rlhf reward --kind process`
    "reward_lengths.json",  # of `rlhf reward`
)
TOKENIZERS = {"tokenizer.json", "tokenizer.model", "vocab.json"}


class Pretrained(NamedTuple):
    """A model and all that its folder says about it.

    params: of `make_transformer(config)`, or of `make_reward_model(config)` from `load_reward`.
    vocabulary, chat: None if the folder has no tokenizer, no chat template.
    files: name -> content of those files of the source folder that `save_model` writes again.
    """

    config: TransformerConfig
    params: Params
    vocabulary: Vocabulary | None = None
    chat: ChatTemplate | None = None
    files: Mapping[str, bytes] = MappingProxyType({})


def read_params(folder: Path | str, config: TransformerConfig, *, mesh: Mesh | None = None):
    """The parameters of a language model, in `config.param_dtype`.

    Tensors are read one by one, from memory-mapped files, straight into their shardings.

    Args:
      folder: of a Hugging Face checkpoint in safetensors.
      config: from `read_config`.
      mesh: splits the parameters by `sharding.RULES`; None: the first device.
    Raises:
      ValueError: a file, a shard or a tensor is missing or damaged, of another shape than in
        config.json or not finite, or there are only pickles.
    """
    entries = read_entries(Path(folder) / CONFIG)
    if is_reward(entries):
        raise ValueError(
            f"{folder}: a reward model, not a language model; use load_reward, or --reward of a "
            "command"
        )
    return read_leaves(Path(folder), make_transformer(config), mesh)


def read_reward(folder: Path | str, config: TransformerConfig, *, mesh: Mesh | None = None):
    """The parameters of a reward model, `AutoModelForSequenceClassification` with one label.

    `transformers` takes the score at the last token that isn't `pad_token_id`, `language_reward`
    at the last real one. They agree unless a row ends in real tokens with that id, as where padding
    is eos: leave those off the row. The bias of our head is 0.

    Args and Raises: as in `read_params`.
    """
    check_one_label(read_entries(Path(folder) / CONFIG), str(Path(folder) / CONFIG))
    return read_leaves(Path(folder), make_reward_model(config), mesh)


def load_model(
    folder: Path | str,
    *,
    mesh: Mesh | None = None,
    dtype: FloatName = "float32",
    param_dtype: FloatName = "float32",
) -> Pretrained:
    """A language model of a folder; arguments as in `read_config` and `read_params`."""
    return _loaded(read_params, folder, mesh, dtype, param_dtype)


def random_model(folder: Path | str, *, seed: int) -> Pretrained:
    """A language model of a folder's shape, with its tokenizer and random weights of its own."""

    def draw(folder: Path, config: TransformerConfig, mesh: Mesh | None) -> Params:
        del folder, mesh
        return make_transformer(config).init(jax.random.key(seed))

    return _loaded(draw, Path(folder), None, "float32", "float32")


def load_reward(
    folder: Path | str,
    *,
    mesh: Mesh | None = None,
    dtype: FloatName = "float32",
    param_dtype: FloatName = "float32",
) -> Pretrained:
    """A reward model of a folder; arguments as in `read_config` and `read_reward`."""
    return _loaded(read_reward, folder, mesh, dtype, param_dtype)


def load_any(
    folder: Path | str,
    *,
    mesh: Mesh | None = None,
    dtype: FloatName = "float32",
    param_dtype: FloatName = "float32",
) -> Pretrained:
    """A language model or a reward model of a folder, as its config.json says."""
    reward = is_reward(read_entries(Path(folder) / CONFIG))
    return _loaded(read_reward if reward else read_params, folder, mesh, dtype, param_dtype)


def _loaded(
    read: Any, folder: Path | str, mesh: Mesh | None, dtype: FloatName, param_dtype: FloatName
) -> Pretrained:
    """The parameters that `read` finds, with the tokenizer and the files of the folder."""
    config = read_config(folder, dtype=dtype, param_dtype=param_dtype)
    paths = [path for name in KEPT for path in sorted(Path(folder).glob(name))]
    files = {str(path.relative_to(folder)): path.read_bytes() for path in paths}
    vocabulary = read_vocabulary(folder) if files.keys() & TOKENIZERS else None
    if vocabulary is not None:
        highest = max(vocabulary.tokenizer.get_vocab().values())
        if highest >= config.vocab_size:
            raise ValueError(
                f"{folder}: the tokenizer has id {highest}, the model {config.vocab_size} ids: "
                "this is the tokenizer of another model"
            )
    params = read(folder, config, mesh=mesh)
    return Pretrained(config, params, vocabulary, read_chat_template(folder), files)


def save_model(folder: Path | str, model: Pretrained, *, shard_bytes: int = 5_000_000_000) -> None:
    """Writes a folder that `transformers` and vLLM load, of the same family as the source.

    A reward model becomes `AutoModelForSequenceClassification`. Several processes must all call it.

    Args:
      folder: new or empty.
      model: parameters are written in their dtype. A model that was trained here,
        `Pretrained(config, params, vocabulary)`, becomes one of the first family of `FAMILIES`
        that computes the same.
      shard_bytes: largest file of weights, unless a single tensor is larger.
    Raises:
      ValueError: the folder has files or is one, no family of `FAMILIES` computes this model, or a
        reward model has a bias, for which `transformers` has no place.
    """
    folder, params = Path(folder), model.params
    reward = "head" in params
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; name a new folder for the model")
    if jax.process_index() == 0 and folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: has files already; name a new folder for the model")
    if reward and params["head"]["bias"] != 0:
        raise ValueError(
            f"head.bias is {params['head']['bias']}: a sequence classifier has no bias; "
            "set it to 0, which shifts every score by as much"
        )
    source = parse_entries(model.files[CONFIG], CONFIG) if CONFIG in model.files else None
    entries = write_entries(model.config, reward=reward, source=source)
    files = dict(model.files)
    if model.vocabulary is not None and source is None:
        files |= tokenizer_files(model.vocabulary)
        entries |= token_ids(model.vocabulary)
    tensors = written(FAMILIES[entries["model_type"]], params)
    if jax.process_index() > 0:  # it has a part in each tensor, and process 0 writes them
        for _, fetch in tensors.values():
            fetch()
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder, tensors, shard_bytes=shard_bytes)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    # Last, so that a folder with a config.json is whole.
    (folder / CONFIG).write_text(json.dumps(entries, indent=2) + "\n", "utf-8")
