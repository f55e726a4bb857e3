"""UltraFeedback: four completions of an instruction, rated by a model."""

from rlhf_jax.data.sets.builder import PairBuilder


class Ultrafeedback(PairBuilder):
    """Files: its JSON lines (Cui et al. 2023); every two completions with different ratings."""

    FORMAT = "ultrafeedback"
    SOURCE = "openbmb/UltraFeedback"
    MARGIN = True
