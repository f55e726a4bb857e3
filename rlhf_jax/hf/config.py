"""config.json <-> TransformerConfig. Every entry is used, known to be harmless, or refused."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rlhf_jax.hf.families import FAMILIES, Family
from rlhf_jax.hf.fields import Entries, refused
from rlhf_jax.models import TransformerConfig
from rlhf_jax.models.config import FloatName

CONFIG = "config.json"
REWARD = "ForSequenceClassification"

# Entries that change no number of the model. `vocabulary.py` reads the ids; dropout is of training
# by other libraries, there is none here; the rest describes heads of other tasks, files and caches.
_HARMLESS = """
model_type architectures torch_dtype dtype transformers_version use_cache initializer_range
bos_token_id eos_token_id pad_token_id _name_or_path name_or_path tokenizer_class
attention_dropout attn_pdrop resid_pdrop embd_pdrop hidden_dropout classifier_dropout
classifier_dropout_prob output_router_logits router_jitter_noise cache_implementation
_attn_implementation _attn_implementation_autoset attn_implementation gradient_checkpointing
task_specific_params summary_type summary_use_proj summary_activation summary_proj_to_labels
summary_first_dropout id2label label2id num_labels problem_type finetuning_task return_dict
output_hidden_states output_attentions unsloth_version unsloth_fixed reorder_and_upcast_attn
_commit_hash
"""
HARMLESS = frozenset(_HARMLESS.split())
# Facts of one file that are not those of another that is written from it.
NOT_KEPT = {"dtype", "torch_dtype", "transformers_version", "_name_or_path", "_commit_hash"}


def read_config(
    folder: Path | str, *, dtype: FloatName = "float32", param_dtype: FloatName = "float32"
) -> TransformerConfig:
    """The model that a folder's config.json describes.

    Args:
      folder: of a Hugging Face checkpoint.
      dtype, param_dtype: of computation and of stored parameters; torch_dtype says neither.
    Raises:
      ValueError: no such file, a family that isn't in `FAMILIES`, or an entry that the model cannot
        compute, named with its value.
    """
    path = Path(folder) / CONFIG
    config = config_of(read_entries(path), str(path))
    return replace(config, dtype=dtype, param_dtype=param_dtype)


def config_of(entries: Entries, name: str) -> TransformerConfig:
    """The model that these entries describe; `name` of the file, for errors."""
    family = family_of(entries, name)
    settings: dict[str, Any] = {}
    known = HARMLESS.union(*(field.names for field in family.fields))
    try:
        for entry, value in entries.items():
            if entry not in known:
                raise refused(entry, value, f"not known for {entries['model_type']}")
        for field in family.fields:
            settings |= field.read(entries)
        return TransformerConfig(**settings)
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{name}: {error}") from error


def read_entries(path: Path) -> dict[str, Any]:
    """The entries of a config.json."""
    if not path.is_file():
        raise ValueError(_no_checkpoint(path))
    return parse_entries(path.read_bytes(), str(path))


def _no_checkpoint(path: Path) -> str:
    """Why a folder has no config.json, as one line."""
    folder = path.parent
    if folder.is_file():
        found = "a GGUF file, which is not read" if folder.suffix == ".gguf" else "a file"
        return f"{folder}: {found}; expected the folder of a Hugging Face checkpoint in safetensors"
    if not folder.is_dir():
        return (
            f"{path}: no such file and no such folder; expected that of a Hugging Face checkpoint "
            "on this disk (hf download NAME --local-dir FOLDER)"
        )
    if (folder / "adapter_config.json").is_file():
        return f"{folder}: an adapter without its model; merge the two: rlhf merge --help"
    if gguf := sorted(each.name for each in folder.glob("*.gguf")):
        return f"{folder}: only {gguf[0]}, and GGUF files are not read; give the safetensors folder"
    return f"{path}: no such file; expected the folder of a Hugging Face checkpoint"


def parse_entries(text: bytes, name: str) -> dict[str, Any]:
    """The entries of a config.json with this text."""
    try:
        entries = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{name}: not JSON ({error})") from error
    if not isinstance(entries, dict):
        raise ValueError(f"{name}: expected a JSON object, got {type(entries).__name__}")
    return entries


def family_of(entries: Entries, name: str) -> Family:
    """The row of `FAMILIES` for a config.json."""
    kind = entries.get("model_type")
    family = FAMILIES.get(kind) if isinstance(kind, str) else None
    if family is None:
        raise ValueError(f"{name}: model_type = {kind!r}: supported are {', '.join(FAMILIES)}")
    classes = (family.causal, family.reward, f"{family.name}Model")
    for architecture in entries.get("architectures") or ():
        if architecture not in classes:
            raise ValueError(
                f"{name}: architectures = {architecture!r}: supported are {', '.join(classes)}"
            )
    return family


def is_reward(entries: Entries) -> bool:
    """Whether the checkpoint has a head of scores rather than one of tokens."""
    return any(str(each).endswith(REWARD) for each in entries.get("architectures") or ())


def check_one_label(entries: Entries, name: str) -> None:
    """ValueError unless a sequence classifier has one label, a score."""
    # Without either entry `transformers` has two labels.
    labels = entries.get("num_labels", len(entries.get("id2label") or (0, 1)))
    if not is_reward(entries) or labels != 1:
        raise ValueError(
            f"{name}: architectures = {entries.get('architectures')!r} with {labels} labels; a "
            f"reward model is ...{REWARD} with one label, e.g. OUT/model of rlhf reward"
        )


def write_entries(
    config: TransformerConfig, *, reward: bool, source: Entries | None = None
) -> dict[str, Any]:
    """The config.json of a model.

    Args:
      reward: whether it has a head of scores rather than one of tokens.
      source: the file that the model came from, for its family and its harmless entries. None: the
        first family of `FAMILIES` that computes the same.
    Raises:
      ValueError: no family computes this, or not that of `source`.
    """
    kinds = list(FAMILIES) if source is None else [source["model_type"]]
    kind = next((kind for kind in kinds if _computes(kind, config)), None)
    if kind is None:
        raise ValueError(f"no model of {' or '.join(kinds)} computes this: {config}")
    kept = {
        name: value
        for name, value in (source or {}).items()
        if name in HARMLESS and name not in NOT_KEPT
    }
    kept |= {"num_labels": 1, "id2label": {"0": "LABEL_0"}} if reward else {}
    return {**kept, **_written(kind, config), **_names(kind, config, reward)}


def _names(kind: str, config: TransformerConfig, reward: bool) -> Mapping[str, Any]:
    family = FAMILIES[kind]
    name = family.reward if reward else family.causal
    return {"architectures": [name], "torch_dtype": config.param_dtype}


def _written(kind: str, config: TransformerConfig) -> dict[str, Any]:
    """The entries of the family's fields."""
    entries: dict[str, Any] = {"model_type": kind}
    for field in FAMILIES[kind].fields:
        entries |= field.write(config)
    return entries


def _computes(kind: str, config: TransformerConfig) -> bool:
    """Whether the family's entries for this config describe the same config."""
    try:
        found = config_of(_written(kind, config), CONFIG)
    except (ValueError, StopIteration):
        return False
    names = ("remat", "dtype", "param_dtype")
    numerics = {name: getattr(config, name) for name in names}
    return replace(found, **numerics) == config
