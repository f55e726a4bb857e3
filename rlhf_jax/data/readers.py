"""What any `tokenizers.Tokenizer` needs to read and write the texts of a dialogue with a model.

A tokenizer of sentencepiece puts a space before every text, and takes it away when it decodes. That
is right for the first text of a row and wrong for an answer, which follows other tokens: `reader`
gives a tokenizer for each. Neither reads a special token from a text: "</s>" typed by a user is
five characters.
"""

import json
from functools import lru_cache
from typing import Any, NamedTuple

from tokenizers import Tokenizer


class Reader(NamedTuple):
    """Copies of a tokenizer, without its truncation and padding.

    whole: of a text at the start of a row.
    continuing: of a text after other tokens: `decode(a) + decode(b)` is the text of both, and no
      space is added or lost between them.
    special: ids of special tokens, which no text may contain; all but that of unknown characters.
    unknown: the id of what the tokenizer does not know, if it has one.
    """

    whole: Tokenizer
    continuing: Tokenizer
    special: frozenset[int]
    unknown: int | None


@lru_cache(maxsize=16)
def reader(tokenizer: Tokenizer) -> Reader:
    """The reader of a tokenizer, which must not be changed afterwards."""
    state = json.loads(tokenizer.to_str())
    parts = ("normalizer", "pre_tokenizer", "decoder")
    continuing = state | {part: _without_prefix(state[part]) for part in parts}
    unknown = _unknown_id(tokenizer, state["model"])
    added = tokenizer.get_added_tokens_decoder()
    special = {i for i, token in added.items() if token.special and i != unknown}
    return Reader(_copy(state), _copy(continuing), frozenset(special), unknown)


def _copy(state: dict[str, Any]) -> Tokenizer:
    """A tokenizer that reads special tokens as plain text, and every text whole."""
    tokenizer = Tokenizer.from_str(json.dumps(state | {"truncation": None, "padding": None}))
    tokenizer.encode_special_tokens = True  # the JSON file does not save this flag
    return tokenizer


def _without_prefix(part: Any) -> Any:
    """A normalizer, pre-tokenizer or decoder that neither adds nor removes a first space."""
    if isinstance(part, list):
        kept = [each for each in part if each.get("type") != "Prepend"]
        return [_without_prefix(each) for each in kept]
    if not isinstance(part, dict) or part.get("type") == "Prepend":
        return None
    steps = ("normalizers", "pretokenizers", "decoders")
    changes: dict[str, Any] = {key: _without_prefix(part[key]) for key in steps if key in part}
    if "add_prefix_space" in part:
        changes["add_prefix_space"] = False
    if "prepend_scheme" in part:
        changes["prepend_scheme"] = "never"
    if part.get("type") == "Strip":
        changes |= {key: off for key, off in (("start", 0), ("strip_left", False)) if key in part}
    return part | changes


def _unknown_id(tokenizer: Tokenizer, model: dict[str, Any]) -> int | None:
    """The id that stands for characters without a token."""
    if "unk_id" in model:
        return model["unk_id"]
    token = model.get("unk_token")
    return None if token is None else tokenizer.token_to_id(token)
