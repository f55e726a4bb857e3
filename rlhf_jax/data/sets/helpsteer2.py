"""HelpSteer 2: two responses to a prompt, rated by people."""

from rlhf_jax.data.sets.builder import PairBuilder


class Helpsteer2(PairBuilder):
    """Files: `train.jsonl.gz` and `validation.jsonl.gz` (Wang et al. 2024), not the preferences."""

    FORMAT = "helpsteer2"
    SOURCE = "nvidia/HelpSteer2"
    MARGIN = True
    DIALOGUES = True
