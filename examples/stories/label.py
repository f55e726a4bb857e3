"""Pairs and a text file from answers of `rlhf sample`, by the rule of `rewards`.

    python examples/stories/label.py samples.jsonl --pairs pairs.jsonl --texts stories.txt

A pair is an answer and one of the same prompt with a lower score. The texts are the prompts and
answers with a score above 0, each to its last whole sentence and with a blank line after it.
"""

import argparse
import json
import re
from collections import defaultdict
from pathlib import Path

from rewards import dog_and_happy_end


def label_pairs(rows):
    """The answers of each prompt with a score, each beside another one with a lower score."""
    found = []
    for prompt, answers in _by_prompt(rows).items():
        scored = list(
            zip(dog_and_happy_end([prompt] * len(answers), answers), answers, strict=True)
        )
        for number, (score, answer) in enumerate(scored):
            lower = [text for other, text in scored if other < score]
            if lower:
                pair = {"prompt": prompt, "chosen": answer, "rejected": lower[number % len(lower)]}
                found.append(pair)
    return found


def good_texts(rows):
    """Prompt and answer as one text, as far as it has whole sentences, if its score is above 0."""
    scores = dog_and_happy_end(None, [row["answer"] for row in rows])
    texts = [
        row["prompt"] + row["answer"] for row, score in zip(rows, scores, strict=True) if score
    ]
    whole = [re.sub(r'([.!?]"?)[^.!?]*$', r"\1", text) for text in texts]
    return [" ".join(text.split()) for text in whole]


def _by_prompt(rows):
    answers = defaultdict(list)
    for row in rows:
        answers[row["prompt"]].append(row["answer"])
    return answers


def main():
    """Writes both files."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("samples", type=Path)
    parser.add_argument("--pairs", type=Path, required=True)
    parser.add_argument("--texts", type=Path, required=True)
    options = parser.parse_args()
    rows = [json.loads(line) for line in options.samples.read_text(encoding="utf-8").splitlines()]
    pairs, texts = label_pairs(rows), good_texts(rows)
    options.pairs.write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    options.texts.write_text("".join(f"{text}\n\n" for text in texts), encoding="utf-8")
    print(f"{len(rows)} answers: {len(pairs)} pairs, {len(texts)} texts")


if __name__ == "__main__":
    main()
