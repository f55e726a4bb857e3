"""The stories as a task: `--task examples.stories.task:make` of `shop_methods`."""

from pathlib import Path

from examples.stories.rewards import ends_happily, has_dog
from rlhf_jax.recipes import text_task

HELDOUT = 24  # of the prompts


def make():
    """The prompts of `prompts.txt`; "story" is half a point for a dog and half for a happy end."""
    prompts = (Path(__file__).parent / "prompts.txt").read_text().splitlines()
    return text_task(prompts, score_stories, objective="story", heldout=HELDOUT)


def score_stories(prompts, answers):
    """Both halves, and their mean."""
    dog = [float(has_dog(text)) for text in answers]
    happy = [float(ends_happily(text)) for text in answers]
    story = [0.5 * a + 0.5 * b for a, b in zip(dog, happy, strict=True)]
    return {"dog": dog, "happy": happy, "story": story}
