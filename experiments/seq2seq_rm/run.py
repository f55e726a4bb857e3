"""TODO: the question, in one line. As it is: does DPO reach its closed form on a bandit?"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.seq2seq_rm.config import Config
from experiments.seq2seq_rm.report import write_report
from rlhf_jax.algos import preference
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.envs.bandit import (
    Bandit,
    all_actions,
    bandit_trajectory,
    preference_matrix,
    random_bandit,
)
from rlhf_jax.exact.bandit import regularised_optimum, total_variation
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.reports.claims import Claim, Outcome, Table
from rlhf_jax.reports.intervals import mean_claim
from rlhf_jax.training import Run, run_stages
from rlhf_jax.types import PreferenceBatch


def run(config: Config, job: Run) -> Outcome:
    """One stage, its claim, the report."""
    distances = run_stages(job, {"train": lambda: {"tv": train(config)}})["train"]["tv"]
    claims = [distance_claim(distances)]
    table = Table(
        f"Total variation to the closed form, {config.num_seeds} seeds",
        ("", "mean", "worst seed"),
        [(name, d.mean(), d.max()) for name, d in ends(distances).items()],
    )
    write_report(job, distances, claims, table)
    return Outcome(claims, numbers={"worst": distances[:, -1].max()}, table=table)


def train(config: Config) -> np.ndarray:
    """[num_seeds, steps + 1] distance to the closed form, before each update and at the end."""
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    return np.asarray(jax.jit(jax.vmap(partial(train_seed, config)))(keys))


def train_seed(config: Config, key: jax.Array) -> jax.Array:
    """One bandit, from the reference policy."""
    bandit = random_bandit(key, num_states=1, num_actions=config.answers)
    policy = tabular_policy(1, config.answers)
    optimizer = optax.adam(optax.cosine_decay_schedule(config.rate, config.steps))
    batch = preference.attach_reference(policy, bandit.ref_logits, every_pair(bandit))
    update = preference.make_update(policy, optimizer, partial(dpo_loss, beta=config.beta))

    def step(state, _):
        return update(state, batch)[0], state.params

    state = init_state(bandit.ref_logits, optimizer)
    _, logits = jax.lax.scan(step, state, None, length=config.steps + 1)
    optimum = regularised_optimum(bandit.rewards, bandit.ref_logits, beta=config.beta)
    logps = jax.nn.log_softmax(logits)
    return total_variation(logps, jnp.broadcast_to(optimum, logps.shape))[:, 0]


def every_pair(bandit: Bandit) -> PreferenceBatch:
    """Every ordered pair of answers, weighted by the chance that the first one wins."""
    states, actions = all_actions(*bandit.rewards.shape)
    answers = bandit_trajectory(states, actions)
    size = actions.shape[-1]
    chosen, rejected = (
        jax.tree.map(lambda x, axis=axis: jnp.repeat(jnp.expand_dims(x, axis), size, axis), answers)
        for axis in (2, 1)
    )
    return PreferenceBatch(chosen, rejected, weights=preference_matrix(bandit.rewards))


def distance_claim(distances: np.ndarray) -> Claim:
    """Where training ends, from distances [num_seeds, steps + 1]."""
    untrained, trained = ends(distances).values()
    return mean_claim(
        "DPO on every pair: mean total variation to the closed form at the end",
        trained,
        "<=",
        0.01,
        kind="theorem",
        source="TODO: theorem, equation or table. As it is: Rafailov et al. 2023, Eq. 4",
        baseline=("the reference policy", untrained.mean()),
    )


def ends(distances: np.ndarray) -> dict[str, np.ndarray]:
    """The first and the last column, by name."""
    return {"reference": distances[:, 0], "trained": distances[:, -1]}
