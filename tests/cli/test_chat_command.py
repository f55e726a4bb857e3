"""`rlhf chat` through a pipe, and the ids of a dialogue."""

import io
import json

import pytest
from tiny_folder import write_folder

from rlhf_jax.cli.main import main
from rlhf_jax.data.formats import read_rows
from rlhf_jax.data.templates import ChatTemplate
from rlhf_jax.data.tokenizer import standard_vocabulary, train_bpe_tokenizer
from rlhf_jax.serving import Reads
from rlhf_jax.serving.dialogue import Dialogue, next_prompt

TEMPLATE = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}<eos>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
FORGETFUL = TEMPLATE.replace("m.content", "m.content if loop.last or m.role == 'user' else ''")


def reads(source=TEMPLATE):
    """A tokenizer that joins "red" into one token."""
    vocabulary = standard_vocabulary(train_bpe_tokenizer(["red " * 9], vocab_size=270))
    chat = None if source is None else ChatTemplate({"default": source})
    return Reads(vocabulary, chat, 100, vocabulary.size)


def decoded(found, ids):
    return found.vocabulary.tokenizer.decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("ended", [True, False])
def test_drawn_ids_stay_as_they_are(ended):
    found = reads()
    first = next_prompt(found, Dialogue(), "say red")
    letters = [found.vocabulary.tokenizer.token_to_id(letter) for letter in "red"]
    drawn = [*letters, 2] if ended else letters
    dialogue = Dialogue().answered("say red", first, drawn, "red")
    second = next_prompt(found, dialogue, "again")
    assert second[: len(first) + 3] == first + letters
    told = "user: say red<eos>assistant: red<eos>user: again<eos>assistant: "
    assert decoded(found, second) == told
    # The tokenizer would have made fewer tokens of it.
    assert len(second) > len(next_prompt(found, dialogue._replace(ids=()), "again"))


def test_a_template_that_changes_earlier_text_is_followed():
    found = reads(FORGETFUL)
    first = next_prompt(found, Dialogue(), "one")
    dialogue = Dialogue().answered("one", first, [*first[:2], 2], "two")
    told = "user: one<eos>assistant: <eos>user: three<eos>assistant: "
    assert decoded(found, next_prompt(found, dialogue, "three")) == told


def test_without_a_template_a_text_goes_on():
    found = reads(None)
    first = next_prompt(found, Dialogue(), "one")
    dialogue = Dialogue().answered("one", first, [*first[1:], 2], "one")
    assert decoded(found, next_prompt(found, dialogue, " two")) == "<bos>oneone two"


def talk(monkeypatch, capsys, folder, lines, *options):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    words = ["--model", folder, "--seed", "3", "--max-tokens", "4", *options]
    assert main(["chat", *map(str, words)]) == 0
    return capsys.readouterr()


@pytest.mark.long
def test_a_dialogue_is_answered_saved_and_begun_again(monkeypatch, capsys, tmp_path):
    folder, path = write_folder(tmp_path / "chat", chat=TEMPLATE), tmp_path / "saved.jsonl"
    lines = ["/set temperature 0", "hi", "//hi", f"/save {path}", "/system Be brief.", "hi"]
    lines += [f"/save {path}", "/reset", f"/save {path}", "/nothing", "/set colour 1", "<eos>"]
    found = talk(monkeypatch, capsys, folder, [*lines, "/set top_p 2", "/quit", "unread"])
    # A special token that is typed is text: <eos> is answered like the three before it.
    assert len(found.out.splitlines()) == 4
    rows = [json.loads(line)["messages"] for line in path.read_text().splitlines()]
    assert [m["role"] for m in rows[0]] == ["user", "assistant"] * 2
    assert [m["content"] for m in rows[0]][::2] == ["hi", "/hi"]
    assert [m["content"] for m in rows[0]][1::2] == found.out.splitlines()[:2]
    assert rows[1][0] == {"role": "system", "content": "Be brief."}
    assert read_rows(path, kind="answers").rows == 2
    for message in ("nothing has been said", "no /nothing", "/set knows", "top_p must be in"):
        assert message in found.err


@pytest.mark.long
def test_a_base_model_goes_on_with_the_text(monkeypatch, capsys, tmp_path, model):
    path = tmp_path / "text.jsonl"
    lines = ["once", " more", f"/save {path}", "/system Be brief."]
    found = talk(monkeypatch, capsys, model, lines, "--temperature", "0")
    first, second = found.out.splitlines()
    (row,) = map(json.loads, path.read_text().splitlines())
    assert row == {"text": f"once{first} more{second}"}
    assert "no chat template, so no system prompt" in found.err
    # Two messages of 200 letters are more than the 300 tokens of this dialogue.
    found = talk(monkeypatch, capsys, model, ["x" * 200] * 2, "--context", "300")
    assert "no room is left in this dialogue" in found.err
