"""Nash-MP, EGPO, mirror descent and Nash-MD at equal numbers of queries, and the bound."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.nash_mp.config import Config
from rlhf_jax.algos import games
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.algos.games.runs import run_updates
from rlhf_jax.algos.games.steps import decaying_steps
from rlhf_jax.envs.games import (
    random_game,
    random_reference,
    rock_paper_scissors,
    skew_game,
    tilted_reference,
)
from rlhf_jax.exact.regularised_nash import regularised_nash
from rlhf_jax.losses.games import online_ipo_loss
from rlhf_jax.ops.games import regularised_gap, win_rates
from rlhf_jax.ops.kl import exact_kl

GAMES = ("rock-paper-scissors", "random, n = 10", "skew, n = 30")
SIZES = (3, 10, 30)
ROUNDING = 1e-10  # a KL below it says nothing about a ratio
TOLERANCE = 1e-6  # of the regularised gap
LARGEST = 29  # answers of the random games, from 3
KEY = jax.random.key(0)  # exact oracles do not read it


def draw_games(config: Config) -> tuple[jax.Array, jax.Array]:
    """Games [games, seeds, n, n] and references [games, seeds, n], filled up to one n.

    Answers that fill up tie with all, and the reference never gives them. Rock-paper-scissors has
    the reference (0.7, 0, -0.7) in the first seed, random ones after it.
    """
    return _draw(jax.random.key(config.seed), config.num_seeds)


@partial(jax.jit, static_argnums=1)
def _draw(key: jax.Array, seeds: int) -> tuple[jax.Array, jax.Array]:
    """All of them, compiled."""
    game_keys, ref_keys = jax.random.split(key, (2, len(GAMES), seeds))
    most = max(SIZES)
    cycle = jnp.broadcast_to(rock_paper_scissors(), (seeds, 3, 3))
    drawn = [cycle, random_game(game_keys[1], 10), skew_game(game_keys[2], most)]
    prefs = [
        jnp.pad(each, [(0, 0)] + [(0, most - each.shape[-1])] * 2, constant_values=0.5)
        for each in drawn
    ]
    logits = random_reference(ref_keys, most).at[0, 0, :3].set(tilted_reference(tilt=0.7))
    return jnp.stack(prefs), filled(logits, jnp.array(SIZES)[:, None])


def filled(logits: jax.Array, sizes: jax.Array) -> jax.Array:
    """Log-probs [*B, n] of which only the first `sizes` [*B] answers are given."""
    there = jnp.arange(logits.shape[-1]) < sizes[..., None]
    return jax.nn.log_softmax(jnp.where(there, logits, -jnp.inf), axis=-1)


def known_cycle(config: Config) -> tuple[jax.Array, jax.Array]:
    """Rock-paper-scissors [3, 3] and its references [seeds, 3]."""
    prefs, refs = draw_games(config)
    return prefs[0, 0, :3, :3], refs[0, :, :3]


def largest_step(beta: jax.Array) -> jax.Array:
    """2 / (1 + 2 beta): the paper's eta = 2 beta."""
    return 2.0 / (1.0 + 2.0 * beta)


def game_curves(config: Config) -> dict[str, np.ndarray]:
    """Every method on every game, from the reference, against queries.

    Returns:
      "<method>/queries" [T]; "<method>/kl" KL(pi* || pi) and "<method>/gap" [betas, games, seeds,
      T]. All others are [betas, games, seeds]: "share", the largest ratio of successive KLs of
      Nash-MP over the bound's, and "share of one call", of mirror descent with the same step;
      "difference", the largest one of a probability between EGPO and Nash-MP; "eta", the best step
      of mirror descent; "start", the first KL.
    """
    with jax.enable_x64(True):
        prefs, refs = draw_games(config)
        betas = np.asarray(config.betas)[:, None, None]
        stars = jnp.asarray(regularised_nash(prefs, refs, beta=betas))

        def over(run):
            for axes in ((0, 0, 0, None), (0, 0, 0, None), (None, None, 0, 0)):
                run = jax.vmap(run, in_axes=axes)
            found = jax.jit(run)(prefs, refs, stars, jnp.asarray(config.betas))
            return jax.tree.map(np.asarray, found)

        start = np.asarray(exact_kl(stars, jnp.broadcast_to(refs, stars.shape)))
        updates = config.queries // 2
        both = over(partial(prox_and_egpo, updates=updates))
        shown = np.unique(np.linspace(1, updates, config.points).astype(int))
        times = tuple(sorted({round(t) for t in np.linspace(1, config.queries, config.points)}))
        kl, gap = over(partial(nash_md, times=times))
        found = {
            "start": start,
            "share": bound_share(start, both["Nash-MP/kl"], betas),
            "share of one call": bound_share(start, both["one call/kl"], betas),
            "difference": both["difference"].max(-1),
            "Nash-MD/queries": np.asarray(times),
            "Nash-MD/kl": kl,
            "Nash-MD/gap": gap,
            "OMD/queries": np.asarray(times),
        }
        run = partial(best_mirror_descent, times=times, tried=config.coarse)
        found["OMD/kl"], found["OMD/gap"], found["eta"] = over(run)
        for method in ("Nash-MP", "EGPO"):
            found[f"{method}/queries"] = 2 * shown
            for metric in ("kl", "gap"):
                found[f"{method}/{metric}"] = both[f"{method}/{metric}"][..., shown - 1]
        return found


