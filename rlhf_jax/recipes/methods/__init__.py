"""Online methods as data: a function from a scored rollout to a batch, and an objective of it.

    method = rloo(lab, samples=4, kl=Penalty(0.05))

| method | function | advantages | loss and average |
|---|---|---|---|
| PPO with a critic | `ppo` | GAE | `ppo_clip_loss`, `clipped_value_loss` per token |
| PF-PPO | `ppo(keep=best_worst_weights)` | GAE | the same, weighted by a filter |
| turn credit | `reinforce_turns` | leave-one-out of each turn | `reinforce_loss` per token |
| REINFORCE | `reinforce` | leave-one-out over the batch | `reinforce_loss` per answer |
| RLOO | `rloo` | leave-one-out | `rloo_loss` |
| GRPO | `grpo` | normalised | `dapo_loss`, one clip, mean of token means |
| Dr. GRPO | `dr_grpo` | centred | `dapo_loss`, one clip, constant denominator |
| DAPO | `dapo` | normalised | `dapo_loss`, token mean; dynamic sampling |
| GSPO | `gspo` | normalised | `gspo_loss` |
| CISPO | `cispo` | normalised | `cispo_loss`, token mean |
| pairwise RLHF | `pairwise_grpo` | of comparisons | `dapo_loss`, one clip, token mean |
| RAFT, best-of-K fine-tuning | `best_of` | 1 for the best answer | `reinforce_loss`, token mean |
| RAFT, global ranking | `top_of_batch` | 1 for the best of a batch | `reinforce_loss`, token mean |
| SuperHF | `superhf` | of the best answer | `superhf_loss`, token mean |
| online DPO, IPO, SimPO, ... | `online_pairs` | | any loss of pairs |
| OSP: ranked pairs with soft labels | `osp` | | `soft_preference_loss` |
| P3O | `p3o` | differences of scores | `p3o_v2_loss`, `p3o_v1_loss` |

`reinforce` to `cispo` take the options of `answer_method`: the KL penalty, a filter, epochs,
minibatches and rounds of dynamic sampling.
"""

from rlhf_jax.recipes.methods.answers import AnswerFilter as AnswerFilter
from rlhf_jax.recipes.methods.answers import Credit as Credit
from rlhf_jax.recipes.methods.answers import Penalty as Penalty
from rlhf_jax.recipes.methods.answers import answer_method as answer_method
from rlhf_jax.recipes.methods.answers import per_token as per_token
from rlhf_jax.recipes.methods.critic import CriticCredit as CriticCredit
from rlhf_jax.recipes.methods.critic import critic_of as critic_of
from rlhf_jax.recipes.methods.critic import gae_of_steps as gae_of_steps
from rlhf_jax.recipes.methods.critic import ppo as ppo
from rlhf_jax.recipes.methods.groups import cispo as cispo
from rlhf_jax.recipes.methods.groups import dapo as dapo
from rlhf_jax.recipes.methods.groups import dr_grpo as dr_grpo
from rlhf_jax.recipes.methods.groups import grpo as grpo
from rlhf_jax.recipes.methods.groups import gspo as gspo
from rlhf_jax.recipes.methods.groups import pairwise_grpo as pairwise_grpo
from rlhf_jax.recipes.methods.groups import reinforce as reinforce
from rlhf_jax.recipes.methods.groups import rloo as rloo
from rlhf_jax.recipes.methods.pairs import online_pairs as online_pairs
from rlhf_jax.recipes.methods.pairs import p3o as p3o
from rlhf_jax.recipes.methods.selection import best_of as best_of
from rlhf_jax.recipes.methods.selection import superhf as superhf
from rlhf_jax.recipes.methods.selection import top_of_batch as top_of_batch
from rlhf_jax.recipes.methods.soft_pairs import osp as osp
from rlhf_jax.recipes.methods.turns import gae_of_turns as gae_of_turns
from rlhf_jax.recipes.methods.turns import reinforce_turns as reinforce_turns
from rlhf_jax.recipes.methods.turns import turn_advantages as turn_advantages
