# SPDX-License-Identifier: MIT
"""Controls in JupyterLab 4 with its stock widgets: a person moves them while a cell runs.

Needs what test_jupyterlab.py needs, and the package jupyterlab_widgets.
"""
import re
import time
import unittest

import test_jupyterlab as lab

try:
    import jupyterlab_widgets  # noqa: F401  (in the Python that was chosen)
except ImportError:
    lab.kernels.skip("this needs jupyterlab_widgets beside jupyterlab")
expect, SECONDS = lab.expect, lab.SECONDS

CONTROLS = """
rate = ui.slider{label="rate", min=1e-4, max=1, value=0.01, log=true}
stop = ui.button{label="stop", style="danger"}
ui.row{rate, stop}
"""
LOOP = """
while not stop.pressed do
  local before = rate.value
  nb.sleep(0.02)
  if rate.value ~= before then print(("the rate is %.4g"):format(rate.value)) end
end
"""


class Widgets(unittest.TestCase):
    setUpClass = classmethod(lab.Lab.setUpClass.__func__)
    tearDownClass = classmethod(lab.Lab.tearDownClass.__func__)
    open, run_cell, output, shoot, menu = lab.Lab.open, lab.Lab.run_cell, lab.Lab.output, lab.Lab.shoot, lab.Lab.menu

    def done(self, page, index, number):
        expect(page.locator(".jp-CodeCell .jp-InputPrompt").nth(index)).to_have_text("[%d]:" % number, timeout=60 * SECONDS)

    def test_a_slider_moves_and_a_button_stops_a_cell_that_runs(self):
        page = self.open("widgets.ipynb", lab.notebook(CONTROLS, LOOP))
        self.run_cell(page, 0)
        handle = page.locator(".jp-CodeCell .noUi-handle").first
        expect(handle).to_be_visible()
        self.done(page, 0, 1)
        self.run_cell(page, 1)
        expect(page.locator(".jp-CodeCell .jp-InputPrompt").nth(1)).to_have_text("[*]:")
        handle.focus()
        for _ in range(10):
            page.keyboard.press("ArrowRight")
        expect(self.output(page, 1).first).to_contain_text(re.compile("the rate is 0[.]0"))
        self.shoot(page, "widgets_moved")
        page.locator(".jp-CodeCell button.widget-button").click()
        self.done(page, 1, 2)
        self.assertEqual(page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count(), 0)

    def test_a_page_that_is_loaded_anew_keeps_its_widgets(self):
        page = self.open("reload.ipynb", lab.notebook(CONTROLS, "print(rate.value)"))
        self.run_cell(page, 0)
        expect(page.locator(".jp-CodeCell .noUi-handle").first).to_be_visible()
        page.keyboard.press("Control+s")
        time.sleep(2)
        page.reload()
        handle = page.locator(".jp-CodeCell .noUi-handle").first
        expect(handle).to_be_visible(timeout=60 * SECONDS)
        handle.focus()
        for _ in range(5):
            page.keyboard.press("ArrowRight")
        time.sleep(0.5)
        self.run_cell(page, 1)
        expect(self.output(page, 1).first).to_contain_text("0.0")
        self.assertNotIn("0.010", self.output(page, 1).first.inner_text()[:4] + "!")
        self.assertNotEqual(self.output(page, 1).first.inner_text().strip(), "0.01")

    def test_interact_draws_anew(self):
        page = self.open("interact.ipynb", lab.notebook(
            "ui.interact(function(n, name) print(name, 'has', n) return plot.curve{1, n, 2 * n} end, "
            "{n={1, 9}, name={'ada', 'bob'}})"))
        self.run_cell(page, 0)
        area = page.locator(".jp-CodeCell .jp-OutputArea").first
        expect(area).to_contain_text("ada\thas\t1")
        picture = area.locator(".jp-RenderedSVG img")
        expect(picture).to_be_visible()
        before = picture.get_attribute("src")
        handle = area.locator(".noUi-handle").first
        handle.focus()
        page.keyboard.press("ArrowRight")
        expect(area).to_contain_text("ada\thas\t2")
        area.locator("select").select_option("bob")
        expect(area).to_contain_text("bob\thas\t2")
        self.assertNotEqual(picture.get_attribute("src"), before)
        self.shoot(page, "widgets_interact")

    def test_every_kind_appears(self):
        page = self.open("kinds.ipynb", lab.notebook(
            "ui.column{ui.slider{label='whole', min=1, max=9}, ui.number{label='n', value=3}, ui.number{min=0, max=1, value=0.5}, ui.toggle{label='on'}, "
            "ui.toggle{label='box', box=true}, ui.choice({'a', 'b'}, {label='c'}), ui.choice({'a', 'b'}, {as='buttons'}), "
            "ui.choice({'a', 'b'}, {as='radio'}), ui.text{label='t', value='x'}, ui.text{lines=3}, ui.text{password=true}, "
            "ui.progress{label='p', value=0.4}, ui.label 'a label', ui.html '<b>bold</b>', ui.colour{label='ink'}, "
            "ui.date{label='day'}, ui.play{max=5}, ui.picture(plot.curve{1, 2, 3}), "
            "ui.tabs({ui.label 'one', ui.label 'two'}, {titles={'first', 'second'}}), "
            "ui.accordion({ui.label 'in it'}, {titles={'folds'}}), ui.output():show(nb.randn(2, 2))}"))
        self.run_cell(page, 0)
        area = page.locator(".jp-CodeCell .jp-OutputArea").first
        for what in (".widget-hslider", ".widget-text input[type=number]", ".widget-toggle-button", ".widget-checkbox",
                     ".widget-dropdown", ".widget-toggle-buttons", ".widget-radio", ".widget-textarea",
                     "input[type=password]", ".widget-hprogress", ".widget-label", ".widget-html", ".widget-colorpicker",
                     ".widget-datepicker", ".widget-play", "img.widget-image", ".widget-tab", ".jupyter-widget-Collapse",
                     ".widget-output"):
            with self.subTest(what):
                expect(area.locator(what).first).to_be_attached(timeout=15 * SECONDS)
        self.assertNotIn("javascript error", area.inner_text())
        self.assertGreater(area.locator("img.widget-image").evaluate("image => image.naturalWidth"), 100)
        self.shoot(page, "widgets_kinds")


if __name__ == "__main__":
    unittest.main()
