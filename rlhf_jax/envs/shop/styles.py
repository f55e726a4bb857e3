"""Styles of answers, of which no one is best: a population whose majority goes round in circles.

The judges of `cycle_utilities` can all be pleased by one answer that is helpful, polite and concise
at once. These can't: a style is a share, and more of one is less of another.
"""

from collections.abc import Sequence

import numpy as np

from rlhf_jax.envs.shop.answers import split_words
from rlhf_jax.envs.shop.judges import CYCLE
from rlhf_jax.envs.shop.prompts import Prompt
from rlhf_jax.envs.shop.scorer import Score, score

STYLES = ("brief", "warm", "thorough")
FLOOR = 0.05  # of each style before they are shares: an answer without any is in the middle


def style_shares(text: str, found: Score) -> np.ndarray:
    """How brief, warm and thorough an answer is, as shares.

    brief = 1 up to 10 words and 0 from 26, linear between; warm = kind sentences / 2, at most 1;
    thorough = true claims / 2, at most 1. Then z = (each + 0.05) / sum. Scaled so that answers of
    the base corpus have about a third of each in the mean.

    Args:
      text: the answer that was scored.
      found: its score.
    Returns:
      [3] float64 in the order of STYLES, sum 1.
    """
    brief = (26.0 - len(split_words(text))) / 16.0
    warm = sum(remark.kind == "polite" for remark in found.remarks) / 2.0
    thorough = sum(claim.status == "true" for claim in found.claims) / 2.0
    raw = np.clip([brief, warm, thorough], 0.0, 1.0) + FLOOR
    return raw / raw.sum()


def style_utilities(prompts: Sequence[Prompt], texts: Sequence[str]) -> np.ndarray:
    """Utilities of three judges who agree on what is good and differ in the style they like.

    u_g = overall + w_g . z, with z the style shares and the judges' weights on (brief, warm,
    thorough) (2, 1, 0), (0, 2, 1), (1, 0, 2): of three equally good answers of a pure style each,
    every one loses to another by 2 : 1.

    Args:
      prompts: N prompts.
      texts: an answer to each.
    Returns:
      [N, 3] float64, to be given to `group_prefs` or `majority_prefs`.
    """
    rows = []
    for prompt, text in zip(prompts, texts, strict=True):
        found = score(prompt, text)
        rows.append(found.overall + np.array(CYCLE) @ style_shares(text, found))
    return np.array(rows)
