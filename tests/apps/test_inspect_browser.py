"""A reader's view of the page of kdpl inspect: from the disk, in a real browser, by mouse and by keyboard."""

import pytest
from hostile import NAMES, comparison
from test_browser import MISSING, REQUIRED, SHOTS, chromium

from kdpl_utils.apps.inspect_page import write_page

pytestmark = pytest.mark.skipif(bool(MISSING) and not REQUIRED, reason=f"no {' and no '.join(MISSING)} here")


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return write_page(comparison(), tmp_path_factory.mktemp("page") / "page.html", most=20)


@pytest.fixture
def page(browser, file):
    """The page as opened; at its end no request has left and nothing was said in the console."""
    context = browser.new_context(viewport={"width": 1360, "height": 1000})
    context.set_default_timeout(30_000)
    page = context.new_page()
    page.said, page.asked = [], []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("dialog", lambda dialog: (page.said.append("dialog"), dialog.dismiss()))
    page.on("request", lambda request: page.asked.append(request.url))
    page.goto(file.as_uri())
    yield page
    asked = [url for url in page.asked if not url.startswith("data:")]
    context.close()
    assert page.said == [] and asked == [file.as_uri()]


def visible(page) -> list[str]:
    return page.locator("#cards article:not([hidden]) h3").evaluate_all("all => all.map(h => h.textContent)")


def entries(page) -> dict[str, dict]:
    """The data by file name; who is correct as in the page's patterns."""
    data = page.evaluate("JSON.parse(document.getElementById('data').textContent)")["shown"]
    for entry in data:
        entry["agree"] = entry["top"][0] == entry["top"][-1]
        entry["right"] = "".join(str(int(top == entry["label"])) for top in entry["top"]) if entry["label"] else ""
    return {entry["path"]: entry for entry in data}


def choose(page, name: str, words: str) -> None:
    page.locator(f"#{name}").select_option(label=words)


def test_hostile_names_are_text(page):
    assert page.title() == "<i>pictures</i> & ${more}: where two models differ"
    assert page.locator("#cards img").count() == 20 == page.locator("img").count()
    assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
    options = page.locator("#class option").evaluate_all("all => all.map(o => o.textContent)")
    assert set(options) - {"all"} <= set(NAMES) and len(options) > 8
    shown = page.locator("#cards bdi").evaluate_all("all => all.map(b => b.textContent)")
    assert {name for name in NAMES if name in shown} == set(NAMES)
    assert page.locator("#cards b").evaluate_all("all => all.every(b => /^[\\d.]+( bits)?$/.test(b.textContent))")


def test_all_pictures_together(page):
    data = page.evaluate("JSON.parse(document.getElementById('data').textContent)")
    rows = page.locator("#summary tr").all_inner_texts()
    assert len(rows) == 3 and f"{100 * data['summary'][2]['accuracy']:.1f}%" in rows[2]
    assert page.locator("#counts").inner_text() == "24 pictures, 12 names."
    assert page.locator("#notes li").all_inner_texts() == data["notes"]
    assert page.get_by_role("img", name="Reliability diagram").is_visible()
    assert page.locator("figure .mark.after").count() == len(data["curves"]["student after"])


def test_the_policy_stops_what_is_not_the_pages_own(page):
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.hit = 1\">')")
    page.evaluate("fetch('http://example.invalid/').catch(() => 0)")
    page.wait_for_timeout(200)
    assert page.evaluate("window.hit") is None
    assert len(page.said) >= 2 and all("Content Security Policy" in text for text in page.said)
    page.said.clear()
    page.asked[:] = page.asked[:1]


def test_filters(page):
    data = entries(page)
    count = page.locator("#count")
    assert len(visible(page)) == 20 and count.inner_text() == "20 of 20 pictures in this page fit."
    for words, agree in (("agree", True), ("disagree", False)):
        choose(page, "agree", words)
        assert sorted(visible(page)) == sorted(path for path, entry in data.items() if entry["agree"] == agree)
    page.get_by_role("button", name="Show all").click()
    assert len(visible(page)) == 20

    for words, right in (("only the teacher correct", "10"), ("both wrong: teacher, student after", "00")):
        choose(page, "right", words)
        expected = [path for path, e in data.items() if e["right"] and e["right"][0] + e["right"][2] == right]
        assert sorted(visible(page)) == sorted(expected)
    page.get_by_role("button", name="Show all").click()

    choose(page, "class", NAMES[1])
    assert sorted(visible(page)) == sorted(
        path for path, entry in data.items() if NAMES[1] in [*entry["top"], entry["label"]]
    )
    page.get_by_role("button", name="Show all").click()
    page.get_by_label("Text").fill("ALERT(2)")
    assert sorted(visible(page)) == sorted(
        path for path, entry in data.items() if NAMES[1] in [*entry["top"], entry["label"]]
    )
    page.get_by_label("Text").fill("no such picture")
    assert visible(page) == [] and count.inner_text() == "No picture fits these filters."


def test_sorts(page):
    data = entries(page)
    orders = {
        "KL, largest first": lambda e: -e["kl"][2],
        "KL, smallest first": lambda e: e["kl"][2],
        "KL fell most": lambda e: -(e["kl"][1] - e["kl"][2]),
        "teacher most confident": lambda e: -e["confidence"][0],
        "student after least confident": lambda e: e["confidence"][2],
        "teacher's entropy, largest first": lambda e: -e["entropy"][0],
    }
    for words, key in orders.items():
        choose(page, "sort", words)
        assert visible(page) == sorted(data, key=lambda path: key(data[path])), words
    choose(page, "sort", "file name")
    assert len(set(visible(page))) == 20 and visible(page)[0] != sorted(data, key=lambda p: -data[p]["kl"][2])[0]


def test_keyboard(page):
    """Tab reaches every control in reading order and the list once; arrows go through the list."""
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "To the pictures"
    stops = []
    for _ in range(12):
        page.keyboard.press("Tab")
        stops.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert stops[stops.index("text") :][:7] == ["text", "class", "agree", "right", "sort", "reset", "ARTICLE"]
    page.locator("#agree").focus()
    page.keyboard.type("dis")  # as a select takes letters
    expected = sum(not entry["agree"] for entry in entries(page).values())
    assert len(visible(page)) == expected
    page.locator("#cards article:visible").first.focus()

    def here() -> str:
        return page.evaluate("document.activeElement.querySelector('h3')?.textContent")

    order = visible(page)
    places = {"ArrowDown": 1, "ArrowRight": 2, "ArrowUp": 1, "End": -1, "Home": 0}
    for key, place in places.items():
        page.keyboard.press(key)
        assert here() == order[place], key
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    assert here() == order[1], "the list remembers where the reader was"


@pytest.mark.parametrize("width", [1360, 390])
def test_nothing_sticks_out(browser, file, width):
    page = browser.new_page(viewport={"width": width, "height": 1200})
    page.goto(file.as_uri())
    SHOTS.mkdir(exist_ok=True, parents=True)
    page.screenshot(path=SHOTS / f"inspect_{width}.png")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.close()
