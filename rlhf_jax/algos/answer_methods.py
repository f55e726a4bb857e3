"""Methods of preference games on sampled answers: the rows of `games.py` for any policy.

| method | answers drawn | a round | row of `games.py` |
|---|---|---|---|
| `nash_md_pg`, `nash_ema_pg` | y ~ pi_t, y' ~ opponent | policy gradient step | `policy_gradient` |
| `nash_mp` | the same, fresh for each step | two halves of such steps | `nash_mp` |
| `online_ipo` | y, y' ~ uniform, y'' ~ pi_t | gradient step on a regression | `mirror_descent` |
| `egpo` | the same, then y'' ~ pi_{t+1/2} | two such steps from pi_t | `nash_mp` |
| `inpo` | y, y' ~ pi_t, labelled | a regression solved | `mirror_descent` |
| `onpo` | the same | two regressions solved | `omwu` |
| `td_mnpo` | the same | a regression solved | `td_mnpo` |
| `spo`, `spo_queue` | K answers ~ pi_t | policy gradient step on win rates | `policy_gradient` |

    arena = Arena(policy, optimizer, draw, judge, ref_params)
    method = egpo(arena, beta=0.1)
    state = method.init(params)
    state, metrics = method.round(state, prompts, key)
"""

from rlhf_jax.algos.answer_gradients import nash_ema_pg, nash_md_pg, nash_mp
from rlhf_jax.algos.answer_pairs import egpo, inpo, online_ipo, onpo, td_mnpo
from rlhf_jax.algos.answer_rounds import AnswerMethod, AnswerState, Arena
from rlhf_jax.algos.answer_win_rates import spo, spo_queue

__all__ = [
    "AnswerMethod",
    "AnswerState",
    "Arena",
    "egpo",
    "inpo",
    "nash_ema_pg",
    "nash_md_pg",
    "nash_mp",
    "online_ipo",
    "onpo",
    "spo",
    "spo_queue",
    "td_mnpo",
]
