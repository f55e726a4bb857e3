"""What every stage of the shop job works with, and which prompts are whose."""

from typing import NamedTuple

from tokenizers import Tokenizer

from experiments.shop.config import Config
from rlhf_jax.labs.shop import ShopLab, check_batches, make_lab

# Prompts are numbered, those of SFT from 0; disjoint ranges are disjoint sets of texts.
PAIR_PROMPTS, RL_PROMPTS, HELDOUT_PROMPTS = 600_000, 850_000, 1_000_000
RL_PROMPT_COUNT = 100_000


class Tools(NamedTuple):
    """The run's config and the lab, whose compiled functions all stages share."""

    config: Config
    lab: ShopLab


def make_tools(config: Config, tokenizer: Tokenizer) -> Tools:
    """Nothing is compiled before it is called; UserError for sizes that the devices can't share."""
    lab = make_lab(tokenizer, config.size, seed=config.seed, model_parallel=config.model_parallel)
    check_batches(lab, config)
    return Tools(config, lab)
