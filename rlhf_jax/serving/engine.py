"""Requests that wait are decoded together, a few tokens at a time.

    engine = make_engine(model, params, stop_ids=vocabulary.stop_ids, longest=2048)
    engine.submit(Job(Ask(prompt=ids, max_tokens=64), deliver=print))
    while engine.step():
        pass

Between two chunks of tokens, answers that have ended or were cancelled leave, and prompts that wait
are read and join. An answer depends on its prompt, seed and sample number, not on its company.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rlhf_jax.models import Transformer
from rlhf_jax.serving.programs import Drawing, EnginePrograms, EngineRows, TokenTable, make_programs
from rlhf_jax.types import Params

CHUNK = 8  # tokens of each answer between two looks at the requests
FEWEST = 64  # columns or slots


@dataclass(frozen=True, kw_only=True)
class Ask:
    """An answer that is asked for.

    prompt: ids, at least one. max_tokens: 0 only scores the prompt. temperature: 0 takes the
    likeliest token. seed, sample: in [0, 2^32). scores: whether log-probs of the prompt are wanted.
    likeliest: whether log-probs of the likeliest tokens are.
    """

    prompt: tuple[int, ...]
    max_tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    sample: int = 0
    scores: bool = False
    likeliest: bool = False


class Token(NamedTuple):
    """A token, its log-prob under the model, and (id, log-prob) of the likeliest in its place.

    logp: None for the first token of a prompt. at: the character of the text where it begins.
    """

    id: int
    logp: float | None
    likeliest: list[tuple[int, float]]
    at: int = 0


class Piece(NamedTuple):
    """A part of an answer.

    tokens: the next ones, the stop token included. prompt: whether they are those of the prompt
    from the second on. finish: "stop" or "length" in the last piece. error: instead of an answer.
    """

    tokens: list[Token]
    prompt: bool = False
    finish: str | None = None
    error: str | None = None


@dataclass(eq=False)
class Job:
    """An answer on its way. `cancelled` may be set at any time, by any thread."""

    ask: Ask
    deliver: Callable[[Piece], None]
    cancelled: bool = False
    count: int = 0
    ended: bool = False
    rows: EngineRows | None = field(default=None, repr=False)

    @property
    def used(self) -> int:
        """Slots that hold a token."""
        return len(self.ask.prompt) - 1 + self.count


class Engine:
    """The queue and the rows on their way; `step` is for one thread, `submit` for any."""

    def __init__(
        self,
        programs: EnginePrograms,
        params: Params,
        *,
        stop_ids: Sequence[int],
        longest: int,
        batch: int,
    ):
        self.programs, self.params = programs, params
        self.weights = programs.unstack(params)
        self.stop_ids, self.longest, self.batch = frozenset(stop_ids), longest, batch
        self.waiting: deque[Job] = deque()
        self.awake = threading.Event()
        self.fresh: list[Job] = []  # prompts that are being read
        self.held: list[Job] = []  # by row of self.rows
        self.rows: EngineRows | None = None

    def submit(self, job: Job) -> None:
        """Adds a job to the queue."""
        self.waiting.append(job)
        self.awake.set()

    def step(self) -> bool:
        """Reads prompts that wait and decodes one chunk; False if there was nothing to do."""
        self.awake.clear()
        going = [job for job in self.held if not (job.ended or job.cancelled)]
        self._admit(self.batch - len(going))
        self._start()
        joining = [job for job in self.fresh if not job.ended]
        if not going and not joining:
            self.held, self.rows = [], None
            return bool(self.fresh)
        self._arrange(going, joining)
        self.fresh = []
        self.rows, table = self.programs.decode(self.weights, self.rows, steps=CHUNK)
        table = jax.device_get(table)
        for i, job in enumerate(self.held):
            if not job.ended:
                self._hand_over(job, TokenTable(*(x[:, i] for x in table)))
        return True

    def fail(self, reason: str) -> None:
        """Ends every job with an error."""
        jobs = [*self.held, *self.fresh, *self.waiting]
        self.held, self.fresh, self.rows = [], [], None
        self.waiting.clear()
        for job in jobs:
            if not job.ended:
                job.ended = True
                job.deliver(Piece([], error=reason))

    def _admit(self, room: int) -> None:
        """Takes the next jobs of the queue."""
        self.fresh = []
        while self.waiting and len(self.fresh) < room:
            job = self.waiting.popleft()
            if not job.cancelled:
                self.fresh.append(job)

    def _start(self) -> None:
        """Reads the prompts of fresh jobs, those of one length together."""
        groups = defaultdict(list)
        for job in self.fresh:
            groups[min(self.longest, _power(len(job.ask.prompt) - 1, FEWEST))].append(job)
        for columns, group in groups.items():
            self._read(columns, group)

    def _read(self, columns: int, jobs: Sequence[Job]) -> None:
        """Reads prompts but for their last token, which the first step of decoding reads."""
        prompts = list(dict.fromkeys(job.ask.prompt for job in jobs))
        size = _power(len(prompts))
        context, following = np.zeros((2, size, columns), np.int32)
        lengths = np.zeros(size, np.int32)
        for row, prompt in enumerate(prompts):
            lengths[row] = count = len(prompt) - 1
            start = columns - count
            context[row, start:], following[row, start:] = prompt[:-1], prompt[1:]
        hidden, cache = self.programs.prefill(self.params, context, lengths)
        scores = None
        if any(job.ask.scores for job in jobs):
            scores = jax.device_get(self.programs.score(self.params, hidden, following))
        for job in jobs:
            ask, row = job.ask, prompts.index(job.ask.prompt)
            if ask.scores:
                assert scores is not None
                table = TokenTable(*(x[row, columns - lengths[row] :] for x in scores))
                job.deliver(Piece(_tokens(table, likeliest=True), prompt=True))
            if ask.max_tokens == 0:
                job.ended = True
                job.deliver(Piece([], finish="length"))
                continue
            job.rows = self.programs.start(
                cache, np.int32(row), lengths[row], np.int32(ask.prompt[-1]), _drawing(ask)
            )

    def _arrange(self, going: Sequence[Job], joining: Sequence[Job]) -> None:
        """Rows for these jobs, in a shape that has room for another chunk.

        Rows of jobs that have left stay in the batch until others join or a quarter is enough, so
        that a batch that runs empty is not compiled in every size.
        """
        jobs = [*going, *joining]
        slots = _power(max(job.used for job in jobs) + CHUNK, FEWEST)
        if self.rows is not None and not joining:
            held_slots = self.rows.cache.positions.shape[1]
            if slots <= held_slots and 4 * len(jobs) > len(self.rows.last_ids):
                return
        for i, job in enumerate(self.held):
            if job in going:
                job.rows = self.programs.take(self.rows, np.int32(i))
        parts = [self.programs.resize(job.rows, slots=slots) for job in jobs]
        # Rows that nobody reads fill up the batch.
        parts += [parts[0]] * (_power(len(jobs)) - len(parts))
        self.held, self.rows = jobs, self.programs.stack(parts)
        for job in jobs:
            job.rows = None

    def _hand_over(self, job: Job, table: TokenTable) -> None:
        """Delivers new tokens, up to a stop token or the last one that is asked for."""
        ids = table.ids[: job.ask.max_tokens - job.count].tolist()
        end = next((at + 1 for at, i in enumerate(ids) if i in self.stop_ids), None)
        count = len(ids) if end is None else end
        job.count += count
        finish = "length" if job.count == job.ask.max_tokens else None
        finish = finish if end is None else "stop"
        job.ended = finish is not None
        part = TokenTable(*(x[:count] for x in table))
        if not job.cancelled:
            job.deliver(Piece(_tokens(part, likeliest=job.ask.likeliest), finish=finish))


def make_engine(
    model: Transformer, params: Params, *, stop_ids: Sequence[int], longest: int, batch: int = 16
) -> Engine:
    """An engine with nothing to do.

    Args:
      longest: tokens of a prompt and its answer together.
      batch: answers that are decoded together, at most.
    """
    programs = make_programs(model)
    return Engine(programs, params, stop_ids=stop_ids, longest=longest, batch=batch)


def _power(count: int, fewest: int = 1) -> int:
    """The power of two that is at least `count` and `fewest`."""
    return 1 << (max(count, fewest) - 1).bit_length()


def _drawing(ask: Ask) -> Drawing:
    return Drawing(
        seed=jnp.array([ask.seed], jnp.uint32),
        sample=jnp.array([ask.sample], jnp.uint32),
        temperature=jnp.array([ask.temperature], jnp.float32),
        top_p=jnp.array([ask.top_p], jnp.float32),
        likeliest=jnp.array([ask.likeliest]),
    )


def _tokens(table: TokenTable, *, likeliest: bool) -> list[Token]:
    """A table of one answer, token by token."""
    rows = zip(*(x.tolist() for x in table), strict=True)
    return [
        Token(i, logp, list(zip(others, logps, strict=True)) if likeliest else [])
        for i, logp, others, logps in rows
    ]
