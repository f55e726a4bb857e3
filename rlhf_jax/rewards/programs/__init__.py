"""Reward programs: rewards as code of a small language, which is read and never executed as Python.

    program = parse_program("2 * goal - dist", ["goal", "dist"])    # ProgramError, or safe to run
    rewards = program_values(program, {"goal": goal, "dist": dist}).rewards            # [*B], pure
    reward = program_reward("contains('thank') - words / 50")       # of texts, a `TextReward`
    found = search_programs(propose, train, beats, task=task, number=6, rounds=5, rng=Random(0))

| file | what |
|---|---|
| `syntax`, `functions` | the language, and what is refused |
| `values` | what a program gives on arrays; a try of it on samples |
| `mutation` | programs as sums of weighted terms, drawn and changed |
| `proposers` | who writes programs: a grammar, a language model, a list |
| `search` | propose, train, rank, again |
| `texts` | programs of an answer's text |
"""

from rlhf_jax.rewards.programs.mutation import Grammar as Grammar
from rlhf_jax.rewards.programs.mutation import Weighted as Weighted
from rlhf_jax.rewards.programs.mutation import mutated as mutated
from rlhf_jax.rewards.programs.mutation import random_program as random_program
from rlhf_jax.rewards.programs.mutation import sum_program as sum_program
from rlhf_jax.rewards.programs.mutation import weighted_terms as weighted_terms
from rlhf_jax.rewards.programs.proposers import chat_proposer as chat_proposer
from rlhf_jax.rewards.programs.proposers import grammar_proposer as grammar_proposer
from rlhf_jax.rewards.programs.proposers import program_text as program_text
from rlhf_jax.rewards.programs.proposers import proposal_text as proposal_text
from rlhf_jax.rewards.programs.proposers import replay_proposer as replay_proposer
from rlhf_jax.rewards.programs.proposers import trace_text as trace_text
from rlhf_jax.rewards.programs.search import ProgramSearch as ProgramSearch
from rlhf_jax.rewards.programs.search import Propose as Propose
from rlhf_jax.rewards.programs.search import ProposeContext as ProposeContext
from rlhf_jax.rewards.programs.search import RankedRound as RankedRound
from rlhf_jax.rewards.programs.search import Trial as Trial
from rlhf_jax.rewards.programs.search import best_and_worst as best_and_worst
from rlhf_jax.rewards.programs.search import query_count as query_count
from rlhf_jax.rewards.programs.search import search_programs as search_programs
from rlhf_jax.rewards.programs.syntax import ProgramError as ProgramError
from rlhf_jax.rewards.programs.syntax import ProgramLimits as ProgramLimits
from rlhf_jax.rewards.programs.syntax import RewardProgram as RewardProgram
from rlhf_jax.rewards.programs.syntax import parse_program as parse_program
from rlhf_jax.rewards.programs.texts import TEXT_FUNCTIONS as TEXT_FUNCTIONS
from rlhf_jax.rewards.programs.texts import TEXT_GRAMMAR as TEXT_GRAMMAR
from rlhf_jax.rewards.programs.texts import TEXT_VARIABLES as TEXT_VARIABLES
from rlhf_jax.rewards.programs.texts import load_text_program as load_text_program
from rlhf_jax.rewards.programs.texts import program_reward as program_reward
from rlhf_jax.rewards.programs.texts import text_program as text_program
from rlhf_jax.rewards.programs.texts import text_variables as text_variables
from rlhf_jax.rewards.programs.values import check_program as check_program
from rlhf_jax.rewards.programs.values import program_values as program_values
