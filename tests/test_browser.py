"""Pages in a real browser, with no network: they show, fold, fit and can be read by everyone."""

from functools import partial

import pytest
from axe_playwright_python.sync_playwright import Axe

from lib import paths
from lib.run import run_study

pytestmark = pytest.mark.slow
WIDTHS = [390, 768, 1280]
RENDERED = sorted((paths.ROOT / "docs/rendered").glob("*.html"))


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where a report lies, as readers get it."""
    outputs = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OUTPUTS", str(outputs))
        run_study(paths.ROOT / "tests/params/page.yaml", name="page")
    return (outputs / "page/report.html").as_uri()


@pytest.fixture
def visit(chromium):
    """Open a page at a width; whatever it asks for or complains of is in the lists."""
    requests, messages = [], []

    def open_page(address: str, width: int, **options):
        tab = chromium.new_page(viewport={"width": width, "height": 900}, **options)
        tab.on("request", lambda request: requests.append(request.url))
        tab.on("console", lambda message: messages.append(message.text))
        tab.on("pageerror", lambda error: messages.append(str(error)))
        tab.on("dialog", lambda dialog: messages.append(dialog.message))
        tab.goto(address)
        return tab

    yield open_page
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == [] and messages == []


@pytest.fixture
def opened(visit, address):
    return partial(visit, address)


def unfold(tab) -> None:
    tab.evaluate("document.querySelectorAll('details').forEach(it => it.open = true)")


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_whether_folded_or_not(opened, width):
    tab = opened(width)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    unfold(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_no_rule_of_accessibility_is_broken(opened, scheme, width):
    tab = opened(width, color_scheme=scheme)
    unfold(tab)
    result = Axe().run(tab)
    assert result.violations_count == 0, result.generate_report()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", RENDERED, ids=lambda path: path.stem)
def test_a_rendered_page_fits_a_phone_and_breaks_no_rule_of_accessibility(visit, path, scheme):
    tab = visit(path.as_uri(), 390, color_scheme=scheme)
    unfold(tab)
    assert tab.evaluate("document.documentElement.scrollWidth") <= 390
    result = Axe().run(tab)
    assert result.violations_count == 0, result.generate_report()
    tab.close()


def test_every_figure_is_drawn_and_says_what_it_shows(opened):
    tab = opened(1280)
    unfold(tab)
    images = tab.evaluate(
        "[...document.images].map(it => [it.complete && it.naturalWidth > 0, it.alt.length])"
    )
    assert len(images) > 10 and all(drawn and length > 20 for drawn, length in images)


def test_stages_and_their_code_fold_out_and_the_flow_leads_to_them(opened):
    tab = opened(1280)
    stage = tab.locator("details.stage").first
    code = stage.locator("details.code").first
    assert not stage.locator("h3").first.is_visible()
    tab.locator(".flow .box a").first.click()
    assert stage.locator("h3").first.is_visible() and not code.locator(".highlight").is_visible()
    code.locator("summary").click()
    assert code.locator(".highlight").is_visible()
    code.locator("summary").click()
    assert not code.locator(".highlight").is_visible()


def test_what_is_printed_has_figures_and_no_code(opened):
    tab = opened(1280)
    tab.emulate_media(media="print")
    unfold(tab)
    assert tab.locator("figure img").first.is_visible()
    assert not tab.locator("details.code").first.is_visible()
    wide = "all => all.filter(it => it.scrollWidth > it.clientWidth + 1).length"
    tab.set_viewport_size({"width": 680, "height": 900})  # of A4 between its margins
    assert (
        tab.locator(".output, .scroll, pre, figure").evaluate_all(wide) == 0
    )  # what scrolls on a screen is cut on paper
