# SPDX-License-Identifier: MIT
"""JupyterLab 4 in a headless Chromium: what a person sees and does.

Needs a Python with jupyterlab and playwright: the one of NABLUA_JUPYTERLAB, or that of `./dev notebook`, else the one
that runs this.  Screenshots go to the folder NABLUA_SCREENSHOTS.
"""
import json
import os
import re
import shutil
import subprocess
import sys
import time
import unittest
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
for python in (os.environ.get("NABLUA_JUPYTERLAB", ""), os.path.join(ROOT, "build/notebook/bin/python")):
    if os.path.exists(python) and os.path.dirname(python) != os.path.dirname(sys.executable):
        os.environ.pop("NABLUA_JUPYTERLAB", None)
        os.execv(python, [python] + sys.argv)

import kernels  # noqa: E402  (in the Python that was chosen)

try:
    import jupyterlab  # noqa: F401
    from playwright.sync_api import expect, sync_playwright
except ImportError:
    kernels.skip("this needs a Python with jupyterlab and playwright, see NABLUA_JUPYTERLAB")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
if not CHROMIUM:
    kernels.skip("this needs chromium")
if kernels.SANITIZED:
    kernels.skip("once is enough")
expect.set_options(timeout=30 * 1000)  # others may have the processors
SCREENSHOTS = os.environ.get("NABLUA_SCREENSHOTS")
SECONDS = 1000
os.environ["NABLUA_SAMPLES"] = "2560"


TRAINING = """
local p = plot.curve({}, {title="Live", xlabel="step"})
for i = 1, 400 do
  p:update{loss = 401 - i}
  nb.sleep(0.01)
end
"""
FORMS = (
    "net = nn.Sequential{ nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 4), nn.Sigmoid(), nn.Linear(4, 3), nn.Sigmoid() }\n"
    "x, y = nb.randn(6, 3), nb.rand(6, 3):round()\ninspect.summary(net, x)",
    "s = inspect.step(net, x, y, {loss=nn.MSELoss(), lr=0.5})\nreturn s",
    "s:next()", "s:to('layer 3', 'backward')", "s:run()", "inspect.explain(s, net[1].weight)",
    "deep = nn.Sequential{}; for i = 1, 13, 2 do deep[i], deep[i + 1] = nn.Linear(3, 3), nn.Sigmoid() end\n"
    "inspect.diagnose(deep, x, y, nn.MSELoss())",
    "inspect.diagnose(nn.Sequential{ nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3) }, x, y, nn.MSELoss())",
    "inspect.summary(nn.Sequential{ nn.Linear(3, 8), nn.ReLU(), nn.Linear(9, 2) }, x)",
    "inspect.gradcheck(function(a) return (a * a:detach()):sum() end, { nb.randn(3) })",
    "nb.randn(5, 4)", "nb.randn(3, 4, 20)", "net",
    "{{model='mlp', loss=0.31, epochs=10}, {model='cnn', loss=0.042, epochs=25}, {model='<rnn>', loss=1.7}}",
    "plot.curve{train={3, 2, 1.2, 0.9, 0.8}, valid={3, 2.2, 1.6, 1.4, 1.45}}", "plot.images(nb.rand(6, 8, 8))",
    "inspect.diagram(net, {x=nb.rand(3)})", "inspect.graph(((net(x) - y) ^ 2):mean())",
    "w = inspect.watch(net); for i = 1, 30 do ((net(x) - y) ^ 2):mean():backward() end; w:detach(); return w",
    "display(HTML '<b>bold</b> &amp; <i>slanted</i>') display(Markdown '**loss** fell to $10^{-3}$') "
    "display(Latex [[\\frac{\\partial J}{\\partial w}]]) JSON({loss={3, 2, 1}}, {expanded=true})",
    "Audio((nb.arange(8000) * 0.3):sin(), {rate=8000})",
    "for i = 1, 2 do local a <close> = nb.progress(3, {label='epoch ' .. i}) for k = 1, 3 do "
    "local b <close> = nb.progress(20, {label='batches', leave=false}) for j = 1, 20 do nb.sleep(0.01) b:step() end a:step() end end",
    "net(nb.ones(1, 2))",  # an error, which ends a run of all cells
)


# How wide what an output shows is: pictures, cards, and tables that stand alone.
WIDTHS = """outputs => outputs.map(output => Math.max(0, ...[...output.querySelectorAll("img, div[style*='max-width'], table")]
  .filter(e => e.tagName != "TABLE" || !e.closest("div[style*='max-width']")).map(e => e.getBoundingClientRect().width)))"""
