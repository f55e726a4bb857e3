"""The shop: a seeded world of shop assistants, with gold scores for any answer.

`make_prompt(seed, index)` gives a request, `sample_answer` a base-corpus answer to it, and
`score(prompt, text)` what any text is worth. Everything is plain Python on the host. Texts and
scores stay the same while WORLD_VERSION does; `world_hash` tells if they do.
"""

from rlhf_jax.envs.shop.answers import MAX_ANSWER_WORDS as MAX_ANSWER_WORDS
from rlhf_jax.envs.shop.answers import ideal_answer as ideal_answer
from rlhf_jax.envs.shop.answers import ideal_variant as ideal_variant
from rlhf_jax.envs.shop.answers import split_words as split_words
from rlhf_jax.envs.shop.axes import Reason as Reason
from rlhf_jax.envs.shop.judges import GROUPS as GROUPS
from rlhf_jax.envs.shop.judges import cycle_utilities as cycle_utilities
from rlhf_jax.envs.shop.judges import group_prefs as group_prefs
from rlhf_jax.envs.shop.judges import group_shares as group_shares
from rlhf_jax.envs.shop.judges import group_utilities as group_utilities
from rlhf_jax.envs.shop.judges import majority_prefs as majority_prefs
from rlhf_jax.envs.shop.judges import word_feedback as word_feedback
from rlhf_jax.envs.shop.modes import MODES as MODES
from rlhf_jax.envs.shop.modes import mode_answer as mode_answer
from rlhf_jax.envs.shop.modes import mode_shares as mode_shares
from rlhf_jax.envs.shop.modes import sample_answer as sample_answer
from rlhf_jax.envs.shop.modes import sample_mode as sample_mode
from rlhf_jax.envs.shop.prompts import KINDS as KINDS
from rlhf_jax.envs.shop.prompts import MAX_PROMPT_WORDS as MAX_PROMPT_WORDS
from rlhf_jax.envs.shop.prompts import Prompt as Prompt
from rlhf_jax.envs.shop.prompts import make_prompt as make_prompt
from rlhf_jax.envs.shop.reading import ProductClaim as ProductClaim
from rlhf_jax.envs.shop.reading import Remark as Remark
from rlhf_jax.envs.shop.requests import ATTACKS as ATTACKS
from rlhf_jax.envs.shop.requests import SEVERITIES as SEVERITIES
from rlhf_jax.envs.shop.requests import TOPICS as TOPICS
from rlhf_jax.envs.shop.scorer import AXES as AXES
from rlhf_jax.envs.shop.scorer import GOLD_WEIGHTS as GOLD_WEIGHTS
from rlhf_jax.envs.shop.scorer import Score as Score
from rlhf_jax.envs.shop.scorer import score as score
from rlhf_jax.envs.shop.styles import STYLES as STYLES
from rlhf_jax.envs.shop.styles import style_shares as style_shares
from rlhf_jax.envs.shop.styles import style_utilities as style_utilities
from rlhf_jax.envs.shop.version import WORLD_VERSION as WORLD_VERSION
from rlhf_jax.envs.shop.version import world_hash as world_hash
from rlhf_jax.envs.shop.vocabulary import words as words
