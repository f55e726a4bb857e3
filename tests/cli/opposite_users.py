"""Pairs of users who want opposite things."""


def opposite_pairs(users, numbers):
    """Even users prefer answers of a, odd ones answers of b."""
    sides = ("a", "b")
    return [
        {"prompt": f"{n}?", "chosen": sides[u % 2] * 3, "rejected": sides[1 - u % 2] * 3, "user": u}
        for u in users
        for n in numbers
    ]
