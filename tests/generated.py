"""Tests of a property on generated inputs: a few hundred that are the same at every `make test`, 10,000 new ones in `make test-slow`."""

from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SLOWLY_DRAWN = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
# half a surrogate pair, what ends a text in C, begins a file, ends a line and turns its direction
STRANGE = "\ud800\udfff\x00\x1b\x7f\ufeff\ufffe\u2028\u202e\x85\r\n\t \"\\{}[]<>&'`$%|=*_#:"
texts = st.text(
    st.characters(categories=["L", "N", "P", "S", "Z", "C"]) | st.sampled_from(STRANGE), max_size=20
)
plain = st.text("abc XYZ.09é漢\n", min_size=1, max_size=12).filter(str.strip)
numbers = st.integers() | st.integers(-(10**400), 10**400) | st.floats()
scalars = st.none() | st.booleans() | numbers | texts | plain
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def always(few: int, many: int, **drawn: st.SearchStrategy) -> Callable:
    """A test that holds for `few` inputs, and in `make test-slow` for `many`; its arguments are drawn."""

    def decorate(holds: Callable) -> Callable:
        @pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.slow)])
        def test(examples):
            options = {"database": None, "deadline": None, "suppress_health_check": SLOWLY_DRAWN}
            with_settings = settings(max_examples=examples, derandomize=examples == few, **options)
            with_settings(given(**drawn)(holds))()

        test.__name__, test.__doc__ = holds.__name__, holds.__doc__
        return test

    return decorate