def prox_and_egpo(prefs, ref, star, beta, *, updates: int) -> dict[str, jax.Array]:
    """Nash-MP as mirror steps beside EGPO as gradient steps of online IPO, and mirror descent with
    their step, which calls the oracle once; [updates]."""
    eta = largest_step(beta)
    method, oracle = games.nash_mp(ref, eta=eta, beta=beta), exact_oracle(prefs)
    once = games.mirror_descent(ref, eta=eta, beta=beta)

    def step(carry, _):
        state, egpo, single = carry
        state, _ = method.update(state, oracle, KEY)
        single, _ = once.update(single, oracle, KEY)
        half = ipo_step(prefs, ref, egpo, egpo, eta=eta, beta=beta)
        egpo = ipo_step(prefs, ref, egpo, half, eta=eta, beta=beta)
        record = {
            "difference": jnp.max(jnp.abs(jnp.exp(egpo) - jnp.exp(state.logps))),
            "one call/kl": exact_kl(star, single.logps),
        }
        for name, logps in {"Nash-MP": state.logps, "EGPO": egpo}.items():
            record[f"{name}/kl"] = exact_kl(star, logps)
            record[f"{name}/gap"] = regularised_gap(prefs, logps, ref, beta=beta)
        return (state, egpo, single), record

    start = (method.init(ref), ref, once.init(ref))
    return jax.lax.scan(step, start, None, length=updates)[1]


def ipo_step(prefs, ref, logps, opponent, *, eta, beta) -> jax.Array:
    """One gradient step of online IPO on the logits, over all ordered pairs of answers."""
    wins, there = win_rates(prefs, jnp.exp(opponent)), ref > -jnp.inf
    count = jnp.sum(there)

    def pairs(values):
        kept = jnp.where(there, values, 0.0)
        return jnp.broadcast_arrays(kept[:, None], kept[None])

    def mean(logps):
        first, second = pairs(wins)
        losses = online_ipo_loss(*pairs(logps), *pairs(ref), first - second, beta=beta)
        return jnp.sum(jnp.where(there[:, None] & there, losses, 0.0)) / count**2

    return jax.nn.log_softmax(logps - eta * beta * count / 4.0 * jax.grad(mean)(logps))


def recorded(method: games.Method, prefs, ref, star, beta, *, times: Sequence[int]):
    """KL and gap [T] of a run from the reference."""
    return run_updates(
        method.update,
        method.init(ref),
        exact_oracle(prefs),
        KEY,
        times=times,
        record=lambda state, _: (
            exact_kl(star, state.logps),
            regularised_gap(prefs, state.logps, ref, beta=beta),
        ),
    )[1]


def nash_md(prefs, ref, star, beta, *, times: Sequence[int]):
    """Nash-MD with the steps of its theorem."""
    method = games.nash_md(ref, eta=decaying_steps(beta), beta=beta)
    return recorded(method, prefs, ref, star, beta, times=times)


def best_mirror_descent(prefs, ref, star, beta, *, times: Sequence[int], tried: int):
    """Mirror descent with the best of several constant steps: KL and gap [T], and the step.

    Best: fewest queries to the tolerance; where none gets there, the smallest gap at the end.
    """

    def at(eta):
        method = games.mirror_descent(ref, eta=eta, beta=beta)
        return recorded(method, prefs, ref, star, beta, times=times)

    etas = jnp.geomspace(beta, 2.0, tried)
    kl, gap = jax.vmap(at)(etas)
    reached = gap < TOLERANCE
    arrived = jnp.where(jnp.any(reached, -1), jnp.argmax(reached, -1), len(times))
    best = jnp.argmin(arrived + gap[:, -1])
    return kl[best], gap[best], etas[best]


def random_shares(config: Config) -> dict[str, np.ndarray]:
    """Nash-MP on random games of 3 to 29 answers, beta from 3e-3 to 3: "share", "size", "beta", and
    "share of one call", of mirror descent with the same step.

    Missing answers tie with all, and the reference never gives them.
    """
    with jax.enable_x64(True):
        game_key, ref_key = jax.random.split(jax.random.key(config.seed))
        count = config.random_games
        sizes = 3 + np.arange(count) % (LARGEST - 2)
        # Not in the order of the sizes, which would tie the one to the other.
        betas = np.geomspace(3e-3, 3.0, count)[(7 * np.arange(count)) % count]
        there = jnp.arange(LARGEST) < sizes[:, None]
        drawn = random_game(jax.random.split(game_key, count), LARGEST)
        prefs = jnp.where(there[:, :, None] & there[:, None, :], drawn, 0.5)
        logits = random_reference(jax.random.split(ref_key, count), LARGEST)
        refs = filled(logits, jnp.asarray(sizes))
        stars = jnp.asarray(regularised_nash(prefs, refs, beta=betas))

        def run(make, prefs, ref, star, beta):
            method = make(ref, eta=largest_step(beta), beta=beta)
            times = range(1, config.random_updates + 1)
            return recorded(method, prefs, ref, star, beta, times=times)[0]

        start = np.asarray(exact_kl(stars, refs))
        found = {"size": sizes, "beta": betas}
        for name, make in {
            "share": games.nash_mp,
            "share of one call": games.mirror_descent,
        }.items():
            kl = jax.jit(jax.vmap(partial(run, make)))(prefs, refs, stars, jnp.asarray(betas))
            found[name] = bound_share(start, np.asarray(kl), betas)
    return found


def bound_share(start: np.ndarray, kl: np.ndarray, betas: np.ndarray) -> np.ndarray:
    """Largest KL_{k+1} / KL_k over 1 / (1 + 2 beta), of all k before rounding; [...].

    Args:
      start, betas: [...] of KL_0; kl: [..., K] of KL_1 to KL_K.
    """
    every = np.concatenate([start[..., None], kl], axis=-1)
    clear = every[..., 1:] > ROUNDING
    ratios = np.where(clear, every[..., 1:] / np.maximum(every[..., :-1], ROUNDING), 0.0)
    return ratios.max(-1) * (1.0 + 2.0 * betas)
