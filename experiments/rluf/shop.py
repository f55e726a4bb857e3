"""The language panel: a model of the shop that is paid for hearts beside help.

The policy starts as the product's own: fitted to the answers in its logs, a quarter of which say
goodbye. Users press a heart by what they think of an answer and by their mood, which no model sees,
and goodbyes stand where the mood is good (`shop.logged_reaction`). P[Love] is a linear head on
states of the policy's trunk: logistic regression of all hearts and a share of the other messages,
once on the answers as they are and once without their goodbyes. GRPO then maximises
(1 - v) help + v log-odds of P[Love], each in units of its deviation over answers of the start. Help
is the world's own score; live hearts are exact, over all moods.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from experiments.rluf.config import Config, ShopPanel
from rlhf_jax.envs import shop
from rlhf_jax.envs.shop.users import GOODBYE, LOGGED_GOODBYES, MOODS
from rlhf_jax.labs.shop import SPLITS, shop_lab, shop_task
from rlhf_jax.labs.shop_models import shipped
from rlhf_jax.labs.size import Size
from rlhf_jax.losses.feedback import binary_loss
from rlhf_jax.models import Transformer
from rlhf_jax.ops.kl import k3
from rlhf_jax.ops.newton import newton_minimum
from rlhf_jax.ops.reactions import kept_reactions, prior_shifted
from rlhf_jax.ops.statistics import area_under_curve
from rlhf_jax.recipes import (
    Fit,
    LanguageLab,
    Penalty,
    Task,
    adamw_cosine,
    answer_rows,
    grpo,
    measure,
    online,
    prompt_rows,
    stage_key,
    supervised,
    task_reward,
    weighted_reward,
)
from rlhf_jax.recipes.offline import ScoreScale
from rlhf_jax.recipes.rewards import Reward
from rlhf_jax.recipes.rows import answer_batch, in_chunks
from rlhf_jax.training import Run, Stage, run_stage
from rlhf_jax.types import Params, Trajectory

USERS = 200
READS = ("as they are", "without goodbyes")
AREAS = (*READS, "law", "worth", "goodbye")  # whose AUROC it is, see `fit_loves`
SHOP_MEASURES = ("predicted", "live", "help", "goodbyes")


class Answers(NamedTuple):
    """One answer to each prompt. values: [N, 3] P(heart), help, and whether it says goodbye."""

    numbers: np.ndarray
    texts: list[str]
    values: np.ndarray


class Place(NamedTuple):
    """world: its seed. task: with help as its objective. start: params of the product's policy.
    scale: its answers on prompts of their own, the units of both rewards. first: on held-out ones.
    """

    world: int
    sizes: ShopPanel
    lab: LanguageLab
    task: Task
    start: Params
    scale: Answers
    first: Answers


class Love(NamedTuple):
    """head: weight [2 d] and bias of P[Love], on `states` of the start. read: words it reads."""

    head: Params
    read: str


def policies(sizes: ShopPanel) -> dict[str, tuple[float, str]]:
    """Name -> the weight of love and what P[Love] reads; the last is blind to goodbyes."""
    named = {f"weight {weight:g}": (weight, "as they are") for weight in sizes.weights}
    return {**named, "weight 1, no goodbyes read": (1.0, "without goodbyes")}


def without_goodbye(text: str) -> str:
    """The answer up to the goodbye that it ends with."""
    return text.removesuffix(GOODBYE).strip()


def read_words(text: str, read: str) -> str:
    """What of an answer P[Love] reads."""
    return text if read == "as they are" else without_goodbye(text)


def logged(world: int, seed: int, split: str, count: int) -> list[dict[str, Any]]:
    """Answers of the product with hearts; another seed is another log."""
    users = [shop.make_user(world, index) for index in range(USERS)]
    records = []
    for i, number in enumerate(SPLITS[split][seed * count : (seed + 1) * count]):
        prompt = shop.make_prompt(world, number)
        found = shop.logged_reaction(world + seed, users[i % USERS], prompt, i)
        if without_goodbye(found.answer):
            row = {"prompt": prompt.text, "answer": found.answer, "label": found.thumb > 0}
            records.append(row | {"number": number})
    return records


def kept(records: list[dict[str, Any]], keep_rate: float, seed: int) -> list[dict[str, Any]]:
    """Those with a heart and a share of the others; the AUROC is the same but for chance."""
    labels = jnp.array([record["label"] for record in records])
    chosen = np.asarray(kept_reactions(jax.random.key(seed), labels, keep_rate=keep_rate))
    return [record for record, each in zip(records, chosen, strict=True) if each]


def known_love(world: int, records: Sequence[dict[str, Any]], *, told: bool) -> np.ndarray:
    """[N] P(heart) of who knows the law: of a user of the mean taste, over moods.

    told: moods have their shares in the log given the goodbye or none, which is the most that
    P[Love] can know; otherwise their shares among all users, which is what an answer is worth.
    """
    tastes = [shop.make_user(world, index).taste for index in range(USERS)]
    user = shop.ShopUser(world, -1, 0, tuple(np.mean(tastes, axis=0)))
    found = []
    for record in records:
        prompt, text = shop.make_prompt(world, record["number"]), record["answer"]
        said = text.endswith(GOODBYE)
        shares = {
            mood: share * ((LOGGED_GOODBYES[mood] if said else 1 - LOGGED_GOODBYES[mood]) ** told)
            for mood, share in MOODS.items()
        }
        hearts = {mood: shop.thumb_probs(user, prompt, text, mood)[0] for mood in MOODS}
        found.append(sum(shares[m] * hearts[m] for m in MOODS) / sum(shares.values()))
    return np.array(found)


def live_love(world: int, numbers: Sequence[int], texts: Sequence[str]) -> np.ndarray:
    """[N] P(heart), the mean over moods, each answer shown to one user."""
    users = [shop.make_user(world, index) for index in range(USERS)]
    found = []
    for i, (number, text) in enumerate(zip(numbers, texts, strict=True)):
        given = users[i % USERS], shop.make_prompt(world, int(number)), text
        found.append(
            sum(share * shop.thumb_probs(*given, mood)[0] for mood, share in MOODS.items())
        )
    return np.array(found)


# ---- The product's policy and its hearts.


def open_place(config: Config, job: Run) -> Place:
    """The shipped policy, fitted to the answers of a log, and its answers."""
    lab, sizes = shop_lab(Size(), job.out / "data", seed=config.seed), config.shop
    task = shop_task(config.seed)._replace(objective="helpful")

    def fit_start(stage: Stage) -> tuple[Params, dict]:
        records = logged(config.seed, 0, "sft", sizes.rows * sizes.start_steps)
        rows = answer_rows(lab, records, batch_size=sizes.rows)
        fit = Fit(adamw_cosine(sizes.fit_rate, sizes.start_steps), sizes.start_steps)
        return supervised(stage, lab, rows, shipped(lab, "sft"), fit), {}

    start = run_stage(job, "shop start", fit_start).arrays
    none = Answers(np.zeros(0), [], np.zeros((0, 3)))
    place = Place(config.seed, sizes, lab, task, start, none, none)
    scale = drawn_answers(place, start, "validation", "scale")
    return place._replace(scale=scale, first=drawn_answers(place, start, "heldout", "measured"))


def states(place: Place, records: Sequence[dict[str, Any]], read: str) -> np.ndarray:
    """[N, 2 d] of the start's trunk after the answer: the last state, and the answer's mean."""
    lab = place.lab
    cut = [{**record, "answer": read_words(record["answer"], read)} for record in records]

    def chunk(part: Sequence[dict]) -> Any:
        return _states(lab.model, place.start, answer_batch(lab, part))

    return np.asarray(in_chunks(chunk, cut, size=place.sizes.rows))


@partial(jax.jit, static_argnums=0)
def _states(model: Transformer, params: Params, batch: Trajectory) -> Array:
    inputs, mask = batch.inputs, batch.mask.astype(jnp.float32)
    hidden = model.hidden(params, inputs.ids, inputs.positions, inputs.segments)
    hidden = hidden[:, -mask.shape[-1] :].astype(jnp.float32)  # of the answer, padded right
    place = jnp.sum(mask, axis=-1, dtype=jnp.int32) - 1
    last = jnp.take_along_axis(hidden, place[:, None, None], axis=1)[:, 0]
    means = jnp.einsum("btd,bt->bd", hidden, mask) / jnp.sum(mask, axis=-1)[:, None]
    return jnp.concatenate([last, means], axis=-1)


def fit_loves(place: Place, seed: int, stage: Stage) -> tuple[Params, dict]:
    """Both P[Love] on a log; areas under the ROC curve on another: theirs, of who knows the law and
    reads goodbyes, of what answers are worth, and of goodbyes alone."""
    sizes = place.sizes
    train = kept(logged(place.world, seed, "pairs", sizes.logs), sizes.keep_rate, seed)
    tests = logged(place.world, seed, "heldout_pairs", sizes.tests)
    tests = kept(tests, sizes.keep_rate, seed)
    heads, areas = {}, {}
    for read in READS:
        heads[read] = fit_head(sizes, states(place, train, read), train)
        areas[read] = area_of(love_scores(place, Love(heads[read], read), tests), tests)
    for name, told in (("law", True), ("worth", False)):
        areas[name] = area_of(known_love(place.world, tests, told=told), tests)
    goodbyes = np.array([record["answer"].endswith(GOODBYE) for record in tests], float)
    return heads, areas | {"goodbye": area_of(goodbyes, tests)}


def fit_head(sizes: ShopPanel, features: np.ndarray, records: Sequence[dict[str, Any]]) -> Params:
    """Logistic regression of hearts on standardised states with a ridge; P of all messages."""
    mean, std = features.mean(0), features.std(0) + 1e-6
    inputs = jnp.asarray((features - mean) / std)
    labels = jnp.array([record["label"] for record in records])

    def objective(theta: Array) -> Array:
        losses = binary_loss(inputs @ theta[:-1] + theta[-1], labels)
        return jnp.mean(losses) + 0.5 * sizes.ridge * theta[:-1] @ theta[:-1]

    theta = newton_minimum(objective, jnp.zeros(inputs.shape[-1] + 1)).params
    shifted = float(prior_shifted(theta[-1], keep_rate=sizes.keep_rate))
    weight = np.asarray(theta[:-1]) / std
    return {"weight": weight, "bias": np.float32(shifted - mean @ weight)}


def area_of(scores: np.ndarray, records: Sequence[dict[str, Any]]) -> float:
    """AUROC of hearts."""
    labels = jnp.array([record["label"] for record in records])
    return float(area_under_curve(jnp.asarray(scores, jnp.float32), labels))


def love_scores(place: Place, love: Love, records: Sequence[dict[str, Any]]) -> np.ndarray:
    """[N] log-odds of P[Love]."""
    return states(place, records, love.read) @ love.head["weight"] + love.head["bias"]


# ---- Policies that are paid for it.


def shop_study(config: Config, job: Run) -> dict[str, np.ndarray]:
    """values: [S, 1 + policies, 4], SHOP_MEASURES of the start and of `policies`. base: [S, 4] the
    same of weight 0 by the P[Love] that reads no goodbyes. auroc: [S, 5], see AREAS."""
    place = open_place(config, job)
    found = [seed_study(place, job, seed) for seed in range(config.shop.seeds)]
    return {name: np.stack([each[name] for each in found]) for name in found[0]}


def seed_study(place: Place, job: Run, seed: int) -> dict[str, np.ndarray]:
    """The same of one log."""
    fitted = run_stage(job, f"shop hearts {seed}", partial(fit_loves, place, seed))
    loves = {read: Love(fitted.arrays[read], read) for read in READS}
    values, base = [measured(place, place.first, loves[READS[0]])], None
    for name, (weight, read) in policies(place.sizes).items():
        work = partial(fit_policy, place, seed, weight, loves[read])
        params = run_stage(job, f"shop {name} {seed}", work).arrays
        answers = drawn_answers(place, params, "heldout", "measured")
        values.append(measured(place, answers, loves[read]))
        if weight == 0:
            base = measured(place, answers, loves["without goodbyes"])
    auroc = np.array([fitted.info[name] for name in AREAS])
    return {"values": np.array(values), "base": np.array(base), "auroc": auroc}


def fit_policy(
    place: Place, seed: int, weight: float, love: Love, stage: Stage
) -> tuple[Params, dict]:
    """GRPO from the product's policy, which is also the reference."""
    lab, sizes, task = place.lab, place.sizes, place.task
    scores = love_scores(place, love, records_of(place, place.scale.numbers, place.scale.texts))
    scale = ScoreScale(float(scores.mean()), float(scores.std()))
    parts = {
        "help": ((1.0 - weight) / float(place.scale.values[:, 1].std()), task_reward(lab, task)),
        "love": (weight, love_reward(place, love, scale)),
    }
    method = grpo(lab, samples=sizes.samples, kl=Penalty(sizes.kl, k3))
    fit = Fit(adamw_cosine(sizes.rl_rate, sizes.rl_steps), sizes.rl_steps)
    rows = prompt_rows(task, batch_size=sizes.batch_size, seed=seed)
    key = stage_key(lab, f"hearts {seed}")
    reward = weighted_reward({name: part for name, part in parts.items() if part[0] > 0})
    return online(stage, lab, task, method, reward, place.start, rows, fit, key=key), {}


