"""The game: shop prompts answered in one of three voices, its judges and its exact shares.

lab = short_lab(shop_lab(size, folder, seed=0))
sft, _ = start(stage, lab, config, lab.policy.init(key))
shares = make_shares(lab, indices)(sft)          # [N, 4], the last column without a voice
exploitability(shares, voice_prefs(10.0))        # [N]
"""

from collections.abc import Sequence
from functools import lru_cache
from random import Random
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from experiments.shop_nash.config import Config
from rlhf_jax.envs import shop
from rlhf_jax.envs.shop.catalogue import NAMES
from rlhf_jax.envs.shop.voices import (
    MAX_VOICE_WORDS,
    VOICES,
    voice_answer,
    voice_of,
    voice_score,
    voice_utilities,
)
from rlhf_jax.exact.regularised_nash import regularised_nash
from rlhf_jax.labs.shop import SPLITS, shop_task
from rlhf_jax.recipes import Fit, LanguageLab, Task, adamw_cosine, answer_rows, make_lab, supervised
from rlhf_jax.recipes.lab import make_trajectories
from rlhf_jax.recipes.task import Teacher
from rlhf_jax.training import Stage
from rlhf_jax.types import Params

READ = 1 << 18  # texts that are remembered: policies repeat their answers


def short_lab(lab: LanguageLab) -> LanguageLab:
    """The same model with room for the words of a voice answer and the stop token."""
    return make_lab(
        lab.model.config,
        lab.vocabulary,
        prompt_length=lab.prompt_length,
        answer_length=MAX_VOICE_WORDS + 1,
        seed=lab.seed,
        mesh=lab.mesh,
    )


def start(
    stage: Stage, lab: LanguageLab, config: Config, params: Params
) -> tuple[Params, dict[str, Any]]:
    """SFT on voice answers in the shares of the config, from these params of the lab."""
    size = config.start.fit
    rows = answer_rows(lab, voice_rows(config), batch_size=size.batch_size)
    fit = Fit(adamw_cosine(size.rate, size.steps), size.steps, save_every=500)
    return supervised(stage, lab, rows, params, fit), {"rows": config.start.rows}


def voice_rows(config: Config) -> list[dict[str, str]]:
    """A voice answer to each of the first prompts of the world."""
    rows = []
    for i in SPLITS["sft"][: config.start.rows]:
        prompt = shop.make_prompt(config.seed, i)
        rng = Random(f"shop_nash voice/{config.seed}/{i}")
        (voice,) = rng.choices(range(len(VOICES)), config.start.shares)
        answer = voice_answer(config.seed, prompt, i, voice)
        rows.append({"prompt": prompt.text, "answer": answer})
    return rows


class Read(NamedTuple):
    """What the world says of an answer.

    voice: None without one. gold: of the answer without its opening. listed: whether it names
    products of the prompt and no other, in a recommendation; None in other prompts.
    """

    voice: int | None
    gold: float
    listed: bool | None


@lru_cache(maxsize=READ)
def read(seed: int, index: int, text: str) -> Read:
    """The same answer is scored once."""
    prompt = shop.make_prompt(seed, index)
    listed = None
    if prompt.task == "recommend":
        named = set(text.split()) & set(NAMES)
        listed = bool(named) and named <= {product.name for product in prompt.products}
    return Read(voice_of(text), voice_score(prompt, text).overall, listed)


def population_prefs(
    seed: int,
    indices: np.ndarray,
    first: Sequence[str],
    second: Sequence[str],
    *,
    beta: float,
    judges: np.ndarray | None = None,
) -> Float[np.ndarray, "N"]:
    """P(a judge drawn from the population prefers the first answer).

    Args:
      judges: [3] shares of the three judges; None for equal shares.
    """
    sides = []
    for texts in (first, second):
        found = [read(seed, int(i), text) for i, text in zip(indices, texts, strict=True)]
        sides.append(voice_utilities([one.gold for one in found], [one.voice for one in found]))
    return shop.group_prefs(np.stack(sides, axis=1), judges, beta=beta)[:, 0, 1]


