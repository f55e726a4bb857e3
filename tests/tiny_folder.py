"""A tiny Llama folder with a tokenizer of bytes."""

import json

import jax
from tokenizers import processors

from rlhf_jax.data.tokenizer import train_bpe_tokenizer
from rlhf_jax.hf import Pretrained, save_model
from rlhf_jax.models import TransformerConfig, make_transformer

SIZE = {"d_model": 8, "num_layers": 1, "num_heads": 2, "num_kv_heads": 1, "head_dim": 4, "d_ff": 8}
NAMES = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"}


def write_folder(folder, *, chat=None):
    """A language model of 260 tokens with random weights."""
    tokenizer = train_bpe_tokenizer(["a b"], vocab_size=260)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", 1)]
    )
    config = TransformerConfig(vocab_size=260, **SIZE)
    params = make_transformer(config).init(jax.random.key(0))
    settings = NAMES | ({} if chat is None else {"chat_template": chat})
    texts = {
        "tokenizer.json": tokenizer.to_str(),
        "tokenizer_config.json": json.dumps(settings),
        "generation_config.json": json.dumps({"eos_token_id": 2}),
    }
    files = {name: text.encode() for name, text in texts.items()}
    save_model(folder, Pretrained(config, params, files=files))
    return folder