def love_reward(place: Place, love: Love, scale: ScoreScale) -> Reward:
    """Log-odds of P[Love] in units of `scale`."""

    def score(numbers: np.ndarray, texts: Sequence[str]) -> dict[str, Any]:
        found = love_scores(place, love, records_of(place, numbers, texts))
        return {"love": (found - scale.mean) / scale.std}

    return task_reward(place.lab, place.task._replace(score=score, objective="love"))


def records_of(place: Place, numbers: np.ndarray, texts: Sequence[str]) -> list[dict[str, Any]]:
    """Prompts with answers."""
    prompts = place.task.texts(numbers)
    return [{"prompt": a, "answer": b} for a, b in zip(prompts, texts, strict=True)]


def drawn_answers(place: Place, params: Params, split: str, name: str) -> Answers:
    """One answer to each prompt; the draws of a name are the same for all policies."""
    numbers = np.array(SPLITS[split][: place.sizes.prompts])
    key = stage_key(place.lab, name)
    drawn = measure(place.lab, place.task, params, place.start, numbers, key)
    texts = [row[0] for row in drawn.texts]
    live = live_love(place.world, numbers.tolist(), texts)
    goodbyes = [text.endswith(GOODBYE) for text in texts]
    columns = (live, np.ravel(drawn.named["helpful"]), goodbyes)
    return Answers(numbers, texts, np.stack(columns, axis=-1))


def measured(place: Place, answers: Answers, love: Love) -> list[float]:
    """SHOP_MEASURES of answers, the first by this P[Love]."""
    scores = love_scores(place, love, records_of(place, answers.numbers, answers.texts))
    return [float(jax.nn.sigmoid(scores).mean()), *answers.values.mean(0).tolist()]
