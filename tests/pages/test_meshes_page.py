"""docs/meshes.md: its code makes a lab on eight devices, and its error is the one that comes."""

import re
from pathlib import Path

import pytest

from rlhf_jax.data.tokenizer import standard_vocabulary, train_word_tokenizer
from rlhf_jax.models import TransformerConfig
from rlhf_jax.recipes import device_mesh
from rlhf_jax.training import UserError

PAGE = (Path(__file__).parents[2] / "docs" / "meshes.md").read_text()
SIZES = {"d_model": 8, "num_layers": 1, "num_heads": 2, "head_dim": 4, "d_ff": 8}


def config(kv_heads: int) -> TransformerConfig:
    return TransformerConfig(vocab_size=16, num_kv_heads=kv_heads, **SIZES)


def test_the_code_makes_a_lab_on_eight_devices():
    vocabulary = standard_vocabulary(train_word_tokenizer(("red", "green")))
    names: dict = {"config": config(2), "vocabulary": vocabulary}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(compile(block, "docs/meshes.md", "exec"), names)
    shape = dict(names["lab"].mesh.shape)
    assert shape == {"data": 1, "fsdp": 4, "sequence": 1, "model": 2}


def test_the_error_is_the_one_on_the_page():
    with pytest.raises(UserError) as raised:
        device_mesh({"fsdp": 4, "model": 2}, config=config(1))
    assert f"error: --mesh: {raised.value}" in " ".join(PAGE.split())
