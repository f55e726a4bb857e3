"""Tokenizer files of a model that was trained here, for `read_vocabulary` and `transformers`."""

import json
from typing import Any

from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing

from rlhf_jax.types import Vocabulary


def tokenizer_files(vocabulary: Vocabulary) -> dict[str, bytes]:
    """tokenizer.json, which puts bos before a text, and the files that name the special tokens."""
    tokenizer = Tokenizer.from_str(vocabulary.tokenizer.to_str())
    tokens = {"pad_token": vocabulary.pad_id, "eos_token": vocabulary.stop_ids[0]}
    if vocabulary.bos_id is not None:
        tokens["bos_token"] = vocabulary.bos_id
        bos = tokenizer.id_to_token(vocabulary.bos_id)
        tokenizer.post_processor = TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, vocabulary.bos_id)]
        )
    names = {name: tokenizer.id_to_token(i) for name, i in tokens.items()}
    return {
        "tokenizer.json": tokenizer.to_str().encode(),
        "tokenizer_config.json": _json({"tokenizer_class": "PreTrainedTokenizerFast", **names}),
        "generation_config.json": _json(token_ids(vocabulary)),
    }


def token_ids(vocabulary: Vocabulary) -> dict[str, Any]:
    """The entries of config.json and generation_config.json for special tokens."""
    return {
        "bos_token_id": vocabulary.bos_id,
        "eos_token_id": list(vocabulary.stop_ids),
        "pad_token_id": vocabulary.pad_id,
    }


def _json(value: Any) -> bytes:
    return (json.dumps(value, indent=2) + "\n").encode()
