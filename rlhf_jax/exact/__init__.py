"""Closed forms and solvers that the sampled methods are held against.

    mdp = random_mdp(key, horizon=5, num_states=4, num_actions=3)
    solution = finite_mdp.optimal(mdp)
    gap = finite_mdp.regret(mdp, logps)

`finite_mdp` and `discounted_mdp` answer the same questions by the same names, so import the module.

| file | what it solves |
|---|---|
| `bandit` | regularised bandits, in closed form |
| `constrained` | bandits under a limit on the mean cost, with the multiplier |
| `upper_bounds`, `safety_test` | confidence bounds on a mean cost, and the test that releases |
| `sample_costs` | how many labels values without structure cost |
| `best_of` | the law of the best of n answers, rounds of it, with a prior |
| `maxmin` | the policy that is best for the worst-off group, with a certificate |
| `finite_mdp`, `discounted_mdp` | MDPs: values, optima, occupancy, regret |
| `value_iteration` | tables too large for a linear solve, dense or sparse |
| `linear_mdp` | linear MDPs: weights on features, coverage of features |
| `nash`, `regularised_nash` | Nash policies of preference games, with a certificate |
| `tournaments` | Condorcet winners, top cycles |
| `answer_games` | how exploitable a policy is that can only be sampled |
"""
