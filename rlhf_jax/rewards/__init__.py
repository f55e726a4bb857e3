"""Who scores: judges of two answers, and wrappers that name what raises or returns NaN.

judge = text_judge(compare, prompt_texts=prompts.__getitem__, answer_texts=decode)
prefs = checked_judge(judge)(indices, first, second)   # [N], P(first beats second)
"""

from rlhf_jax.rewards.checked import JudgeError as JudgeError
from rlhf_jax.rewards.checked import checked_judge as checked_judge
from rlhf_jax.rewards.judges import judge_matrix as judge_matrix
from rlhf_jax.rewards.judges import preference_judge as preference_judge
from rlhf_jax.rewards.judges import reward_judge as reward_judge
from rlhf_jax.rewards.judges import text_judge as text_judge
