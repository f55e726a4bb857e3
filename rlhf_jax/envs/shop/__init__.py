"""The shop: a seeded world of shop assistants, with gold scores for any answer.

`make_prompt(seed, index)` gives a request, `sample_answer` a base-corpus answer to it, and
`score(prompt, text)` what any text is worth. Everything is plain Python on the host.
"""

from rlhf_jax.envs.shop.answers import (
    MAX_ANSWER_WORDS,
    ideal_answer,
    sample_answer,
    split_words,
    words,
)
from rlhf_jax.envs.shop.judges import (
    GROUPS,
    cycle_utilities,
    group_shares,
    group_utilities,
    majority_prefs,
    population_prefs,
    word_feedback,
)
from rlhf_jax.envs.shop.prompts import KINDS, MAX_PROMPT_WORDS, Prompt, make_prompt
from rlhf_jax.envs.shop.reading import Claim, Remark
from rlhf_jax.envs.shop.scorer import AXES, GOLD_WEIGHTS, Score, score
from rlhf_jax.envs.shop.styles import STYLES, style_shares, style_utilities

__all__ = [
    "AXES",
    "GOLD_WEIGHTS",
    "GROUPS",
    "KINDS",
    "MAX_ANSWER_WORDS",
    "MAX_PROMPT_WORDS",
    "STYLES",
    "Claim",
    "Prompt",
    "Remark",
    "Score",
    "cycle_utilities",
    "group_shares",
    "group_utilities",
    "ideal_answer",
    "majority_prefs",
    "make_prompt",
    "population_prefs",
    "sample_answer",
    "score",
    "split_words",
    "style_shares",
    "style_utilities",
    "word_feedback",
    "words",
]
