"""Count what loading did with the rows and fields of a corpus."""

from collections import Counter
from dataclasses import dataclass, field

from lib import show
from lib.errors import UserError

FIRST = 5  # places of bad rows that are listed
NOTES = {
    "without_response": "Rows without a response",
    "not_trained": "Responses marked as not to be trained on (weight 0, train false and the like); they stay "
    "in `meta`, and their rows have no response",
    "earlier_responses": "Rows with earlier assistant turns, which are context and never trained",
}
FIELDS = {
    "read": "Read",
    "meta": "Not used, kept in `meta`",
    "repeated": "Dropped, because it repeats prompt and response",
    "thoughts": "Dropped, because thoughts are never trained",
}


@dataclass
class Account:
    """Count rows by what loading did with them, and with which field.

    counts: by (kind, text). For the kinds of FIELDS the text names a field, for "note" it is a key of NOTES.
    """

    rows: int = 0
    refuse: bool = False  # refuse the source for its first bad row
    counts: Counter = field(default_factory=Counter)
    skipped: Counter = field(default_factory=Counter)  # records left out, by cause
    places: list[str] = field(default_factory=list)  # of the first of these

    def on_bad_row(self, where: str, cause: str, detail: str) -> None:
        """Count a record that cannot become a row, or refuse the source."""
        if self.refuse:
            raise UserError(
                f"{where}: {cause}{detail}. Correct or remove the record, or leave such rows out with "
                "bad_rows: skip (a parameter of tapir/1_data_selection)."
            ) from None
        self.skipped[cause] += 1
        if len(self.places) < FIRST:
            self.places.append(where.rpartition("/")[2])

    def by_kind(self, kind: str) -> Counter:
        """Return the counts of one kind, the highest first."""
        counts = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return Counter({text: n for (other, text), n in counts if other == kind})

    def metrics(self) -> dict[str, int]:
        """Return the counts as metrics of notebook 1."""
        notes = self.by_kind("note")
        return {
            "corpus.not_trained": notes["not_trained"],
            "corpus.earlier_responses": notes["earlier_responses"],
            "corpus.thoughts": self.by_kind("thoughts").total(),
            "corpus.bad_rows": self.skipped.total(),
            "corpus.fields_in_meta": len(self.by_kind("meta")),
            "corpus.fields_repeated": len(self.by_kind("repeated")),
        }

    def sentences(self) -> list[str]:
        """Return the account as Markdown, a sentence each."""
        lines = [f"Rows: {self.rows:,}. A number in brackets says in how many of them."]
        for kind, text in FIELDS.items():
            shown = str if kind == "read" else show.code  # the others are names from a file
            names = [f"{shown(name)} ({n:,})" for name, n in self.by_kind(kind).items()]
            lines += [f"{text}: {', '.join(names)}."] if names else []
        lines += [f"{NOTES[name]}: {n:,}." for name, n in self.by_kind("note").items()]
        if self.skipped:
            causes = ", ".join(f"{cause} ({n:,})" for cause, n in self.skipped.most_common())
            places = ", ".join(map(show.code, self.places))
            lines.append(f"Bad rows left out: {self.skipped.total():,}: {causes}. The first: {places}.")
        return lines
