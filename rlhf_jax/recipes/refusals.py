"""Errors that name the item of a batch which could not be encoded."""

from collections.abc import Callable, Sequence
from typing import Any

from rlhf_jax.training import UserError


def encode_named(encode: Callable[..., Any], items: Sequence[Any], names: Sequence[str]) -> Any:
    """`encode(items)`; UserError names the first item that it refuses."""
    try:
        return encode(items)
    except (TypeError, ValueError):
        for name, item in zip(names, items, strict=True):
            _encode_one(encode, item, name)
        raise


def _encode_one(encode: Callable[..., Any], item: Any, name: str) -> None:
    """UserError with the name if the item is refused."""
    try:
        encode([item])
    except ValueError as error:
        raise UserError(f"{name}: {str(error).removeprefix('row 0: ')}") from error


def quoted(prompt: Any) -> str:
    """The beginning of a text, or of that of the last message, in quotes."""
    if isinstance(prompt, list | tuple) and prompt and isinstance(prompt[-1], dict):
        prompt = prompt[-1].get("content")
    return f"{prompt!r:.60}"
