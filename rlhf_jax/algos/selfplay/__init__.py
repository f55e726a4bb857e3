"""Preference games on sampled answers: the methods of `algos.games` for any policy and any judge.

    arena = Arena(policy, optimizer, draw, judge, ref_params)
    method = egpo(arena, beta=0.1)
    state = method.init(params)
    state, metrics = method.round(state, prompts, key)

A round runs on the host: it draws answers, has them judged and updates. "Solved, it is" names the
tabular method that a round becomes when its regression or its expectation is exact.

| method | answers drawn | a round | solved, it is |
|---|---|---|---|
| `nash_md_pg`, `nash_ema_pg` | y ~ pi_t, y' ~ opponent | policy gradient step | `policy_gradient` |
| `nash_mp_pg` | the same, fresh for each step | two halves of such steps | `nash_mp` |
| `online_ipo` | y, y' ~ uniform, y'' ~ pi_t | gradient step on a regression | `mirror_descent` |
| `egpo` | the same, then y'' ~ pi_{t+1/2} | two such steps from pi_t | `nash_mp` |
| `iterative_dpo` | y, y' ~ pi_t, labelled | gradient steps of DPO | none |
| `inpo` | the same | a regression solved | `mirror_descent` |
| `onpo` | the same | two regressions solved | `omwu` |
| `td_mnpo_regression` | the same | a regression solved | `td_mnpo` |
| `spo`, `spo_queue` | K answers ~ pi_t | policy gradient step on win rates | `policy_gradient` |

Papers: Nash-MD-PG and Nash-EMA-PG 2312.00886, Nash-MP 2505.19731, online IPO and EGPO 2503.08942,
iterative DPO 2312.16682, INPO 2407.00617, ONPO 2502.16852, TD-MNPO 2509.23102, SPO 2401.04056.
"""

from rlhf_jax.algos.selfplay.gradients import nash_ema_pg as nash_ema_pg
from rlhf_jax.algos.selfplay.gradients import nash_md_pg as nash_md_pg
from rlhf_jax.algos.selfplay.gradients import nash_mp_pg as nash_mp_pg
from rlhf_jax.algos.selfplay.regressions import egpo as egpo
from rlhf_jax.algos.selfplay.regressions import inpo as inpo
from rlhf_jax.algos.selfplay.regressions import iterative_dpo as iterative_dpo
from rlhf_jax.algos.selfplay.regressions import online_ipo as online_ipo
from rlhf_jax.algos.selfplay.regressions import onpo as onpo
from rlhf_jax.algos.selfplay.regressions import td_mnpo_regression as td_mnpo_regression
from rlhf_jax.algos.selfplay.rounds import AnswerMethod as AnswerMethod
from rlhf_jax.algos.selfplay.rounds import AnswerState as AnswerState
from rlhf_jax.algos.selfplay.rounds import Arena as Arena
from rlhf_jax.algos.selfplay.win_rates import spo as spo
from rlhf_jax.algos.selfplay.win_rates import spo_queue as spo_queue
