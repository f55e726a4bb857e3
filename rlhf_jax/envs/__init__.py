"""Worlds: arrays that an exact solver can read, or an `Env` that is acted in.

    env = finite_env(random_mdp(key, horizon=5, num_states=4, num_actions=3))
    state, observation = env.reset(key)
    state, step = env.step(key, state, action)                  # observation, reward, discount

Import the module: `control` needs packages of the extra `control`.

| file | worlds |
|---|---|
| `bandit` | contextual bandits with known rewards |
| `games` | preference games: matrices of P(row beats column) |
| `tabular_mdp`, `linear_mdp` | MDPs: tables (`finite_env`, `discounted_env`), linear |
| `chains`, `tightrope` | hard to explore, hard to stay on |
| `gridworlds`, `random_boards`, `hazard_grid`, `walled_grid`, `coin_grid` | grids |
| `pendulum`, `point_robot`, `control` | continuous control |
| `table_formats` | tables of other packages |
| `gui` | a phone in text: screens, actions, tasks of 1 to 8 actions |
| `shop` | a language world: requests to a shop, answers, gold scores |
"""
