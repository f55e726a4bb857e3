"""Planners that learn an MDP, or its reward, from episodes and preferences.

    state = lsvi.init_lsvi(horizon=H, num_features=d, num_states=S)
    plan = lsvi.bonus_plan(state, features, rewards, bonus=1.0)   # plan.logps [H, S, A]
    state = lsvi.update_lsvi(state, episode_features, next_states)

Each has a state (sufficient statistics of the data), an `init_...`, a function from the state to a
plan or policy, and an update with the data of an episode. All are pure and vmap over seeds.

| method | function | paper |
|---|---|---|
| LSVI: optimistic or pessimistic | `lsvi.bonus_plan` | 1907.05388, 2012.15085 |
| LSVI with a KL penalty, randomised LSVI | `lsvi.soft_plan`, `lsvi.randomised_plan` | 2310.14554 |
| PR-LSVI | `preference_lsvi.preference_plan`, `query` | 2310.14554, Alg. 1 |
| Thompson sampling | `posterior_sampling.posterior_plan` | 2310.14554, Alg. 2 |
| UCBVI-Ent+ | `ucbvi.confidence_plan`, `exploring_policy` | 2310.17303 |
| rewards by maximum likelihood | `reward_newton.fit_rewards` | 2310.17303 |
| safe sets with top-K replay (LS3) | `safe_set.safe_policy`, `first_successes` | 2107.04775 |
| safe sets in a plane, cross-entropy (LS3) | `safe_cells.fit_cells`, `plan_action` | 2107.04775 |
| maximum-entropy inverse RL | `inverse_rl.max_ent_irl` | Ziebart et al. 2008 |
"""
