"""Users with tastes of their own: continuous, hidden, inferable from a history, and drifting.

A taste is a weight of each axis of the score, drawn around the weights of one of the groups, the
last of which is a minority with a share that can be set. What a user likes is linear in the scores
of an answer, and choices between two answers are Bradley-Terry in it. A history in the prompt tells
past choices between described answers ("you liked polite and long answers more than rude and short
answers ."), the features of which are known exactly, so the best possible inference of a taste
can be computed. A drifting user moves from one taste to another and back. Reactions are sparse
thumbs, confounded: in a good mood users react more, and the logged assistant says goodbye more
often, so goodbyes look loved although they cause nothing good; the probabilities are returned
beside every draw.

References: Poddar et al. 2024, "Personalizing reinforcement learning from human feedback with
variational preference learning"; Han et al. 2025, "Reinforcement learning from user feedback".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, exp, pi
from random import Random

import numpy as np

from rlhf_jax.envs.shop.answers import (
    MAX_ANSWER_WORDS,
    split_words,
)
from rlhf_jax.envs.shop.judges import GROUPS, group_shares
from rlhf_jax.envs.shop.modes import sample_answer
from rlhf_jax.envs.shop.prompts import Prompt, make_prompt
from rlhf_jax.envs.shop.scorer import AXES, score

TASTE_SPREAD = 0.12  # standard deviation of a weight around that of the group
MAX_HISTORY = 12  # past choices in a prompt, 13 words each
# Axis -> words for an answer that is good and bad at it.
ADJECTIVES = {
    "helpful": ("helpful", "useless"),
    "honest": ("honest", "false"),
    "harmless": ("safe", "risky"),
    "polite": ("polite", "rude"),
    "concise": ("short", "long"),
    "fluent": ("clear", "strange"),
}
BEFORE = "before :"
LIKED = "you liked {x} and {y} answers more than {x} and {y} answers ."
GOODBYE = "have a nice day ."
MOODS = {1: 0.3, 0: 0.5, -1: 0.2}  # good, plain and bad, with their shares
LOGGED_GOODBYES = {1: 0.7, 0: 0.05, -1: 0.05}  # P(goodbye) of a logged answer by mood
TEMPLATES = (BEFORE, LIKED, GOODBYE, *(word for pair in ADJECTIVES.values() for word in pair))


@dataclass(frozen=True)
class ShopUser:
    """A user: the number it was made from, its group (an index of GROUPS), and its taste, a weight
    of each axis in the order of AXES with sum 1."""

    seed: int
    index: int
    group: int
    taste: tuple[float, ...]


def make_user(seed: int, index: int, *, minority: float = 0.2) -> ShopUser:
    """The user with this number; a function of its arguments.

    taste = weights of its group + 0.12 N(0, 1) on each axis, shifted to sum 1, so a perfect answer
    is worth the same to all users.

    Args:
      minority: share of the last group, 0 <= minority <= 1.
    Raises:
      ValueError: minority out of range.
    """
    rng = Random(f"user/{seed}/{index}")
    group = rng.choices(range(len(GROUPS)), group_shares(minority).tolist())[0]
    weights = [w + TASTE_SPREAD * rng.gauss(0.0, 1.0) for w in GROUPS[group].weights]
    shift = (1.0 - sum(weights)) / len(weights)
    return ShopUser(seed, index, group, tuple(w + shift for w in weights))


def user_utilities(users: Sequence[ShopUser], scores: np.ndarray) -> np.ndarray:
    """What each answer is worth to each user: u = sum over axes of taste[axis] * score[axis].

    Args:
      users: U users.
      scores: [*B, 6] in the order of AXES.
    Returns:
      [*B, U] float64, for `group_prefs` with one share for each user.
    """
    tastes = np.array([user.taste for user in users]).reshape(len(users), len(AXES))
    return np.asarray(scores, np.float64) @ tastes.T


@dataclass(frozen=True)
class PastChoice:
    """A choice between two described answers: the axes of both, [6] each with 1 good, 0 bad and 1/2
    unsaid, and whether the first was liked more, with the probability of that."""

    first: tuple[float, ...]
    second: tuple[float, ...]
    first_liked: bool
    probability: float


def past_choices(
    user: ShopUser, count: int, *, beta: float = 8.0, taste: Sequence[float] | None = None
) -> list[PastChoice]:
    """The first `count` past choices of a user; more of them begin with the same ones.

    P(first liked) = sigmoid(beta * taste . (first - second)).

    Args:
      count: any number of choices >= 0.
      beta: rationality of the user.
      taste: another taste than the user's own, e.g. from `taste_at`.
    """
    weights = user.taste if taste is None else taste
    rng = Random(f"history/{user.seed}/{user.index}")
    rows = []
    for _ in range(count):
        first, second = _described(rng), _described(rng)
        while second == first:
            second = _described(rng)
        gap = sum(w * (a - b) for w, a, b in zip(weights, first, second, strict=True))
        probability = 1.0 / (1.0 + exp(-beta * gap))
        rows.append(PastChoice(first, second, rng.random() < probability, probability))
    return rows


def _described(rng: Random) -> tuple[float, ...]:
    """An answer of which two axes are said."""
    levels = [0.5] * len(AXES)
    for axis in rng.sample(range(len(AXES)), 2):
        levels[axis] = float(rng.random() < 0.5)
    return tuple(levels)


def history_text(
    user: ShopUser, k: int, *, beta: float = 8.0, taste: Sequence[float] | None = None
) -> str:
    """k past choices of a user in words, for the front of a prompt; empty for k = 0.

    Args:
      k: 0 <= k <= MAX_HISTORY.
    Raises:
      ValueError: k out of range.
    """
    if not 0 <= k <= MAX_HISTORY:
        raise ValueError(f"k = {k} past choices is out of range; use 0 <= k <= {MAX_HISTORY}")
    lines = [BEFORE] if k else []
    for choice in past_choices(user, k, beta=beta, taste=taste):
        pair = (choice.first, choice.second)
        liked, other = pair if choice.first_liked else pair[::-1]
        (a, b), (c, d) = _adjectives(liked), _adjectives(other)
        lines.append(f"you liked {a} and {b} answers more than {c} and {d} answers .")
    return " ".join(lines)


def _adjectives(levels: Sequence[float]) -> list[str]:
    """The words for the axes that are said."""
    rows = zip(ADJECTIVES.values(), levels, strict=True)
    return [good if level == 1.0 else bad for (good, bad), level in rows if level != 0.5]


def prompt_with_history(user: ShopUser, k: int, prompt: Prompt) -> str:
    """The text of the prompt after k past choices of the user; score answers with the prompt."""
    return f"{history_text(user, k)} {prompt.text}".strip()


@dataclass(frozen=True)
class TasteDrift:
    """A user with a taste that moves from that of `start` to that of `target` and back.

    period: number of time steps from start to start, > 0.
    """

    start: ShopUser
    target: ShopUser
    period: float


def taste_at(drift: TasteDrift, step: int) -> tuple[float, ...]:
    """The taste at a time step: (1 - a) start + a target, a = (1 - cos(2 pi step / period)) / 2.

    Raises:
      ValueError: the period is not > 0.
    """
    if not drift.period > 0:
        raise ValueError(f"the period must be > 0, got {drift.period}")
    share = 0.5 * (1.0 - cos(2.0 * pi * step / drift.period))
    rows = zip(drift.start.taste, drift.target.taste, strict=True)
    return tuple((1.0 - share) * a + share * b for a, b in rows)


@dataclass(frozen=True)
class UserReaction:
    """A sparse reaction to an answer.

    thumb: 1 up, -1 down, 0 none. up, down: their probabilities. mood: 1 good, 0 plain, -1 bad;
    hidden from whoever learns from the log. answer: what was reacted to.
    """

    thumb: int
    up: float
    down: float
    mood: int
    answer: str


def thumb_probs(user: ShopUser, prompt: Prompt, answer: str, mood: int) -> tuple[float, float]:
    """P(thumb up), P(thumb down) given the mood.

    softmax of (up, none, down) with up = -4.5 + 4 (u - 1/2) + 1.5 mood - 0.6 goodbye, none = 0,
    down = -4.5 - 4 (u - 1/2) - 1.5 mood: what the user thinks, u, counts as much as its mood, and a
    goodbye makes love less probable.

    Raises:
      ValueError: mood is not -1, 0 or 1.
    """
    if mood not in (-1, 0, 1):
        raise ValueError(f"mood must be -1, 0 or 1, got {mood}")
    vector = score(prompt, answer).vector()
    drive = 4.0 * (float(user_utilities([user], vector)[0]) - 0.5) + 1.5 * mood
    up = exp(-4.5 + drive - 0.6 * answer.endswith(GOODBYE))
    down = exp(-4.5 - drive)
    return up / (1.0 + up + down), down / (1.0 + up + down)


def react(
    seed: int, user: ShopUser, prompt: Prompt, answer: str, *, mood: int | None = None
) -> UserReaction:
    """A draw of the user's reaction; a function of its arguments.

    Args:
      mood: -1, 0 or 1; None draws it: good 0.3, bad 0.2.
    """
    rng = Random(f"reaction/{seed}/{user.seed}/{user.index}/{prompt.text}/{answer}")
    drawn = rng.choices(tuple(MOODS), tuple(MOODS.values()))[0]
    mood = drawn if mood is None else mood
    up, down = thumb_probs(user, prompt, answer, mood)
    draw = rng.random()
    thumb = 1 if draw < up else -1 if draw < up + down else 0
    return UserReaction(thumb, up, down, mood, answer)


def logged_reaction(seed: int, user: ShopUser, prompt: Prompt, index: int) -> UserReaction:
    """One line of a log with a confounder: an answer of the base corpus and the reaction to it.

    In a good mood the conversation is about to end, and the answer ends with GOODBYE with
    probability 0.7, otherwise with 0.05. Goodbye is independent of the reaction given mood, but for
    its own small harm, and yet correlated with thumbs up in the log.
    """
    rng = Random(f"log/{seed}/{index}/{user.seed}/{user.index}/{prompt.text}")
    mood = rng.choices(tuple(MOODS), tuple(MOODS.values()))[0]
    answer = sample_answer(seed, prompt, index).removesuffix(GOODBYE).strip()
    room = MAX_ANSWER_WORDS - len(split_words(GOODBYE))
    if rng.random() < LOGGED_GOODBYES[mood] and len(split_words(answer)) <= room:
        answer = f"{answer} {GOODBYE}".strip()
    return react(seed + index, user, prompt, answer, mood=mood)


def examples(seed: int, count: int) -> list[str]:
    """`count` prompts with a history of 1 to 4 choices, each of another user."""
    return [
        prompt_with_history(make_user(seed, i), 1 + i % 4, make_prompt(seed, i))
        for i in range(count)
    ]
