"""Stanford Human Preferences: comments to a Reddit post, compared by votes."""

from rlhf_jax.data.sets.builder import PairBuilder


class Shp(PairBuilder):
    """Files: `train.json`, `validation.json` and `test.json` by domain (Ethayarajh et al. 2022)."""

    FORMAT = "shp"
    SOURCE = "stanfordnlp/SHP"
    MARGIN = True
