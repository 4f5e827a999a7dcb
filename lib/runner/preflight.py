"""Settings that are wrong are refused before anything runs."""

from lib.runner import benchmark_checks, checks


def check(notebook: str, values: dict) -> None:
    """Raises UserError naming the parameter that is wrong in a notebook's values."""
    (checks.CHECKS | benchmark_checks.CHECKS).get(notebook, lambda values: None)(values)
