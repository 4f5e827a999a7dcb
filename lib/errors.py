"""The one kind of error that is the user's to repair: shown as its sentence, without a traceback."""


class UserError(Exception):
    """What is wrong, where (file, line or parameter), and what to do."""

    def _render_traceback_(self) -> list[str]:  # what IPython shows below the cell
        return [str(self)]
