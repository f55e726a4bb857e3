"""Broken model folders, as a command meets them: one line with the file and the remedy.

Kinds of broken input, and the tests that hold them, all by name of a case or a test:

| input | tests |
|---|---|
| rows and files of data | tests/data/test_broken_rows.py, test_containers.py, test_lengths.py |
| model folders: config, tokenizer, weights, pickles | this file |
| options, prompts, rewards, judges, --out, --resume | test_broken_options.py |
| adapters of `peft` | tests/hf/test_peft.py |
| judges behind an address, that hang or answer nonsense | tests/rewards/test_chat_judges.py |
| requests to a server | tests/serving |
| gradients, first losses, a sampler of another model | tests/recipes/test_guards.py |
| checkpoints and a full disk | tests/training |
"""

import json
import pickle
import shutil

import numpy as np
import pytest
from refusals import files_below, refused
from safetensors.numpy import load_file, save_file

QUERY = "model.layers.0.self_attn.q_proj.weight"
WEIGHTS = "model.safetensors"


class Bomb:
    """Unpickling this fails the test."""

    def __reduce__(self):
        return (pytest.fail, ("a pickle was loaded",))


def entries(name, **changes):
    """A change of a JSON file; an entry of None is taken away."""

    def change(folder):
        path = folder / name
        found = json.loads(path.read_text()) | changes
        path.write_text(json.dumps({k: v for k, v in found.items() if v is not None}))

    return change


def content(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def removed(*names):
    def change(folder):
        for name in names or [path.name for path in folder.iterdir()]:
            (folder / name).unlink()

    return change


def tensors(edit):
    def change(folder):
        found = load_file(folder / WEIGHTS)
        edit(found)
        save_file(found, folder / WEIGHTS)

    return change


def weight(value, name=QUERY):
    def edit(found):
        found[name][1, 2] = value

    return tensors(edit)


def several(*changes):
    def change(folder):
        for each in changes:
            each(folder)

    return change


def in_place(name, data=b""):
    """The folder becomes a file."""

    def change(folder):
        shutil.rmtree(folder)
        folder.with_name(name).write_bytes(data)

    return change


def halved(folder):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])


def index(places):
    """One shard of two is there."""

    def change(folder):
        (folder / WEIGHTS).rename(folder / "model-00001-of-00002.safetensors")
        text = places if isinstance(places, str) else json.dumps({"weight_map": places})
        (folder / f"{WEIGHTS}.index.json").write_text(text)

    return change


