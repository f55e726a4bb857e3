"""rlhf ask: which pairs to show to a user next, by a reward of users."""

import json
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.data import answers_key, pair_key
from rlhf_jax.cli.new_users import NOBODY, open_comparisons
from rlhf_jax.cli.reward_folders import open_users, text_vectors
from rlhf_jax.cli.session import new_file
from rlhf_jax.cli.users import UserModel
from rlhf_jax.labelling import read_items
from rlhf_jax.labelling.items import Item
from rlhf_jax.recipes import LanguageLab
from rlhf_jax.recipes.user_queries import latent_probs, posterior_draws, user_queries
from rlhf_jax.recipes.users import EmbeddedPairs
from rlhf_jax.reports.claims import write_text
from rlhf_jax.training import UserError, reading_input
from rlhf_jax.types import Params

DRAWS = 256  # of a user's posterior


@dataclass(frozen=True, kw_only=True)
class Ask:
    """Pairs of answers to show to a user next: those of which the choices tell most about who the
    user is, by the posterior of a reward of users (rlhf reward --kind users).

    OUT has rows of a prompt, two answers, the user if --comparisons names one, and the information
    in nats beyond the rows before. rlhf label --data OUT shows them; append what it writes to
    --comparisons and ask again.
    """

    model: Path
    """Folder of a reward of users."""
    data: Path
    """What may be asked: pairs, rankings, answers, or {"prompt": "2+2?", "answers": ["4", "5"]}."""
    out: Path
    """File of the pairs to ask, JSON lines."""
    comparisons: Path | None = None
    """Pairs that the users have judged; without them, one user of whom nothing is known."""
    number: int = 4
    """Pairs to ask each user, chosen together."""

    def __post_init__(self) -> None:
        check_fields(self, "[1, 12]", "number")


class Asked(NamedTuple):
    """A user who is asked. latents: [M, k] that it may have. answered: keys of pairs."""

    user: Hashable | None
    latents: jax.Array
    answered: frozenset[str]


def ask(command: str, options: Ask) -> None:
    """Chooses and writes."""
    new_file(options.out)
    lab, params, model = open_users(options.model)
    with reading_input():
        found = read_items(options.data, "pairs")
    print(f"{options.data}: {found.note}")
    items = list(found.by_key.values())
    vectors = candidate_vectors(lab, params, model, items)
    lines = []
    for asked in users_to_ask(lab, params, model, options.comparisons):
        keys = [answers_key(item.prompt, item.answers) for item in items]
        left = [i for i, key in enumerate(keys) if key not in asked.answered]
        if len(left) < options.number:
            raise UserError(
                f"--number {options.number}: {options.data} has {len(left)} of {len(items)} pairs "
                f"that {_name(asked.user)} has not judged; give more"
            )
        reward = model.params.reward
        probs = latent_probs(model.networks(), reward, asked.latents, jnp.asarray(vectors[left]))
        chosen = user_queries(probs, count=options.number)
        gains = np.asarray(chosen.gains, float)
        print(
            f"{_name(asked.user)}: {options.number} of {len(left)} pairs, {gains.sum():.3g} nats; "
            f"{len(items) - len(left)} were judged before"
        )
        for number, gain in zip(np.asarray(chosen.numbers), gains, strict=True):
            lines.append(_row(items[left[int(number)]], asked.user, float(gain)))
    write_text(options.out, "".join(lines))
    print(f"pairs to ask: {options.out}")


def users_to_ask(
    lab: LanguageLab, params: Params, model: UserModel, path: Path | None
) -> Iterator[Asked]:
    """Every user of the file, by draws from the posterior; without a file, one who may be any of
    those that the model was trained on."""
    if path is None:
        every = -(-len(model.latents) // DRAWS)
        yield Asked(None, jnp.asarray(model.latents[::every]), frozenset())
        return
    found = open_comparisons(lab, params, model, path)
    keys = jax.random.split(jax.random.key(0), len(found.users))
    for i, (user, key) in enumerate(zip(found.users, keys, strict=True)):
        own = jax.tree.map(lambda x, i=i: x[i], found.posterior)
        answered = frozenset(pair_key(row) for row in found.records if row["user"] == user)
        latents = posterior_draws(own, key, draws=DRAWS)
        yield Asked(None if user == NOBODY else user, latents, answered)


def candidate_vectors(
    lab: LanguageLab, params: Params, model: UserModel, items: Sequence[Item]
) -> np.ndarray:
    """[N, 2, d] the vectors of both answers of each pair, as the reward reads them."""
    prompts = [item.prompt for item in items for _ in item.answers]
    texts = [answer for item in items for answer in item.answers]
    found = text_vectors(lab, params, prompts, texts)
    return model.units.of(EmbeddedPairs(found.reshape(len(items), 2, -1), ())).vectors


def _name(user: Hashable | None) -> str:
    return "the user" if user is None else f"user {user!r}"


def _row(item: Item, user: Hashable | None, information: float) -> str:
    row: dict[str, Any] = {"prompt": item.prompt, "answers": item.answers}
    row |= ({"tools": item.tools} if item.tools else {}) | ({} if user is None else {"user": user})
    return json.dumps(row | {"information": information}, ensure_ascii=False) + "\n"
