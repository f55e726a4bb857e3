"""Stack Exchange preferences: answers to a question, scored by votes."""

from rlhf_jax.data.sets.builder import PairBuilder


class StackExchange(PairBuilder):
    """Files: Parquet of one or more sites (Lambert et al. 2023); texts are HTML."""

    FORMAT = "stack_exchange"
    SOURCE = "HuggingFaceH4/stack-exchange-preferences"
    MARGIN = True
