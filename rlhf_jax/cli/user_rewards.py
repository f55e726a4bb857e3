"""Rewards of --reward for users and for groups of users."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rlhf_jax.cli.mixtures import group_number, group_scores, split_group
from rlhf_jax.cli.new_users import open_comparisons, told_users
from rlhf_jax.cli.reward_folders import open_mixture, open_users, text_vectors
from rlhf_jax.cli.users import latents_of, user_scores, user_win_rates
from rlhf_jax.types import TextReward


def user_reward(rest: str, name: str) -> tuple[TextReward, str | None]:
    """Rewards for the user in the column "user", by a name of BY_USER, and the column.

    Scores of two users have no common scale, win rates over answers of the training have one.

    Args:
      rest: "FOLDER", or "FOLDER,FILE" with comparisons of new users. If the file is of one user,
        every answer is scored for this one, and the column is None.
    """
    folder, comma, file = rest.partition(",")
    lab, params, model = open_users(Path(folder))
    alone: tuple[Any, ...] = ()
    if comma:
        found = open_comparisons(lab, params, model, Path(file))
        model, alone = told_users(model, found), found.users if len(found.users) == 1 else ()

    def score(prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any) -> list[float]:
        users = list(alone) * len(answers) or columns["user"]
        texts = [answer or " " for answer in answers]
        latents = latents_of(model, users)
        found = text_vectors(lab, params, prompts, texts)
        vectors = (found - model.units.mean) / model.units.std
        if name == "user_win_rate":
            return user_win_rates(model, vectors, users).tolist()
        return user_scores(model, vectors[:, None], latents)[:, 0].tolist()

    return score, None if alone else "user"


def group_reward(rest: str) -> tuple[str, TextReward]:
    """Name and scores of one group of users, in its zero and unit over the training answers."""
    number, folder = split_group(rest)
    lab, params, model = open_mixture(folder)
    group = group_number(model, number)

    def score(prompts: Sequence[Any], answers: Sequence[str], /, **columns: Any) -> list[float]:
        texts = [answer or " " for answer in answers]  # as in `model_score`
        vectors = text_vectors(lab, params, prompts, texts)
        return group_scores(model, vectors)[:, group].tolist()

    return f"group_{group}", score
