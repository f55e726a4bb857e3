"""Anthropic hh-rlhf: two dialogues that share a prefix, one preferred by a person."""

from rlhf_jax.data.sets.builder import PairBuilder


class HhRlhf(PairBuilder):
    """Files: `train.jsonl.gz` and `test.jsonl.gz` of one folder or of several (Bai et al. 2022)."""

    FORMAT = "dialogue_pairs"
    SOURCE = "anthropics/hh-rlhf"
