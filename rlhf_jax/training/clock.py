"""Where the seconds of a step go, as the host sees them, and the rates that follow.

    with stage.run.clock("data"):
        batch = rows[i]

The device works while the host goes on, and nothing here waits for it. A part is how long the host
was in it; the wait for a slower device is in "update", where the step before is checked. The parts
of a step add up to "step", but for what the loop itself does.

| part | of a step |
|---|---|
| data | make the batch, or the prompts |
| sample | draw answers; the host waits for them if it scores them |
| score | the host's part of the reward |
| update | start the compiled step; wait for the one before |
| measure | held-out numbers and completions |
| checkpoint | save; counted in the step after it |
"""

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import jax

# Dense bfloat16 FLOP/s of a device by the beginning of its kind's name, from the makers' data.
PEAKS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5p": 459e12,
    "TPU v5": 459e12,
    "TPU v6": 918e12,
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H200": 989e12,
}


@dataclass
class Clock:
    """Seconds by part since the last `lap`, and of each stage so far. One thread may use it.

    since: when the last lap ended. flops: of the model, without recomputation, since then.
    totals: stage -> part -> seconds, of this session; "steps" and "tokens" are counts. programs: of
      XLA, so far.
    """

    parts: dict[str, float] = field(default_factory=dict)
    since: float = field(default_factory=time.perf_counter)
    flops: float = 0.0
    totals: dict[str, dict[str, float]] = field(default_factory=dict)
    programs: Callable[[], int] = int

    @contextmanager
    def __call__(self, part: str) -> Generator[None]:
        """Adds the block's seconds to a part."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.parts[part] = self.parts.get(part, 0.0) + time.perf_counter() - began

    def lap(self) -> tuple[dict[str, float], float]:
        """The parts of a step that is over, and "step", all of it; its FLOPs."""
        now = time.perf_counter()
        found = {**self.parts, "step": now - self.since}, self.flops
        self.parts, self.since, self.flops = {}, now, 0.0
        return found

    def add(self, stage: str, counts: Mapping[str, float]) -> None:
        """Adds to the totals of a stage."""
        totals = self.totals.setdefault(stage, {})
        for name, value in counts.items():
            totals[name] = totals.get(name, 0.0) + value

    def notes(self) -> list[str]:
        """A line for each stage that took longer than a second."""
        return [_note(stage, found) for stage, found in self.totals.items() if found["step"] > 1]


def peak_flops() -> float | None:
    """Of all devices together; None where the kind is not known, as of a CPU."""
    kind = jax.devices()[0].device_kind
    known = [peak for name, peak in PEAKS.items() if kind.startswith(name)]
    return known[0] * jax.device_count() if known else None


def rates(tokens: float, flops: float, seconds: float) -> dict[str, float]:
    """ "speed/tokens" a second, and "speed/mfu", the share of the peak; those that are known."""
    peak = peak_flops()
    found = {"speed/tokens": tokens / seconds} if tokens else {}
    return found | ({"speed/mfu": flops / seconds / peak} if flops and peak else {})


def _note(stage: str, found: Mapping[str, float]) -> str:
    """`sft: 120 steps in 30.1 s: update 91%, data 4%, checkpoint 3%; 5,120 tokens/s`."""
    parts = sorted(found.keys() - {"step", "steps", "tokens"}, key=lambda part: -found[part])
    shares = ", ".join(f"{part} {found[part] / found['step']:.0%}" for part in parts)
    rate = f"; {found['tokens'] / found['step']:,.0f} tokens/s" if found["tokens"] else ""
    return f"{stage}: {found['steps']:.0f} steps in {found['step']:.1f} s: {shares}{rate}"
