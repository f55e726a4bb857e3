"""Styles of answers without a best one: a population with a cyclic majority.

One answer that is helpful, polite and concise can please all judges of `cycle_utilities`. Here that
is impossible: a style is a share, and more of one is less of another.
"""

from collections.abc import Sequence

import numpy as np

from rlhf_jax.envs.shop.answers import split_words
from rlhf_jax.envs.shop.judges import CYCLE
from rlhf_jax.envs.shop.prompts import Prompt
from rlhf_jax.envs.shop.scorer import Score, score

STYLES = ("brief", "warm", "thorough")
FLOOR = 0.05  # added to each style before normalising: an answer without any has equal shares


def style_shares(text: str, found: Score) -> np.ndarray:
    """Shares of the styles brief, warm and thorough in an answer.

    brief = 1 up to 10 words and 0 from 26, linear in between; warm = polite sentences / 2, at most
    1; thorough = true claims / 2, at most 1. Then z = (each + 0.05) / sum. With these scales,
    answers of the base corpus have about a third of each on average.

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
    """Utilities of three judges who agree on the gold score and differ in their favourite styles.

    u_g = overall + w_g . z, where z are the style shares and w_g the weights of the judges on
    (brief, warm, thorough): (2, 1, 0), (0, 2, 1), (1, 0, 2). Of three equally good answers of pure
    styles, each loses to another by 2 : 1.

    Args:
      prompts: N prompts.
      texts: an answer to each.
    Returns:
      [N, 3] float64, for `group_prefs` or `majority_prefs`.
    """
    rows = []
    for prompt, text in zip(prompts, texts, strict=True):
        found = score(prompt, text)
        rows.append(found.overall + np.array(CYCLE) @ style_shares(text, found))
    return np.array(rows)
