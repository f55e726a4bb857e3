"""Nash-MP whose two prox problems are solved by a few policy gradient steps.

Both ask for the largest P(pi > q) - beta KL(pi || mu) - (beta / eta) KL(pi || pi_k), eta being the
paper's. The two anchors are one, mu^(eta / (1 + eta)) pi_k^(1 / (1 + eta)), of weight
beta (1 + 1 / eta).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.nash_mp.config import Config
from experiments.nash_mp.curves import known_cycle
from rlhf_jax.algos.games.steps import softmax_gradient_step
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.online import AnswerBatch, make_answer_update
from rlhf_jax.envs.games import rock_paper_scissors, tilted_reference
from rlhf_jax.losses.games import nash_md_pg_loss
from rlhf_jax.ops.games import regularised_gap, win_rates
from rlhf_jax.policies.tabular import tabular_policy
from rlhf_jax.types import Trajectory

ROUNDS, RATE = 40, 2.0  # exact gradients
SAMPLED_ROUNDS, SAMPLED_RATE = 60, 0.5
SIZES = (1, 5, 20, 100)  # steps of an inner problem
SAMPLED_SIZES = (1, 5, 20)
LARGE_ETAS = (1.0, 4.0)  # 2 beta is the largest that the theorem allows
ONE_CALL = ("Nash Prox, m = 20", "single loop")
DECAY = 0.99  # of the single loop's centre


def exact_gaps(config: Config) -> dict[str, np.ndarray]:
    """Regularised gaps after each round of exact gradients, [seeds, rounds].

    "m = .." at eta = 2 beta; "eta = .., m = .." at larger ones; "Nash Prox, m = 20", "single loop".
    """
    beta = config.betas[1]
    names = {f"m = {m}": (2 * beta, m) for m in SIZES}
    names |= {f"eta = {eta:g}, m = {m}": (eta, m) for eta in LARGE_ETAS for m in (5, 20, 100)}
    with jax.enable_x64(True):
        prefs, refs = known_cycle(config)

        def gaps(advance: Callable, settings: list[tuple[float, int]]) -> np.ndarray:
            def run(setting: tuple[jax.Array, jax.Array], ref: jax.Array) -> jax.Array:
                eta, steps = setting

                def step(carry, _):
                    carry = advance(prefs, ref, *carry, eta=eta, beta=beta, steps=steps)
                    return carry, regularised_gap(prefs, carry[0], ref, beta=beta)

                return jax.lax.scan(step, (ref, ref), None, length=ROUNDS)[1]

            etas, sizes = zip(*settings, strict=True)
            all_seeds = jax.vmap(run, in_axes=(None, 0))
            runs = jax.jit(lambda *each: jax.lax.map(lambda one: all_seeds(one, refs), each))
            return np.asarray(runs(jnp.array(etas), jnp.array(sizes)))

        found = dict(zip(names, gaps(two_calls, list(names.values())), strict=True))
        for name, advance in zip(ONE_CALL, (nash_prox, single_loop), strict=True):
            found[name] = gaps(advance, [(2 * beta, 20)])[0]
    return found


def two_calls(prefs, ref, logps, centre, *, eta, beta, steps):
    """A round of Nash-MP: twice from pi_k, against pi_k and then against the first solution."""
    del centre
    found = logps
    for _ in range(2):
        wins = win_rates(prefs, jnp.exp(found))

        def step(_, here, wins=wins):
            return prox_step(ref, logps, here, wins, eta=eta, beta=beta)

        found = jax.lax.fori_loop(0, steps, step, logps)
    return found, logps


def nash_prox(prefs, ref, logps, centre, *, eta, beta, steps):
    """A round of the successor: self-play around pi_k, the opponent moving too."""
    del centre

    def step(_, here):
        wins = win_rates(prefs, jnp.exp(here))
        return prox_step(ref, logps, here, wins, eta=eta, beta=beta)

    return jax.lax.fori_loop(0, steps, step, logps), logps


def single_loop(prefs, ref, logps, centre, *, eta, beta, steps):
    """nash_mp_ema (derived): self-play around a moving average of the policy's log-probs."""

    def step(_, carry):
        here, centre = carry
        wins = win_rates(prefs, jnp.exp(here))
        here = prox_step(ref, centre, here, wins, eta=eta, beta=beta)
        return here, DECAY * centre + (1.0 - DECAY) * here

    return jax.lax.fori_loop(0, steps, step, (logps, centre))


def anchored(ref, centre, *, eta, beta):
    """The one anchor of a prox problem, up to a constant, and its weight."""
    return (eta * ref + centre) / (1.0 + eta), beta * (1.0 + 1.0 / eta)


def prox_step(ref, centre, logps, wins, *, eta, beta) -> jax.Array:
    """One exact policy gradient step on a prox problem."""
    anchor, weight = anchored(ref, centre, eta=eta, beta=beta)
    return softmax_gradient_step(logps, anchor, wins, eta=RATE, beta=weight)


def sampled_gaps(config: Config) -> dict[str, np.ndarray]:
    """Regularised gaps after each round of sampled steps, "m = .." [seeds, rounds].

    The loss and the update are those of a language model's run; reference (0.7, 0, -0.7).
    """
    keys = jax.random.split(jax.random.key(config.seed), config.num_seeds)
    over_seeds = jax.vmap(partial(_sampled, config), in_axes=(None, 0))
    runs = jax.jit(lambda sizes: jax.lax.map(lambda m: over_seeds(m, keys), sizes))
    gaps = np.asarray(runs(jnp.array(SAMPLED_SIZES)))
    return {f"m = {m}": each for m, each in zip(SAMPLED_SIZES, gaps, strict=True)}


def _sampled(config: Config, steps: jax.Array, key: jax.Array) -> jax.Array:
    """Gaps [rounds] of one run at eta = 2 beta."""
    beta = config.betas[1]
    prefs, ref = rock_paper_scissors(), tilted_reference(tilt=0.7)
    policy, optimizer = tabular_policy(1, 3), optax.sgd(SAMPLED_RATE)
    shape = (config.batch, 1)
    states, mask = jnp.zeros(shape, int), jnp.ones(shape, bool)

    def half(train, opponent, key):
        anchor, weight = anchored(ref, jax.nn.log_softmax(train.params[0]), eta=2 * beta, beta=beta)
        anchor = jax.nn.log_softmax(anchor)
        loss = partial(nash_md_pg_loss, beta=weight)
        update = make_answer_update(policy, optimizer, loss)

        def step(number, train):
            own_key, other_key = jax.random.split(jax.random.fold_in(key, number))
            actions = jax.random.categorical(own_key, train.params[0], shape=shape)
            others = jax.random.categorical(other_key, opponent, shape=shape)
            columns = {"ref_token_logps": anchor[actions], "prefs": prefs[actions, others][:, 0]}
            return update(train, AnswerBatch(Trajectory(states, actions, mask), columns))[0]

        return jax.lax.fori_loop(0, steps, step, train)

    def play(train, number):
        first, second = jax.random.split(jax.random.fold_in(key, number))
        middle = half(train, train.params[0], first)
        train = half(train, middle.params[0], second)
        logps = jax.nn.log_softmax(train.params[0])
        return train, regularised_gap(prefs, logps, ref, beta=beta)

    start = init_state(ref[None], optimizer)
    return jax.lax.scan(play, start, jnp.arange(SAMPLED_ROUNDS))[1]
