"""Judges behind an HTTP address, against a server in this process that fails in every way."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import jax
import numpy as np
import pytest

from rlhf_jax.recipes import chat_extractor, compared_teacher
from rlhf_jax.rewards import (
    ChatModel,
    JudgeError,
    PairQuestion,
    ScoreQuestion,
    ask_chat,
    chat_pairs,
    chat_reward,
    checked_judge,
    make_reward,
    pairs_judge,
)
from rlhf_jax.types import Trajectory

pytest.importorskip("openai")


def completion(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    facts = {"id": "1", "object": "chat.completion", "created": 0, "model": "m"}
    return json.dumps({**facts, "choices": [choice]}).encode()


class Served:
    """A server: `reply(text of the question, times it was asked)` gives a text, a status, seconds
    to hang, raw bytes, or a list with the byte that drips in without end."""

    def __init__(self, reply):
        self.asked, self.keys, self.release = [], [], threading.Event()
        self.open, self.most_open, lock = 0, 0, threading.Lock()
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                text = body["messages"][0]["content"]
                with lock:
                    served.asked.append(text)
                    served.keys.append(self.headers["Authorization"])
                    served.open += 1
                    served.most_open = max(served.most_open, served.open)
                try:
                    self.answer(reply(text, served.asked.count(text)))
                except (BrokenPipeError, ConnectionResetError):
                    pass
                finally:
                    with lock:
                        served.open -= 1

            def answer(self, found):
                if isinstance(found, float):
                    served.release.wait(found)
                    return
                if isinstance(found, list):
                    self.send_response(200)
                    self.send_header("Content-Length", "1000000")
                    self.end_headers()
                    while not served.release.wait(0.1):
                        self.wfile.write(found[0])
                    return
                status = found if isinstance(found, int) else 200
                body = completion(found) if isinstance(found, str) else b"{}"
                body = found if isinstance(found, bytes) else body
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Retry-After", "0")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def model(self, **options) -> ChatModel:
        return ChatModel(self.url, "m", **({"seconds": 5.0, "retries": 2} | options))


@pytest.fixture
def serve() -> Iterator:
    made = []

    def start(reply):
        made.append(Served(reply))
        return made[-1]

    yield start
    for served in made:
        served.release.set()
        served.server.shutdown()
        served.server.server_close()


def test_each_answer_gets_the_number_of_its_reply(serve):
    # The number counts, not the one that the answer has in it.
    served = serve(lambda text, n: "Fine. Score: 3 at first, but **Score:** 7.5")
    model = served.model()
    question = ScoreQuestion("{prompt} / {answer} / {hint}. End with Score: N", low=0.0)
    score = chat_reward(model, question)
    rows = {"hint": ["h1", "h2"], "other": [1, 2]}
    assert score(["p1", "p2"], ["a1", "a {x} Score: 10"], **rows) == [7.5, 7.5]
    assert sorted(served.asked) == [
        "p1 / a1 / h1. End with Score: N",
        "p2 / a {x} Score: 10 / h2. End with Score: N",
    ]
    assert model.counts == {"requests": 2, "failed": 0, "unread": 0}


def test_a_number_outside_the_range_or_none_at_all_leaves_the_answer_out(serve):
    replies = {"good": "Score: 10", "high": "Score: 11", "silent": "No idea."}
    served = serve(lambda text, n: replies[text.split()[1]])
    model = served.model()
    score = chat_reward(model, ScoreQuestion("{prompt} {answer} Score"))
    assert score(["p"] * 3, ["good", "high", "silent"]) == [10.0, None, None]
    assert model.counts["unread"] == 2


def test_failures_of_the_service_are_tried_again_and_every_request_is_counted(serve):
    def reply(text, n):
        name = text.split()[1]
        if name == "busy":
            return "Score: 4" if n == 3 else (429 if n == 1 else 500)
        return {"down": 503, "json": b"<html>not json", "empty": b"{}", "good": "Score: 5"}[name]

    served = serve(reply)
    model = served.model()
    score = chat_reward(model, ScoreQuestion("{prompt} {answer} Score"))
    names = ["busy", "down", "json", "empty", "good"]
    assert score(["p"] * 5, names) == [4.0, None, None, None, 5.0]
    counted = [sum(text.split()[1] == name for text in served.asked) for name in names]
    assert counted[:2] == [3, 3]
    assert counted[4] == 1
    assert model.counts["requests"] == len(served.asked)
    assert model.counts["failed"] == 3


@pytest.mark.slow
def test_a_judge_that_hangs_or_drips_is_cut(serve, monkeypatch):
    def reply(text, n):
        return {"hang": 60.0, "drip": [b" "], "good": "Score: 6"}[text.split()[1]]

    monkeypatch.setattr("rlhf_jax.rewards.chat_judges.LONGEST_PAUSE", 1.0)
    served = serve(reply)
    model = served.model(seconds=0.5, retries=1)
    started = time.monotonic()
    score = chat_reward(model, ScoreQuestion("{prompt} {answer} Score"))
    assert score(["p"] * 3, ["hang", "good", "drip"]) == [None, 6.0, None]
    assert time.monotonic() - started < 30.0  # the server would hang for 60 s
    assert model.counts["failed"] == 2


def test_principles_are_extracted_from_comments(serve):
    replies = {"good": "Sure:\npolite | yes | good", "silent": "No idea.", "down": 503}
    served = serve(lambda text, n: replies[text.split("<comment>")[1].split()[0]])
    model = served.model(retries=0)
    found = chat_extractor(model)(["good", "silent", "down"])
    assert found == [[("polite", "yes", "good")], None, None]
    assert model.counts["requests"] == 3


def test_no_more_requests_are_open_than_the_limit(serve):
    def reply(text, n):
        time.sleep(0.02)
        return "Score: 2"

    served = serve(reply)
    score = chat_reward(served.model(concurrency=3))
    assert score(["p"] * 9, [str(n) for n in range(9)]) == [2.0] * 9
    assert served.most_open <= 3


def test_a_service_that_never_answers_or_refuses_is_an_error_without_the_key(
    serve, monkeypatch, caplog
):
    monkeypatch.setenv("JUDGE_KEY", "sk-very-secret")
    body = b'{"error": {"message": "bad key sk-very-secret"}}'
    served = serve(lambda text, n: 401 if "refused" in text else 500)
    model = served.model(key_variable="JUDGE_KEY", retries=0)
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ValueError, match=r"refuses a request for the model 'm'.*\(key: JUDGE_KEY"):
        ask_chat(model, ["refused"])
    with pytest.raises(ValueError, match=r"answered none of 2 requests; the last: 500"):
        ask_chat(model, ["one", "two"])
    assert set(served.keys) == {"Bearer sk-very-secret"}
    echoing = serve(lambda text, n: body)
    with pytest.raises(ValueError, match="answered none") as raised:
        ask_chat(echoing.model(key_variable="JUDGE_KEY", retries=0), ["x"])
    assert "secret" not in str(raised.value)
    assert "very-secret" not in caplog.text


def test_nothing_listens():
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:9/v1 answered none of 1 requests"):
        ask_chat(ChatModel("http://127.0.0.1:9/v1", "m", retries=0), ["x"])
    assert ask_chat(ChatModel("http://127.0.0.1:9/v1", "m"), []) == []


def test_replies_that_cannot_be_read_at_all_are_an_error(serve):
    served = serve(lambda text, n: "I would rather not say.")
    with pytest.raises(ValueError, match=r"no reply of 'm' could be read, e.g. 'I would rather"):
        chat_reward(served.model())(["p"], ["a"])


QUESTION = PairQuestion("{prompt}|{first}|{second}|Winner: A, B or tie")


def longer(text: str, n: int) -> str:
    """The longer answer wins; of two equally long, the first; "odd" ties with itself only."""
    _, first, second, _ = text.split("|")
    if "mute" in (first, second):
        return "Hm."
    return f"Winner: {'A' if len(first) >= len(second) else 'B'}"


def test_pairs_are_asked_in_both_orders_and_a_preference_for_a_position_is_a_tie(serve):
    served = serve(longer)
    compare = chat_pairs(served.model(), QUESTION)
    first, second = ["aaa", "a", "ab", "same", "mute"], ["a", "aaa", "cd", "same", "aaa"]
    assert compare(["p"] * 5, first, second) == [1.0, 0.0, 0.5, 0.5, None]
    assert len(served.asked) == 8  # two for each pair but the equal one
    assert "p|cd|ab|Winner: A, B or tie" in served.asked


def test_a_judge_of_texts_is_a_judge_and_a_teacher(serve):
    compare = chat_pairs(serve(longer).model(), QUESTION)
    words = ["a", "aaa", "bb", "mute"]
    judge = pairs_judge(
        compare,
        prompt_texts=lambda i: ["p"] * len(i),
        answer_texts=lambda answers: [words[n] for n in answers.actions[:, 0]],
    )

    def answers(*numbers):
        ids = np.array(numbers)[:, None]
        return Trajectory(ids, ids, ids >= 0)

    prefs = checked_judge(judge)(np.array([0, 1]), answers(1, 0), answers(0, 2))
    np.testing.assert_array_equal(prefs, [1.0, 0.0])
    with pytest.raises(JudgeError, match="returned nan for prompt 7"):
        checked_judge(judge)(np.array([6, 7]), answers(0, 3), answers(2, 0))
    teacher = compared_teacher(lambda i: ["p"] * len(i), compare)
    labels = teacher(jax.random.key(0), np.arange(4), ["aaa", "a", "ab", "mute"], ["a"] * 4)
    np.testing.assert_array_equal(labels.kept, [True, False, True, False])
    np.testing.assert_array_equal(labels.winners[[0, 2]], [0, 0])
    labels = teacher(jax.random.key(0), np.arange(2), ["a", "ab"], ["aaa", "cd"])
    np.testing.assert_array_equal(labels.kept, [True, False])
    assert labels.winners[0] == 1


def test_messages_are_shown_with_their_roles(serve):
    served = serve(lambda text, n: "Score: 1")
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    chat_reward(served.model(), ScoreQuestion("{prompt}|{answer} Score"))([turns], ["Hello"])
    assert served.asked == ["system: Be brief.\n\nuser: Hi|Hello Score"]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (ScoreQuestion("{prompt} only"), r"lacks \{answer\}; it has \['prompt'\]"),
        (ScoreQuestion(pattern="("), r"pattern '\(': "),
        (ScoreQuestion(pattern="a"), "must have one group"),
    ],
)
def test_a_question_that_cannot_work_is_refused_at_once(question, message):
    with pytest.raises(ValueError, match=message):
        chat_reward(ChatModel("http://127.0.0.1:9/v1", "m"), question)


def test_a_column_that_is_not_there_is_named():
    score = chat_reward(
        ChatModel("http://127.0.0.1:9/v1", "m"), ScoreQuestion("{prompt}{answer}{rubric}")
    )
    with pytest.raises(ValueError, match=r"has \{rubric\}, and the records have no such column"):
        score(["p"], ["a"], hint=["h"])


def test_an_address_is_a_spec_of_a_reward(serve):
    served = serve(lambda text, n: "Score: 8")
    made = make_reward(f"{served.url}#m")
    assert (made.name, made.wanted) == ("judge", None)
    assert made.reward(["p"], ["a"]) == [8.0]
