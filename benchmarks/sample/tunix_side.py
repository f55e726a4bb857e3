"""Tunix's side: its sampler on its Qwen2. It imports nothing of this library."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from tunix.generate.sampler import CacheConfig, Sampler

from benchmarks.sample.child import Call, serve
from benchmarks.sample.sizes import Case, Sizes, draw_prompts
from benchmarks.tunix_shape import tunix_model


def open_side(folder: Path, sizes: Sizes) -> Callable[[Case], Call]:
    """Calls of the sampler."""
    model = tunix_model(folder, sizes)
    slots = sizes.prompt + sizes.answer
    cache = CacheConfig(slots, sizes.layers, sizes.kv_heads, sizes.head)

    def make(case: Case) -> Call:
        prompts = draw_prompts(sizes, case.batch)
        # A prompt is the text of its row's number; no id is below 4, and none is the last.
        numbers = SimpleNamespace(
            encode=lambda text: prompts[int(text)].tolist(),
            decode=lambda ids: "",
            bos_id=lambda: 0,
            eos_id=lambda: sizes.vocab,
            pad_id=lambda: 0,
        )
        sampler, texts = Sampler(model, numbers, cache), [str(i) for i in range(case.batch)]
        options = {"temperature": case.temperature, "top_p": 1.0} if case.temperature else {}

        def call() -> list[np.ndarray]:
            found = sampler(
                texts,
                sizes.answer,
                max_prompt_length=sizes.prompt,
                eos_tokens=[sizes.vocab],
                seed=0,
                **options,
            )
            return [np.asarray(row) for row in found.tokens]

        return call

    return make


if __name__ == "__main__":
    serve(open_side)
