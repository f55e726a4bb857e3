"""What is run: the suite, the game without a penalty, the noise, too large steps, a network."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.egpo.config import Config
from experiments.egpo.methods import Task, follow, init_network, make_updates, network, table
from rlhf_jax.algos.games import nash_mp
from rlhf_jax.algos.games.oracles import exact_oracle, sampled_oracle
from rlhf_jax.algos.games.runs import log_spaced_times, run_updates
from rlhf_jax.envs.games import (
    random_game,
    random_reference,
    rock_paper_scissors,
    tilted_reference,
)
from rlhf_jax.exact.regularised_nash import regularised_nash
from rlhf_jax.ops.games import exploitability, regularised_gap
from rlhf_jax.ops.kl import exact_kl

RATES = {0.1: 0.1, 0.01: 0.02}  # beta -> SGD rate, the authors'
NETWORK_BETA, NETWORK_RATE = 0.01, 0.003
NOISE_BETA = 0.1
BIAS_BETAS = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
GUARD_ETAS = {0.1: (1.0, 2.0, 3.0, 4.0, 6.0, 8.0), 0.01: (0.5, 1.0, 2.0, 3.0, 4.0, 6.0)}
TUNED = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0)  # rates of OMD at beta 0.01, over the authors'
GOAL = 1e-6
NEVER = 10**9
Arrays = dict[str, np.ndarray]


def draw_suite(config: Config, seeds: int) -> tuple[jax.Array, jax.Array]:
    """P [seeds * games, n, n] and log mu [seeds * games, n]."""
    keys = jax.random.split(jax.random.key(config.seed), (2, seeds * config.games))
    return random_game(keys[0], config.answers), random_reference(keys[1], config.answers)


def run_suite(config: Config, beta: float, steps: int) -> dict[str, Arrays]:
    """Every method in every game: method -> "gap" [shown, G], "reached" [G], ...

    "kl" [shown, G] is KL(pi* || pi_t), "worst" [] its largest ratio of an update to the bound
    1 - eta beta, "end" [G] the last gap, "times" [shown]. "closed form" holds EGPO again, by
    `games.nash_mp`, with "apart" [], the largest difference of the two gaps.
    """
    rate, (prefs, refs) = RATES[beta], draw_suite(config, config.num_seeds)
    stars = jnp.asarray(regularised_nash(prefs, refs, beta=beta))
    factor = 1.0 - 4.0 * rate / config.answers
    by_gradient, by_map = descents(prefs, refs, stars, beta, rate, steps)
    runs = {name: tuple(map(np.asarray, run)) for name, run in by_gradient.items()}
    result = {name: summary(gaps, kls, factor) for name, (gaps, kls) in runs.items()}
    apart = np.abs(np.asarray(by_map) - runs["EGPO"][0][1:]).max()
    result["closed form"] = {"apart": np.asarray(apart)}
    return result


@partial(jax.jit, static_argnames="steps")
def descents(prefs, refs, stars, beta, rate, steps: int) -> tuple[dict, jax.Array]:
    """Method -> gaps and KLs [steps + 1, G]; gaps of EGPO by its closed form [steps, G]."""
    oracle, key = exact_oracle(prefs), jax.random.key(0)  # the key is not read

    def gap(logps):
        return regularised_gap(prefs, logps, refs, beta=beta)

    def record(params):
        return gap(table(params)), exact_kl(stars, table(params))

    updates = make_updates(table, Task(prefs, refs, oracle, beta, rate))
    run = partial(follow, params=refs, key=key, rate=rate, steps=steps, record=record)
    method = nash_mp(refs, eta=4.0 * rate / (beta * refs.shape[-1]), beta=beta)
    by_map = run_updates(
        method.update,
        method.init(refs),
        oracle,
        key,
        times=range(1, steps + 1),
        record=lambda state, _: gap(state.logps),
    )[1]
    return {name: run(update) for name, update in updates.items()}, by_map


def summary(gaps: np.ndarray, kls: np.ndarray, factor: float) -> Arrays:
    """What is kept of a method's run, from gaps and KLs [steps + 1, G]."""
    below = gaps < GOAL
    clear = kls[1:] > 1e-12  # rounding lies below
    ratios = np.where(clear, kls[1:] / np.maximum(kls[:-1], 1e-300), 0.0)
    times = np.array((0, *log_spaced_times(len(gaps) - 1, 150)))
    return {
        "times": times,
        "gap": gaps[times],
        "kl": kls[times],
        "reached": np.where(below.any(0), below.argmax(0), NEVER),
        "end": gaps[-1],
        "worst": np.asarray(ratios.max() / factor),
    }


def run_tuned(config: Config) -> Arrays:
    """ "reached" [rates, G]: updates of OMD to the goal at beta 0.01, one oracle call each."""
    beta, (prefs, refs) = 0.01, draw_suite(config, config.num_seeds)
    oracle, key = exact_oracle(prefs), jax.random.key(0)  # not read

    def one(rate):
        update = make_updates(table, Task(prefs, refs, oracle, beta, rate))["OMD"]

        def record(params):
            return regularised_gap(prefs, table(params), refs, beta=beta)

        steps = config.updates[1]
        gaps = follow(update, refs, key, rate=rate, steps=steps, record=record)
        return jnp.where(jnp.any(gaps < GOAL, 0), jnp.argmax(gaps < GOAL, 0), NEVER)

    rates = RATES[beta] * jnp.asarray(TUNED)
    return {"reached": np.asarray(jax.jit(lambda rates: jax.lax.map(one, rates))(rates))}