# The contrast of an element's text and of what lies behind it, by the formula of WCAG 2.
CONTRAST = """selector => {
  const element = document.querySelector(selector);
  const parse = c => (c.match(/[0-9.]+/g) || []).map(Number);
  let ground = [255, 255, 255];
  const chain = [];
  for (let e = element; e; e = e.parentElement) chain.unshift(e);
  for (const e of chain) {
    const [r, g, b, a = 1] = parse(getComputedStyle(e).backgroundColor);
    ground = ground.map((v, i) => v * (1 - a) + [r, g, b][i] * a);
  }
  const light = c => c.slice(0, 3).map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const x = light(parse(getComputedStyle(element).color)), y = light(ground);
  return (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
}"""


def notebook(*sources):
    cells = [{"cell_type": "code", "id": "c%d" % i, "metadata": {}, "execution_count": None, "outputs": [], "source": s}
             for i, s in enumerate(sources)]
    return {"cells": cells, "nbformat": 4, "nbformat_minor": 5,
            "metadata": {"kernelspec": {"name": "nablua", "display_name": "Lua (nablua)", "language": "lua"}}}


class Lab(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = os.path.join(kernels.HOME, "work")
        os.makedirs(cls.folder, exist_ok=True)
        # All cells are in the page, not only those that are seen; and no questions about news.
        settings = os.path.join(kernels.HOME, "lab-settings")
        for plugin, content in (("notebook-extension/tracker", {"windowingMode": "none"}),
                                ("apputils-extension/notification", {"fetchNews": "false", "checkForUpdates": False})):
            path = os.path.join(settings, "@jupyterlab", plugin + ".jupyterlab-settings")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as f:
                json.dump(content, f)
        cls.server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--port=0", "--ServerApp.token=",
             "--ServerApp.password=", "--ServerApp.disable_check_xsrf=True", "--LabApp.user_settings_dir=" + settings,
             "--notebook-dir", cls.folder],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for line in cls.server.stderr:
            found = re.search(r"http://(?:localhost|127\.0\.0\.1):(\d+)/", line)
            if found:
                cls.url = "http://127.0.0.1:%s" % found.group(1)
                break
        cls.playwright = sync_playwright().start()
        cls.browser = cls.playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])

    @classmethod
    def tearDownClass(cls):
        cls.browser.close()
        cls.playwright.stop()
        cls.server.terminate()
        cls.server.communicate()

    def open(self, name, content):
        with open(os.path.join(self.folder, name), "w", encoding="utf-8") as f:
            json.dump(content, f)
        page = self.browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(60 * SECONDS)
        page.goto("%s/lab/tree/%s?reset" % (self.url, name))
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        # Before the kernel has come, whoever runs a cell is asked for one.
        expect(page.locator(".jp-StatusBar-Item", has_text="| Idle").first).to_be_visible(timeout=60 * SECONDS)
        self.addCleanup(page.close)
        return page

    def menu(self, page, menu, item):
        page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^%s$" % menu)).click()
        page.locator(".lm-Menu-itemLabel", has_text=re.compile("^%s$" % item)).first.click()

    def run_cell(self, page, index):
        page.locator(".jp-CodeCell .cm-content").nth(index).click()
        page.keyboard.press("Control+Enter")

    def output(self, page, index):
        return page.locator(".jp-CodeCell").nth(index).locator(".jp-OutputArea-output")

    def shoot(self, page, name):
        if SCREENSHOTS:
            page.screenshot(path=os.path.join(SCREENSHOTS, name + ".png"))

    def run_all(self, name):
        """Runs an example; looks for a drawing, and for what should not be there."""
        with open(os.path.join(ROOT, "examples", name + ".ipynb"), encoding="utf-8") as f:
            page = self.open(name + ".ipynb", json.load(f))
        count = page.locator(".jp-CodeCell").count()
        self.menu(page, "Run", "Run All Cells")
        expect(page.locator(".jp-CodeCell").nth(count - 1).locator(".jp-InputPrompt")).to_have_text("[%d]:" % count,
                                                                                                   timeout=120 * SECONDS)
        drawing = page.locator(".jp-RenderedSVG img")
        expect(drawing.first).to_be_visible()
        self.assertGreater(drawing.first.evaluate("image => image.naturalWidth"), 100)
        self.assertEqual(page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.error']").count(), 0)
        self.assertEqual(page.locator(".jp-RenderedText[data-mime-type='application/vnd.jupyter.stderr']").count(), 0)
        for i in range(count):
            page.locator(".jp-CodeCell").nth(i).scroll_into_view_if_needed()
            self.shoot(page, "%s_%02d" % (name, i + 1))
        return page

    def test_backpropagation(self):
        page = self.run_all("backpropagation")
        expect(page.locator(".jp-RenderedLatex mjx-container").first).to_be_attached()

    def test_vanishing_gradients(self):
        self.run_all("vanishing_gradients")

    def test_fashion_mnist(self):
        self.run_all("fashion_mnist")

    def test_a_live_curve_is_one_picture_that_grows_in_its_place(self):
        page = self.open("live.ipynb", notebook(TRAINING))
        # What the kernel sends, seen where the page gets it.
        sent = {"display_data": 0, "update_display_data": 0}

        def count(payload):
            for kind in sent:
                sent[kind] += ('"msg_type": "%s"' % kind).encode() in payload or ('"%s"' % kind).encode() in payload
        page.on("websocket", lambda socket: socket.on(
            "framereceived", lambda data: count(data if isinstance(data, bytes) else data.encode())))
        page.reload()
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        expect(page.locator(".jp-StatusBar-Item", has_text="| Idle").first).to_be_visible(timeout=60 * SECONDS)
        sent.update(display_data=0, update_display_data=0)
        self.run_cell(page, 0)
        area = page.locator(".jp-CodeCell .jp-OutputArea").first
        picture = area.locator(".jp-RenderedSVG img")
        expect(picture).to_be_visible()
        # Sampled at every frame: how many outputs there are, how high they are, which drawing is shown.
        page.evaluate("""() => {
          const area = document.querySelector(".jp-CodeCell .jp-OutputArea"), seen = [];
          window.seen = seen;
          const sample = () => {
            const image = area.querySelector(".jp-RenderedSVG img");
            seen.push({ outputs: area.querySelectorAll(".jp-OutputArea-output").length,
              height: area.getBoundingClientRect().height, width: image ? image.naturalWidth : 0,
              source: image ? image.src : "" });
            window.sampling = requestAnimationFrame(sample);
          };
          sample();
        }""")
        time.sleep(1)
        self.shoot(page, "live_during")
        expect(page.locator(".jp-CodeCell .jp-InputPrompt").first).to_have_text("[1]:", timeout=60 * SECONDS)
        time.sleep(0.5)
        self.shoot(page, "live_after")
        seen = page.evaluate("() => { cancelAnimationFrame(window.sampling); return window.seen }")
        self.assertGreater(len(seen), 20)
        self.assertEqual({s["outputs"] for s in seen}, {1})
        self.assertEqual(len({round(s["height"]) for s in seen if s["width"]}), 1, "the height jumps")
        gaps = sum(1 for s in seen if not s["height"] > 100)
        self.assertEqual(gaps, 0, "the picture is gone in %d of %d frames" % (gaps, len(seen)))
        drawings = []
        for s in seen:
            if s["source"] and (not drawings or drawings[-1] != s["source"]):
                drawings.append(s["source"])
        self.assertGreater(len(drawings), 5)
        points = [len(urllib.parse.unquote(d)) for d in drawings]
        self.assertGreater(points[-1], points[0], "the curve does not grow")
        self.assertIn(">loss  1<", urllib.parse.unquote(drawings[-1]))
        self.assertEqual(sent["display_data"], 1)
        self.assertTrue(5 < sent["update_display_data"] < 60, sent)

    def test_forms_of_inspection_in_both_themes(self):
        page = self.open("forms.ipynb", notebook(*FORMS))
        self.menu(page, "Run", "Run All Cells")
        expect(page.locator(".jp-CodeCell").nth(len(FORMS) - 1).locator(".jp-InputPrompt")).to_have_text(
            "[%d]:" % len(FORMS), timeout=90 * SECONDS)
        name_of_error = ".jp-RenderedText .ansi-bold"
        expect(page.locator(name_of_error)).to_have_text("Error")
        self.assertEqual(page.locator(".jp-RenderedHTML mjx-container").count(), 0)  # cards are HTML alone
        self.assertGreater(page.locator(".jp-RenderedHTML sup").count(), 20)
        self.assertGreater(page.locator(".jp-RenderedLatex mjx-container").count(), 1)
        self.assertEqual(page.locator("mjx-merror").count(), 0)
        for theme in ("Light", "Dark"):
            page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Settings$")).click()
            page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Theme$")).hover()
            page.locator(".lm-Menu-itemLabel", has_text=re.compile("^JupyterLab %s$" % theme)).click()
            page.wait_for_selector("body[data-jp-theme-name='JupyterLab %s']" % theme, state="attached")
            time.sleep(1)
            self.assertGreater(page.evaluate(CONTRAST, name_of_error), 4.5, theme)
            for widest in page.locator(".jp-OutputArea-output").evaluate_all(WIDTHS):
                self.assertLessEqual(widest, 760)
            for i in range(len(FORMS)):
                cell = page.locator(".jp-CodeCell").nth(i)
                cell.scroll_into_view_if_needed()
                if SCREENSHOTS:
                    cell.screenshot(path=os.path.join(SCREENSHOTS, "form_%s_%d.png" % (theme.lower(), i + 1)))

    def test_the_panel_that_explains_what_is_written(self):
        page = self.open("panel.ipynb", notebook("nb.tensor{1, 2}", "nn.Linear(2, 3)"))
        self.menu(page, "Help", "Show Contextual Help")
        panel = page.locator(".jp-Inspector")
        expect(panel).to_be_visible()
        for index, (word, text) in enumerate((("nb.tensor", "nb.tensor("), ("nn.Linear", "in_features"))):
            page.locator(".jp-CodeCell .cm-content").nth(index).click()
            page.keyboard.press("Home")
            for _ in range(len(word) - 2):
                page.keyboard.press("ArrowRight")
            expect(panel).to_contain_text(text)
            self.shoot(page, "panel_%d" % (index + 1))

    def test_completion_tooltip_input_interrupt_restart(self):
        page = self.open("tools.ipynb", notebook("nb.log_sof", "return input('name? ')",
                                                 "net = nn.Linear(2, 2); while true do net(nb.ones(1, 2)) end",
                                                 "net", "nb.tensor{1, 2}", "not_there.field"))
        page.locator(".jp-CodeCell .cm-content").nth(0).click()
        page.keyboard.press("End")
        for _ in range(10):  # JupyterLab may not be ready to complete yet; a single match is taken at once
            page.keyboard.press("Tab")
            time.sleep(1)
            if "nb.log_softmax" in page.locator(".jp-CodeCell .cm-content").nth(0).inner_text():
                break
        self.shoot(page, "single_completion")
        expect(page.locator(".jp-CodeCell .cm-content").nth(0)).to_contain_text("nb.log_softmax")
        page.keyboard.press("End")
        page.keyboard.type("; nb.s")
        page.keyboard.press("Tab")
        expect(page.locator(".jp-Completer-item").first).to_be_visible()
        self.assertGreater(page.locator(".jp-Completer-item").count(), 5)
        self.shoot(page, "completion")
        page.keyboard.press("Escape")
        page.locator(".jp-CodeCell .cm-content").nth(4).click()
        page.keyboard.press("Home")
        for _ in range(5):
            page.keyboard.press("ArrowRight")
        page.keyboard.press("Shift+Tab")
        expect(page.locator(".jp-Tooltip")).to_contain_text("tensor")
        self.shoot(page, "tooltip")
        page.keyboard.press("Escape")
        self.run_cell(page, 1)
        box = page.locator(".jp-Stdin-input")
        box.fill("Ada")
        box.press("Enter")
        expect(self.output(page, 1).last).to_contain_text('"Ada"')
        self.run_cell(page, 2)
        time.sleep(1)
        self.menu(page, "Kernel", "Interrupt Kernel")
        expect(self.output(page, 2).first).to_contain_text("KeyboardInterrupt")
        self.shoot(page, "interrupted")
        self.run_cell(page, 3)
        expect(self.output(page, 3).first).to_contain_text("Linear")
        self.run_cell(page, 5)
        expect(self.output(page, 5).first).to_contain_text("not_there")
        self.shoot(page, "error")
        self.menu(page, "Kernel", "Restart Kernel…")
        page.locator(".jp-Dialog button", has_text="Restart").click()
        page.wait_for_selector(".jp-Notebook-ExecutionIndicator[data-status='idle']", state="attached")
        self.run_cell(page, 3)
        expect(page.locator(".jp-CodeCell").nth(3).locator(".jp-InputPrompt")).to_have_text("[1]:")


if __name__ == "__main__":
    unittest.main()
