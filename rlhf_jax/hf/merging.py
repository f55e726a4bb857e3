"""Several models of one architecture as one.

    base + sum_i w_i (model_i - base)

A weight that is the same in all of them stays as it is, bit for bit.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from rlhf_jax.hf.config import CONFIG, is_reward, parse_entries
from rlhf_jax.hf.params import dotted
from rlhf_jax.hf.pretrained import Pretrained, load_any
from rlhf_jax.models.config import FloatName
from rlhf_jax.types import Params, Scalar

ROUNDING = 1e-6  # weights written with a few digits


def mean_model(folders: Sequence[Path | str], weights: Sequence[float]) -> Pretrained:
    """sum_i w_i model_i, with the tokenizer and the files of the first.

    Args:
      weights: one for each folder; their sum is 1.
    Reference: Wortsman et al. 2022, "Model soups".
    """
    _check_count(folders, weights)
    if abs(sum(weights) - 1) > ROUNDING:
        raise ValueError(
            f"the weights of a mean must sum to 1, got {sum(weights):g}; for a sum of changes, "
            "name the model that they were trained from too"
        )
    first, *others = folders
    return add_changes(first, others, weights[1:])


def add_changes(
    base: Path | str, folders: Sequence[Path | str], weights: Sequence[float]
) -> Pretrained:
    """base + sum_i w_i (model_i - base), in float32, one model in memory besides base and sum.

    Args:
      base: the model that the others were trained from; its tokenizer and files are kept.
      weights: one for each folder.
    Raises:
      ValueError: the models differ in architecture or vocabulary; the difference is named.
    Reference: Ilharco et al. 2023, "Editing models with task arithmetic".
    """
    _check_count(folders, weights)
    start = load_any(base)
    total = start.params
    for folder, weight in zip(folders, weights, strict=True):
        other = load_any(folder)
        _check_alike(start, other, str(base), str(folder))
        total = _plus_change(total, start.params, other.params, weight)
    return start._replace(params=total)


@jax.jit
def _plus_change(total: Params, base: Params, model: Params, weight: Scalar) -> Params:
    return jax.tree.map(lambda t, b, m: t + weight * (m - b), total, base, model)


def cast_model(model: Pretrained, dtype: FloatName) -> Pretrained:
    """The model with its parameters in another precision."""
    params = jax.tree.map(lambda x: x.astype(jnp.dtype(dtype)), model.params)
    config = dataclasses.replace(model.config, dtype=dtype, param_dtype=dtype)
    return model._replace(config=config, params=params)


def _check_count(folders: Sequence[Path | str], weights: Sequence[float]) -> None:
    if len(folders) != len(weights):
        raise ValueError(f"{len(folders)} models and {len(weights)} weights: give one for each")


def _check_alike(first: Pretrained, second: Pretrained, name: str, other: str) -> None:
    """ValueError with the first thing in which two models differ."""
    for what, a, b in _facts(first, second):
        if a != b:
            raise ValueError(f"{other}: {what} is {b}, in {name} it is {a}; only like models merge")
    spoken = (first.vocabulary, second.vocabulary)
    words, others = ({} if each is None else each.tokenizer.get_vocab() for each in spoken)
    if not words or not others:
        return
    if differing := {word for word, _ in words.items() ^ others.items()}:
        word = min(differing)
        raise ValueError(
            f"{other}: the token {word!r} has id {others.get(word)}, in {name} {words.get(word)}; "
            "models of one vocabulary merge"
        )


def _facts(first: Pretrained, second: Pretrained):
    """(name, value in the first, value in the second), the family first."""
    entries = [parse_entries(each.files[CONFIG], CONFIG) for each in (first, second)]
    yield "model_type", *(each["model_type"] for each in entries)
    yield "a reward model", *(is_reward(each) for each in entries)
    for field in dataclasses.fields(first.config):
        yield field.name, *(getattr(each.config, field.name) for each in (first, second))
    shapes = [{k: x.shape for k, x in dotted(each.params).items()} for each in (first, second)]
    for name in sorted(shapes[0].keys() | shapes[1].keys()):
        yield name, *(each.get(name) for each in shapes)
