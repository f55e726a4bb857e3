"""A reward of stories: half for a dog, half for a happy end."""

import re

DOG = re.compile(r"\b(dog|dogs|puppy|puppies)\b", re.IGNORECASE)
HAPPY = re.compile(
    r"\b(happy|happily|happier|smiled|laughed|fun|friends|hugged|loved|proud|glad|thanked)\b"
)
SAD = re.compile(r"\b(sad|cried|crying|scared|angry|hurt|not happy|unhappy|never)\b")


def dog_and_happy_end(prompts, answers):
    """0, 1/2 or 1 for each story: does it have a dog, and is its last sentence a happy one?"""
    return [0.5 * has_dog(text) + 0.5 * ends_happily(text) for text in answers]


def has_dog(text):
    return DOG.search(text) is not None


def ends_happily(text):
    """The last whole sentence has a happy word and no sad one."""
    sentences = re.findall(r"[^.!?]+[.!?]", text)
    last = sentences[-1] if sentences else ""
    return HAPPY.search(last) is not None and SAD.search(last) is None
