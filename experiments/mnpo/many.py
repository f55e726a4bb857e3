"""One against many: the game of Eq. 5 to 7 with 2, 3 and 5 players, and the DualGap of Eq. 9.

A judge with Plackett-Luce scores is shown one answer of each player and names the best. The judges
are a population of three, one of whom is drawn for a call, or each player has a judge of its own.
Leading axis of every result: populations.
"""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np

from experiments.mnpo.config import Config
from rlhf_jax.algos import games
from rlhf_jax.algos.games.opponents import GameState
from rlhf_jax.algos.games.oracles import named_oracle, players_oracle
from rlhf_jax.algos.games.runs import log_spaced_times, run_updates
from rlhf_jax.envs.games import random_reference
from rlhf_jax.ops.games import win_rate
from rlhf_jax.ops.multiplayer import (
    one_vs_many_win_rates,
    plackett_luce_prefs,
    players_exploitability,
    players_gap,
)

JUDGES, ANSWERS, SPREAD = 3, 4, 2.0  # scores are normals of this deviation
BETA, ETA = 0.1, 0.5
HT_WEIGHTS = (0.05, 0.1, 1 / 3, 0.85)  # rho of HT-MNPO; the official code has 1/3 and 0.85
# Steps and KL weights of the runs on labels.
SETTINGS = tuple(product((0.3, 1.0, 3.0, 10.0), (0.01, 0.03, 0.1)))
Arrays = dict[str, np.ndarray]


