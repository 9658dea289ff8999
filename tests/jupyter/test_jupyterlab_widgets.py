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

    def press(self, page, handle, key, times):
        handle.focus()
        for _ in range(times):
            page.keyboard.press(key)

    def test_a_rate_that_is_moved_is_seen_in_the_loss(self):
        page = self.open("rate.ipynb", lab.notebook(
            "w = nb.zeros(4, {requires_grad=true}) opt = optim.SGD({w}, {lr=0.0})\n"
            "stop = ui.button{label='stop'}\n"
            "ui.row{ui.bind(ui.slider{label='rate', min=0, max=0.1, step=0.01}, opt, 'lr'), stop}",
            "local before = 0\n"
            "while not stop.pressed do\n"
            "  opt:zero_grad() local J = ((w - 3) ^ 2):mean() J:backward() opt:step() nb.sleep(0.005)\n"
            "  if opt.lr ~= before then print(('%.2f at rate %.2f'):format(J:item(), opt.lr)) before = opt.lr end\n"
            "end\n"
            "return ('%.4f'):format(((w - 3) ^ 2):mean():item())"))
        self.run_cell(page, 0)
        handle = page.locator(".jp-CodeCell .noUi-handle").first
        expect(handle).to_be_visible()
        self.done(page, 0, 1)
        self.run_cell(page, 1)
        time.sleep(1)
        self.press(page, handle, "ArrowRight", 5)
        expect(self.output(page, 1).first).to_contain_text("9.00 at rate 0.01")  # it has not learned at rate 0
        expect(self.output(page, 1).first).to_contain_text("at rate 0.05")
        time.sleep(3)
        page.locator(".jp-CodeCell button.widget-button").click()
        self.done(page, 1, 2)
        expect(page.locator(".jp-CodeCell").nth(1).locator(".jp-OutputArea-output").last).to_contain_text("0.0000")

    def test_a_picture_tells_where_it_is_clicked_at(self):
        page = self.open("clicks.ipynb", lab.notebook(
            "places, out = {}, ui.output()\n"
            "p = ui.picture(plot.curve{1, 2, 3}):on_click(function(x, y)\n"
            "  places[#places + 1] = ('at %.2f %.2f'):format(x, y) out:show(table.concat(places, ', '))\nend)\n"
            "ui.column{p, out}",
            "p.value = plot.curve{3, 2, 1}"))
        self.run_cell(page, 0)
        image = page.locator(".jp-CodeCell img.widget-image")
        expect(image).to_be_visible()
        box = image.bounding_box()
        self.assertGreater(box["width"], 100)
        before = image.get_attribute("src")
        for x, y in ((0.25, 0.5), (0.75, 0.25), (0.75, 0.25)):
            image.click(position={"x": x * box["width"], "y": y * box["height"]})
            time.sleep(0.3)
        expect(page.locator(".jp-CodeCell .jp-OutputArea").first).to_contain_text(
            "at 0.25 0.50, at 0.75 0.25, at 0.75 0.25")
        self.assertFalse(page.locator(".jp-CodeCell .nablua-picture input").is_visible())
        self.run_cell(page, 1)
        self.done(page, 1, 2)
        expect(image).not_to_have_attribute("src", before)
        self.shoot(page, "widgets_clicks")

    def test_two_notebooks_at_once(self):
        pages = [self.open("both_%d.ipynb" % i, lab.notebook(CONTROLS, LOOP)) for i in range(2)]
        handles = []
        for page in pages:
            self.run_cell(page, 0)
            handles.append(page.locator(".jp-CodeCell .noUi-handle").first)
            expect(handles[-1]).to_be_visible()
            self.done(page, 0, 1)
            self.run_cell(page, 1)
        self.press(pages[1], handles[1], "ArrowRight", 3)
        expect(self.output(pages[1], 1).first).to_contain_text("the rate is 0.01318")
        self.press(pages[0], handles[0], "ArrowLeft", 3)
        expect(self.output(pages[0], 1).first).to_contain_text("the rate is 0.007586")
        self.assertNotIn("0.007", self.output(pages[1], 1).first.inner_text())
        for page in pages:
            page.locator(".jp-CodeCell button.widget-button").click()
            self.done(page, 1, 2)

    def test_a_kernel_that_is_restarted_while_a_cell_and_its_widgets_are_at_work(self):
        page = self.open("again.ipynb", lab.notebook(CONTROLS, LOOP))
        for number in range(2):  # widgets are reached by subshells, which the second kernel does not know
            self.run_cell(page, 0)
            handle = page.locator(".jp-CodeCell .noUi-handle").first
            expect(handle).to_be_visible()
            self.done(page, 0, 1)
            self.run_cell(page, 1)
            expect(page.locator(".jp-CodeCell .jp-InputPrompt").nth(1)).to_have_text("[*]:")
            self.press(page, handle, "ArrowRight", 3)
            expect(self.output(page, 1).first).to_contain_text("the rate is 0.01")
            if number == 0:
                page.locator(".jp-Toolbar [data-command='notebook:restart-kernel'], .jp-Toolbar jp-button[title^='Restart the kernel'], "
                             "button[title^='Restart the kernel']").first.click()
                page.locator(".jp-Dialog .jp-mod-accept").click()
                expect(page.locator(".jp-Dialog")).to_have_count(0)
                expect(page.locator(".jp-StatusBar-Item", has_text="| Idle").first).to_be_visible(timeout=60 * SECONDS)
        page.locator(".jp-CodeCell button.widget-button").click()
        self.done(page, 1, 2)

    def test_on_a_dark_ground(self):
        page = self.open("dark.ipynb", lab.notebook(
            "ui.column{ui.slider{label='rate', value=0.5}, ui.number{label='n', value=3}, ui.toggle{label='noise', box=true}, "
            "ui.choice({'sgd', 'adam'}, {label='by'}), ui.choice({1, 2, 3}, {label='of', as='slider'}), "
            "ui.text{label='name', value='Ada'}, ui.progress{label='done', value=0.4}, ui.valid{label='right', value=true}, "
            "ui.label 'a label', ui.button{label='go', style='primary'}, ui.picture(plot.curve{1, 3, 2})}"))
        page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Settings$")).click()
        page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Theme$")).first.hover()
        page.locator(".lm-Menu-itemLabel", has_text=re.compile("^JupyterLab Dark$")).first.click()
        expect(page.locator("body[data-jp-theme-light='false']")).to_be_attached()
        self.run_cell(page, 0)
        area = page.locator(".jp-CodeCell .jp-OutputArea").first
        expect(area.locator("img.widget-image")).to_be_visible()
        for selector in (".jp-OutputArea .widget-label", ".jp-OutputArea .widget-readout"):
            self.assertGreater(page.evaluate(lab.CONTRAST, selector), 4.5, selector)
        self.shoot(page, "widgets_dark")


if __name__ == "__main__":
    unittest.main()
