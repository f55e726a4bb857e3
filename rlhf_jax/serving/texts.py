"""Ids as they come, as text that can be shown: no half character, and nothing of a stop string."""

from collections.abc import Sequence
from typing import NamedTuple

from tokenizers.decoders import DecodeStream

from rlhf_jax.data.readers import reader
from rlhf_jax.data.tokenizer import decode_rows
from rlhf_jax.serving.engine import Piece, Token
from rlhf_jax.types import Vocabulary


class Part(NamedTuple):
    """The next part of a text, and its tokens."""

    text: str
    tokens: list[Token]
    finish: str | None = None


class TextStream:
    """The text of one answer, made of its pieces; it ends before the first of the stop strings.

    text: all of it so far. ids: all tokens so far, those of a stop string and the stop token too.
    """

    def __init__(self, vocabulary: Vocabulary, stops: Sequence[str] = ()):
        self.vocabulary, self.stops = vocabulary, stops
        self.tokenizer = reader(vocabulary.tokenizer).continuing
        self.stream = DecodeStream(skip_special_tokens=True)
        self.text, self.sent = "", 0
        self.ids: list[int] = []
        self.held: list[Token] = []  # their text has not been sent

    def push(self, piece: Piece) -> Part:
        """The part that can be shown after a piece. `finish` is "stop" after a stop string."""
        for token in piece.tokens:
            self._add(token)
            if (end := self._stop_at()) is not None:
                self.text = self.text[:end]
                return self._sent(end, [token for token in self.held if token.at < end], "stop")
        if piece.finish is None:
            end = len(self.text) - self._possible_stop()
            return self._sent(end, [token for token in self.held if token.at < end], None)
        # The bytes of an incomplete character, if any.
        self.text += decode_rows(self.vocabulary, [self.ids])[0][len(self.text) :]
        return self._sent(len(self.text), self.held, piece.finish)

    def _add(self, token: Token) -> None:
        self.held.append(token._replace(at=len(self.text)))
        self.ids.append(token.id)
        if token.id not in self.vocabulary.stop_ids:
            self.text += self.stream.step(self.tokenizer, token.id) or ""

    def _sent(self, end: int, tokens: list[Token], finish: str | None) -> Part:
        """The part up to this character, with the first of the tokens that are held."""
        part = Part(self.text[self.sent : end], tokens, finish)
        self.held, self.sent = self.held[len(tokens) :], end
        return part

    def _stop_at(self) -> int | None:
        """Where the first stop string begins."""
        found = [at for stop in self.stops if (at := self.text.find(stop, self.sent)) >= 0]
        return min(found, default=None)

    def _possible_stop(self) -> int:
        """Characters at the end that may begin a stop string."""
        return max(
            (
                size
                for stop in self.stops
                for size in range(1, len(stop))
                if self.text.endswith(stop[:size])
            ),
            default=0,
        )


def shown_token(vocabulary: Vocabulary, i: int) -> str:
    """One token as text; a special one by its name, and half a character as a replacement mark."""
    read = reader(vocabulary.tokenizer)
    special = i in read.special or i in vocabulary.stop_ids
    found = vocabulary.tokenizer.id_to_token(i) if special else None
    return read.continuing.decode([i]) if found is None else found
