"""The shop: a seeded world of shop assistants, with gold scores for any answer.

`make_prompt(seed, index)` gives a request, `sample_answer` a base-corpus answer to it, and
`score(prompt, text)` what any text is worth. Everything is plain Python on the host. Texts and
scores stay the same while WORLD_VERSION does; `world_hash` tells if they do.

Around one answer there are dialogues (`turns`), critiques, what a customer does with an answer
(`outcomes`), users with tastes of their own, voices without a best one, and spurious features.
Beside the assistant's tasks, each with its truth: drills and general text, sums in steps, long
comparisons, principles, summaries of reviews, and the formats of judges and tools.
"""

from rlhf_jax.envs.shop.answers import MAX_ANSWER_WORDS as MAX_ANSWER_WORDS
from rlhf_jax.envs.shop.answers import ideal_answer as ideal_answer
from rlhf_jax.envs.shop.answers import ideal_variant as ideal_variant
from rlhf_jax.envs.shop.answers import split_words as split_words
from rlhf_jax.envs.shop.axes import Reason as Reason
from rlhf_jax.envs.shop.comparisons import Comparison as Comparison
from rlhf_jax.envs.shop.comparisons import comparison_answer as comparison_answer
from rlhf_jax.envs.shop.comparisons import comparison_prompt as comparison_prompt
from rlhf_jax.envs.shop.comparisons import score_comparison as score_comparison
from rlhf_jax.envs.shop.critiques import AnswerRevision as AnswerRevision
from rlhf_jax.envs.shop.critiques import Fault as Fault
from rlhf_jax.envs.shop.critiques import corrected_answer as corrected_answer
from rlhf_jax.envs.shop.critiques import critique_axes as critique_axes
from rlhf_jax.envs.shop.critiques import critique_prompt as critique_prompt
from rlhf_jax.envs.shop.critiques import grade_critique as grade_critique
from rlhf_jax.envs.shop.critiques import revise as revise
from rlhf_jax.envs.shop.critiques import revision_prompt as revision_prompt
from rlhf_jax.envs.shop.critiques import true_critique as true_critique
from rlhf_jax.envs.shop.critiques import true_faults as true_faults
from rlhf_jax.envs.shop.drills import Drill as Drill
from rlhf_jax.envs.shop.drills import drill as drill
from rlhf_jax.envs.shop.drills import probe as probe
from rlhf_jax.envs.shop.drills import probe_right as probe_right
from rlhf_jax.envs.shop.general import general_text as general_text
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
from rlhf_jax.envs.shop.outcomes import ShopOutcome as ShopOutcome
from rlhf_jax.envs.shop.outcomes import flattering_answer as flattering_answer
from rlhf_jax.envs.shop.outcomes import is_tempting as is_tempting
from rlhf_jax.envs.shop.outcomes import oracle_hindsight as oracle_hindsight
from rlhf_jax.envs.shop.outcomes import outcome_text as outcome_text
from rlhf_jax.envs.shop.outcomes import sales_answer as sales_answer
from rlhf_jax.envs.shop.outcomes import shop_outcome as shop_outcome
from rlhf_jax.envs.shop.outcomes import simulated_outcome as simulated_outcome
from rlhf_jax.envs.shop.principles import PRINCIPLES as PRINCIPLES
from rlhf_jax.envs.shop.principles import Principle as Principle
from rlhf_jax.envs.shop.principles import principle_labels as principle_labels
from rlhf_jax.envs.shop.prompts import KINDS as KINDS
from rlhf_jax.envs.shop.prompts import MAX_PROMPT_WORDS as MAX_PROMPT_WORDS
from rlhf_jax.envs.shop.prompts import Prompt as Prompt
from rlhf_jax.envs.shop.prompts import make_prompt as make_prompt
from rlhf_jax.envs.shop.reading import ProductClaim as ProductClaim
from rlhf_jax.envs.shop.reading import Remark as Remark
from rlhf_jax.envs.shop.requests import ATTACKS as ATTACKS
from rlhf_jax.envs.shop.requests import SEVERITIES as SEVERITIES
from rlhf_jax.envs.shop.requests import TOPICS as TOPICS
from rlhf_jax.envs.shop.reviews import FEATURE_NAMES as FEATURE_NAMES
from rlhf_jax.envs.shop.reviews import ReviewTask as ReviewTask
from rlhf_jax.envs.shop.reviews import review_task as review_task
from rlhf_jax.envs.shop.reviews import summary as summary
from rlhf_jax.envs.shop.reviews import summary_features as summary_features
from rlhf_jax.envs.shop.scorer import AXES as AXES
from rlhf_jax.envs.shop.scorer import GOLD_WEIGHTS as GOLD_WEIGHTS
from rlhf_jax.envs.shop.scorer import Score as Score
from rlhf_jax.envs.shop.scorer import score as score
from rlhf_jax.envs.shop.spurious import SPURIOUS_FEATURES as SPURIOUS_FEATURES
from rlhf_jax.envs.shop.spurious import SpuriousAnswer as SpuriousAnswer
from rlhf_jax.envs.shop.spurious import has_marker as has_marker
from rlhf_jax.envs.shop.spurious import spurious_answer as spurious_answer
from rlhf_jax.envs.shop.spurious import spurious_pair as spurious_pair
from rlhf_jax.envs.shop.spurious import spurious_score as spurious_score
from rlhf_jax.envs.shop.spurious import spurious_set as spurious_set
from rlhf_jax.envs.shop.spurious import with_marker as with_marker
from rlhf_jax.envs.shop.spurious import without_marker as without_marker
from rlhf_jax.envs.shop.sum_steps import SumScore as SumScore
from rlhf_jax.envs.shop.sum_steps import SumTask as SumTask
from rlhf_jax.envs.shop.sum_steps import score_sum as score_sum
from rlhf_jax.envs.shop.sums import sum_answer as sum_answer
from rlhf_jax.envs.shop.sums import sum_task as sum_task
from rlhf_jax.envs.shop.turns import MAX_CONTEXT_WORDS as MAX_CONTEXT_WORDS
from rlhf_jax.envs.shop.turns import MAX_TURNS as MAX_TURNS
from rlhf_jax.envs.shop.turns import DialogueScore as DialogueScore
from rlhf_jax.envs.shop.turns import ShopDialogue as ShopDialogue
from rlhf_jax.envs.shop.turns import ShopTurn as ShopTurn
from rlhf_jax.envs.shop.turns import TryAgainPair as TryAgainPair
from rlhf_jax.envs.shop.turns import dialogue_score as dialogue_score
from rlhf_jax.envs.shop.turns import next_turn as next_turn
from rlhf_jax.envs.shop.turns import sample_dialogue as sample_dialogue
from rlhf_jax.envs.shop.turns import transcript as transcript
from rlhf_jax.envs.shop.turns import try_again_pair as try_again_pair
from rlhf_jax.envs.shop.users import PastChoice as PastChoice
from rlhf_jax.envs.shop.users import ShopUser as ShopUser
from rlhf_jax.envs.shop.users import TasteDrift as TasteDrift
from rlhf_jax.envs.shop.users import UserReaction as UserReaction
from rlhf_jax.envs.shop.users import history_text as history_text
from rlhf_jax.envs.shop.users import logged_reaction as logged_reaction
from rlhf_jax.envs.shop.users import make_user as make_user
from rlhf_jax.envs.shop.users import past_choices as past_choices
from rlhf_jax.envs.shop.users import prompt_with_history as prompt_with_history
from rlhf_jax.envs.shop.users import react as react
from rlhf_jax.envs.shop.users import taste_at as taste_at
from rlhf_jax.envs.shop.users import thumb_probs as thumb_probs
from rlhf_jax.envs.shop.users import user_utilities as user_utilities
from rlhf_jax.envs.shop.version import WORLD_VERSION as WORLD_VERSION
from rlhf_jax.envs.shop.version import world_hash as world_hash
from rlhf_jax.envs.shop.vocabulary import words as words
from rlhf_jax.envs.shop.voices import MAX_VOICE_WORDS as MAX_VOICE_WORDS
from rlhf_jax.envs.shop.voices import VOICES as VOICES
from rlhf_jax.envs.shop.voices import voice_answer as voice_answer
from rlhf_jax.envs.shop.voices import voice_game as voice_game
from rlhf_jax.envs.shop.voices import voice_of as voice_of
from rlhf_jax.envs.shop.voices import voice_score as voice_score
from rlhf_jax.envs.shop.voices import voice_utilities as voice_utilities
from rlhf_jax.envs.shop.voices import voiced as voiced
from rlhf_jax.envs.shop.voices import without_voice as without_voice
