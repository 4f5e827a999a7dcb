"""Find columns that repeat prompt and response, such as Alpaca's `text`."""

from collections import Counter, defaultdict

from lib.corpus.fields import Fields

LONG = 40  # characters from which a text does not hold a prompt and its response by chance


class Repeats:
    """Columns that repeat prompt and response in a frame of words, in more than half of the first rows.

    A frame depends on which texts a row has: Alpaca's `text` has one for rows with an input.
    """

    def __init__(self, head: list[tuple[dict, Fields]]):
        counts = defaultdict(lambda: defaultdict(Counter))
        for row, fields in head:
            for name, value in fields.items():
                if isinstance(value, str) and len(value) >= LONG and row["response"]:
                    parts, frame = _frame(value, row)
                    counts[name][parts][frame] += 1
        self.frames = {}
        for name, by_parts in counts.items():
            usual = {parts: frames.most_common(1)[0] for parts, frames in by_parts.items()}
            if all(frame and 2 * n > by_parts[parts].total() for parts, (frame, n) in usual.items()):
                self.frames[name] = {parts: frame for parts, (frame, _) in usual.items()}

    def drop(self, row: dict, fields: Fields) -> None:
        """Drop the fields that repeat prompt and response, and note their names."""
        for name in self.frames.keys() & fields.keys():
            parts, frame = _frame(fields[name], row)
            # the first row with other texts than the head's gives their frame
            if frame and self.frames[name].setdefault(parts, frame) == frame:
                del fields[name]
                fields.notes.add(("repeated", name))


def _frame(value: object, row: dict) -> tuple[tuple[bool, ...], tuple[str, ...] | None]:
    """Return which texts a row has, and the words of a value around them.

    None instead of the words where the value lacks one of the texts.
    """
    texts = [turn["content"].strip() for turn in row["turns"]]
    texts += [(row[name] or "").strip() for name in ("instruction", "input", "response")]
    parts, words = tuple(map(bool, texts)), []
    for text in reversed(list(filter(None, texts))):  # from the end: a frame begins with words of its own
        if not isinstance(value, str) or text not in value:
            return parts, None
        value, _, after = value.rpartition(text)
        words.append(after.strip())
    return parts, (*words, value.strip())
