"""Objectives: arrays of log-probabilities in, one loss per example (or per step) out.

No model is known here: log-probabilities of a reference are arrays like any other. Leading axes are
free, nothing is averaged (`rlhf_jax.ops` has the means), and every hyper-parameter is a keyword.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from rlhf_jax.losses import dpo_loss, ppo_clip_loss
    >>> chosen, rejected = jnp.array([-1.0, -2.0]), jnp.array([-2.0, -2.0])
    >>> ref = jnp.array([-2.0, -2.0])
    >>> print(dpo_loss(chosen, rejected, ref, ref, beta=0.5))
    [0.474077  0.6931472]

The first is -log sigmoid(0.5): log pi / pi_ref is 1 for the chosen answer and 0 for the other one.
The second pair is not told apart yet, and the gradient raises its chosen answer by beta / 2.

    >>> mean = lambda chosen: jnp.mean(dpo_loss(chosen, rejected, ref, ref, beta=0.5))
    >>> print(jax.grad(mean)(chosen)[1])
    -0.125

Losses of single answers read log-probabilities now and when the answers were drawn, [*B, T]:

    >>> now, old = jnp.log(jnp.array([0.75, 0.5])), jnp.log(jnp.array([0.5, 0.5]))
    >>> print(ppo_clip_loss(now, old, jnp.array([1.0, -1.0]), clip_eps=0.25))
    [-1.25  1.  ]

docs/losses.md has the formula, the data, the limits and the paper of each. `preference` lists the
objectives of pairs, rankings and labelled answers; `links` holds the losses of one margin.
"""

from rlhf_jax.losses import links as links
from rlhf_jax.losses.answer_policy_gradient import gmpo_loss as gmpo_loss
from rlhf_jax.losses.answer_policy_gradient import gspo_loss as gspo_loss
from rlhf_jax.losses.answer_policy_gradient import gspo_token_loss as gspo_token_loss
from rlhf_jax.losses.answer_policy_gradient import luspo_loss as luspo_loss
from rlhf_jax.losses.answer_policy_gradient import off_policy_mask as off_policy_mask
from rlhf_jax.losses.answer_policy_gradient import rloo_loss as rloo_loss
from rlhf_jax.losses.answer_policy_gradient import vespo_loss as vespo_loss
from rlhf_jax.losses.contrastive import difference_items as difference_items
from rlhf_jax.losses.contrastive import pair_items as pair_items
from rlhf_jax.losses.contrastive import simcse_loss as simcse_loss
from rlhf_jax.losses.contrastive import swav_loss as swav_loss
from rlhf_jax.losses.expectile import expectile_loss as expectile_loss
from rlhf_jax.losses.feedback import binary_loss as binary_loss
from rlhf_jax.losses.feedback import cost_model_loss as cost_model_loss
from rlhf_jax.losses.feedback import entailment_loss as entailment_loss
from rlhf_jax.losses.feedback import multi_rating_loss as multi_rating_loss
from rlhf_jax.losses.feedback import order_bias as order_bias
from rlhf_jax.losses.feedback import ordinal_loss as ordinal_loss
from rlhf_jax.losses.feedback import process_loss as process_loss
from rlhf_jax.losses.feedback import rating_loss as rating_loss
from rlhf_jax.losses.feedback import soft_process_loss as soft_process_loss
from rlhf_jax.losses.feedback import verdict_loss as verdict_loss
from rlhf_jax.losses.feedback import verdict_margins as verdict_margins
from rlhf_jax.losses.feedback import verdict_prefs as verdict_prefs
from rlhf_jax.losses.feedback import verdict_token_loss as verdict_token_loss
from rlhf_jax.losses.games import anchor_gaps as anchor_gaps
from rlhf_jax.losses.games import inpo_loss as inpo_loss
from rlhf_jax.losses.games import mnpo_loss as mnpo_loss
from rlhf_jax.losses.games import nash_md_pg_loss as nash_md_pg_loss
from rlhf_jax.losses.games import nash_md_pg_token_loss as nash_md_pg_token_loss
from rlhf_jax.losses.games import online_ipo_loss as online_ipo_loss
from rlhf_jax.losses.games import online_ipo_v2_loss as online_ipo_v2_loss
from rlhf_jax.losses.games import onpo_loss as onpo_loss
from rlhf_jax.losses.games import pairwise_regression_loss as pairwise_regression_loss
from rlhf_jax.losses.games import sppo_loss as sppo_loss
from rlhf_jax.losses.gaps import gap_loss as gap_loss
from rlhf_jax.losses.gaps import gap_shift as gap_shift
from rlhf_jax.losses.group_policy_gradient import dapo_loss as dapo_loss
from rlhf_jax.losses.group_policy_gradient import dr_grpo_loss as dr_grpo_loss
from rlhf_jax.losses.group_policy_gradient import grpo_loss as grpo_loss
from rlhf_jax.losses.group_policy_gradient import high_entropy_mask as high_entropy_mask
from rlhf_jax.losses.pairwise_gradient import (
    binary_pairwise_rewards as binary_pairwise_rewards,
)
from rlhf_jax.losses.pairwise_gradient import p3o_v1_loss as p3o_v1_loss
from rlhf_jax.losses.pairwise_gradient import p3o_v2_loss as p3o_v2_loss
from rlhf_jax.losses.pairwise_gradient import pairwise_gradient_loss as pairwise_gradient_loss
from rlhf_jax.losses.pairwise_gradient import pairwise_rewards as pairwise_rewards
from rlhf_jax.losses.policy_gradient import asymmetric_clip_loss as asymmetric_clip_loss
from rlhf_jax.losses.policy_gradient import cispo_loss as cispo_loss
from rlhf_jax.losses.policy_gradient import clipped_value_loss as clipped_value_loss
from rlhf_jax.losses.policy_gradient import dual_clip_loss as dual_clip_loss
from rlhf_jax.losses.policy_gradient import masked_importance_weights as masked_importance_weights
from rlhf_jax.losses.policy_gradient import ppo_clip_loss as ppo_clip_loss
from rlhf_jax.losses.policy_gradient import reinforce_loss as reinforce_loss
from rlhf_jax.losses.policy_gradient import sapo_loss as sapo_loss
from rlhf_jax.losses.policy_gradient import (
    truncated_importance_weights as truncated_importance_weights,
)
from rlhf_jax.losses.policy_gradient import value_loss as value_loss

