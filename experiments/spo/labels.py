"""Panel F: SPO and an online reward model on Bernoulli labels, some of them flipped.

An answer of the batch meets each answer of the queue once, and one bit says who won: 1 with
probability e + (1 - 2 e) P(y > y'), where e is the share of flips. Flips shrink P towards 1/2 and
leave its minimax winner; gaps are those of P. Both methods have the same number of bits.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from experiments.spo.config import Config
from experiments.spo.matrix_games import Player, fitted_step, follow, natural_step
from rlhf_jax.envs.games import asymmetric_cycle, rock_paper_scissors
from rlhf_jax.ops.games import answer_win_rates

GAMES = {"cycle": asymmetric_cycle, "RPS(0.9)": lambda: rock_paper_scissors(0.9)}


def draw_labels(prefs, flips, answers, queue, key) -> jax.Array:
    """[B, M] bool: the row's answer [B] was said to beat the column's [M]."""
    chances = flips + (1.0 - 2.0 * flips) * prefs[answers[:, None], queue[None, :]]
    return jax.random.bernoulli(key, chances)


def spo_on_labels(config: Config, prefs, flips, player: Player, answers, key) -> Player:
    """Rewards are the shares of labels won."""
    won = draw_labels(prefs, flips, answers, player.queue, key).astype(float)
    rewards = 2.0 * answer_win_rates(won, jnp.ones(won.shape, bool)) - 1.0
    return natural_step(config, player, answers, rewards)


def reward_model_on_labels(config: Config, prefs, flips, player: Player, answers, key) -> Player:
    """The same labels to a Bradley-Terry model of all so far."""
    won = draw_labels(prefs, flips, answers, player.queue, key).astype(float)
    rows, columns = (jax.nn.one_hot(each, len(prefs)) for each in (answers, player.queue))
    wins = player.wins + rows.T @ won @ columns + (rows.T @ (1.0 - won) @ columns).T
    return fitted_step(config, player, wins, config.fit_rate)


UPDATES = {"SPO": spo_on_labels, "reward model": reward_model_on_labels}


def noisy_labels(config: Config) -> dict[str, dict[str, dict[str, np.ndarray]]]:
    """Game -> method -> gaps [S, flips, steps] of the average and of the last policy."""
    keys = jax.random.split(jax.random.key(config.seed + 5), config.num_seeds)
    prefs, flips = jnp.stack([make() for make in GAMES.values()]), jnp.array(config.flips)
    counted = jnp.ones(config.queue, bool)
    found = {name: {} for name in GAMES}
    for method, update in UPDATES.items():

        def run(prefs, key, flips, update=update):
            return follow(config, partial(update, config, prefs, flips), prefs, counted, key)

        over = jax.vmap(jax.vmap(run, (None, None, 0)), (None, 0, None))
        gaps = jax.jit(jax.vmap(over, (0, None, None)))(prefs, keys, flips)
        for i, name in enumerate(GAMES):
            found[name][method] = jax.tree.map(lambda x, i=i: np.asarray(x[i]), gaps)
    return found
