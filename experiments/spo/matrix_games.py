"""SPO, and an online reward model, on matrix games; and Hedge, which is SPO without sampling."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.spo.config import Config
from rlhf_jax.algos.bradley_terry import win_matrix_loss
from rlhf_jax.algos.games import hedge, hedge_bound, hedge_step
from rlhf_jax.algos.games.oracles import exact_oracle
from rlhf_jax.algos.games.runs import run_updates
from rlhf_jax.envs.games import (
    asymmetric_cycle,
    condorcet_game,
    low_rank_game,
    rock_paper_scissors,
)
from rlhf_jax.ops.games import answer_win_rates, exploitability


class Player(NamedTuple):
    """A policy and what it is taught with.

    logps: [n]. average: [n] sum of the policies played. queue: [M] answers, the oldest first.
    wins: [n, n] how often row beat column so far, and scores: [n], of the reward model only.
    """

    logps: jax.Array
    average: jax.Array
    queue: jax.Array
    wins: jax.Array
    scores: jax.Array


def spo_update(config: Config, prefs, counted, player: Player, answers) -> Player:
    """Natural policy gradient on win rates against the queue, as payoffs 2 r - 1.

    The natural gradient of a table is the least-squares fit of the rewards on the answers: the mean
    reward of each answer of the batch, 0 for those that are not in it.
    """
    others = jnp.broadcast_to(counted, (len(prefs), len(counted)))
    rewards = 2.0 * answer_win_rates(prefs[:, player.queue], others)[answers] - 1.0
    return natural_step(config, player, answers, rewards)


def natural_step(config: Config, player: Player, answers, rewards) -> Player:
    """A step up the mean rewards [B] of the copies of each answer [B]."""
    drawn = jax.nn.one_hot(answers, len(player.logps))
    means = rewards @ drawn / jnp.maximum(jnp.sum(drawn, axis=0), 1.0)
    return player._replace(logps=jax.nn.log_softmax(player.logps + config.rate * means))


def reward_model_update(
    config: Config, prefs, counted, player: Player, answers, *, fit_rate=None, kept=1.0
) -> Player:
    """The same comparisons to a Bradley-Terry model of all so far, and a step up its scores.

    kept: the share of the pairs so far that is kept.
    """
    drawn, met = jax.nn.one_hot(answers, len(prefs)), jax.nn.one_hot(player.queue, len(prefs))
    pairs = jnp.outer(jnp.sum(drawn, axis=0), counted @ met)
    wins = kept * player.wins + (pairs + pairs.T) * prefs
    return fitted_step(config, player, wins, config.fit_rate if fit_rate is None else fit_rate)


def fitted_step(config: Config, player: Player, wins: jax.Array, fit_rate) -> Player:
    """Scores fitted to the wins, and a step up them."""

    def loss(scores):
        return win_matrix_loss(scores, wins) / jnp.sum(wins)

    def fit(_, scores):
        return scores - fit_rate * jax.grad(loss)(scores)

    scores = jax.lax.fori_loop(0, config.fit_steps, fit, player.scores)
    logps = jax.nn.log_softmax(player.logps + config.rate * scores)
    return player._replace(logps=logps, wins=wins, scores=scores)


UPDATES = {"SPO": spo_update, "reward model": reward_model_update}


def play(config: Config, method: str, prefs, counted, key) -> dict[str, jax.Array]:
    """Exploitability [steps] of the average policy and of the last one.

    prefs [n, n]; counted [M], True for the places of the queue that are used.
    """
    update = partial(UPDATES[method], config, prefs, counted)
    return follow(config, lambda player, answers, _: update(player, answers), prefs, counted, key)


def follow(config: Config, update: Callable, prefs, counted, key) -> dict[str, jax.Array]:
    """What `play` returns, for any `update(player, answers [B], key) -> player`."""
    n, (first, rest) = len(prefs), jax.random.split(key)

    def step(player: Player, t):
        average = player.average + jnp.exp(player.logps)
        own = jax.random.fold_in(rest, t)
        answers = jax.random.categorical(own, player.logps, shape=(config.batch,))
        player = update(player._replace(average=average), answers, jax.random.fold_in(own, 1))
        queue = jnp.concatenate([player.queue, answers])[-len(counted) :]
        gaps = {
            "average": exploitability(prefs, average / (t + 1)),
            "last": exploitability(prefs, jnp.exp(player.logps)),
        }
        return player._replace(queue=queue), gaps

    start = Player(
        logps=jnp.full(n, -jnp.log(float(n))),
        average=jnp.zeros(n),
        queue=jax.random.randint(first, counted.shape, 0, n),
        wins=jnp.zeros((n, n)),
        scores=jnp.zeros(n),
    )
    return jax.lax.scan(step, start, jnp.arange(config.steps))[1]


def draw_games(config: Config) -> dict[tuple[str, ...], jax.Array]:
    """Names -> games [names, S, n, n] of one size; the low-rank game is another for each seed."""
    keys = seed_keys(config)
    small = jnp.stack([asymmetric_cycle(), rock_paper_scissors(0.9)])
    return {
        ("cycle", "RPS(0.9)"): jnp.broadcast_to(small[:, None], (2, len(keys), 3, 3)),
        ("low rank",): jax.jit(lambda k: low_rank_game(k, config.answers)[None])(keys),
    }


def seed_keys(config: Config) -> jax.Array:
    """[S] of panel A."""
    return jax.random.split(jax.random.key(config.seed), config.num_seeds)


def intransitive(config: Config) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Panel A: game -> method -> gaps [S, steps]."""
    counted, sizes = jnp.ones(config.queue, bool), draw_games(config)
    found = {name: {} for names in sizes for name in names}
    for names, prefs in sizes.items():
        for method in UPDATES:
            run = jax.vmap(lambda p, k, m=method: play(config, m, p, counted, k))
            gaps = jax.jit(jax.vmap(run, in_axes=(0, None)))(prefs, seed_keys(config))
            for i, name in enumerate(names):
                found[name][method] = jax.tree.map(lambda x, i=i: np.asarray(x[i]), gaps)
    return found


