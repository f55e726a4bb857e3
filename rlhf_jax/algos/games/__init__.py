"""Preference games over an enumerated set of answers, with any policy as a row of a table.

    method = nash_md(ref_logps, eta=0.5, beta=0.1)
    state = method.init(ref_logps)
    state, metrics = method.update(state, exact_oracle(prefs), key)

`init` and `update` are pure: jit, vmap and scan (`runs.run_updates`) are applied from outside, over
games, seeds, eta and beta alike. The oracle (`oracles`) is a matrix, samples of it or a model. Many
small games are fastest as leading axes of one run, [*B, n]: `many` then vectorises over the games.

| method | opponent | function | paper |
|---|---|---|---|
| Hedge, SPO | pi_t, beta = 0 | `hedge`, with `hedge_step` and `hedge_bound` | 2401.04056 |
| online mirror descent, MMD, INPO, online IPO | pi_t | `mirror_descent` | 2407.00617 |
| Nash-MD | pi_t^(1 - eta beta) mu^(eta beta) | `nash_md` | 2312.00886 |
| Nash-EMA | a moving average of pi | `mirror_descent(opponent=moving_average(...))` | 2312.00886 |
| Nash-MP, EGPO | pi_t, then the policy that this gives | `nash_mp` | 2505.19731, 2503.08942 |
| optimistic Hedge, ONPO | pi_t, counted twice less its predecessor | `omwu` | 2502.16852 |
| TD-MNPO | pi_t; l is a mean of the last policies | `td_mnpo` | 2509.23102 |
| MNPO, HT-MNPO | the other players; l is their mean | `mnpo`, `ht_mnpo` | 2509.23102 |
| one against many: `players_oracle` | the others | `mirror_descent`, `ht_mnpo` | 2509.23102 |
| best response | pi_t, eta beta = 1 | `best_response` | |
| fictitious play | the average of the past, eta beta = 1 | `fictitious_play` | |
| self-play PG, Nash-MD-PG, Nash-EMA-PG | any | `policy_gradient` | 2312.00886 |
"""

from rlhf_jax.algos.games.hedge import hedge as hedge
from rlhf_jax.algos.games.hedge import hedge_bound as hedge_bound
from rlhf_jax.algos.games.hedge import hedge_step as hedge_step
from rlhf_jax.algos.games.methods import Method as Method
from rlhf_jax.algos.games.methods import best_response as best_response
from rlhf_jax.algos.games.methods import fictitious_play as fictitious_play
from rlhf_jax.algos.games.methods import ht_mnpo as ht_mnpo
from rlhf_jax.algos.games.methods import mirror_descent as mirror_descent
from rlhf_jax.algos.games.methods import mnpo as mnpo
from rlhf_jax.algos.games.methods import nash_md as nash_md
from rlhf_jax.algos.games.methods import nash_mp as nash_mp
from rlhf_jax.algos.games.methods import omwu as omwu
from rlhf_jax.algos.games.methods import policy_gradient as policy_gradient
from rlhf_jax.algos.games.methods import td_mnpo as td_mnpo
