"""Nash-MD-PG on samples: the loss of a language model's run, on a table of three answers."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.nlhf.config import Config
from rlhf_jax.algos import games
from rlhf_jax.algos.games.opponents import mixture, moving_average
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.algos.games.runs import log_spaced_times, run_updates
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.online import AnswerBatch, make_answer_update
from rlhf_jax.envs.games import rock_paper_scissors, tilted_reference
from rlhf_jax.losses.games import nash_md_pg_loss
from rlhf_jax.ops.games import regularised_gap
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import Trajectory

BETA = 0.1
DECAY = 0.999
WEIGHTS = (0.0, 0.125, 0.25, 0.5, 1.0)  # b, of the reference in the opponent
NAMES = (*(f"b = {weight:g}" for weight in WEIGHTS), f"EMA {DECAY:g}")


def sampled_gaps(config: Config) -> dict[str, np.ndarray]:
    """Regularised gaps of the policy, from the reference log mu = (1, 0, -1).

    The opponent's logits are (1 - b) l + b log mu, l the policy's, or with decay their average.

    Returns:
      times [T]; gaps [settings, seeds, T]; "late" [settings, seeds], the mean of the last tenth.
    """
    prefs, ref_logps = rock_paper_scissors(), tilted_reference(tilt=1.0)
    policy, optimizer = tabular_policy(1, 3), optax.sgd(config.rate)
    update = make_answer_update(policy, optimizer, partial(nash_md_pg_loss, beta=BETA))
    states, mask = jnp.zeros((config.batch, 1), int), jnp.ones((config.batch, 1), bool)

    def run(weight: jax.Array, decay: jax.Array, key: jax.Array) -> jax.Array:
        def step(carry, number):
            state, trailing = carry
            own_key, other_key = jax.random.split(jax.random.fold_in(key, number))
            shape = (config.batch, 1)
            actions = jax.random.categorical(own_key, state.params[0], shape=shape)
            opponent = (1.0 - weight) * trailing[0] + weight * ref_logps
            others = jax.random.categorical(other_key, opponent, shape=shape)
            wins = prefs[actions, others][:, 0]

            answers = Trajectory(states, actions, mask)
            columns = {"ref_token_logps": ref_logps[actions], "prefs": wins}
            state, _ = update(state, AnswerBatch(answers, columns))
            trailing = decay * trailing + (1.0 - decay) * state.params
            logps = jax.nn.log_softmax(state.params[0])
            return (state, trailing), regularised_gap(prefs, logps, ref_logps, beta=BETA)

        start = ref_logps[None]
        numbers = jnp.arange(config.mixture_steps)
        return jax.lax.scan(step, (init_state(start, optimizer), start), numbers)[1]

    over_seeds = jax.vmap(run, in_axes=(None, None, 0))
    weights, decays = jnp.array([*WEIGHTS, 0.0]), jnp.array([0.0] * len(WEIGHTS) + [DECAY])
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    gaps = np.asarray(jax.jit(jax.vmap(over_seeds, (0, 0, None)))(weights, decays, keys))
    times = np.asarray(log_spaced_times(config.mixture_steps, config.points))
    late = gaps[..., -max(config.mixture_steps // 10, 1) :].mean(-1)
    return {"times": times, "gaps": gaps[..., times - 1], "late": late}


def exact_gaps(config: Config) -> np.ndarray:
    """The same with exact gradients, [settings, T]: what is left is not noise."""
    with jax.enable_x64(True):
        prefs, ref_logps = rock_paper_scissors(), tilted_reference(tilt=1.0)
        times = log_spaced_times(config.mixture_steps, config.points)

        def run(opponent) -> jax.Array:
            method = games.policy_gradient(ref_logps, eta=config.rate, beta=BETA, opponent=opponent)
            return run_updates(
                method.update,
                method.init(ref_logps),
                exact_oracle(prefs),
                jax.random.key(0),
                times=times,
                record=lambda state, _: regularised_gap(prefs, state.logps, ref_logps, beta=BETA),
            )[1]

        mixed = jax.vmap(lambda weight: run(mixture(ref_logps, weight=weight)))
        gaps = jax.jit(mixed)(jnp.array(WEIGHTS))
        trailing = jax.jit(lambda: run(moving_average(decay=DECAY)))()
    return np.concatenate([np.asarray(gaps), np.asarray(trailing)[None]])
