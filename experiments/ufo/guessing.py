"""Guess among K: a question is a belief over candidates, a policy two numbers that read it.

z ~ N(0, I), the right candidate's higher by the signal. At a turn the logits are exp(th_0) z +
th_1 [tried before], th = 0 at first. The right candidate is number 0, which no policy sees.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int, Key

from experiments.ufo.config import Config
from rlhf_jax.algos.gradient import init_state
from rlhf_jax.algos.online import AnswerBatch, make_answer_update
from rlhf_jax.losses.policy_gradient import asymmetric_clip_loss
from rlhf_jax.ops.filtration import widest_weights
from rlhf_jax.ops.logprobs import token_logps
from rlhf_jax.ops.masking import masked_mean, sequence_mean
from rlhf_jax.ops.retries import (
    distinct_count,
    first_success,
    independent_success,
    retry_return,
    success_within,
)
from rlhf_jax.ops.turns import episode_credit
from rlhf_jax.recipes.methods.answers import per_token
from rlhf_jax.types import Policy, TrainState, Trajectory

LOW, HIGH = jnp.array([-3.0, -8.0]), jnp.array([2.5, 8.0])  # of th


class Seen(NamedTuple):
    """What is read before a try: beliefs [*B, T, K], and the candidates tried before."""

    beliefs: Array
    tried: Array


class Episodes(NamedTuple):
    """trajectory: inputs are `Seen`, actions candidates [*B, T], mask the tries taken.
    token_logps: [*B, T]. right: [*B, T] bool."""

    trajectory: Trajectory
    token_logps: Array
    right: Array


class Kind(NamedTuple):
    """A way to train. hidden: the policy does not see what it has tried. decay, repetition: of the
    return. share: of groups that are kept."""

    hidden: Array | bool = False
    decay: Array | float = 1.0
    repetition: Array | float = 0.0
    share: Array | float = 1.0


def guess_policy() -> Policy:
    """The policy of th [2]."""

    def logits(params: Array, seen: Seen) -> Array:
        return jnp.exp(params[0]) * seen.beliefs + params[1] * seen.tried

    def logps(params: Array, seen: Seen, actions: Array) -> Array:
        return token_logps(logits(params, seen), actions)

    return Policy(lambda key: jnp.zeros(2), logits, logps)


def draw_questions(config: Config, key: Key[Array, ""], count: int) -> Float[Array, "Q K"]:
    """Beliefs."""
    z = jax.random.normal(key, (count, config.candidates))
    return z.at[:, 0].add(config.signal)


def play(
    params: Float[Array, "2"],
    beliefs: Float[Array, "B K"],
    key: Key[Array, ""],
    *,
    turns: int,
    hidden: Bool[Array, ""] | bool = False,
) -> Episodes:
    """An episode of each question, until it is right or the turns are used up."""
    policy = guess_policy()

    def turn(carry: tuple[Array, Array], key: Key[Array, ""]):
        tried, going = carry
        seen = Seen(beliefs, jnp.where(hidden, 0.0, tried))
        logits = policy.logits(params, seen)
        answer = jax.random.categorical(key, logits)
        right = going & (answer == 0)
        tried = jnp.maximum(tried, jax.nn.one_hot(answer, beliefs.shape[-1]))
        return (tried, going & ~right), (seen, answer, going, right, token_logps(logits, answer))

    start = jnp.zeros_like(beliefs), jnp.ones(len(beliefs), bool)
    _, found = jax.lax.scan(turn, start, jax.random.split(key, turns))
    seen, answers, taken, right, logps = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), found)
    return Episodes(Trajectory(seen, answers, taken), jnp.where(taken, logps, 0.0), right)


def returns_of(episodes: Episodes, kind: Kind) -> Float[Array, "B"]:
    """R of each; no answer is malformed here."""
    taken = episodes.trajectory.mask
    count = taken.sum(-1)
    return retry_return(
        first_success(episodes.right, taken),
        count,
        distinct_count(episodes.trajectory.actions, taken),
        jnp.zeros_like(count),
        decay=kind.decay,
        repetition=kind.repetition,
    )


def train(
    config: Config, key: Key[Array, ""], kind: Kind, *, turns: int, group: int = 1
) -> Float[Array, "S 2"]:
    """th before each step and at the end.

    Args:
      turns: of an episode. group: episodes of one question.
    """
    optimizer = optax.adam(config.rate)
    loss = per_token(partial(asymmetric_clip_loss, clip_eps_low=0.2, clip_eps_high=0.28))
    update = make_answer_update(guess_policy(), optimizer, loss, reduction=sequence_mean)

    def step(state: TrainState, number: Int[Array, ""]) -> tuple[TrainState, Array]:
        question_key, play_key = jax.random.split(jax.random.fold_in(key, number))
        beliefs = draw_questions(config, question_key, config.episodes // group)
        beliefs = jnp.repeat(beliefs, group, axis=0)
        found = play(state.params, beliefs, play_key, turns=turns, hidden=kind.hidden)
        returns = returns_of(found, kind)
        weights = widest_weights(returns.reshape(-1, group), share=kind.share)
        mask = found.trajectory.mask
        columns = {
            "old_token_logps": found.token_logps,
            "advantages": episode_credit((returns - returns.mean())[:, None], mask),
        }
        batch = AnswerBatch(found.trajectory, columns, weights.reshape(-1))
        new, _ = update(state, batch)
        return new._replace(params=jnp.clip(new.params, LOW, HIGH)), state.params

    first = init_state(guess_policy().init(key), optimizer)
    last, params = jax.lax.scan(step, first, jnp.arange(config.steps))
    return jnp.concatenate([params, last.params[None]])


def evaluate(
    config: Config, params: Float[Array, "2"], key: Key[Array, ""], *, questions: int
) -> dict[str, Array]:
    """succ, pass: [T] Succ@k and Pass@k. unique: distinct answers over tries where the first one is
    wrong. turns: mean number."""
    question_key, play_key = jax.random.split(key)
    beliefs = draw_questions(config, question_key, questions)
    found = play(params, beliefs, play_key, turns=config.turns)
    taken = found.trajectory.mask
    count = taken.sum(-1)
    ratio = distinct_count(found.trajectory.actions, taken) / count
    first = guess_policy().logits(params, Seen(beliefs, jnp.zeros_like(beliefs)))
    return {
        "succ": success_within(found.right, taken).mean(0),
        "pass": independent_success(jax.nn.softmax(first)[:, 0], config.turns).mean(0),
        "unique": masked_mean(ratio, ~found.right[:, 0]),
        "turns": count.mean(),
    }


def kinds(config: Config) -> dict[str, tuple[int, int, Kind]]:
    """name -> (turns, episodes of a question, kind) of every training."""
    many, decay = config.turns, config.decay
    sweep = {f"decay {x:g}": (many, 1, Kind(decay=x)) for x in config.decays}
    return {
        "single turn": (1, 1, Kind()),
        "feedback hidden": (many, 1, Kind(hidden=True)),
        "UFO": (many, 1, Kind()),
        "UFO, long": (config.long_turns, 1, Kind()),
        "decay": (many, 1, Kind(decay=decay)),
        "decay and repetition": (many, 1, Kind(False, decay, config.repetition)),
        "groups": (many, config.group, Kind()),
        "widest groups": (many, config.group, Kind(share=config.share)),
        **sweep,
    }


def study(config: Config) -> dict[str, dict[str, np.ndarray]]:
    """name -> params [N, S + 1, 2] and `evaluate` at the end; "points/..." along the training."""
    train_key, test_key = jax.random.split(jax.random.key(config.seed))
    keys, test_keys = (jax.random.split(key, config.num_seeds) for key in (train_key, test_key))
    params = {"before": jnp.zeros((config.num_seeds, config.steps + 1, 2))}
    for shape in dict.fromkeys((turns, group) for turns, group, _ in kinds(config).values()):
        names = [name for name, (*own, _) in kinds(config).items() if tuple(own) == shape]
        rows = [kinds(config)[name][2] for name in names]
        some = jax.tree.map(lambda *x: jnp.array(x), *rows)
        one = partial(train, config, turns=shape[0], group=shape[1])
        found = jax.jit(jax.vmap(jax.vmap(one, (0, None)), (None, 0)))(keys, some)
        params |= dict(zip(names, found, strict=True))
    places = np.linspace(0, config.steps, config.points).round().astype(int)
    full = partial(evaluate, config, questions=config.questions)
    few = partial(evaluate, config, questions=config.point_questions)
    at_end = jax.jit(lambda params: jax.lax.map(lambda x: full(*x), (params, test_keys)))
    along = jax.jit(
        lambda params: jax.lax.map(lambda x: jax.vmap(few, (0, None))(*x), (params, test_keys))
    )
    return {
        name: {"params": np.asarray(x), **_arrays(at_end(x[:, -1]))}
        | {f"points/{key}": y for key, y in _arrays(along(x[:, places])).items()}
        for name, x in params.items()
    }


def _arrays(found: dict[str, Array]) -> dict[str, np.ndarray]:
    return {name: np.asarray(x) for name, x in found.items()}
