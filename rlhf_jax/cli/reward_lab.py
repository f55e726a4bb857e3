"""Labs that read the folders of reward models, as much of a text as the training did."""

import json
from pathlib import Path
from typing import Any

from rlhf_jax.cli.options import Model
from rlhf_jax.hf import Pretrained
from rlhf_jax.hf.vocabulary import read_object, read_vocabulary
from rlhf_jax.recipes import LanguageLab, make_lab

LONGEST = 1024  # tokens of a prompt and of an answer that a reward model reads
LENGTHS = "reward_lengths.json"  # in its folder: how many it was trained to read


def reward_lab(folder: Path, found: Pretrained, seed: int) -> LanguageLab:
    """A lab that reads as much of a text as the training did."""
    lengths: dict[str, Any] = {"prompt_length": LONGEST, "answer_length": LONGEST}
    lengths |= read_object(folder / LENGTHS)
    vocabulary = read_vocabulary(folder)
    return make_lab(found.config, vocabulary, seed=seed, chat=found.chat, **lengths)


def length_file(options: Model) -> dict[str, bytes]:
    """The file by which `reward_lab` reads as much of a text as the training did."""
    lengths: dict[str, Any] = {
        "prompt_length": options.prompt_length,
        "answer_length": options.answer_length,
    }
    # Under another policy no row of the training was cut; a text to score has to be.
    for name in ("long_prompts", "long_answers"):
        if (policy := getattr(options, name)).startswith("truncate"):
            lengths[name] = policy
    return {LENGTHS: (json.dumps(lengths) + "\n").encode()}