def run_bias(config: Config) -> Arrays:
    """Exploitability [betas, games] of EGPO's end, the penalty left out, from a uniform reference.

    "gap": the regularised one, which says that it is the end. "start": that of the reference,
    [games]. "bound": 2 beta log n, [betas].
    """
    prefs, refs = draw_suite(config, 1)
    refs = jnp.full_like(refs, -np.log(config.answers))

    def one(beta):
        rate = 2.0 / (1.0 + 2.0 * beta) * beta * config.answers / 4.0
        task = Task(prefs, refs, exact_oracle(prefs), beta, rate)
        update = make_updates(table, task)["EGPO"]
        run = partial(follow, update, refs, jax.random.key(0), rate=rate)
        end = run(steps=config.bias_updates, record=table)[-1]
        return exploitability(prefs, jnp.exp(end)), regularised_gap(prefs, end, refs, beta=beta)

    betas = jnp.asarray(BIAS_BETAS)
    ends, gaps = jax.jit(jax.vmap(one))(betas)
    return {
        "exploitability": np.asarray(ends),
        "gap": np.asarray(gaps),
        "start": np.asarray(exploitability(prefs, jnp.exp(refs))),
        "bound": 2.0 * np.asarray(betas) * np.log(config.answers),
    }


def run_noise(config: Config) -> dict[str, np.ndarray]:
    """Method -> floor of the gap [etas, samples, games], the opponent sampled."""
    prefs, refs = draw_suite(config, 1)
    key = jax.random.fold_in(jax.random.key(config.seed), 1)

    def floors(method: str, samples: int):
        def one(eta):
            rate = eta * NOISE_BETA * config.answers / 4.0
            task = Task(prefs, refs, sampled_oracle(prefs, samples=samples), NOISE_BETA, rate)
            update = make_updates(table, task)[method]

            def record(params):
                return regularised_gap(prefs, table(params), refs, beta=NOISE_BETA)

            gaps = follow(update, refs, key, rate=rate, steps=config.noise_updates, record=record)
            return jnp.mean(gaps[config.noise_updates // 2 :], axis=0)

        return np.asarray(jax.jit(jax.vmap(one))(jnp.asarray(config.noise_etas)))

    return {
        method: np.stack([floors(method, m) for m in config.samples], axis=1)
        for method in ("EGPO", "OMD")
    }


def run_guard(config: Config, beta: float) -> dict[str, np.ndarray]:
    """Method -> the last gap [etas, starts] on rock-paper-scissors; the first start is mu."""
    ref = tilted_reference()
    key = jax.random.fold_in(jax.random.key(config.seed), 2)
    starts = jnp.concatenate([ref[None], jax.random.normal(key, (config.num_seeds - 1, 3))])
    ends = last_gaps(jnp.asarray(GUARD_ETAS[beta]), starts, ref, beta, config.guard_updates)
    return {method: np.asarray(gaps) for method, gaps in ends.items()}


@partial(jax.jit, static_argnames="steps")
def last_gaps(etas, starts, ref, beta, steps: int) -> dict[str, jax.Array]:
    """Method -> [etas, starts] on rock-paper-scissors."""
    refs, prefs = jnp.broadcast_to(ref, starts.shape), rock_paper_scissors()

    def one(eta):
        rate = eta * beta * 3 / 4.0
        updates = make_updates(table, Task(prefs, refs, exact_oracle(prefs), beta, rate))
        key = jax.random.key(0)  # not read
        run = partial(follow, params=starts, key=key, rate=rate, steps=steps, record=table)
        ends = {name: run(updates[name])[-1] for name in ("EGPO", "OMD")}
        return {name: regularised_gap(prefs, end, refs, beta=beta) for name, end in ends.items()}

    return jax.vmap(one)(etas)


def run_network(config: Config) -> dict[str, np.ndarray]:
    """Method -> gap [networks, shown, games] of a network that the games share, and "times"."""
    key = jax.random.fold_in(jax.random.key(config.seed), 3)
    times = np.array((0, *log_spaced_times(config.network_updates, 150)))

    def one(key):
        game_key, net_key = jax.random.split(key)
        games, n = config.games, config.network_answers
        prefs = random_game(jax.random.split(game_key, games), n)
        params = init_network(net_key, games, 10, n)
        refs = network(params)
        task = Task(prefs, refs, exact_oracle(prefs), NETWORK_BETA, NETWORK_RATE)

        def record(params):
            return regularised_gap(prefs, network(params), refs, beta=NETWORK_BETA)

        run = partial(
            follow,
            params=params,
            key=key,
            rate=NETWORK_RATE,
            steps=config.network_updates,
            record=record,
        )
        updates = make_updates(network, task)
        names = [name for name in updates if name != "Nash-MD, half mixture"]
        return {name: run(updates[name])[times] for name in names}

    runs = jax.jit(jax.vmap(one))(jax.random.split(key, config.networks))
    return {name: np.asarray(run) for name, run in runs.items()} | {"times": times}
