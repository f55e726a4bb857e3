"""Words of the general text: talk about the weather and a product, facts, and news of the shop."""

WEATHER = ("rain", "snow", "wind", "fog", "sun")
TALK = (
    "it is cold , the {weather} will not stop .",
    "i like {weather} more than {other} .",
    "is there {weather} at the lake today ?",
    "yes , and {other} on the hill .",
    "no , only {other} .",
    "my {cat} is old , i want to buy a new one .",
    "i have {name} at home , it is a {cat} .",
    "do you know a {cat} that is {a} ?",
    "i read about {name} this morning .",
    "my child broke the {cat} last month .",
    "have a good day , see you next week .",
    "we walked to the mill in the {weather} .",
)
NEWS = (
    "the shop on park street opens at {few} today .",
    "the shop is closed because of {weather} .",
    "{name} , a new {cat} , came in this morning .",
    "{few} more people work here since last month .",
    "every {cat} is a little cheaper this week .",
    "last year most buyers took a {a} {cat} .",
    "a {cat} for {num} dollars was left at the door .",
    "the seller put {num} old boxes on the street .",
    "people came from the lake to buy {name} .",
    "next week the shop moves to mill street .",
)
STATEMENTS = {
    "price": ("the {cat} {name} costs {num} dollars .", "{num} dollars buy {name} ."),
    "stars": ("{name} has {num} stars .", "buyers give {name} {num} stars ."),
    "yes": ("{name} is {a} .", "{name} is a {a} {cat} ."),
    "no": ("{name} is not {a} .", "no , {name} is not a {a} {cat} ."),
    "unknown": ("nobody knows whether {name} is {a} .", "{name} may be {a} ."),
    "sold": ("{name} is sold out today .", "there is no {name} left ."),
}
SPEAKERS = ("buyer", "seller", "neighbour", "child")
TEMPLATES = (
    *TALK, *NEWS, *WEATHER, *SPEAKERS, *(each for both in STATEMENTS.values() for each in both),
    "news of the shop :", "on the board : read it : read it from the end : end .",
)  # fmt: skip