def tuned_reward_models(config: Config) -> dict[str, np.ndarray]:
    """Panel A: game -> last gap of a reward model's average policy [S, fit rates, memories].

    Games and samples are those of `intransitive`.
    """
    counted, found = jnp.ones(config.queue, bool), {}
    grid = np.meshgrid(config.fit_rates, config.memories, indexing="ij")
    rates, kept = (jnp.asarray(each.ravel()) for each in grid)

    def end(prefs, key, rate, kept):
        def update(player, answers, _):
            return reward_model_update(
                config, prefs, counted, player, answers, fit_rate=rate, kept=kept
            )

        return follow(config, update, prefs, counted, key)["average"][-1]

    over = jax.vmap(end, in_axes=(None, None, 0, 0))
    over = jax.jit(jax.vmap(jax.vmap(over, (0, 0, None, None)), (0, None, None, None)))
    for names, prefs in draw_games(config).items():
        ends = np.asarray(over(prefs, seed_keys(config), rates, kept))
        ends = ends.reshape(*ends.shape[:2], *grid[0].shape)
        found |= dict(zip(names, ends, strict=True))
    return found


def queue_lengths(config: Config) -> dict[str, np.ndarray]:
    """Panel D: gaps [S, queues, steps] of SPO on RPS(0.9). A shorter queue is a mask on it."""
    keys = jax.random.split(jax.random.key(config.seed + 1), config.num_seeds)
    longest = config.queues[-1]
    counted = jnp.arange(longest) >= longest - jnp.array(config.queues)[:, None]
    run = partial(play, config, "SPO", rock_paper_scissors(0.9))
    over_queues = jax.vmap(run, in_axes=(0, None))
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(over_queues, (None, 0)))(counted, keys))


def rates(config: Config) -> dict[str, np.ndarray]:
    """Panel B, exact Hedge: exploitability of the average policy.

    "condorcet" [S, margins, N] at step 1, n = 20; "cycle" [S, N] on rock-paper-scissors, from
    (0.5, -0.5, 0) and standard normals, at step sqrt(8 log 3 / T), "cycle last" that of the last
    policy there; "bound" [S, N] of both.
    """
    keys = jax.random.split(jax.random.key(config.seed + 2), config.num_seeds)
    margins, horizons = jnp.array(config.margins), jnp.array(config.horizons, float)
    etas = hedge_step(3.0, horizons)
    starts = jax.vmap(lambda key: jax.random.normal(key, (3,)))(keys)
    starts = jax.nn.log_softmax(starts.at[0].set(jnp.array([0.5, -0.5, 0.0])))

    def gaps(prefs, start, eta):
        method = hedge(start, eta=eta)
        return run_updates(
            method.update,
            method.init(start),
            exact_oracle(prefs),
            jax.random.key(0),  # not read
            times=config.horizons,
            record=lambda state, _: (
                exploitability(prefs, state.average),
                exploitability(prefs, jnp.exp(state.logps)),
            ),
        )[1]

    def condorcet(key, margin):
        return gaps(condorcet_game(key, 20, gap=margin), jnp.zeros(20), 1.0)

    def cycle(start, eta):
        return gaps(rock_paper_scissors(), start, eta)

    winners, _ = jax.jit(jax.vmap(jax.vmap(condorcet, (None, 0)), (0, None)))(keys, margins)
    cycles = jax.jit(jax.vmap(jax.vmap(cycle, (None, 0)), (0, None)))(starts, etas)
    rarest = jnp.min(starts, axis=-1)[:, None]
    bound = hedge_bound(rarest, eta=etas, updates=horizons)
    each = np.arange(len(config.horizons))
    average, last = (np.asarray(x)[:, each, each] for x in cycles)
    return {
        "condorcet": np.asarray(winners),
        "cycle": average,
        "cycle last": last,
        "bound": np.asarray(bound),
    }
