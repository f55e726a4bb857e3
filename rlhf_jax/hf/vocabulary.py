"""The tokenizer of a Hugging Face folder as a `Vocabulary`, by the `tokenizers` library alone.

A prompt has the ids of `transformers.AutoTokenizer.from_pretrained(folder)(text).input_ids`, with
two exceptions. "</s>" in a text stays text here. And tokenizer.json is taken at its word, where
`transformers` 5 builds the tokenizer of a LlamaTokenizer folder anew: its texts that begin with a
space have one space token less.
"""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from rlhf_jax.data.templates import ChatTemplate
from rlhf_jax.types import Vocabulary

_NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token")
_LISTS = ("additional_special_tokens", "extra_special_tokens")


def read_vocabulary(folder: Path | str) -> Vocabulary:
    """tokenizer.json, with what the other files say of its special tokens.

    bos_id: the token that the post-processor of the tokenizer puts before a text, or None.
    stop_ids: `eos_token_id` of generation_config.json or else of config.json, the tokenizer's own
      eos_token first among them; the eos_token alone where neither file has any.
    pad_id: the pad_token; without one, or with a pad_token that is also the eos_token, the id of a
      stop. Lengths and masks say what is padding, never this id.

    Raises:
      ValueError: a file is absent or no JSON object, the tokenizer puts anything but one token
        before a text, no token ends an answer, or an id is not in the tokenizer.
    """
    folder = Path(folder)
    settings = tokenizer_settings(folder)
    tokenizer = _tokenizer(folder, settings)
    eos = _token_id(tokenizer, settings, "eos_token")
    stop_ids = _stop_ids(folder, eos)
    pad_id = _token_id(tokenizer, settings, "pad_token")
    vocabulary = Vocabulary(
        tokenizer=tokenizer,
        pad_id=stop_ids[0] if pad_id is None else pad_id,
        bos_id=_bos_id(folder, tokenizer),
        stop_ids=stop_ids,
    )
    _mark_special(folder, vocabulary)
    return vocabulary


def tokenizer_settings(folder: Path) -> dict[str, Any]:
    """special_tokens_map.json, overridden by tokenizer_config.json; an absent file is empty."""
    files = ("special_tokens_map.json", "tokenizer_config.json")
    special, config = (read_object(folder / name) for name in files)
    return special | config


def read_object(path: Path) -> dict[str, Any]:
    """The object of a JSON file, {} if the file is absent."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected a JSON object")
    return found


def token_text(value: Any) -> str | None:
    """The text of a special token, which may be written as {"content": text, ...}."""
    return value.get("content") if isinstance(value, dict) else value


def _tokenizer(folder: Path, settings: dict[str, Any]) -> Tokenizer:
    """tokenizer.json, with the tokens that only the other files have and those they call special.

    A special token without an id is left out: its id would be beyond the model's table.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ValueError(
            f"{path}: no such file; a folder that has tokenizer.model or vocab files only becomes "
            "one with it by AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    # The library raises bare Exception for text that it cannot parse.
    except Exception as error:
        raise ValueError(f"{path}: not a tokenizer ({error})") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    added = settings.get("added_tokens_decoder", {})
    for i in sorted(added, key=int):
        if tokenizer.token_to_id(added[i]["content"]) is None:
            tokenizer.add_tokens([AddedToken(**added[i])])
        if (found := tokenizer.token_to_id(added[i]["content"])) != int(i):
            raise ValueError(f"{path}: {added[i]['content']} has id {found}, expected {i}")
    known = [text for text in _special_texts(settings) if tokenizer.token_to_id(text) is not None]
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in known])
    return tokenizer


def _special_texts(settings: dict[str, Any]) -> list[str]:
    """All special tokens that the settings name."""
    values = [settings.get(name) for name in _NAMED]
    for name in _LISTS:
        several = settings.get(name) or []
        values += several.values() if isinstance(several, dict) else several
    return [text for value in values if (text := token_text(value)) is not None]


def _token_id(tokenizer: Tokenizer, settings: dict[str, Any], name: str) -> int | None:
    text = token_text(settings.get(name))
    return None if text is None else tokenizer.token_to_id(text)


def _bos_id(folder: Path, tokenizer: Tokenizer) -> int | None:
    """The id before every text.

    By the post-processor alone: `transformers` ignores add_bos_token beside a tokenizer.json.
    """
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    ids = tokenizer.encode("a").ids
    if ids == bare:
        return None
    if ids[1:] == bare:
        return ids[0]
    tokens = [tokenizer.id_to_token(i) for i in ids]
    raise ValueError(
        f"{folder / 'tokenizer.json'}: a text may have one token before it and none after it, and "
        f"the post-processor makes {tokens} of the text 'a'"
    )


def _stop_ids(folder: Path, eos: int | None) -> tuple[int, ...]:
    """Ids that end an answer, the tokenizer's own first."""
    found, source = None, ""
    for name in ("generation_config.json", "config.json"):
        if found is None:
            found, source = read_object(folder / name).get("eos_token_id"), name
    if found is None:
        found = eos
    if found is None:
        raise ValueError(
            f"{folder}: no token ends an answer; give generation_config.json an eos_token_id"
        )
    ids = found if isinstance(found, list) else [found]
    if not all(isinstance(i, int) for i in ids):
        raise ValueError(
            f"{folder / source}: eos_token_id must be an id or a list of ids, got {found!r}"
        )
    own = [i for i in ids if i == eos]
    return tuple(dict.fromkeys([*own, *ids]))


def _mark_special(folder: Path, vocabulary: Vocabulary) -> None:
    """Makes stop ids special tokens, if they are not words or characters of texts."""
    tokenizer = vocabulary.tokenizer
    added = tokenizer.get_added_tokens_decoder()
    for i in vocabulary.stop_ids:
        if tokenizer.id_to_token(i) is None:
            raise ValueError(
                f"{folder}: the eos_token_id {i} is not in the tokenizer, which has ids below "
                f"{vocabulary.size}"
            )
        if i in added:
            tokenizer.add_special_tokens([added[i].content])


def read_chat_template(folder: Path | str) -> ChatTemplate | None:
    """The chat template of a folder, or None.

    From chat_template.jinja (and additional_chat_templates/NAME.jinja), else from
    tokenizer_config.json, as one text or as a list of {"name", "template"}, else from
    chat_template.json. Its variables are the special tokens.
    """
    folder = Path(folder)
    settings = tokenizer_settings(folder)
    found = settings.get(
        "chat_template", read_object(folder / "chat_template.json").get("chat_template")
    )
    sources = {"default": found} if isinstance(found, str) else _named_templates(folder, found)
    path = folder / "chat_template.jinja"
    for each in (path, *sorted((folder / "additional_chat_templates").glob("*.jinja"))):
        if each.is_file():
            sources["default" if each == path else each.stem] = each.read_text(encoding="utf-8")
    tokens = {name: token_text(settings.get(name)) for name in _NAMED}
    variables = {name: text for name, text in tokens.items() if text is not None}
    return ChatTemplate(sources, variables) if sources else None


def _named_templates(folder: Path, found: Any) -> dict[str, str]:
    """Name -> template of a list of {"name", "template"}."""
    if found is None:
        return {}
    try:
        return {each["name"]: each["template"] for each in found}
    except (TypeError, KeyError) as error:
        raise ValueError(
            f"{folder}: chat_template must be a text, or a list of {{name, template}}"
        ) from error
