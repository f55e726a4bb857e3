"""One answer to a prompt, to imitate or with a label; and prompts without an answer."""

from rlhf_jax.data.fields import (
    BadRow,
    Fields,
    checked_text,
    label_field,
    present,
    text_field,
)
from rlhf_jax.data.formats.prompts import (
    DIALOGUE,
    PROMPT,
    Parsed,
    alike,
    answer_of,
    dialogue_of,
    prompt_of,
)
from rlhf_jax.data.messages import all_answers, check_answered, last_answer, read_tools
from rlhf_jax.data.records import Answer, Labelled, PromptRecord, Text

COMPLETION = ("completion", "answer", "response", "output")
LABEL = ("label", "kto_tag")
REFERENCE = ("answer", "reference", "ground_truth", "solution", "target")


def dialogue(fields: Fields) -> Parsed:
    """Every assistant message is an answer to imitate."""
    name = present(fields, DIALOGUE) or DIALOGUE[0]
    asked, given = all_answers(dialogue_of(fields, name), f"field {name}")
    return Parsed([Answer(asked, given, read_tools(fields))])


def prompt_completion(fields: Fields) -> Parsed:
    """A prompt and its answer in columns of their own."""
    return Parsed([Answer(*_asked_given(fields), read_tools(fields))])


def document(fields: Fields) -> Parsed:
    """A text without a prompt."""
    return Parsed([Answer("", text_field(fields, "text"))])


def labelled_dialogue(fields: Fields) -> Parsed:
    """The label is of what follows the last user message."""
    name = present(fields, DIALOGUE) or DIALOGUE[0]
    asked, given = last_answer(dialogue_of(fields, name), f"field {name}")
    label = label_field(fields, present(fields, LABEL) or LABEL[0])
    return Parsed([Labelled(asked, given, label, read_tools(fields), _principle(fields))])


def labelled_completion(fields: Fields) -> Parsed:
    """A prompt, an answer and whether it is good."""
    label = label_field(fields, present(fields, LABEL) or LABEL[0])
    return Parsed([Labelled(*_asked_given(fields), label, read_tools(fields), _principle(fields))])


def prompt_only(fields: Fields) -> Parsed:
    """A prompt, and for verifiers its right answer; verl keeps it in `reward_model`."""
    nested = fields.get("reward_model")
    reference = nested.get("ground_truth") if isinstance(nested, dict) else None
    if name := present(fields, REFERENCE):
        reference = fields[name]
    if isinstance(reference, str):
        checked_text(reference, "the reference answer")
    if present(fields, PROMPT) is None and present(fields, DIALOGUE):
        asked: Text = dialogue_of(fields, present(fields, DIALOGUE) or "")
    else:
        asked = prompt_of(fields)
    if isinstance(asked, tuple) and asked[-1]["role"] == "assistant":
        raise BadRow("the prompt ends with an assistant message; remove it, or train on it by sft")
    return Parsed([PromptRecord(asked, reference, fields)])


def _principle(fields: Fields) -> str | None:
    """The column principle; None for any other value, since most uses of labels know none."""
    principle = fields.get("principle")
    return principle if isinstance(principle, str) and principle.strip() else None


def _asked_given(fields: Fields) -> tuple[Text, Text]:
    name = present(fields, COMPLETION) or COMPLETION[0]
    asked, given = alike(_prompt(fields), answer_of(fields, name))
    if isinstance(asked, tuple) and isinstance(given, tuple):
        check_answered(asked, given, f"field {name}")
    return asked, given


def _prompt(fields: Fields) -> Text:
    """An empty prompt is that of a document."""
    name = present(fields, PROMPT) or PROMPT[0]
    return "" if fields.get(name) == "" and name == "prompt" else prompt_of(fields)
