"""PPO on the rewards of spans: paid at the ends of sentences, or their sum at the end.

Both arms earn the same for the same answer, so what one has over the other is due to where it is
paid.
"""

import numpy as np

from experiments.shop_rewards.world import ROOM, Part, Tools
from rlhf_jax.algos.ppo import PPOConfig
from rlhf_jax.recipes import (
    Fit,
    Reward,
    adamw_cosine,
    gae_of_steps,
    on_trunk,
    online,
    ppo,
    prompt_rows,
    stage_key,
)
from rlhf_jax.recipes.methods.critic import CriticCredit
from rlhf_jax.training import Run, Stage, read_metrics, run_stage
from rlhf_jax.types import Params

DENSE, SUM = "by sentence", "at the end"
ARMS: dict[str, CriticCredit | None] = {DENSE: gae_of_steps, SUM: None}


def train_arms(job: Run, tools: Tools, part: Part, reward: Reward) -> dict[str, np.ndarray]:
    """arm -> [steps] mean return of the answers of each step."""
    config = tools.config.density
    lab = tools.lab._replace(seed=part.lab.seed, answer_length=tools.lab.answer_length - ROOM)
    critic = on_trunk(lab, tools.sft, stage_key(lab, "critic"))
    found = {}
    for name, credit in ARMS.items():

        def work(stage: Stage, credit: CriticCredit | None = credit) -> tuple[Params, dict]:
            method = ppo(lab, PPOConfig(beta=config.beta), critic, credit=credit)
            fit = Fit(adamw_cosine(config.learning_rate, config.steps), config.steps)
            rows = prompt_rows(tools.task, batch_size=config.prompts, seed=part.seed)
            key = stage_key(lab, "density")
            online(stage, lab, tools.task, method, reward, tools.sft, rows, fit, key=key)
            return {}, {}

        stage = f"{part.name}_density_{name.replace(' ', '_')}"
        run_stage(job, stage, work)
        rows = [row for row in read_metrics(job.out) if row["stage"] == stage]
        found[name] = np.array([row["scores/mean"] for row in rows])
    return found
