"""Policies, values and rewards: a table, a linear map, a small network, a transformer.

    policy = tabular_policy(num_states=4, num_actions=3)
    params = policy.init(key)
    token_logps = policy.logps(params, inputs, actions)         # [*B, T]

Each is a `Policy`, `ValueFn` or `RewardFn` of `rlhf_jax.types`: pure functions, nothing inherited.
`implicit.implicit_reward` makes a `RewardFn` of any policy and its reference (and
`implicit_token_rewards` its parts),
`features.bottleneck_reward` one of named features. Nothing is imported here, since `language` and
`features` load Flax.

| file | inputs | functions |
|---|---|---|
| `tabular` | state ids [*B, T] | `tabular_policy`, `tabular_value`, `tabular_reward` |
| `linear` | the same state ids | `linear_policy`, `linear_value`, `linear_reward` |
| `network` | observations [*B, T, d] | `network_policy`, `tanh_gaussian`, values, rewards |
| `latent` | any, with a user's latent | `latent_policy`, `latent_reward`, `user_encoder` |
| `rewriting` | two answers in tokens | `language_rewriting`: reads one, writes the other |
| `verdicts` | two answers in tokens | `language_verdicts`: the next token is a verdict |
| `language` | tokens (`language_inputs`) | `language_policy`, `_value`, `_reward`, `_decoder` |
"""
