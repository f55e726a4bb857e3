"""The side of `transformers`: `generate` on torch. It imports nothing of this library."""

import os
from collections.abc import Callable
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}

import numpy as np
import torch
import transformers

from benchmarks.sample.child import Call, serve
from benchmarks.sample.sizes import Case, Sizes, draw_prompts


def open_side(folder: Path, sizes: Sizes) -> Callable[[Case], Call]:
    """Calls of `generate`."""
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    model.generation_config.eos_token_id = None

    def make(case: Case) -> Call:
        ids = torch.tensor(draw_prompts(sizes, case.batch), dtype=torch.long)
        draws = {"do_sample": True, "temperature": case.temperature, "top_k": 0, "top_p": 1.0}
        options = draws if case.temperature else {"do_sample": False}
        given = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pad_token_id": 0}

        def call() -> list[np.ndarray]:
            with torch.inference_mode():
                rows = model.generate(**given, **options, max_new_tokens=sizes.answer)
            return list(rows[:, sizes.prompt :].numpy())

        return call

    return make


if __name__ == "__main__":
    serve(open_side)