def draw_populations(config: Config) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Scores [S, judges, A], log mu [S, A] and keys [S]."""
    keys = jax.random.split(jax.random.key(config.seed + 200), (3, config.populations))
    judges = max(JUDGES, *config.players)
    normal = jax.vmap(lambda key: jax.random.normal(key, (judges, ANSWERS)))
    return SPREAD * normal(keys[0]), random_reference(keys[1], ANSWERS), keys[2]


def shared_prefs(scores: jax.Array, players: int) -> jax.Array:
    """[*B, A, ..., A] of the population, a judge of which is drawn for each call."""
    lead = scores.shape[:-2]
    prefs = plackett_luce_prefs(scores[..., :JUDGES, :], players)
    return jnp.mean(prefs, axis=len(lead))


def one_against_many(config: Config) -> dict[str, Arrays]:
    """players -> what `play` returns, and "dual gap" [S, players]: of the equilibrium of each
    number of players, in the game of these. "calls": what `head_to_head` returns."""
    scores, refs, keys = draw_populations(config)
    found = {}
    for count in config.players:
        run = jax.jit(jax.vmap(partial(play, config, count)))
        found[str(count)] = jax.tree.map(np.asarray, run(scores, refs, keys))
    for count in config.players:
        prefs = shared_prefs(scores, count)[:, None]
        gaps = [
            players_gap(
                prefs,
                jnp.repeat(found[str(other)]["equilibrium"][:, None], count, 1),
                refs[:, None],
                beta=BETA,
            )[:, 0]
            for other in config.players
        ]
        found[str(count)]["dual gap"] = np.stack(gaps, axis=1)
    found["calls"] = head_to_head(config, found)
    return found


def play(config: Config, count: int, scores, ref, key) -> dict[str, jax.Array]:
    """One population.

    "gap" [T] of Eq. 9 in self-play with the population's preference, "equilibrium" [A] log pi;
    "average", "last", "start", "bound" []: without KL, see `without_kl`; "own" [T], "ht" [rho, T]:
    the worst player's gap where each has a judge of its own, of mirror descent and of HT-MNPO;
    "labels" [2, settings, A]: policies from calls of the judge, with two draws of labels.
    """
    prefs = shared_prefs(scores, count)
    refs = jnp.broadcast_to(ref, (count, ANSWERS))
    method = games.mirror_descent(refs, eta=ETA, beta=BETA)
    state, gaps = follow(config, method, prefs[None], refs, key)
    own = plackett_luce_prefs(scores[:count], count)

    def ht(rho):
        method = games.ht_mnpo(refs, eta=rho / BETA, beta=BETA)
        return jnp.max(follow(config, method, own, refs, key)[1], axis=-1)

    def labels(key, eta, beta):
        method = games.mirror_descent(ref, eta=eta, beta=beta)
        return run_updates(
            method.update,
            method.init(ref),
            named_oracle(prefs, samples=config.calls),
            key,
            times=(config.call_updates,),
            record=lambda state, _: state.step,
        )[0].logps

    over = jax.vmap(jax.vmap(labels, (None, 0, 0)), (0, None, None))
    return {
        "gap": gaps[:, 0],
        "equilibrium": state.logps[0],
        **without_kl(config, prefs, refs, key),
        "own": jnp.max(follow(config, method, own, refs, key)[1], axis=-1),
        "ht": jax.vmap(ht)(jnp.array(HT_WEIGHTS)),
        "labels": jnp.exp(over(jax.random.split(key), *jnp.array(SETTINGS).T)),
    }


def follow(config: Config, method: games.Method, prefs, refs, key) -> tuple[GameState, jax.Array]:
    """A run on exact chances from the reference, and the gaps [T, players] of Eq. 9."""
    return run_updates(
        method.update,
        method.init(refs),
        players_oracle(prefs),
        key,
        times=many_times(config),
        record=lambda state, _: players_gap(prefs, state.logps, refs[:1], beta=BETA),
    )


def many_times(config: Config) -> tuple[int, ...]:
    """Updates that are recorded."""
    return log_spaced_times(config.many_updates, 40)


def without_kl(config: Config, prefs, refs, key) -> dict[str, jax.Array]:
    """Multiplicative weights at sqrt(8 log A / T): what a best response gains against the average
    policy, the last one and the reference; and what regret promises of the average with two
    players, log(1 / min mu) / (eta T) + eta / 8."""
    eta = games.hedge_step(float(ANSWERS), config.many_updates)
    method = games.hedge(refs, eta=eta)
    state, _ = run_updates(
        method.update,
        method.init(refs),
        players_oracle(prefs[None]),
        key,
        times=(config.many_updates,),
        record=lambda state, _: state.step,
    )
    bound = games.hedge_bound(jnp.min(refs), eta=eta, updates=config.many_updates)
    policies = {"average": state.average, "last": jnp.exp(state.logps), "start": jnp.exp(refs)}
    gains = {part: players_exploitability(prefs[None], p)[0] for part, p in policies.items()}
    return gains | {"bound": jnp.asarray(0.5 * bound)}


def head_to_head(config: Config, found: dict[str, Arrays]) -> Arrays:
    """Policies from equally many calls, each at its best setting, against those of two players.

    The setting has the highest mean win rate over the reference in the first half of the
    populations; all that follows is of the second half, [S / 2]. "<n>/pairwise": chance that the
    policy of n players beats that of two; "<n>/arena": chance that its answer is named among n - 1
    of theirs. "again": the policy of two players from other labels in its place. "<n>/reference":
    pairwise, against the reference. "<n>/setting" [2]: the step and the KL weight.
    """
    scores, refs, _ = draw_populations(config)
    half = config.populations // 2
    pairs = shared_prefs(scores, 2)

    def best(count: int) -> int:
        policies = jnp.asarray(found[str(count)]["labels"][:half, 0])
        wins = win_rate(pairs[:half, None], policies, jnp.exp(refs[:half, None]))
        return int(np.asarray(wins).mean(axis=0).argmax())

    chosen = {count: best(count) for count in config.players}
    two, again = (jnp.asarray(found["2"]["labels"][half:, draw, chosen[2]]) for draw in (0, 1))
    result = {}
    for count in config.players:
        prefs = shared_prefs(scores[half:], count)
        arena = one_vs_many_win_rates(prefs, jnp.repeat(two[:, None], count - 1, axis=1))
        for name, policy in (
            (f"{count}", jnp.asarray(found[str(count)]["labels"][half:, 0, chosen[count]])),
            (f"{count}/again", again),
        ):
            result[f"{name}/pairwise"] = win_rate(pairs[half:], policy, two)
            result[f"{name}/arena"] = jnp.sum(arena * policy, axis=-1)
            result[f"{name}/reference"] = win_rate(pairs[half:], policy, jnp.exp(refs[half:]))
        result[f"{count}/setting"] = np.array(SETTINGS[chosen[count]])
    return {name: np.asarray(x) for name, x in result.items()}
