"""One loss, three policies: how far is each from the closed form, step by step?"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.one_loss_three_policies.config import Config
from experiments.one_loss_three_policies.report import Distances, write_report
from experiments.one_loss_three_policies.train import dpo, ipo, make_models, ppo_clip
from rlhf_jax.envs.bandit import random_bandit
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.training import Run, run_stage

METHODS = {"DPO": dpo, "IPO": ipo, "PPO": ppo_clip}
# Largest total variation over seeds, betas and states that still counts as having arrived.
THRESHOLDS = {"table": 1e-5, "log-linear": 1e-4, "transformer": 1e-4}


def run(config: Config, job: Run) -> Outcome:
    """Trains 2 tasks x 3 policies x 3 methods; seeds and betas run together in one vmap."""
    tasks = {"bandit": 1, "contextual": config.num_states}
    distances = {}
    for task, num_states in tasks.items():
        result = run_stage(
            job, task, lambda stage, n=num_states: (train_task(config, n), {"states": n})
        )
        distances[task] = result.arrays

    claims = arrival_claims(config, distances)
    rows = [
        (name, task, *(f"{worst(by_name[name][method], -1):.1e}" for method in METHODS))
        for name in THRESHOLDS
        for task, by_name in distances.items()
    ]
    write_report(job, config, distances, claims)
    table = Table(
        "Largest total variation to the closed form after training",
        ("policy", "task", *METHODS),
        rows,
        note=f"over {config.num_seeds} seeds, {len(config.betas)} betas and all states",
    )
    return Outcome(claims, numbers={"rows": rows}, table=table)


def arrival_claims(config: Config, distances: Distances) -> list[Claim]:
    """How far the worst run ends from the closed form, where the untrained policy must not be."""
    runs = f"both tasks, {config.num_seeds} seeds, {len(config.betas)} betas"
    return [
        Claim(
            f"{method} on a {name}: largest total variation to its closed form, {runs}",
            max(worst(by_name[name][method], -1) for by_name in distances.values()),
            "<=",
            threshold,
            kind="theorem",
            source="regularised optimum pi_ref exp(u / beta) / Z, up to float32",
            baseline=(
                "before training",
                min(worst(by_name[name][method], 0) for by_name in distances.values()),
            ),
        )
        for name, threshold in THRESHOLDS.items()
        for method in METHODS
    ]


def worst(distances: np.ndarray, step: int) -> float:
    """Of all seeds and betas, from [seeds, betas, steps + 1]."""
    return float(distances[..., step].max())


def train_task(config: Config, num_states: int) -> dict[str, dict[str, np.ndarray]]:
    """Distance to the closed form: policy -> method -> [seeds, betas, steps + 1]."""
    model_key, seed_key = jax.random.split(jax.random.key(config.seed))
    models = make_models(model_key, num_states, config.num_actions, config)
    keys = jax.random.split(seed_key, config.num_seeds)
    betas = jnp.asarray(config.betas)

    def one(train, model, key, beta):
        bandit_key, init_key = jax.random.split(key)
        shape = {"num_states": num_states, "num_actions": config.num_actions}
        return train(model, random_bandit(bandit_key, **shape), beta, config.steps, init_key)

    def all_runs(train, model):
        over_betas = jax.vmap(partial(one, train, model), in_axes=(None, 0))
        return np.asarray(jax.jit(jax.vmap(over_betas, in_axes=(0, None)))(keys, betas))

    return {
        name: {method: all_runs(train, model) for method, train in METHODS.items()}
        for name, model in models.items()
    }