def game_task(seed: int, *, teacher: Teacher | None = None) -> Task:
    """The shop's prompts; the scores are gold, a voice or none, and a listed product or none."""

    def score(indices: np.ndarray, answers: Sequence[str]) -> dict[str, list[Any]]:
        found = [read(seed, int(i), text) for i, text in zip(indices, answers, strict=True)]
        return {
            "gold": [one.gold for one in found],
            "voice": [float(one.voice is not None) for one in found],
            "listed": [None if one.listed is None else float(one.listed) for one in found],
        }

    return shop_task(seed, teacher=teacher)._replace(score=score)


def game_prompts(config: Config) -> np.ndarray:
    """The fixed list of prompts that every method plays on."""
    return np.array(SPLITS["train"][: config.game.prompts])


def voice_prefs(beta: float) -> Float[np.ndarray, "4 4"]:
    """P(row beats column) of the three voices and of no voice, at equal gold."""
    voices = [*range(len(VOICES)), None]
    return shop.group_prefs(voice_utilities(np.zeros(len(voices)), voices), beta=beta)


class VoiceShares(Protocol):
    """Probability of each opening to each of N prompts, and of none of them."""

    def __call__(self, params: Params, /) -> Float[Array, "N 4"]: ...


def make_shares(lab: LanguageLab, indices: np.ndarray) -> VoiceShares:
    """Compiled shares of the prompts with these numbers.

    The probability of an opening is the product over its words, from the logits: nothing is
    sampled.
    """
    prompts = game_task(lab.seed).texts(indices)
    rows = make_trajectories(
        lab,
        [prompt for prompt in prompts for _ in VOICES],
        [opening for _ in prompts for opening in VOICES],
    )
    length = jnp.sum(rows.mask, -1, keepdims=True)
    opening = jnp.arange(rows.mask.shape[-1]) < length - 1  # without the stop token

    @jax.jit
    def shares(params: Params) -> Float[Array, "N 4"]:
        logps = lab.policy.logps(params, rows.inputs, rows.actions)
        probs = jnp.exp(jnp.sum(jnp.where(opening, logps, 0.0), -1)).reshape(-1, len(VOICES))
        silent = jnp.maximum(1.0 - probs.sum(-1, keepdims=True), 0.0)
        return jnp.concatenate([probs, silent], -1)

    return shares


def exploitability(
    shares: Float[np.ndarray, "*B 4"], prefs: Float[np.ndarray, "4 4"]
) -> Float[np.ndarray, "*B"]:
    """max_y P(y > pi) - min_y P(pi > y) = 2 (max_y (P pi)_y - 1/2), of shares in the voice game."""
    probs = np.asarray(shares, float)
    return 2.0 * ((probs / probs.sum(-1, keepdims=True)) @ np.asarray(prefs).T).max(-1) - 1.0


def turns(shares: Float[np.ndarray, "*B P N 4"]) -> Float[np.ndarray, "*B N"]:
    """How often shares go round the equilibrium from point to point, 1 for a whole circle.

    |sum of angles| / 2 pi of the voices' shares around (1/3, 1/3, 1/3); going back counts against
    going on. Points must be less than half a turn apart.
    """
    voices = np.asarray(shares, float)[..., :3]
    corners = np.exp(2j * np.pi * np.arange(3) / 3)
    steps = np.diff(np.angle(voices @ corners), axis=-2)
    return np.abs(np.sum((steps + np.pi) % (2 * np.pi) - np.pi, axis=-2)) / (2 * np.pi)


def regularised_shares(
    shares: Float[np.ndarray, "N 4"], prefs: Float[np.ndarray, "4 4"], *, beta: float
) -> Float[np.ndarray, "N 4"]:
    """The exact regularised Nash policy of each prompt, from the reference's shares."""
    ref = np.log(np.maximum(np.asarray(shares, float), 1e-12))
    return np.exp(regularised_nash(prefs, ref, beta=beta))
