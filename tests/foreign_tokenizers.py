"""Small tokenizers of three published kinds, with special ids of their own, as folders on disk."""

import json
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

TEXTS = [
    "Once upon a time there was a little girl named Lily.",
    "She loved to play outside in the park. One day, she saw a big, red ball.",
    "You are a helpful assistant. Answer in one word, please!",
    "What is 2 + 2? It is 4.\n\nName a colour: red, blue or green.",
]
BYTES = [f"<0x{i:02X}>" for i in range(256)]
SPLIT = r"'s|'t| ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def byte_level(special: list[str], *, bos: str | None, words: tuple[str, ...] = ()) -> Tokenizer:
    """As in Llama 3 and Qwen: special tokens come after the others; `words` are tokens in texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=alphabet, special_tokens=[], show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words])
    byte_offsets = processors.ByteLevel(trim_offsets=True)
    tokenizer.post_processor = byte_offsets
    if bos is not None:
        first = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
        tokenizer.post_processor = processors.Sequence([byte_offsets, first])
    return tokenizer


def sentencepiece(special: list[str], *, legacy: bool) -> Tokenizer:
    """As in Llama 2 (legacy) and Mistral: BPE with a first space and byte fallback."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    front = ["<unk>", "<s>", "</s>", *BYTES]
    trainer = trainers.BpeTrainer(
        vocab_size=len(front) + 90, special_tokens=front, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [each for each in state["added_tokens"] if each["id"] < 3]
    state["model"] |= {"byte_fallback": True, "fuse_unk": True, "unk_token": "<unk>"}
    tokenizer = Tokenizer.from_str(json.dumps(state))
    space = normalizers.Replace(" ", "▁")
    if legacy:
        tokenizer.pre_tokenizer = None
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), space])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return tokenizer


def unigram() -> Tokenizer:
    """As of sentencepiece's unigram models: </s> is a piece of the model; no first token."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=[], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    pieces = json.loads(tokenizer.to_str())["model"]["vocab"]
    front = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), *((byte, -9.0) for byte in BYTES)]
    known = {token for token, _ in front}
    vocab = [*front, *((token, score) for token, score in pieces if token not in known)]
    found = Tokenizer(models.Unigram(vocab, unk_id=2, byte_fallback=True))
    found.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    found.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    found.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return found


def write_folder(folder: Path, tokenizer: Tokenizer, **files: dict) -> Path:
    """tokenizer.json and JSON files by the names of `files`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def config(**settings) -> dict:
    """tokenizer_config.json of a tokenizer that transformers reads as it is."""
    return {"tokenizer_class": "PreTrainedTokenizerFast", **settings}
