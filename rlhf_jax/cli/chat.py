"""`rlhf chat`: a dialogue with a model in a terminal, or through a pipe."""

import json
import secrets
import sys
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from rlhf_jax.checks import check_fields
from rlhf_jax.cli.options import Dtype
from rlhf_jax.cli.serve import open_engine
from rlhf_jax.serving import Ask, Engine, Reads
from rlhf_jax.serving.dialogue import Dialogue, drawn_parts, next_prompt
from rlhf_jax.serving.requests import prompt_text
from rlhf_jax.serving.texts import TextStream

HELP = """\
/system TEXT   start again with another system prompt
/reset         start again
/save FILE     add the dialogue to a file that rlhf sft reads
/set NAME X    change temperature, top_p or max_tokens
/quit          or end of file; Ctrl-C ends an answer"""
NUMBERS = {"temperature": float, "top_p": float, "max_tokens": int}


@dataclass(frozen=True, kw_only=True)
class Chat:
    """A dialogue with a model; a base model without a chat template goes on with the text.

    /help lists what can be typed besides messages; // begins a message with /.
    """

    model: Path
    """Hugging Face folder."""
    system: str | None = None
    """System prompt."""
    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_p: float = 1.0
    """Only the likeliest tokens that have this probability together."""
    max_tokens: int = 512
    """Of an answer, at most."""
    seed: int | None = None
    """Of all answers; by default another one each time."""
    context: int | None = None
    """Tokens of a dialogue, at most; by default as config.json says, up to 4096."""
    dtype: Dtype = "float32"
    """Of the parameters, matrix products and caches."""
    model_parallel: int = 1
    """Devices that share the parameters."""

    def __post_init__(self) -> None:
        check_fields(self, "[0, inf)", "temperature")
        check_fields(self, "(0, 1]", "top_p")
        check_fields(self, "[1, inf)", "max_tokens", "model_parallel")
        if self.seed is not None:
            check_fields(self, "[0, 4294967295]", "seed")
        if self.context is not None:
            check_fields(self, "[2, inf)", "context")


def chat(command: str, options: Chat) -> None:
    """Reads lines and answers them until there are no more."""
    engine, reads = open_engine(options.model, options, batch=1)
    typed = sys.stdin.isatty()
    if typed:
        import readline  # noqa: F401  (keys that edit a line)

        print(f"{HELP}\n")
    talk = Talk(engine, reads, options)
    while not talk.ended:
        try:
            line = input("> " if typed else "")
        except (EOFError, KeyboardInterrupt):
            return
        if line.startswith("/") and not line.startswith("//"):
            talk.do(line)
        elif line:
            talk.say(line.removeprefix("/") if line.startswith("//") else line)


class Talk:
    """The dialogue so far and how it goes on."""

    def __init__(self, engine: Engine, reads: Reads, options: Chat):
        self.engine, self.reads, self.options = engine, reads, options
        self.seed = secrets.randbits(32) if options.seed is None else options.seed
        self.turns, self.ended = 0, False
        self.dialogue = Dialogue()
        self.reset(options.system)

    def reset(self, system: str | None) -> None:
        """A new dialogue, with this system prompt."""
        self.system = system
        if system is not None and self.reads.chat is None:
            return _note("this model has no chat template, so no system prompt")
        messages = () if system is None else ({"role": "system", "content": system},)
        self.dialogue = Dialogue(messages)

    def say(self, text: str) -> None:
        """Answers a message on the screen."""
        try:
            prompt = next_prompt(self.reads, self.dialogue, text)
        except ValueError as error:
            return _note(str(error))
        room = self.reads.longest - len(prompt)
        if room < 1 or not prompt:
            return _note("no room is left in this dialogue: /reset" if prompt else "no tokens")
        options, stream = self.options, TextStream(self.reads.vocabulary)
        ask = Ask(
            prompt=tuple(prompt),
            max_tokens=min(options.max_tokens, room),
            temperature=options.temperature,
            top_p=options.top_p,
            seed=self.seed,
            sample=self.turns,
        )
        self.turns += 1
        try:
            with closing(drawn_parts(self.engine, ask, stream)) as parts:
                for part in parts:
                    print(part.text, end="", flush=True)
        except KeyboardInterrupt:
            # The step that was interrupted may have given its rows away.
            self.engine.fail("interrupted")
        print(flush=True)
        self.dialogue = self.dialogue.answered(text, prompt, stream.ids, stream.text)

    def do(self, line: str) -> None:
        """Follows a line that begins with a slash."""
        word, _, rest = line[1:].partition(" ")
        match word:
            case "system":
                self.reset(rest or None)
            case "reset":
                self.reset(self.system)
            case "save":
                self.save(rest)
            case "set":
                self.set(*rest.partition(" ")[::2])
            case "quit" | "exit":
                self.ended = True
            case "help":
                print(HELP)
            case _:
                _note(f"no /{word}; /help lists them, and // begins a message with /")

    def save(self, path: str) -> None:
        """Adds the dialogue to a JSONL file, as messages or as a text."""
        if not path or not self.dialogue.ids:
            return _note("/save FILE needs a file" if not path else "nothing has been said")
        if self.reads.chat is None:
            row = {"text": prompt_text(self.reads, self.dialogue.ids, None)}
        else:
            row = {"messages": list(self.dialogue.messages)}
        try:
            with Path(path).expanduser().open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:
            return _note(f"cannot write {path}: {error.strerror}")
        _note(f"saved to {path}")

    def set(self, name: str, value: str) -> None:
        """Changes one of NUMBERS."""
        try:
            self.options = replace(self.options, **{name: NUMBERS[name](value)})
        except KeyError:
            _note(f"/set knows {', '.join(NUMBERS)}")
        except ValueError as error:
            _note(f"/set {name}: {error}")


def _note(text: str) -> None:
    """A line that is no part of an answer."""
    print(text, file=sys.stderr)
