"""TL;DR comparisons: two summaries of a Reddit post or an article, one preferred."""

from rlhf_jax.data.sets.builder import PairBuilder


class Tldr(PairBuilder):
    """Files: `batch*.json` of the comparisons (Stiennon et al. 2020)."""

    FORMAT = "tldr_comparisons"
    SOURCE = "openai/summarize-from-feedback"
