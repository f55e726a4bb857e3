"""A dialogue of one model as the ids that it has read and drawn.

    dialogue = Dialogue()
    ids = next_prompt(reads, dialogue, "Name a colour.")
    ...                                      # drawn: the ids of the answer
    dialogue = dialogue.answered("Name a colour.", ids, drawn, "red")

Drawn ids stay as they are: no answer becomes text and ids again, unless the chat template writes
earlier messages in another way once later ones follow.
"""

from collections import deque
from collections.abc import Generator
from typing import Any, NamedTuple

from rlhf_jax.data.chat import encode_dialogue, encode_prompt
from rlhf_jax.data.tokenizer import encode_observation, encode_prompts
from rlhf_jax.serving.engine import Ask, Engine, Job, Piece
from rlhf_jax.serving.requests import Reads
from rlhf_jax.serving.texts import Part, TextStream


class Dialogue(NamedTuple):
    """messages: as a chat template reads them. ids: of all of them, answers as they were drawn."""

    messages: tuple[dict[str, Any], ...] = ()
    ids: tuple[int, ...] = ()

    def answered(self, text: str, prompt: list[int], drawn: list[int], answer: str) -> "Dialogue":
        """With a message of the user's, read as `prompt`, and the answer that was drawn."""
        turn = ({"role": "user", "content": text}, {"role": "assistant", "content": answer})
        return Dialogue((*self.messages, *turn), (*prompt, *drawn))


def next_prompt(reads: Reads, dialogue: Dialogue, text: str) -> list[int]:
    """All ids that the model reads before it answers the user's next message.

    A model without a chat template reads the texts one after the other.

    Raises:
      ValueError: a text or messages that cannot be read.
    """
    vocabulary, (messages, held) = reads.vocabulary, dialogue
    if reads.chat is None:
        if not held:
            return encode_prompts(vocabulary, [text])[0]
        # An end of text stays out of a text that goes on.
        told = held[:-1] if held[-1] in vocabulary.stop_ids else held
        return [*told, *encode_observation(vocabulary, text)]
    whole = encode_prompt(vocabulary, reads.chat, [*messages, {"role": "user", "content": text}])
    if not held or not messages[-1]["content"]:
        return whole
    before = encode_dialogue(vocabulary, reads.chat, messages, after=len(messages) - 1).ids
    if whole[: len(before)] != before or before[-1] not in vocabulary.stop_ids:
        return whole
    # A cut answer has no end of turn.
    end = [] if held[-1] in vocabulary.stop_ids else [before[-1]]
    return [*held, *end, *whole[len(before) :]]


def drawn_parts(engine: Engine, ask: Ask, stream: TextStream) -> Generator[Part]:
    """The parts of one answer, in this thread. An iterator that is closed early frees its row."""
    pieces: deque[Piece] = deque()
    job, part = Job(ask, pieces.append), Part("", [])
    engine.submit(job)
    try:
        while part.finish is None:
            engine.step()
            while pieces:
                part = stream.push(pieces.popleft())
                yield part
    finally:
        job.cancelled = True
