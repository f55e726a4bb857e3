"""Arithmetic on arrays of log-probabilities, rewards and masks: no model, no loss, no state.

    >>> import jax.numpy as jnp
    >>> from rlhf_jax.ops import gae, leave_one_out_advantages, masked_mean, token_logps
    >>> logits = jnp.log(jnp.array([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125]]))
    >>> print(jnp.exp(token_logps(logits, jnp.array([0, 1]))))
    [0.5  0.75]
    >>> print(leave_one_out_advantages(jnp.array([1.0, 0.0, 0.5])))
    [ 0.75 -0.75  0.  ]

A mask is bool, and what it hides may be anything. Leading axes are free; steps are the last axis.

    >>> print(masked_mean(jnp.array([1.0, 3.0, jnp.nan]), jnp.array([True, True, False])))
    2.0
    >>> rewards, values, discounts = jnp.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    >>> print(gae(rewards, values, discounts, jnp.array(0.0), gae_lambda=1.0))
    [0.5 0.5]

By the name of their file: `agents` (rewards and turns of several agents), `bellman` (backups of
MDPs), `constraints` (Lagrangians of mean costs), `corrections` (rewards of tokens by a model that
rewrites), `coverage` (what data say about a policy), `elliptical` (norms of a design matrix),
`games` (win rates and gaps of preference games), `linear_systems`, `multiplayer` (one answer
against many), `newton`, `reactions` (rare reactions of users), `stakes` (wrong decisions of each
group), `steps` (scores of the steps of an answer).
"""

