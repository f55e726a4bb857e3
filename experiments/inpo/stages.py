"""What is run: the rounds, rates of mirror descent, the transformer."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.inpo import rounds, transformer
from experiments.inpo.config import Config
from experiments.inpo.rounds import Game, play
from rlhf_jax.algos.games import hedge, hedge_step, mirror_descent
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.algos.games.runs import log_spaced_times, run_updates
from rlhf_jax.algos.games.steps import decaying_steps, mirror_step
from rlhf_jax.envs.games import (
    dice_game,
    random_game,
    random_reference,
    rock_paper_scissors,
    tilted_reference,
)
from rlhf_jax.exact.regularised_nash import regularised_nash
from rlhf_jax.ops.games import exploitability, regularised_gap
from rlhf_jax.ops.kl import exact_kl

BETA, ETA = 0.1, 1.0  # tau, and one over the paper's eta
DPO_BETAS = (0.1, 0.3, 1.0, 3.0, 10.0)  # KL weights of iterative DPO
DPO = {f"iterative DPO, beta {weight:g}": weight for weight in DPO_BETAS}
NAMES = ("RPS(0.9)", "RPS(5/9)", "random")
Arrays = dict[str, np.ndarray]


def draw_games(config: Config, name: str) -> tuple[jax.Array, jax.Array, jax.Array]:
    """P [S, n, n], log mu [S, n] and starts [S, n], the first of them mu.

    The cycles are one game with one reference: their seeds are starts (and samples). The random
    games of ten answers have a reference each, and start from it.
    """
    game_key, ref_key, start_key = jax.random.split(jax.random.key(config.seed), 3)
    if name == "random":
        prefs = random_game(jax.random.split(game_key, config.num_seeds), 10)
        refs = random_reference(jax.random.split(ref_key, config.num_seeds), 10)
        return prefs, refs, refs
    game = rock_paper_scissors(0.9) if name == "RPS(0.9)" else dice_game()
    prefs = jnp.broadcast_to(game, (config.num_seeds, 3, 3))
    refs = jnp.broadcast_to(tilted_reference(), (config.num_seeds, 3))
    others = random_reference(jax.random.split(start_key, config.num_seeds - 1), 3)
    return prefs, refs, jnp.concatenate([refs[:1], others])


def run_rounds(config: Config, name: str) -> Arrays:
    """Method -> regularised gap [S, rounds + 1] in one kind of game.

    The sampled runs start from the reference, with samples of their own; so does "uniform pairs".
    Exact INPO, INPO without KL and iterative DPO, which sample nothing, have the seed's start.
    Iterative DPO is solved in the population at each of `DPO_BETAS`.
    """
    prefs, refs, starts = draw_games(config, name)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 2), config.num_seeds)
    runs = all_methods(prefs, refs, starts, keys, (config.rounds, config.pairs))
    gaps = jax.jit(jax.vmap(partial(regularised_gap, beta=BETA)))
    return {method: np.asarray(gaps(prefs, logps, refs)) for method, logps in runs.items()}


@partial(jax.jit, static_argnames="sizes")
def all_methods(prefs, refs, starts, keys, sizes: tuple[int, int]) -> dict[str, jax.Array]:
    """Method -> log pi [S, rounds + 1, n]."""
    count, pairs = sizes

    def one(prefs, ref, start, key):
        game = Game(prefs, ref, BETA, ETA)
        free = game._replace(beta=0.0)

        def on_pairs(logps, key):
            """One round of each kind of pairs, [kinds, n]; the same randomness serves them all."""
            wins = [
                rounds.sampled_wins(game, logps[0], key, pairs),
                rounds.uniform_wins(game),
                rounds.best_and_worst(game, logps[2], key, pairs, 8),
                rounds.best_and_worst(game, logps[3], key, pairs, 2),
            ]
            return jax.vmap(partial(rounds.solve, game))(logps, jnp.stack(wins))

        def exact(game):
            def advance(logps, _):
                rates = game.prefs @ jnp.exp(logps)
                return mirror_step(logps, ref, rates, eta=ETA, beta=game.beta)

            return play(advance, start, key, count)

        kinds = ("INPO, sampled", "uniform pairs", "best and worst of 8", "better of 2")
        solved = play(on_pairs, jnp.stack([ref] * len(kinds)), key, count)
        dpo = jax.vmap(lambda weight: iterative_dpo(game._replace(beta=weight), start, count))(
            jnp.array(DPO_BETAS)
        )
        return {
            "INPO, exact": exact(game),
            "INPO without KL": exact(free),
            **{name: dpo[i] for i, name in enumerate(DPO)},
            **{kind: solved[:, i] for i, kind in enumerate(kinds)},
        }

    return jax.vmap(one)(prefs, refs, starts, keys)


def iterative_dpo(game: Game, start: jax.Array, count: int) -> jax.Array:
    """log pi [rounds + 1, n]; beta of the game is the KL weight of DPO. It draws nothing."""
    unread = jax.random.key(0)
    return play(lambda logps, _: rounds.dpo_round(game, logps), start, unread, count)


def run_hedge(config: Config) -> Arrays:
    """beta = 0, eta = sqrt(8 log n / T), one run for each T: exploitabilities.

    "average" [games, T]: in random games. "cycle average", "last" [S, T]: on RPS(1), of both
    policies.
    """
    prefs, refs, _ = draw_games(replace(config, num_seeds=config.hedge_games), "random")
    cycle = jnp.broadcast_to(rock_paper_scissors(), (config.num_seeds, 3, 3))
    starts = draw_games(config, "RPS(0.9)")[2]

    def ends(prefs, starts, steps):
        method = hedge(starts, eta=float(hedge_step(float(prefs.shape[-1]), steps)))
        oracle, key = exact_oracle(prefs), jax.random.key(0)
        run = partial(run_updates, method.update, oracle=oracle, key=key, times=(steps,))
        end = jax.jit(lambda: run(method.init(starts), record=lambda s, _: s.step)[0])()
        return exploitability(prefs, end.average), exploitability(prefs, jnp.exp(end.logps))

    found = [(ends(prefs, refs, t)[0], *ends(cycle, starts, t)) for t in config.hedge_updates]
    names = ("average", "cycle average", "last")
    columns = zip(names, zip(*found, strict=True), strict=True)
    return {name: np.stack([np.asarray(x) for x in each], -1) for name, each in columns}


def run_schedule(config: Config, name: str) -> Arrays:
    """eta_t = 2 / (beta (t + 2)): "kl" [S, shown], KL(pi* || pi_t), and its "bound" [S, shown].

    That of Theorem 4, with the largest |log pi / mu| of the run itself for B; "times" [shown].
    "free": KL(pi* || pi_t) of the same steps without the pull to the reference.
    """
    prefs, refs, starts = draw_games(config, name)
    stars = jnp.asarray(regularised_nash(prefs, refs, beta=BETA))
    times = np.asarray(log_spaced_times(config.schedule_updates, 120))

    def record(state, _):
        ratios = jnp.max(jnp.abs(state.logps - refs), axis=-1)
        return exact_kl(stars, state.logps), ratios

    def follow(beta: float) -> tuple[np.ndarray, np.ndarray]:
        method = mirror_descent(refs, eta=decaying_steps(BETA), beta=beta)
        run = partial(run_updates, method.update, key=jax.random.key(0), times=times.tolist())
        oracle, start = exact_oracle(prefs), method.init(starts)
        kl, ratios = jax.jit(lambda: run(start, oracle=oracle, record=record)[1])()
        return np.asarray(kl).T, np.asarray(ratios).T

    kl, ratios = follow(BETA)
    scale = np.maximum(BETA * ratios.max(-1, keepdims=True), 1.0)
    # The paper's pi_1 is the start: after t updates its T is t + 1.
    bound = 32.0 * scale**2 / (BETA**2 * (times + 2))
    return {"times": times, "kl": kl, "bound": bound, "free": follow(0.0)[0]}


def run_transformer(config: Config) -> Arrays:
    """Regularised gap [S, rounds + 1] on RPS(0.9), single precision."""
    game = Game(rock_paper_scissors(0.9), tilted_reference(), BETA, ETA)
    keys = jax.random.split(jax.random.fold_in(jax.random.key(config.seed), 3), config.num_seeds)
    logps = jax.jit(jax.vmap(lambda key: transformer.train(game, key, config)))(keys)
    return {"gap": np.asarray(regularised_gap(game.prefs, logps, game.ref_logps, beta=BETA))}
