"""Exact runs on four games: Nash-MD, mirror descent and Hedge, over games, seeds and beta at once.

Games of fewer answers are filled up with answers that tie with all and that the reference never
gives, so that all have one shape; they change neither a policy nor its exploitability.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.nlhf.config import Config
from rlhf_jax.algos import games
from rlhf_jax.algos.games.opponents import GameState
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.algos.games.runs import log_spaced_times, run_updates
from rlhf_jax.algos.games.steps import decaying_steps
from rlhf_jax.envs.games import (
    dice_game,
    random_game,
    random_reference,
    rock_paper_scissors,
    skew_game,
)
from rlhf_jax.exact.regularised_nash import regularised_nash
from rlhf_jax.ops.games import exploitability
from rlhf_jax.ops.kl import exact_kl

GAMES = ("rock-paper-scissors", "dice", "random, n = 10", "skew, n = 20")
SIZES = (3, 3, 10, 20)


class Case(NamedTuple):
    """A game to be run; with leading axes, many.

    prefs [n, n]; ref_logps [n], also the first policy; star_logps [n], the regularised Nash policy;
    beta [], size [] answers that are there.
    """

    prefs: jax.Array
    ref_logps: jax.Array
    star_logps: jax.Array
    beta: jax.Array
    size: jax.Array


def draw_cases(config: Config) -> Case:
    """Leading axes [betas, games, seeds]; every seed draws its games and its references."""
    prefs, ref_logps = _draw(jax.random.key(config.seed), config.num_seeds)
    betas = np.asarray(config.betas)[:, None, None]
    stars = regularised_nash(prefs, ref_logps, beta=betas)
    lead = stars.shape[:-1]
    sizes = np.asarray(SIZES, float)[:, None]
    return Case(
        *(jnp.asarray(np.broadcast_to(x, (*lead, *x.shape[2:]))) for x in (prefs, ref_logps)),
        jnp.asarray(stars),
        *(jnp.asarray(np.broadcast_to(x, lead)) for x in (betas, sizes)),
    )


@partial(jax.jit, static_argnums=1)
def _draw(key: jax.Array, seeds: int) -> tuple[jax.Array, jax.Array]:
    """Games [games, seeds, n, n] and references [games, seeds, n], filled up to one n."""
    game_keys, ref_keys = jax.random.split(key, (2, len(GAMES), seeds))
    drawn = [
        jnp.broadcast_to(rock_paper_scissors(), (seeds, 3, 3)),
        jnp.broadcast_to(dice_game(), (seeds, 3, 3)),
        random_game(game_keys[2], 10),
        skew_game(game_keys[3], 20),
    ]
    present = jnp.arange(max(SIZES)) < jnp.array(SIZES)[:, None, None]
    refs = jnp.where(present, random_reference(ref_keys, max(SIZES)), -jnp.inf)
    return jnp.stack([_padded(each) for each in drawn]), jax.nn.log_softmax(refs)


def _padded(prefs: jax.Array) -> jax.Array:
    """Games [seeds, n, n] with more answers, which tie with all."""
    more = max(SIZES) - prefs.shape[-1]
    return jnp.pad(prefs, [(0, 0), (0, more), (0, more)], constant_values=0.5)


def decaying_curves(config: Config) -> dict[str, np.ndarray]:
    """Every method from the reference, with the steps of its theorem.

    Returns:
      times [T]; "<method>/kl", KL(pi* || pi_t) and "<method>/gap", exploitability in the game
      without a penalty, [betas, games, seeds, T]; "<method>/bound" [betas, games, seeds], the
      largest KL over 8 / (beta^2 (t + 1)), of all t.
    """
    with jax.enable_x64(True):
        cases = draw_cases(config)
        times = np.asarray(log_spaced_times(config.steps, config.points))

        def nash_md(case: Case) -> games.Method:
            return games.nash_md(case.ref_logps, eta=decaying_steps(case.beta), beta=case.beta)

        def mirror_descent(case: Case) -> games.Method:
            step = decaying_steps(case.beta)
            return games.mirror_descent(case.ref_logps, eta=step, beta=case.beta)

        def hedge(case: Case) -> games.Method:
            return games.hedge(case.ref_logps, eta=games.hedge_step(case.size, config.steps))

        found = {"times": times}
        every = range(1, config.steps + 1)
        for name, make in {"Nash-MD": nash_md, "OMD": mirror_descent, "Hedge": hedge}.items():
            curves = run_cases(cases, make, every)
            weight = cases.beta[..., None] ** 2 * (jnp.asarray(every) + 1.0) / 8.0
            found[f"{name}/bound"] = np.asarray(jnp.max(curves["kl"] * weight, axis=-1))
            averages = ("average kl", "average gap") if name == "Hedge" else ()
            for metric in ("kl", "gap", *averages):
                found[f"{name}/{metric}"] = np.asarray(curves[metric][..., times - 1])
    return found


def fixed_curves(config: Config) -> dict[str, np.ndarray]:
    """Nash-MD and mirror descent with constant steps, at the first beta.

    Returns:
      times [T]; "<method>" KL(pi* || pi_t) of each step, [etas, games, seeds, T].
    """
    with jax.enable_x64(True):
        cases = jax.tree.map(lambda x: x[0], draw_cases(config))
        etas = jnp.asarray(config.fixed_etas)
        times = log_spaced_times(config.fixed_steps, config.points)

        def curves(method: Callable) -> np.ndarray:
            def at(eta: jax.Array) -> jax.Array:
                def make(case: Case) -> games.Method:
                    return method(case.ref_logps, eta=eta, beta=case.beta)

                return run_cases(cases, make, times)["kl"]

            return np.asarray(jax.vmap(at)(etas))

        return {
            "times": np.asarray(times),
            "Nash-MD": curves(games.nash_md),
            "OMD": curves(games.mirror_descent),
        }


def rival_ends(config: Config) -> dict[str, np.ndarray]:
    """KL(pi* || pi_t) after `fixed_steps` calls at the first beta, with every rival's steps.

    Returns:
      "Nash-MD" with the steps of its theorem and "reference", the first policy, [games, seeds];
      "Hedge" and "OMD", the last policies with each constant step, [etas, games, seeds].
    """
    with jax.enable_x64(True):
        cases = jax.tree.map(lambda x: x[0], draw_cases(config))

        def ends(make: Callable[[Case], games.Method]) -> jax.Array:
            return run_cases(cases, make, (config.fixed_steps,))["kl"][..., 0]

        def hedge(eta: jax.Array) -> jax.Array:
            return ends(lambda case: games.hedge(case.ref_logps, eta=eta))

        def mirror(eta: jax.Array) -> jax.Array:
            return ends(lambda case: games.mirror_descent(case.ref_logps, eta=eta, beta=case.beta))

        def nash_md(case: Case) -> games.Method:
            return games.nash_md(case.ref_logps, eta=decaying_steps(case.beta), beta=case.beta)

        etas = jnp.asarray(config.rival_etas)
        found = {
            "Nash-MD": ends(nash_md),
            "reference": exact_kl(cases.star_logps, cases.ref_logps),
            "Hedge": jax.vmap(hedge)(etas),
            "OMD": jax.vmap(mirror)(etas),
        }
        return {name: np.asarray(x) for name, x in found.items()}


def hedge_ends(config: Config) -> dict[str, np.ndarray]:
    """Hedge on rock-paper-scissors without a penalty, at T: exploitability of last and average.

    Returns:
      "last", "average", "bound" [1 + seeds], the first from logits (1/2, -1/2, 0), the others from
      random ones. The bound of the average is twice the regret's, over T.
    """
    with jax.enable_x64(True):
        cases = jax.tree.map(lambda x: x[0, 0], draw_cases(config))
        logits = jnp.pad(jnp.array([0.5, -0.5, 0.0]), (0, 17), constant_values=-jnp.inf)
        starts = jnp.concatenate([jax.nn.log_softmax(logits)[None], cases.ref_logps])
        steps = config.hedge_steps
        eta = float(games.hedge_step(3.0, steps))
        case = jax.tree.map(lambda x: x[:1].repeat(len(starts), 0), cases)
        curves = run_cases(
            case._replace(ref_logps=starts),
            lambda one: games.hedge(one.ref_logps, eta=eta),
            (steps,),
        )
        rarest = jnp.min(jnp.where(starts > -jnp.inf, starts, 0.0), axis=-1)
        bound = games.hedge_bound(rarest, eta=eta, updates=steps)
    ends = {"last": curves["gap"][:, 0], "average": curves["average gap"][:, 0], "bound": bound}
    return {name: np.asarray(value) for name, value in ends.items()}


def run_cases(
    cases: Case, make: Callable[[Case], games.Method], times: Sequence[int]
) -> dict[str, jax.Array]:
    """Metrics [*B, T] of the method in every case, from its reference."""

    def run(case: Case) -> dict[str, jax.Array]:
        method = make(case)

        def record(state: GameState, _) -> dict[str, jax.Array]:
            average = jnp.log(state.average)
            return {
                "kl": exact_kl(case.star_logps, state.logps),
                "gap": exploitability(case.prefs, jnp.exp(state.logps)),
                "average kl": exact_kl(case.star_logps, average),
                "average gap": exploitability(case.prefs, state.average),
            }

        return run_updates(
            method.update,
            method.init(case.ref_logps),
            exact_oracle(case.prefs),
            jax.random.key(0),
            times=times,
            record=record,
        )[1]

    for _ in range(cases.beta.ndim):
        run = jax.vmap(run)
    return jax.jit(run)(cases)
