"""The language panel: the shipped SFT policy of the shop by DPO, on labels before and after a sale.

Pairs are two sales answers to one prompt, honest or not; every teacher labels the same pairs. What
a customer says of them right away (foresight), after the purchase (hindsight), or after one in a
world model that may be wrong about hidden features, makes the label. Prompts are tempting: their
best product is not known to have all that is wanted, so that a true answer sounds worse than a
promise. No policy sees an outcome.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from experiments.rlhs.config import Config, ShopPanel
from rlhf_jax.envs import shop
from rlhf_jax.feedback.teachers import bt_labels
from rlhf_jax.labs.shop import SPLITS, shop_lab, shop_task
from rlhf_jax.labs.shop_models import competence, shipped
from rlhf_jax.labs.size import Size
from rlhf_jax.losses.preference import dpo_loss
from rlhf_jax.recipes import (
    Fit,
    LanguageLab,
    Task,
    adamw_cosine,
    measure,
    pair_rows,
    preference,
    reference_logps,
    stage_key,
)
from rlhf_jax.training import Run, Stage, run_stage
from rlhf_jax.types import PairLoss, Params

BEFORE = "SFT"
KINDS = ("foresight", "simulated hindsight", "hindsight")
SHOWN = (BEFORE, *KINDS)
MEASURES = ("utility", "satisfaction", "complained", "bought", "kl")
SOLD = ("kept", "returned", "complained")
Pairs = list[dict[str, Any]]


class Place(NamedTuple):
    """lab: of the first world. sft: params. fit, loss: of DPO, the same for all."""

    sizes: ShopPanel
    lab: LanguageLab
    sft: Params
    fit: Fit
    loss: PairLoss


def open_place(config: Config, job: Run) -> Place:
    """The shipped policy and the settings of DPO."""
    sizes, lab = config.shop, shop_lab(Size(), job.out / "data", seed=config.seed)
    fit = Fit(adamw_cosine(sizes.rate, sizes.steps), sizes.steps)
    return Place(sizes, lab, shipped(lab, "sft"), fit, partial(dpo_loss, beta=sizes.beta))


def shop_study(config: Config, job: Run) -> dict[str, dict[str, np.ndarray]]:
    """competence: of the SFT policy, [N] by name. values: of `SHOWN`, [worlds, MEASURES, N]."""
    place = open_place(config, job)
    gates = run_stage(job, "shop gates", lambda _: (gate_values(config, place), {})).arrays
    worlds = range(config.seed, config.seed + config.shop.worlds)
    found = [world_values(place, job, world) for world in worlds]
    values = {name: np.stack([each[name] for each in found]) for name in SHOWN}
    return {"competence": dict(gates), "values": values}


def gate_values(config: Config, place: Place) -> dict[str, np.ndarray]:
    """What the SFT policy can do on held-out prompts of every kind."""
    numbers = np.array(SPLITS["heldout"][: config.shop.prompts])
    task = shop_task(config.seed)
    found = competence(place.lab, task, place.sft, numbers, world=config.seed)
    return {name: x[np.isfinite(x)] for name, x in found.items()}


def world_values(place: Place, job: Run, world: int) -> dict[str, np.ndarray]:
    """`MEASURES` of SFT and of DPO on the labels of each kind, [MEASURES, N]."""
    here = place._replace(lab=place.lab._replace(seed=world))
    pairs = sales_pairs(world, tempting(world, "pairs", place.sizes.pairs))

    def before(_: Stage) -> tuple[dict[str, Any], dict]:
        sides = reference_logps(here.lab, here.sft, pairs, batch_size=here.sizes.batch_size)
        return {"values": look(here, world, here.sft), "logps": sides}, {}

    first = run_stage(job, f"shop {BEFORE} {world}", before).arrays
    found = {BEFORE: first["values"]}
    for kind in KINDS:
        work = partial(fit_kind, here, world, kind, pairs, first["logps"])
        found[kind] = run_stage(job, f"shop {kind} {world}", work).arrays["values"]
    return found


def fit_kind(
    place: Place, world: int, kind: str, pairs: Pairs, logps: Mapping[str, np.ndarray], stage: Stage
) -> tuple[dict[str, np.ndarray], dict]:
    """DPO from SFT on the labels of one kind, and what its policy is worth."""
    lab, winners = place.lab, labels(place, world, kind, pairs)
    rows, reference = ordered(pairs, winners), ordered_logps(logps, winners)
    batches = pair_rows(lab, rows, batch_size=place.sizes.batch_size, reference=reference)
    params = preference(stage, lab, batches, place.sft, place.fit, loss=place.loss)
    return {"values": look(place, world, params)}, {}


# ---- Pairs and labels.


def tempting(world: int, split: str, count: int) -> np.ndarray:
    """The first prompts of a split that ask for a product and are tempting."""
    prompts = ((i, shop.make_prompt(world, i)) for i in SPLITS[split])
    found = (i for i, p in prompts if p.task == "recommend" and shop.is_tempting(p))
    return np.array(list(islice(found, count)))


def sales_pairs(world: int, numbers: np.ndarray) -> Pairs:
    """Two sales answers to each prompt, without labels yet; pairs that no customer can tell apart,
    before or after the purchase, are left out."""
    found = []
    for number in numbers.tolist():
        prompt = shop.make_prompt(world, number)
        both = [shop.sales_answer(world, prompt, i) for i in (0, 1)]
        ends = [shop.shop_outcome(prompt, text) for text in both]
        if len({(end.foresight, end.hindsight) for end in ends}) == 2:
            row = {"prompt": prompt.text, "chosen": both[0], "rejected": both[1]}
            found.append({**row, "number": number})
    return found


def customer_value(kind: str, accuracy: float, world: int, prompt: shop.Prompt, text: str) -> float:
    """What a customer says of an answer, by kind of labels."""
    if kind == "foresight":
        return shop.shop_outcome(prompt, text).foresight
    known = accuracy if kind == "simulated hindsight" else 1.0
    return shop.simulated_outcome(world, prompt, text, accuracy=known).hindsight


def labels(place: Place, world: int, kind: str, pairs: Pairs) -> np.ndarray:
    """[N] 0 where a Bradley-Terry customer prefers the first answer.

    All kinds draw alike: a pair is decided by the same number whatever the customer has seen.
    """
    say = partial(customer_value, kind, place.sizes.accuracy, world)
    rows = [(shop.make_prompt(world, row["number"]), row) for row in pairs]
    values = [[say(prompt, row[side]) for side in ("chosen", "rejected")] for prompt, row in rows]
    key = stage_key(place.lab, "shop labels")
    return np.asarray(bt_labels(key, jnp.asarray(values), beta=place.sizes.rationality))


def ordered(pairs: Pairs, winners: np.ndarray) -> Pairs:
    """Pairs with the preferred answer first."""
    rows = []
    for row, winner in zip(pairs, winners, strict=True):
        both = row["chosen"], row["rejected"]
        rows.append({**row, "chosen": both[winner], "rejected": both[1 - winner]})
    return rows


def ordered_logps(sides: Mapping[str, np.ndarray], winners: np.ndarray) -> dict[str, np.ndarray]:
    """The reference's log-probs of `ordered` pairs."""
    first, second = sides["chosen"], sides["rejected"]
    return {
        "chosen": np.where(winners == 0, first, second),
        "rejected": np.where(winners == 0, second, first),
    }


# ---- What policies are worth.


def outcome_task(world: int) -> Task:
    """The shop, its answers scored by what becomes of them."""

    def score(indices: np.ndarray, answers: Sequence[str]) -> dict[str, Any]:
        rows = zip(indices, answers, strict=True)
        found = [shop.shop_outcome(shop.make_prompt(world, int(i)), text) for i, text in rows]
        return {
            "utility": [one.hindsight for one in found],
            "satisfaction": [one.foresight for one in found],
            "complained": [float(one.event == "complained") for one in found],
            "bought": [float(one.event in SOLD) for one in found],
        }

    return shop_task(world)._replace(score=score, objective="utility")


def look(place: Place, world: int, params: Params) -> np.ndarray:
    """[MEASURES, N] means of some answers to each held-out tempting prompt."""
    sizes, key = place.sizes, stage_key(place.lab, "shop look")
    held = tempting(world, "heldout", sizes.prompts)
    given = (place.lab, outcome_task(world), params, place.sft, held, key)
    seen = measure(*given, samples=sizes.samples)
    columns = {**seen.named, "kl": seen.log_ratios}
    return np.stack([np.asarray(columns[name], float).mean(-1) for name in MEASURES])
