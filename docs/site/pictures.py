#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Makes the README's pictures of notebooks anew: pictures.py [FOLDER], by the kernel in build/release.

Cells run in JupyterLab in a headless Chromium, and what they show is taken light and dark.  Needs what the tests of
JupyterLab need (tests/jupyter/test_jupyterlab_widgets.py), and Pillow.
"""
import io
import os
import re
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "tests/jupyter"))
import test_jupyterlab as lab  # noqa: E402  (goes on in the Python that has what is needed)
from PIL import Image, ImageChops  # noqa: E402

COLOURS = 48  # of a picture: text, lines and a few grounds
SCALE = 2     # pixels in one of the page, for those who project it
MARGIN = 8 * SCALE


class Sharp:
    """A browser whose pages have SCALE pixels in one."""
    def __init__(self, browser):
        self.browser, self.close = browser, browser.close

    def new_page(self, **options):
        return self.browser.new_page(device_scale_factor=SCALE, **options)


def trimmed(picture):
    """The picture without what is of its ground alone around it, but for a margin."""
    left, top, right, bottom = ImageChops.difference(picture, Image.new("RGB", picture.size, picture.getpixel((0, 0)))).getbbox()
    whole = Image.new("RGB", (right - left + 2 * MARGIN, bottom - top + 2 * MARGIN), picture.getpixel((0, 0)))
    whole.paste(picture.crop((left, top, right, bottom)), (MARGIN, MARGIN))
    return whole

LECTURE = """nb.seed(4)
local x, y = data.xor()
net = nn.Sequential{ nn.Linear(2, 4), nn.Sigmoid(), nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 1) }
s = inspect.step(net, x, y, {loss=nn.BCEWithLogitsLoss(), lr=0.5})
"""
TRAINING = """nb.seed(3)
x, y = data.spirals(180, { classes = 3, noise = 0.02 })
net = nn.Sequential { nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 3) }
opt = optim.SGD(net:parameters(), { lr = 0.1, momentum = 0.9 })
"""
SLIDER = TRAINING + """loss = nn.CrossEntropyLoss()
rate = ui.bind(ui.slider { label = "rate", min = 1e-3, max = 1, value = 0.1, log = true }, opt, "lr")
momentum = ui.bind(ui.slider { label = "momentum", min = 0, max = 0.99, value = 0.9 }, opt, "momentum")
stop = ui.button { label = "stop", style = "danger" }
display(ui.row { rate, momentum, stop })
local boundary = plot.boundary(net, { x = x, y = y, title = "What the net decides", legend = false })
while not stop.pressed do
  opt:zero_grad() loss(net(x), y):backward() opt:step()
  boundary:update()
  nb.sleep(0.02)
end
"""
RUN = TRAINING + """run = nb.run{net=net, loss=nn.CrossEntropyLoss(), opt=opt, data={x, y}, size=60, epochs=130, seed=3}
run:next(390)
ui.controls(run:to(230))
"""


class Pictures(lab.Lab):
    def show(self, name, source):
        page = self.open(name + ".ipynb", lab.notebook(source))
        self.run_cell(page, 0)
        return page, page.locator(".jp-CodeCell .jp-OutputArea").first

    def done(self, page):
        lab.expect(page.locator(".jp-CodeCell .jp-InputPrompt").first).to_have_text("[1]:", timeout=120 * lab.SECONDS)

    def take(self, page, area, name):
        for theme, end in (("JupyterLab Light", ""), ("JupyterLab Dark", "_dark")):
            page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Settings$")).click()
            page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Theme$")).first.hover()
            page.locator(".lm-Menu-itemLabel", has_text=re.compile("^%s$" % theme)).click()
            page.wait_for_selector("body[data-jp-theme-name='%s']" % theme, state="attached")
            page.mouse.move(5, 5)
            time.sleep(2)
            page.add_style_tag(content=".jp-OutputPrompt { visibility: hidden }")
            picture = trimmed(Image.open(io.BytesIO(area.screenshot())).convert("RGB"))
            path = os.path.join(FOLDER, name + end + ".png")
            picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
            print(path, picture.size, os.path.getsize(path))

    def make_film(self):
        page, area = self.show("film", LECTURE + "s:to('layer 3', 'backward')\nreturn s")
        self.done(page)
        self.take(page, area, "film")

    def make_explanation(self):
        page, area = self.show("explanation", LECTURE + "inspect.explain(s, net[1].weight)")
        lab.expect(area.locator("mjx-container").first).to_be_visible()
        self.done(page)
        self.take(page, area, "explanation")

    def make_scrubber(self):
        page, area = self.show("scrubber", RUN)
        self.done(page)
        self.take(page, area, "scrubber")

    def make_slider(self):
        page, area = self.show("slider", SLIDER)
        handle = area.locator(".noUi-handle").first
        lab.expect(handle).to_be_visible()
        time.sleep(5)
        handle.focus()
        for _ in range(3):
            page.keyboard.press("ArrowRight")
        time.sleep(10)
        self.take(page, area, "slider")
        area.locator("button.widget-button").click()
        self.done(page)


if __name__ == "__main__":
    FOLDER = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "docs/pictures")
    makers = sys.argv[2:] or ["film", "explanation", "scrubber", "slider"]
    Pictures.setUpClass()
    Pictures.browser = Sharp(Pictures.browser)
    try:
        for name in makers:
            case = Pictures()
            getattr(case, "make_" + name)()
            case.doCleanups()
    finally:
        Pictures.tearDownClass()
