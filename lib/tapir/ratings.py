"""Ratings: one row on a scale of its own, where a verdict compares two responses."""

import re

SCALES = {
    "accuracy": (0.0, 5.0),  # of the response (AlpaGasus)
    "complexity": (1.0, 6.0),  # of the instruction (Deita)
    "quality": (1.0, 6.0),  # of the response (Deita)
}
# what comes behind is no more of the number ("4-5", "4,5"); possessive (*+): a line of a million spaces is read at once
RATING = re.compile(
    r"[* ]*+(?:(?:[a-z]++ )?(?:score|rating))?[ :*]*+([0-9]+(?:\.[0-9]+)?)(?: ?\(?(?:/|out of) ?([0-9]+)\)?)?[ .*]*"
    r"(?:;.*|\((?! *(?:(?:out )?of +[0-9]|/)).*|[-–,](?! *[0-9]).*)?",
    re.IGNORECASE,
)


def read(reply: str, scale: str) -> float | None:
    """The rating that the first line of a reply states; None where it states none, or one of another scale.

    >>> read("Score: 4.5/5 - it is right but for a name.", "accuracy")
    4.5
    >>> read("I rate it between 4 and 5.", "accuracy")
    """
    low, high = SCALES[scale]
    stated = RATING.fullmatch(reply.strip().partition("\n")[0].strip())
    if not stated or float(stated[2] or high) != high:
        return None
    return float(stated[1]) if low <= float(stated[1]) <= high else None
