"""The version of the world, and a hash that changes whenever a text or a score does."""

import hashlib

from rlhf_jax.envs.shop.answers import ideal_answer, ideal_variant
from rlhf_jax.envs.shop.modes import mode_answer, mode_shares, sample_answer
from rlhf_jax.envs.shop.prompts import make_prompt
from rlhf_jax.envs.shop.scorer import score
from rlhf_jax.envs.shop.vocabulary import words

WORLD_VERSION = 1
_PROMPTS = 50


def world_hash() -> str:
    """The first 16 hex digits of the SHA-256 of the vocabulary, 50 prompts, their answers of every
    mode and the scores of these."""
    digest = hashlib.sha256()
    for word in words():
        digest.update(f"{word}\n".encode())
    for index in range(_PROMPTS):
        prompt = make_prompt(0, index)
        texts = [ideal_answer(prompt), ideal_variant(0, prompt, 0), sample_answer(0, prompt, 0)]
        texts += [mode_answer(0, prompt, 0, mode) for mode in mode_shares(prompt)]
        digest.update(f"{prompt.to_json()}\n".encode())
        for text in texts:
            found = score(prompt, text)
            numbers = [*found.vector().tolist(), found.overall, found.foresight, found.hindsight]
            line = " ".join(f"{number:.6f}" for number in [*numbers, found.over_refusal])
            digest.update(f"{text}\n{line}\n".encode())
    return digest.hexdigest()[:16]
