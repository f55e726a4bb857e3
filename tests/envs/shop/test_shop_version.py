"""The hash of the world: 16 hex digits, the same every time, another for another world."""

import re

import pytest

from rlhf_jax.envs import shop
from rlhf_jax.envs.shop import version


def test_the_hash_is_the_same_every_time():
    assert shop.WORLD_VERSION == 1
    assert re.fullmatch("[0-9a-f]{16}", shop.world_hash())
    assert shop.world_hash() == shop.world_hash()


@pytest.mark.long
def test_another_word_text_or_score_is_another_hash(monkeypatch):
    now = shop.world_hash()
    with monkeypatch.context() as patch:
        patch.setattr(version, "words", lambda: [*shop.words(), "zzz"])
        assert shop.world_hash() != now
    with monkeypatch.context() as patch:
        patch.setattr(version, "sample_answer", lambda seed, prompt, index: "no .")
        assert shop.world_hash() != now
    with monkeypatch.context() as patch:
        patch.setattr(version, "score", lambda prompt, text: shop.score(prompt, text + " hello !"))
        assert shop.world_hash() != now