from rlhf_jax.ops.aggregate import exponentiated_weights as exponentiated_weights
from rlhf_jax.ops.aggregate import group_values as group_values
from rlhf_jax.ops.aggregate import known_values as known_values
from rlhf_jax.ops.aggregate import minimum_rewards as minimum_rewards
from rlhf_jax.ops.aggregate import soft_minimum as soft_minimum
from rlhf_jax.ops.aggregate import soft_minimum_weights as soft_minimum_weights
from rlhf_jax.ops.aggregate import weighted_rewards as weighted_rewards
from rlhf_jax.ops.aggregate import worst_group_weights as worst_group_weights
from rlhf_jax.ops.chunked import chunked_token_logps as chunked_token_logps
from rlhf_jax.ops.directions import check_directions as check_directions
from rlhf_jax.ops.directions import directed_features as directed_features
from rlhf_jax.ops.directions import draw_directions as draw_directions
from rlhf_jax.ops.directions import scalarise as scalarise
from rlhf_jax.ops.directions import unit_directions as unit_directions
from rlhf_jax.ops.ensembles import MemberScale as MemberScale
from rlhf_jax.ops.ensembles import Strengths as Strengths
from rlhf_jax.ops.ensembles import error_correlation as error_correlation
from rlhf_jax.ops.ensembles import mean_scores as mean_scores
from rlhf_jax.ops.ensembles import member_scale as member_scale
from rlhf_jax.ops.ensembles import member_variances as member_variances
from rlhf_jax.ops.ensembles import preference_strengths as preference_strengths
from rlhf_jax.ops.ensembles import standardised_scores as standardised_scores
from rlhf_jax.ops.ensembles import uncertainty_penalised_scores as uncertainty_penalised_scores
from rlhf_jax.ops.ensembles import worst_case_scores as worst_case_scores
from rlhf_jax.ops.entailment import entailment_log_odds as entailment_log_odds
from rlhf_jax.ops.entailment import scores_under as scores_under
from rlhf_jax.ops.entailment import signed_log_odds as signed_log_odds
from rlhf_jax.ops.environments import balanced_weights as balanced_weights
from rlhf_jax.ops.environments import environment_means as environment_means
from rlhf_jax.ops.environments import members as members
from rlhf_jax.ops.environments import reversed_gradient as reversed_gradient
from rlhf_jax.ops.features import balanced_codes as balanced_codes
from rlhf_jax.ops.features import drop_features as drop_features
from rlhf_jax.ops.filtration import best_random_weights as best_random_weights
from rlhf_jax.ops.filtration import best_weights as best_weights
from rlhf_jax.ops.filtration import best_worst_weights as best_worst_weights
from rlhf_jax.ops.filtration import filter_r2 as filter_r2
from rlhf_jax.ops.filtration import power_weights as power_weights
from rlhf_jax.ops.filtration import resampled as resampled
from rlhf_jax.ops.filtration import uniform_weights as uniform_weights
from rlhf_jax.ops.filtration import widest_weights as widest_weights
from rlhf_jax.ops.gaussians import diagonal_normal_kl as diagonal_normal_kl
from rlhf_jax.ops.gaussians import diagonal_normal_logps as diagonal_normal_logps
from rlhf_jax.ops.gaussians import gaussian_draws as gaussian_draws
from rlhf_jax.ops.gaussians import standard_normal_kl as standard_normal_kl
from rlhf_jax.ops.gaussians import tanh_normal_logps as tanh_normal_logps
from rlhf_jax.ops.groups import group_centred_advantages as group_centred_advantages
from rlhf_jax.ops.groups import group_normalised_advantages as group_normalised_advantages
from rlhf_jax.ops.groups import informative_groups as informative_groups
from rlhf_jax.ops.groups import leave_one_out_advantages as leave_one_out_advantages
from rlhf_jax.ops.groups import overlong_penalty as overlong_penalty
from rlhf_jax.ops.groups import pair_measures as pair_measures
from rlhf_jax.ops.groups import pairwise_advantages as pairwise_advantages
from rlhf_jax.ops.groups import remax_advantages as remax_advantages
from rlhf_jax.ops.groups import score_spread as score_spread
from rlhf_jax.ops.groups import scored_answers as scored_answers
from rlhf_jax.ops.groups import signal_probability as signal_probability
from rlhf_jax.ops.kl import exact_kl as exact_kl
from rlhf_jax.ops.kl import forward_kl as forward_kl
from rlhf_jax.ops.kl import forward_kl_surrogate as forward_kl_surrogate
from rlhf_jax.ops.kl import k1 as k1
from rlhf_jax.ops.kl import k2 as k2
from rlhf_jax.ops.kl import k3 as k3
from rlhf_jax.ops.kl import reverse_kl_surrogate as reverse_kl_surrogate
from rlhf_jax.ops.kl import score_function_kl_surrogate as score_function_kl_surrogate
from rlhf_jax.ops.logprobs import entropy as entropy
from rlhf_jax.ops.logprobs import log_collision as log_collision
from rlhf_jax.ops.logprobs import mean_logps as mean_logps
from rlhf_jax.ops.logprobs import ratios as ratios
from rlhf_jax.ops.logprobs import sequence_logps as sequence_logps
from rlhf_jax.ops.logprobs import tempered as tempered
from rlhf_jax.ops.logprobs import token_logps as token_logps
from rlhf_jax.ops.masking import Mean as Mean
from rlhf_jax.ops.masking import centred as centred
from rlhf_jax.ops.masking import constant_denominator as constant_denominator
from rlhf_jax.ops.masking import masked_mean as masked_mean
from rlhf_jax.ops.masking import masked_sum as masked_sum
from rlhf_jax.ops.masking import sequence_mean as sequence_mean
from rlhf_jax.ops.masking import sequence_mean_of_token_mean as sequence_mean_of_token_mean
from rlhf_jax.ops.masking import token_mean as token_mean
from rlhf_jax.ops.masking import weighted_mean as weighted_mean
from rlhf_jax.ops.masking import whiten as whiten
from rlhf_jax.ops.operations import graded_return as graded_return
from rlhf_jax.ops.operations import operation_reward as operation_reward
from rlhf_jax.ops.operations import understanding_reward as understanding_reward
from rlhf_jax.ops.retries import distinct_count as distinct_count
from rlhf_jax.ops.retries import first_success as first_success
from rlhf_jax.ops.retries import independent_success as independent_success
from rlhf_jax.ops.retries import retry_return as retry_return
from rlhf_jax.ops.retries import success_within as success_within
from rlhf_jax.ops.returns import VTrace as VTrace
from rlhf_jax.ops.returns import answer_discounts as answer_discounts
from rlhf_jax.ops.returns import answer_rewards as answer_rewards
from rlhf_jax.ops.returns import discounted_sum as discounted_sum
from rlhf_jax.ops.returns import gae as gae
from rlhf_jax.ops.returns import lambda_returns as lambda_returns
from rlhf_jax.ops.returns import last_step as last_step
from rlhf_jax.ops.returns import penalised_rewards as penalised_rewards
from rlhf_jax.ops.returns import vtrace as vtrace
from rlhf_jax.ops.segments import SegmentRewards as SegmentRewards
from rlhf_jax.ops.segments import level_changes as level_changes
from rlhf_jax.ops.segments import paid_at_the_end as paid_at_the_end
from rlhf_jax.ops.segments import place_rewards as place_rewards
from rlhf_jax.ops.segments import scaled_rewards as scaled_rewards
from rlhf_jax.ops.segments import sign_rewards as sign_rewards
from rlhf_jax.ops.segments import token_rewards as token_rewards
from rlhf_jax.ops.selection import Best as Best
from rlhf_jax.ops.selection import Top as Top
from rlhf_jax.ops.selection import best_answers as best_answers
from rlhf_jax.ops.selection import kl_ranking_scores as kl_ranking_scores
from rlhf_jax.ops.selection import top_answers as top_answers
from rlhf_jax.ops.statistics import area_under_curve as area_under_curve
from rlhf_jax.ops.statistics import best_of_n_curve as best_of_n_curve
from rlhf_jax.ops.statistics import best_of_n_kl as best_of_n_kl
from rlhf_jax.ops.statistics import calibration_error as calibration_error
from rlhf_jax.ops.statistics import choice_calibration_error as choice_calibration_error
from rlhf_jax.ops.statistics import confidence_error as confidence_error
from rlhf_jax.ops.statistics import cross_prompt_collision as cross_prompt_collision
from rlhf_jax.ops.statistics import mean_with_interval as mean_with_interval
from rlhf_jax.ops.statistics import wins as wins
from rlhf_jax.ops.turns import episode_credit as episode_credit
from rlhf_jax.ops.turns import per_step as per_step
from rlhf_jax.ops.turns import turn_credit as turn_credit
from rlhf_jax.ops.turns import turn_gae as turn_gae
from rlhf_jax.ops.turns import turn_starts as turn_starts
from rlhf_jax.ops.verdicts import majority_verdicts as majority_verdicts
from rlhf_jax.ops.verdicts import verdict_credits as verdict_credits
from rlhf_jax.ops.verdicts import verdict_gaps as verdict_gaps
from rlhf_jax.ops.verdicts import verdict_rewards as verdict_rewards
