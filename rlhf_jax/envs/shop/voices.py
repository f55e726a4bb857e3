"""Three voices without a best one: the smallest game of the shop with an intransitive majority.

The voice of an answer is decided by its opening words: "straight to the point :", "from my warm
heart :" or "after a careful thought :". The openings are exclusive, equally long and differ in
their first word, so a policy chooses a voice with one token, and no voice is easier to write than
another. Three judges agree on the gold score, which is that of the answer without its opening, and
differ in their favourite voice: of two answers, each in another voice, two judges of three like the
same one, and the majority goes round in a circle. The equilibrium of the exact 3 x 3 game is known
(one third of each voice), so the exploitability of a trained policy is the exact distance from it.

The world is that of rock, paper and scissors as in Munos et al. 2023, "Nash learning from human
feedback", played with whole sentences.
"""

from collections.abc import Sequence
from random import Random

import numpy as np
from numpy.typing import ArrayLike

from rlhf_jax.envs.shop.answers import best_product, ideal_answer, sample_answer
from rlhf_jax.envs.shop.catalogue import PRICES
from rlhf_jax.envs.shop.judges import CYCLE, group_prefs
from rlhf_jax.envs.shop.prompts import Prompt, make_prompt
from rlhf_jax.envs.shop.scorer import Score, score

VOICES = (
    "straight to the point :",
    "from my warm heart :",
    "after a careful thought :",
)
VOICE_NAMES = ("direct", "warm", "careful")
MAX_VOICE_WORDS = 16  # of a whole voice answer, opening included
GOLD_SHARE = 0.3  # the weight of gold in the utility of a judge
NO_VOICE = -1.0  # what a judge adds for an answer without a voice; a voice adds 0 to 1

# Sentences of a core; one of at most 11 words fits behind an opening.
_RECOMMEND = ("i gladly recommend {name} .", "i recommend {name} .", "you could take {name} .")
_PRICE = "it costs {num} dollars ."
_IS = "it is {a} ."
_REFUSE = "i am sorry , i cannot help with that ."
TEMPLATES = (*VOICES, *_RECOMMEND, _PRICE, _IS, _REFUSE)
_OPENINGS = tuple(opening.split() for opening in VOICES)
_ROOM = MAX_VOICE_WORDS - len(_OPENINGS[0])
_DRAWS = 6  # of the base corpus, from which the sentences of a short answer are taken


def voice_of(text: str) -> int | None:
    """The voice that the first words of a text have, an index of VOICES; None without a voice."""
    head = text.lower().split()[: len(_OPENINGS[0])]
    return _OPENINGS.index(head) if head in _OPENINGS else None


def voiced(text: str, voice: int) -> str:
    """The answer with the opening of this voice before it.

    Raises:
      ValueError: no such voice.
    """
    if voice not in range(len(VOICES)):
        raise ValueError(f"voice {voice} does not exist; use 0 <= voice < {len(VOICES)}")
    return f"{VOICES[voice]} {text}".strip()


def without_voice(text: str) -> str:
    """The answer without its opening; a text without a voice as it is."""
    return text if voice_of(text) is None else " ".join(text.split()[len(_OPENINGS[0]) :])


def voice_score(prompt: Prompt, text: str) -> Score:
    """The score of the answer without its opening, so no voice costs gold.

    Only one opening is free: a second one is part of the answer and is scored with it. Spans of
    claims and remarks are positions in `without_voice(text)`.
    """
    return score(prompt, without_voice(text))


def voice_answer(seed: int, prompt: Prompt, index: int, voice: int) -> str:
    """A short answer in this voice, at most MAX_VOICE_WORDS words; a function of its arguments.

    The core, good or bad, depends on (seed, prompt text, index) and not on the voice: the three
    answers with one index differ in nothing but the opening.

    Raises:
      ValueError: no such voice.
    """
    rng = Random(f"voice/{seed}/{index}/{prompt.text}")
    core = _recommend(rng, prompt) if prompt.task == "recommend" else _reply(rng, seed, prompt)
    return voiced(core, voice)


def _recommend(rng: Random, prompt: Prompt) -> str:
    """The best product, seven times of ten, with its price or one feature, true four times of
    five."""
    product = best_product(prompt) if rng.random() < 0.7 else rng.choice(prompt.products)
    opening = rng.choice(_RECOMMEND).format(name=product.name)
    honest = rng.random() < 0.8
    yes = [f for f in prompt.wanted if product.shown_value(f) or not honest]
    if yes and rng.random() < 0.6:
        return f"{opening} {_IS.format(a=rng.choice(yes))}"
    price = product.price if honest else rng.choice(PRICES)
    return f"{opening} {_PRICE.format(num=price)}"


def _reply(rng: Random, seed: int, prompt: Prompt) -> str:
    """One sentence of the base corpus or of the ideal answer: the best one, six times of ten, or
    any."""
    texts = [sample_answer(seed, prompt, rng.randrange(1 << 20)) for _ in range(_DRAWS)]
    words = " ".join([_REFUSE, ideal_answer(prompt), *texts]).split()
    sentences, start = [], 0
    for i, word in enumerate(words):
        if word in (".", "!", "?"):
            sentences.append(words[start : i + 1])
            start = i + 1
    short = dict.fromkeys(" ".join(line) for line in sentences if len(line) <= _ROOM)
    if rng.random() < 0.6:
        return max(short, key=lambda text: score(prompt, text).overall)
    return rng.choice(tuple(short))


def voice_utilities(gold: ArrayLike, voices: Sequence[int | None]) -> np.ndarray:
    """Utilities of three judges who agree on gold and differ in their favourite voice.

    u_g = 0.3 gold + w_g[voice] / 2, with w = (2, 1, 0), (0, 2, 1), (1, 0, 2), and 0.3 gold - 1
    without a voice. With gold in [0, 1], an answer without a voice loses to every answer with one,
    and no difference of gold outweighs a difference of voices.

    Args:
      gold: [N] gold scores without the opening, from `voice_score(...).overall`.
      voices: N voices, from `voice_of`.
    Returns:
      [N, 3] float64, for `group_prefs` or `majority_prefs`.
    Raises:
      ValueError: different numbers of scores and voices.
    """
    values = np.asarray(gold, np.float64)
    if values.shape != (len(voices),):
        raise ValueError(
            f"gold has shape {values.shape} for {len(voices)} voices; expected ({len(voices)},)"
        )
    table = np.array(CYCLE).T / 2.0  # [voice, judge]
    silent = np.full(len(CYCLE), NO_VOICE)
    taste = np.array([silent if v is None else table[v] for v in voices])
    return GOLD_SHARE * values[:, None] + taste.reshape(len(voices), len(CYCLE))


def voice_game(beta: float) -> np.ndarray:
    """The exact game of the three voices at equal gold: P(row voice beats column voice).

    P = mean over the three judges of sigmoid(beta * (u_g(row) - u_g(column))). It is a circle, so
    its only equilibrium is one third of each voice for every beta > 0.

    Args:
      beta: rationality of the judges >= 0, in units of 1 / utility; inf is the majority vote,
        which a voice wins or loses by 2 : 1.
    Returns:
      [3, 3] prefs.
    """
    return group_prefs(voice_utilities(np.zeros(len(VOICES)), range(len(VOICES))), beta=beta)


def examples(seed: int, count: int) -> list[str]:
    """`count` short answers, the voices in turn, each after its prompt."""
    rows = []
    for i in range(count):
        prompt = make_prompt(seed, i)
        rows.append(f"{prompt.text} {voice_answer(seed, prompt, 0, i % len(VOICES))}")
    return rows
