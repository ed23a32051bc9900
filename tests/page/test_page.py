"""The page of `vehicle-count run` in Chromium, as a user works with it.

A camera is added, a region is drawn, the camera is killed. axe-core looks at every view, at the
sizes of a desktop and of a phone, light and dark. Run by `./run test`.

    test_page.py COMMAND [PICTURES]    PICTURES: a folder for screenshots
"""

import contextlib
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect, sync_playwright

TOKEN = "token-of-the-page-test"
CONFIGURATION = f"""# Mine.
[http]
listen = "127.0.0.1:0"
token = "{TOKEN}"
[counter]
engine = "scripted"
input-size = "256x256"
[defaults]
rate = 4

[cameras.bridge]
url = "simulated:highway" # stays
regions = [{{ name = "lane", polygon = [[0.2, 1], [0.4, 0.3], [0.6, 0.3], [0.8, 1]] }}]

[sinks.archive]
url = "file:counts.jsonl"

[cameras."far away"]
url = "rtsp://127.0.0.1:9/stream"
"""
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZES = {"desktop": {"width": 1280, "height": 900}, "phone": {"width": 360, "height": 740}}


@contextlib.contextmanager
def running(command, begins):
    """A command at work, and the first line that begins so."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        for line in process.stdout:
            if line.strip().startswith(begins):
                yield process, line.split()[0]
                return
        raise AssertionError(f"{command} has ended")
    finally:
        process.kill()
        process.wait()


class Viewer:
    """A browser, and what must hold for every view."""

    def __init__(self, browser, address, pictures):
        self.context = browser.new_context(viewport=SIZES["desktop"], locale="en-GB")
        self.page = self.context.new_page()
        self.address, self.pictures, self.wrong = address, pictures, []
        self.page.on("pageerror", lambda error: self.wrong.append(f"{error}"))
        self.page.on("request", self.look_at)

    def look_at(self, request):
        """Nothing is loaded from elsewhere."""
        if not request.url.startswith((self.address, "blob:", "data:")):
            self.wrong.append(f"asks {request.url}")

    def check(self, view):
        """Looks at a view in both sizes, light and dark."""
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            for size, viewport in SIZES.items():
                self.page.set_viewport_size(viewport)
                # Pictures that are on their way, and a chart that fits the new width.
                self.page.wait_for_timeout(100)
                name = f"{view}, {size}, {scheme}"
                if self.pictures:
                    self.page.screenshot(
                        path=self.pictures / f"{view}-{size}-{scheme}.png", full_page=True
                    )
                found = Axe().run(self.page)
                assert found.violations_count == 0, f"{name}: {found.generate_report()}"
                width = self.page.evaluate("document.documentElement.scrollWidth")
                assert width <= viewport["width"], f"{name}: {width} pixels wide"
        self.page.set_viewport_size(SIZES["desktop"])
        self.page.emulate_media(color_scheme="light")


def log_in(viewer):
    """The token is asked for once."""
    page = viewer.page
    page.goto(viewer.address)
    expect(page.get_by_role("dialog")).to_be_visible()
    viewer.check("login")
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("that is not the token")).to_be_visible()
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_hidden()


def see_the_wall(viewer):
    """The camera that is there is counted and seen; of the other one the reason is told."""
    page = viewer.page
    cards = page.get_by_role("listitem")
    bridge, far = cards.filter(has_text="bridge"), cards.filter(has_text="far away")
    expect(bridge.locator(".state")).to_contain_text("live", timeout=30000)
    expect(bridge.locator(".count .number")).to_have_text(re.compile(r"^\d+\.\d$"))
    expect(bridge.locator("img")).to_be_visible()
    expect(far).to_contain_text("refuses the connection", timeout=15000)
    expect(far.locator("img")).to_be_hidden()
    viewer.check("wall")


def add_a_camera(viewer, url):
    """Its address is tried first."""
    page = viewer.page
    page.get_by_role("link", name="Add a camera").click()
    page.get_by_label("Name", exact=True).fill("gate")
    page.get_by_label("Address").fill("rtsp://127.0.0.1:9/stream")
    page.get_by_role("button", name="Test the address").click()
    expect(page.get_by_text("refuses the connection")).to_be_visible(timeout=20000)
    expect(page.get_by_role("button", name="Add it nevertheless")).to_be_visible()
    page.get_by_label("Address").fill(url)
    expect(page.get_by_role("button", name="Add it nevertheless")).to_be_hidden()
    page.get_by_role("button", name="Test the address").click()
    expect(page.get_by_text("It sends pictures of")).to_be_visible(timeout=20000)
    viewer.check("add")
    page.get_by_role("button", name="Add the camera").click()
    expect(page.get_by_role("heading", name="gate", exact=True)).to_be_visible()


def draw_a_region(viewer, file):
    """With the mouse; its corner is then moved with the keyboard."""
    page = viewer.page
    picture = page.locator(".editor img")
    expect(picture).not_to_have_js_property("naturalWidth", 0, timeout=20000)
    page.get_by_role("button", name="Draw a region").click()
    box = picture.bounding_box()
    for x, y in ((0.2, 0.9), (0.2, 0.2), (0.8, 0.2), (0.8, 0.9), (0.2, 0.9)):
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    name = page.get_by_label("Name of region 1")
    expect(name).to_be_focused()
    page.keyboard.type("left lane")
    corner = page.get_by_role("button", name="left lane, corner 3 of 4")
    corner.focus()
    page.keyboard.press("ArrowRight")
    viewer.check("region")
    page.get_by_role("button", name="Save regions").click()
    expect(page.get_by_role("row", name="left lane").locator("td").first).to_contain_text(
        ".", timeout=20000
    )
    text = file.read_text()
    assert text.startswith(CONFIGURATION), text
    assert '[[cameras.gate.regions]]\nname = "left lane"\n' in text, text
    assert "[0.81, 0.2" in text, text
    viewer.check("camera")


def see_it_die(viewer, cameras):
    """The camera is lost; the reason is on its page and on the wall."""
    page = viewer.page
    cameras.send_signal(signal.SIGKILL)
    state = page.locator("section[aria-label=Now] .state")
    expect(state).to_contain_text("waiting", timeout=30000)
    expect(page.locator("section[aria-label=Now] .bad")).to_contain_text(
        "refuses the connection", timeout=15000
    )
    expect(page.get_by_text("this is the last picture")).to_be_visible()
    viewer.check("dead")
    page.get_by_role("link", name="All cameras").click()
    gate = page.get_by_role("listitem").filter(has_text="gate")
    expect(gate).to_contain_text("waiting")
    expect(gate.locator("img")).to_be_hidden()


def go_by_keyboard(viewer):
    """From the wall to a camera, and back."""
    page = viewer.page
    page.get_by_role("link", name="bridge").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="bridge", exact=True)).to_be_visible()
    name = page.get_by_label("Name of region 1")
    expect(name).to_have_value("lane")
    name.fill("bus lane")
    page.get_by_role("button", name="Cancel").click()
    expect(name).to_have_value("lane")
    expect(page.locator(".chart svg").first).to_be_visible(timeout=30000)
    viewer.check("chart")


def remove_it(viewer, file):
    """After a question."""
    page = viewer.page
    page.goto(f"{viewer.address}#/camera/gate")
    page.get_by_role("button", name="Remove …").click()
    viewer.check("remove")
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_role("listitem").filter(has_text="bridge")).to_be_visible()
    expect(page.get_by_role("listitem").filter(has_text="gate")).to_have_count(0)
    assert file.read_text() == CONFIGURATION


def see_the_rest(viewer):
    """Events and the engine."""
    page = viewer.page
    page.get_by_role("link", name="Events").click()
    expect(page.get_by_role("heading", name="Events")).to_be_visible()
    expect(page.get_by_text("far away: lost")).to_be_visible(timeout=20000)
    viewer.check("events")
    page.get_by_role("link", name="System").click()
    expect(page.get_by_text("scripted")).not_to_have_count(0)
    expect(page.get_by_text(re.compile(r"\d pictures/s, \d.* in a batch"))).to_be_visible()
    expect(page.get_by_role("row", name="archive")).to_contain_text("live")
    viewer.check("system")


def log_out(viewer):
    """The token is asked for again."""
    page = viewer.page
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    page.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Log out")).to_be_visible()


def main():
    command = sys.argv[1]
    pictures = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else None
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        file = pathlib.Path(folder) / "counter.toml"
        file.write_text(CONFIGURATION)
        served = running([command, "serve", "--cameras", "1", "--port", "0"], "rtsp://")
        service = running([command, "run", file], "http://")
        with served as (cameras, url), service as (_, address):
            browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
            viewer = Viewer(browser, address, pictures)
            log_in(viewer)
            see_the_wall(viewer)
            add_a_camera(viewer, url)
            draw_a_region(viewer, file)
            see_it_die(viewer, cameras)
            go_by_keyboard(viewer)
            remove_it(viewer, file)
            see_the_rest(viewer)
            log_out(viewer)
            assert not viewer.wrong, viewer.wrong
            browser.close()


if __name__ == "__main__":
    main()