# A loss of `preference` is entered there alone.
from rlhf_jax.losses.preference import *  # noqa: F403
from rlhf_jax.losses.reward import bradley_terry_loss as bradley_terry_loss
from rlhf_jax.losses.reward import centring_penalty as centring_penalty
from rlhf_jax.losses.reward import davidson_loss as davidson_loss
from rlhf_jax.losses.reward import deterministic_regrets as deterministic_regrets
from rlhf_jax.losses.reward import margin_bradley_terry_loss as margin_bradley_terry_loss
from rlhf_jax.losses.reward import partial_return_loss as partial_return_loss
from rlhf_jax.losses.reward import partial_returns as partial_returns
from rlhf_jax.losses.reward import plackett_luce_loss as plackett_luce_loss
from rlhf_jax.losses.reward import rao_kupper_loss as rao_kupper_loss
from rlhf_jax.losses.reward import regret_preference_loss as regret_preference_loss
from rlhf_jax.losses.reward import segment_regrets as segment_regrets
from rlhf_jax.losses.reward import signed_bradley_terry_loss as signed_bradley_terry_loss
from rlhf_jax.losses.reward import smoothed_bradley_terry_loss as smoothed_bradley_terry_loss
from rlhf_jax.losses.reward import soft_bradley_terry_loss as soft_bradley_terry_loss
from rlhf_jax.losses.reward import (
    soft_margin_bradley_terry_loss as soft_margin_bradley_terry_loss,
)
from rlhf_jax.losses.robust_reward import consistency_penalty as consistency_penalty
from rlhf_jax.losses.robust_reward import correlation_penalty as correlation_penalty
from rlhf_jax.losses.robust_reward import irm_loss as irm_loss
from rlhf_jax.losses.robust_reward import mmd_penalty as mmd_penalty
from rlhf_jax.losses.robust_reward import vrex_loss as vrex_loss
from rlhf_jax.losses.robust_reward import worst_case_margins as worst_case_margins
from rlhf_jax.losses.robust_reward import worst_copy_loss as worst_copy_loss
from rlhf_jax.losses.supervised import superhf_loss as superhf_loss
from rlhf_jax.losses.users import vpl_loss as vpl_loss
