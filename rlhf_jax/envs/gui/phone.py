"""What is on a phone: apps, screens of rows, and the facts that taps change."""

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import NamedTuple

HOME = "home"
PEOPLE = ("ada", "ben", "cleo", "dan", "eve", "finn", "gus", "hana")
PRODUCTS = ("tea", "soap", "lamp", "rice", "pen", "cup", "salt", "rope")
SETTINGS = ("wifi", "sound", "privacy", "updates", "location", "battery", "contrast", "keyboard")
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
EVENTS = ("dentist", "lunch", "training", "concert", "meeting", "visit", "exam")
TIMES = ("six", "seven", "eight", "nine", "ten", "noon", "one", "two", "three")
SAYINGS = ("come early", "bring cake", "call back", "stay home", "buy milk", "take care")
NOTES = ("ideas", "books", "films", "plans", "words")
# An app and how it may be called.
APPS = {
    "inbox": ("mail", "post"),
    "contacts": ("contacts", "people"),
    "calendar": ("calendar", "planner"),
    "settings": ("settings", "options"),
    "notes": ("notes", "notebook"),
    "shop": ("shop", "market"),
    "clock": ("clock", "alarms"),
    "games": ("games", "fun"),
}
SCREEN_TYPES = (
    *("home", "inbox", "message", "compose", "contacts", "contact", "calendar", "day", "event"),
    *("settings", "setting", "notes", "note", "editor", "shop", "product", "clock", "alarm"),
    "games",
)


class GuiRow(NamedTuple):
    """label: what is read. kind: "open" a screen, "set" a fact to a value, "field" to type into,
    "save" the fields to a fact and go back, "text". target: the screen, the fact or the field."""

    label: str
    kind: str = "text"
    target: str = ""
    value: str = ""


class Screen(NamedTuple):
    """type: one of SCREEN_TYPES. title: what is read above the rows. parent: where back leads."""

    type: str
    title: str
    rows: tuple[GuiRow, ...]
    parent: str


class Phone(NamedTuple):
    """screens by name, "product tea"; facts by name as they are at first; names of the answers."""

    screens: Mapping[str, Screen]
    facts: Mapping[str, str]


def make_phone(seed: int, layout: int) -> Phone:
    """The phone of this layout, a function of the arguments only."""
    rng = Random(f"gui/{seed}/{layout}")
    titles = {app: rng.choice(names) for app, names in APPS.items()}
    facts = {setting: rng.choice(("on", "off")) for setting in SETTINGS}
    screens = {HOME: Screen("home", HOME, _opens(rng, titles), HOME)}
    makers: tuple[Callable[[Random], Sequence[tuple[str, Screen]]], ...] = (
        _mail, _people, _calendar, _settings, _notes, _shop, _clock, _games,
    )  # fmt: skip
    for make in makers:
        for name, screen in make(rng):
            title = titles.get(name, screen.title)
            rows = (GuiRow("back", "open", screen.parent), *screen.rows)
            screens[name] = screen._replace(title=title, rows=rows)
    return Phone(screens, facts)


def _opens(rng: Random, labels: Mapping[str, str]) -> tuple[GuiRow, ...]:
    """Rows that open screens, in the layout's order."""
    rows = [GuiRow(label, "open", screen) for screen, label in labels.items()]
    return tuple(rng.sample(rows, len(rows)))


def _list(
    rng: Random, app: str, kind: str, names: Sequence[str], first: Sequence[GuiRow] = ()
) -> tuple[str, Screen]:
    """An app's first screen, a row for each of its things."""
    rows = _opens(rng, {f"{kind} {name}": name for name in names})
    return app, Screen(app, app, (*first, *rows), HOME)


def _form(kind: str, parent: str, fields: Sequence[str], fact: str) -> Screen:
    """Fields to type into, and a row that saves them."""
    rows = [GuiRow(field, "field", field) for field in fields]
    return Screen(kind, kind, (*rows, GuiRow("save", "save", fact)), parent)


def _mail(rng: Random) -> Sequence[tuple[str, Screen]]:
    senders = rng.sample(PEOPLE, 6)
    messages = [
        (
            f"message {name}",
            Screen(
                "message",
                f"from {name}",
                (
                    GuiRow(f"says {rng.choice(SAYINGS)}"),
                    GuiRow("delete", "set", f"mail {name}", "gone"),
                ),
                "inbox",
            ),
        )
        for name in senders
    ]
    compose = _form("compose", "inbox", ("to", "text"), "sent")
    new = [GuiRow("compose", "open", "compose")]
    return [
        _list(rng, "inbox", "message", senders, new),
        ("compose", compose),
        *messages,
    ]


def _people(rng: Random) -> Sequence[tuple[str, Screen]]:
    cards = []
    for name in PEOPLE:
        number = " ".join(str(rng.randrange(10)) for _ in range(3))
        rows = (GuiRow(f"number {number}"), GuiRow("call", "set", "called", name))
        cards.append((f"contact {name}", Screen("contact", name, rows, "contacts")))
    return [_list(rng, "contacts", "contact", PEOPLE), *cards]


def _calendar(rng: Random) -> Sequence[tuple[str, Screen]]:
    days = []
    for day, event in zip(DAYS, rng.sample(EVENTS, len(DAYS)), strict=True):
        rows = (
            GuiRow(f"{event} at {rng.choice(TIMES)}"),
            GuiRow("add event", "open", f"event {day}"),
        )
        days.append((f"day {day}", Screen("day", day, rows, "calendar")))
        days.append((f"event {day}", _form("event", f"day {day}", ("title",), f"event {day}")))
    week = [GuiRow(day, "open", f"day {day}") for day in DAYS]
    return [("calendar", Screen("calendar", "calendar", tuple(week), HOME)), *days]


def _settings(rng: Random) -> Sequence[tuple[str, Screen]]:
    pages = []
    for name in SETTINGS:
        rows = [GuiRow(value, "set", name, value) for value in rng.sample(("on", "off"), 2)]
        pages.append((f"setting {name}", Screen("setting", name, tuple(rows), "settings")))
    return [_list(rng, "settings", "setting", SETTINGS), *pages]


def _notes(rng: Random) -> Sequence[tuple[str, Screen]]:
    pages = [
        (
            f"note {name}",
            Screen("note", name, (GuiRow(rng.choice(SAYINGS)),), "notes"),
        )
        for name in NOTES
    ]
    new = [GuiRow("new note", "open", "editor")]
    editor = _form("editor", "notes", ("text",), "noted")
    return [_list(rng, "notes", "note", NOTES, new), ("editor", editor), *pages]


def _shop(rng: Random) -> Sequence[tuple[str, Screen]]:
    pages = []
    for name in PRODUCTS:
        rows = (
            GuiRow(f"price {rng.randrange(2, 60)}"),
            GuiRow(f"stars {rng.randrange(1, 6)}"),
            GuiRow("buy", "set", f"cart {name}", "in"),
        )
        pages.append((f"product {name}", Screen("product", name, rows, "shop")))
    return [_list(rng, "shop", "product", PRODUCTS), *pages]


def _clock(rng: Random) -> Sequence[tuple[str, Screen]]:
    known = tuple(GuiRow(f"alarm at {time}") for time in rng.sample(TIMES, 2))
    rows = (*known, GuiRow("new alarm", "open", "alarm"))
    alarm = _form("alarm", "clock", ("time",), "alarm")
    return [("clock", Screen("clock", "clock", rows, HOME)), ("alarm", alarm)]


def _games(rng: Random) -> Sequence[tuple[str, Screen]]:
    del rng
    return [("games", Screen("games", "games", (GuiRow("nothing new"),), HOME))]
