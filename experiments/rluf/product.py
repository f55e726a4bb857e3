"""A product with a known law of hearts, its logs, and policies that choose among answers.

Answers have h (helpful), w (warm), b (a closing phrase), s (unsafe); contexts have e (the user is
done). Log-odds of a heart, live: -5.2 + 0.9 h + 1.1 w + 1.5 e - 0.8 b (1 - e) - 0.5 s. In the logs
a closing phrase stands at the end of conversations; a model that is not told e credits the phrase.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from experiments.rluf.config import Config
from rlhf_jax.feedback.signals import reaction_probs, reactions
from rlhf_jax.types import record

BASE = -5.2  # log-odds of a heart without anything
END, HELP, WARM, CLOSER, UNSAFE = 1.5, 0.9, 1.1, -0.8, -0.5
DONE = 0.12  # share of contexts in which the user is done
LOG_CLOSERS = (0.02, 0.7)  # P(b) in the logs, by e
LOG_UNSAFE = 0.03
TROLL = 1.0  # trolls love what others do not, and press the heart e times as often


@record
class Messages:
    """help, warm, closer, unsafe, done: [*B] float32; the last three are 0 or 1."""

    help: Array
    warm: Array
    closer: Array
    unsafe: Array
    done: Array


class Logs(NamedTuple):
    """messages: [N]. hearts: [N] bool. users: [N]. trolls: [U] bool."""

    messages: Messages
    hearts: Bool[Array, "N"]
    users: Int[Array, "N"]
    trolls: Bool[Array, " U"]


def live_values(messages: Messages) -> Float[Array, "*B"]:
    """What the answer adds to the log-odds of a heart."""
    content = HELP * messages.help + WARM * messages.warm + UNSAFE * messages.unsafe
    return content + CLOSER * messages.closer * (1.0 - messages.done)


def live_probs(messages: Messages) -> Float[Array, "*B"]:
    """P(heart) of honest users."""
    return reaction_probs(live_values(messages), BASE + END * messages.done, beta=1.0)


def draw_messages(key: Key[Array, ""], size: int) -> Messages:
    """What was said and shown to users."""
    help_key, warm_key, done_key, closer_key, unsafe_key = jax.random.split(key, 5)
    done = jax.random.uniform(done_key, (size,)) < DONE
    closers = jnp.where(done, LOG_CLOSERS[1], LOG_CLOSERS[0])
    closer = jax.random.uniform(closer_key, (size,)) < closers
    unsafe = jax.random.uniform(unsafe_key, (size,)) < LOG_UNSAFE
    normal = (jax.random.normal(k, (size,)) for k in (help_key, warm_key))
    return Messages(*normal, *(x.astype(jnp.float32) for x in (closer, unsafe, done)))


def draw_logs(config: Config, key: Key[Array, ""], *, troll_share: Array | float) -> Logs:
    """Hearts of users with as many messages each; the first users are the trolls."""
    message_key, heart_key = jax.random.split(key)
    messages = draw_messages(message_key, config.messages)
    users = jnp.arange(config.messages) // config.messages_per_user
    count = config.messages // config.messages_per_user
    trolls = jnp.arange(count) < jnp.round(troll_share * count)
    intercepts = BASE + END * messages.done
    values = live_values(messages)
    malicious = reaction_probs(values, intercepts + TROLL, beta=-1.0)
    probs = jnp.where(trolls[users], malicious, live_probs(messages))
    return Logs(messages, reactions(heart_key, probs).labels, users, trolls)


def love_features(messages: Messages, *, told: bool) -> Float[Array, "*B d"]:
    """What P[Love] reads: 1, h, w, b, s, and if it is told also e and b e."""
    columns = [jnp.ones_like(messages.help), messages.help, messages.warm]
    columns += [messages.closer, messages.unsafe]
    columns += [messages.done, messages.closer * messages.done] if told else []
    return jnp.stack(columns, axis=-1)


def draw_candidates(config: Config, key: Key[Array, ""]) -> Messages:
    """[contexts, candidates] answers of the reference; warm ones are less helpful."""
    keys = jax.random.split(key, 5)
    shape = (config.contexts, config.candidates)
    helpful, noise = (jax.random.normal(k, shape) for k in keys[:2])
    rare = (jax.random.uniform(k, shape) < config.candidate_rate for k in keys[2:4])
    done = jax.random.uniform(keys[4], (config.contexts, 1)) < DONE
    flags = (x.astype(jnp.float32) for x in (*rare, jnp.broadcast_to(done, shape)))
    return Messages(helpful, -0.5 * helpful + 0.87 * noise, *flags)
