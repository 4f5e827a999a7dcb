"""Find columns that repeat prompt and response, such as Alpaca's `text`."""

from collections import Counter, defaultdict

from lib.corpus.fields import Fields

LONG = 40  # characters from which a text does not hold a prompt and its response by chance

Parts = tuple[bool, ...]  # which of a row's texts are not empty
Frame = tuple[str, ...]  # the words around these texts


class Repeats:
    """Columns that repeat prompt and response in a fixed frame of words, as the first rows show."""

    def __init__(self, head: list[tuple[dict, Fields]]):
        counts = defaultdict(lambda: defaultdict(Counter))
        longest = Counter()
        for row, fields in head:
            for name, value in fields.rest.items():
                if isinstance(value, str) and row["response"]:
                    parts, frame = _frame(value, row)
                    counts[name][parts][frame] += 1
                    longest[name] = max(longest[name], len(value))
        self.frames: dict[str, dict[Parts, Frame]] = {
            name: {parts: frames.most_common(1)[0][0] for parts, frames in by_parts.items()}
            for name, by_parts in counts.items()
            if longest[name] >= LONG and all(map(_is_usual, by_parts.values()))
        }

    def drop(self, row: dict, fields: Fields) -> None:
        """Drop from a record the fields that repeat its prompt and response, and note their names."""
        for name in self.frames.keys() & fields.rest.keys() if self.frames else ():
            parts, frame = _frame(fields.rest[name], row)
            # the first row with other parts than the head's gives their frame
            if frame is not None and self.frames[name].setdefault(parts, frame) == frame:
                del fields.rest[name]
                fields.notes.add(("repeated", name))


def _is_usual(frames: Counter) -> bool:
    """Return whether more than half of the values have one frame."""
    frame, count = frames.most_common(1)[0]
    return frame is not None and 2 * count > frames.total()


def _frame(value: object, row: dict) -> tuple[Parts, Frame | None]:
    """Return which texts a row has, and the words of a value around them; None where it lacks one of them."""
    texts = [turn["content"] for turn in row["turns"]]
    texts += [row["instruction"], row["input"], row["response"] or ""]
    parts = tuple(map(bool, texts))
    if not isinstance(value, str):
        return parts, None
    frame, end = [], len(value)
    for text in reversed(
        [text.strip() for text in texts if text.strip()]
    ):  # a frame begins with its own words
        start = value.rfind(text, 0, end)
        if start < 0:
            return parts, None
        frame.append(value[start + len(text) : end].strip())
        end = start
    return parts, (*frame, value[:end].strip())
