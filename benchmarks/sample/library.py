"""This library's side: `sample_many` as `language_draw` compiles it."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from benchmarks.sample.child import Call, serve
from benchmarks.sample.sizes import FEWEST_ID, Case, Sizes, draw_prompts
from rlhf_jax.hf import load_model
from rlhf_jax.models import make_transformer
from rlhf_jax.policies.language import language_decoder
from rlhf_jax.sampling.decode import SamplingConfig
from rlhf_jax.sampling.draws import language_draw
from rlhf_jax.types import Prompts


def open_side(folder: Path, sizes: Sizes) -> Callable[[Case], Call]:
    """Draws of the model."""
    base = load_model(folder)
    decoder = language_decoder(make_transformer(base.config))

    def make(case: Case) -> Call:
        config = SamplingConfig(
            max_new_tokens=sizes.answer,
            temperature=case.temperature,
            stop_ids=tuple(range(FEWEST_ID, FEWEST_ID + case.stops)),
            rows=case.rows,
        )
        draw, ids = language_draw(decoder, config), draw_prompts(sizes, case.batch)
        prompts = Prompts((ids, np.ones(ids.shape, bool)), np.arange(case.batch))

        def call() -> list[np.ndarray]:
            drawn = draw(base.params, prompts, jax.random.key(0), 1).trajectory
            answers, mask = (np.asarray(x[:, 0]) for x in (drawn.actions, drawn.mask))
            return [row[real] for row, real in zip(answers, mask, strict=True)]

        return call

    return make


if __name__ == "__main__":
    serve(open_side)
