"""Who scores: verifiers, sandboxed code, functions, programs, judges; whatever fails is named.

    reward = make_reward("math")                           # (prompts, answers, **columns) -> [N]
    score = record_score({"math": reward.reward}, rows)    # the `score` of a task
    judge = pairs_judge(chat_pairs(model), prompt_texts=..., answer_texts=decode)
    prefs = checked_judge(judge)(indices, first, second)   # [N], P(first beats second)

A `TextReward` scores texts; a `Judge` compares two trajectories.
"""

from rlhf_jax.rewards.chat_judges import ChatModel as ChatModel
from rlhf_jax.rewards.chat_judges import PairQuestion as PairQuestion
from rlhf_jax.rewards.chat_judges import ScoreQuestion as ScoreQuestion
from rlhf_jax.rewards.chat_judges import ask_chat as ask_chat
from rlhf_jax.rewards.chat_judges import chat_pairs as chat_pairs
from rlhf_jax.rewards.chat_judges import chat_reward as chat_reward
from rlhf_jax.rewards.checked import JudgeError as JudgeError
from rlhf_jax.rewards.checked import checked_judge as checked_judge
from rlhf_jax.rewards.features import SUMMARY_FEATURES as SUMMARY_FEATURES
from rlhf_jax.rewards.features import Feature as Feature
from rlhf_jax.rewards.features import RateTexts as RateTexts
from rlhf_jax.rewards.features import Ratings as Ratings
from rlhf_jax.rewards.features import feature_text_reward as feature_text_reward
from rlhf_jax.rewards.features import rate_answers as rate_answers
from rlhf_jax.rewards.features import remember_ratings as remember_ratings
from rlhf_jax.rewards.features import scale_ratings as scale_ratings
from rlhf_jax.rewards.features import separate_ratings as separate_ratings
from rlhf_jax.rewards.features import sigmoid_reward as sigmoid_reward
from rlhf_jax.rewards.functions import load_compare as load_compare
from rlhf_jax.rewards.functions import load_function as load_function
from rlhf_jax.rewards.functions import load_outcomes as load_outcomes
from rlhf_jax.rewards.functions import record_score as record_score
from rlhf_jax.rewards.judges import ComparePairs as ComparePairs
from rlhf_jax.rewards.judges import judge_matrix as judge_matrix
from rlhf_jax.rewards.judges import pairs_judge as pairs_judge
from rlhf_jax.rewards.judges import preference_judge as preference_judge
from rlhf_jax.rewards.judges import reward_judge as reward_judge
from rlhf_jax.rewards.judges import text_judge as text_judge
from rlhf_jax.rewards.mathematics import math_reward as math_reward
from rlhf_jax.rewards.outcomes import SimulateOutcomes as SimulateOutcomes
from rlhf_jax.rewards.outcomes import hindsight_pairs as hindsight_pairs
from rlhf_jax.rewards.programs import ProgramError as ProgramError
from rlhf_jax.rewards.programs import program_reward as program_reward
from rlhf_jax.rewards.sandbox import Limits as Limits
from rlhf_jax.rewards.sandbox import SandboxError as SandboxError
from rlhf_jax.rewards.sandbox import run_tests as run_tests
from rlhf_jax.rewards.specs import NamedReward as NamedReward
from rlhf_jax.rewards.specs import chat_model as chat_model
from rlhf_jax.rewards.specs import make_compare as make_compare
from rlhf_jax.rewards.specs import make_reward as make_reward
from rlhf_jax.rewards.verdicts import BINARY as BINARY
from rlhf_jax.rewards.verdicts import GRADED as GRADED
from rlhf_jax.rewards.verdicts import QUESTIONS as QUESTIONS
from rlhf_jax.rewards.verdicts import JudgeQuestion as JudgeQuestion
from rlhf_jax.rewards.verdicts import VerdictScale as VerdictScale
from rlhf_jax.rewards.verdicts import verdict_in as verdict_in
from rlhf_jax.rewards.verdicts import verdicts_in as verdicts_in
from rlhf_jax.rewards.verifiers import code_reward as code_reward
from rlhf_jax.rewards.verifiers import exact_reward as exact_reward
from rlhf_jax.rewards.verifiers import regex_reward as regex_reward