BOMB = pickle.dumps(Bomb())
SHARDS = {QUERY: "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
NO_EOS = several(
    removed("generation_config.json"),
    entries("tokenizer_config.json", eos_token=None),
    entries("config.json", eos_token_id=None),
)

# name -> (a change of the folder, what is said of it)
FOLDERS = {
    "an empty folder": (removed(), "config.json: no such file; expected the folder of a Hugging F"),
    "no folder": (shutil.rmtree, "no such file and no such folder; expected that of a Hugging F"),
    "a file": (in_place("model", b"x"), "model: a file; expected the folder of a Hugging Face"),
    "only a GGUF": (
        several(removed(), content("q4.gguf", b"GGUF")),
        "only q4.gguf, and GGUF files are not read; give the safetensors folder",
    ),
    "an adapter": (
        several(removed(), content("adapter_config.json", b"{}")),
        "an adapter without its model; merge the two: rlhf merge --help",
    ),
    "config: no JSON": (content("config.json", b"{"), "config.json: not JSON"),
    "config: no UTF-8": (content("config.json", b'{"a": "\xe9"}'), "config.json: not JSON"),
    "config: a list": (content("config.json", b"[]"), "expected a JSON object, got list"),
    "an encoder": (entries("config.json", model_type="bert"), "model_type = 'bert': supported are"),
    "a vision model": (
        entries("config.json", model_type="llava"),
        "model_type = 'llava': supported are",
    ),
    "no family": (entries("config.json", model_type=None), "model_type = None: supported are"),
    "a head of another task": (
        entries("config.json", architectures=["LlamaForTokenClassification"]),
        "architectures = 'LlamaForTokenClassification': supported are LlamaForCausalLM",
    ),
    "an unknown entry": (entries("config.json", logit_scale=0.5), "logit_scale = 0.5"),
    "quantised": (entries("config.json", quantization_config={"bits": 4}), "quantization_config"),
    "a size that is text": (
        entries("config.json", hidden_size="8"),
        "hidden_size must be of type int",
    ),
    "no layers": (entries("config.json", num_hidden_layers=0), "num_layers must be in [1, inf)"),
    "a reward model": (
        entries("config.json", architectures=["LlamaForSequenceClassification"], num_labels=1),
        "a reward model, not a language model",
    ),
    "no tokenizer": (removed("tokenizer.json"), "tokenizer.json: no such file; a folder that has"),
    "half a tokenizer": (content("tokenizer.json", b'{"model": '), "tokenizer.json: not a tokeniz"),
    "tokenizer_config: no JSON": (content("tokenizer_config.json", b"}"), "config.json: not JSON"),
    "the tokenizer of another model": (
        entries("config.json", vocab_size=200),
        "the tokenizer has id 259, the model 200 ids: this is the tokenizer of another model",
    ),
    "no eos anywhere": (NO_EOS, "no token ends an answer; give generation_config.json an eos_tok"),
    "an eos that is no token": (
        entries("generation_config.json", eos_token_id=9999),
        "the eos_token_id 9999 is not in the tokenizer, which has ids below 260",
    ),
    "an eos that is text": (
        entries("generation_config.json", eos_token_id="</s>"),
        "generation_config.json: eos_token_id must be an id or a list of ids, got '</s>'",
    ),
    "no weights": (removed(WEIGHTS), "no model.safetensors and no model.safetensors.index.json"),
    "a pickle": (
        several(removed(WEIGHTS), content("pytorch_model.bin", BOMB)),
        "pytorch_model.bin is a pickle, which can run any program and is never loaded; save",
    ),
    "a pickle under another name": (content(WEIGHTS, BOMB), "cut off or not a safetensors file"),
    "half the weights": (halved, "cut off or not a safetensors file"),
    "a file of no bytes": (content(WEIGHTS, b""), "cut off or not a safetensors file"),
    "half the shards": (
        index(SHARDS),
        "1 of 2 shards missing, model-00002-of-00002.safetensors one",
    ),
    "an index of numbers": (index({QUERY: 3}), "index.json: not an index of shards"),
    "an index: no JSON": (index("{"), "index.json: not an index of shards"),
    "a tensor less": (tensors(lambda t: t.pop(QUERY)), f"tensor {QUERY} missing"),
    "a tensor more": (
        tensors(lambda t: t.update({"x": np.ones(2, np.float32)})),
        "tensor x not in the model of config.json",
    ),
    "another shape": (
        tensors(lambda t: t.update({QUERY: np.ones((4, 8), np.float32)})),
        f"{QUERY} has shape (4, 8), config.json says (8, 8)",
    ),
    "whole numbers": (
        tensors(lambda t: t.update({QUERY: t[QUERY].astype(np.int8)})),
        f"{QUERY} is I8; expected float32, bfloat16 or float16 weights",
    ),
    "NaN": (weight(np.nan), f"{QUERY} has weights that are not finite"),
    "infinity": (weight(np.inf), f"{QUERY} has weights that are not finite"),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_broken_model_is_one_line_and_loses_nothing(case, model, tmp_path, capsys):
    change, message = FOLDERS[case]
    folder = shutil.copytree(model, tmp_path / "model")
    change(folder)
    before = files_below(tmp_path)
    words = ("convert", "--model", folder, "--out", tmp_path / "out")
    if "token" in case or "eos" in case or "reward" in case:  # convert reads no texts
        words = ("sample", "--model", folder, "--prompt", "a", "--out", tmp_path / "out")
    refused(words, message, capsys)
    assert files_below(tmp_path) == before


def test_a_gguf_file_is_named_as_one(tmp_path, capsys):
    (tmp_path / "q4.gguf").write_bytes(b"GGUF")
    words = ("sample", "--model", tmp_path / "q4.gguf", "--prompt", "a")
    refused(words, "q4.gguf: a GGUF file, which is not read; expected the folder", capsys)
