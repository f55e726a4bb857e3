"""Update rules: `make_update(policy, optimizer, ...)` gives a pure `update(state, batch)`.

    update = preference.make_update(policy, optax.adam(1e-3), partial(dpo_loss, beta=0.1))
    state = gradient.init_state(params, optax.adam(1e-3))
    state, metrics = jax.jit(update)(state, batch)

The policy is an argument; jit, vmap, scan and sharding are applied from outside. Four wings have a
contract of their own, on the first lines of each: `games` and `selfplay` (preference games,
enumerated and sampled), `planning` and `control` (MDPs).

| method | function | paper |
|---|---|---|
| supervised fine-tuning | `sft.make_update` | |
| reward model | `reward_model.make_update` | 2203.02155 |
| several reward models | `reward_ensemble.make_update`, `make_shared_update` | 2310.02743 |
| the same on labels repaired by a vote | `feedback.strengths`, then the same | 2401.06080 |
| under which a spurious feature is not used (V-REx and others) | `robust_reward` | 2307.16851 |
| with a contrastive term on its features | `contrastive_reward.make_update` | 2401.06080 |
| MetaRM, with unlabelled answers of a policy | `meta_reward.make_update` | 2401.06080 |
| reward models of users who differ (VPL) | `user_reward.make_update` | 2408.10075 |
| rewards of unnamed groups of users (MaxMin-RLHF) | `mixture_reward.make_update` | 2402.08925 |
| tables and linear rewards, from counts | `label_counts` | 2511.19504 |
| reward under a principle, from yes and no (RLBFF) | `entailment.make_update` | 2509.21319 |
| the same by a policy that writes yes or no | `entailment.make_written_update` | 2509.21319 |
| generative pairwise judge (Pairwise-RL) | `verdict_model.make_update` | 2504.04950 |
| pairwise preference model | `preference_model.make_update` | 2312.00886 |
| sequence-to-sequence reward model | `correction_model.make_update` | 2409.00162 |
| gap reward model, against a reference answer (PIT) | `gap_model.make_update` | 2310.00898 |
| DPO and every other loss of pairs | `preference.make_update` | docs/losses.md |
| PRO and every other loss of ranked lists | `ranking.make_update` | 2306.17492 |
| the same, the reference moving (TR-DPO) | `make_moving_reference_update` | 2404.09656 |
| KTO, APO-zero: losses of labelled answers | `unpaired.make_update` | 2402.01306, 2408.06266 |
| BCO, DRO | `unpaired.make_bco_update`, `unpaired.make_dro_update` | 2404.04656, 2405.19107 |
| any of them in micro-batches | `gradient.accumulate`, or `parts=` | |
| PPO | `ppo.make_update` | 1707.06347 |
| GRPO, RLOO, GSPO and every loss of single answers | `online.make_answer_update` | docs/losses.md |
| RAFT, from `algos.best_of.selected_answers` | `sft.make_update` | 2304.06767 |
| SuperHF, with a prior over the vocabulary | `best_of.make_prior_update` | 2310.16763 |
| P3O, and every loss of a group of answers | `online.make_group_update` | 2310.00212 |
| every loss of pairs with columns of data | `online.make_pair_update` | docs/losses.md |
| agents on their own turns of one episode (WaltzRL) | `agents.make_update` | 2510.08240 |
| passes over a batch in minibatches, for any of them | `epochs.make_epochs` | |
"""
