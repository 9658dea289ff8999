# SPDX-License-Identifier: MIT
"""The debugger's panels of JupyterLab 4, as a person uses them.

Needs what test_jupyterlab.py needs.
"""
import os
import re
import time
import unittest

import test_jupyterlab as lab

expect, SECONDS = lab.expect, lab.SECONDS
expect.set_options(timeout=60 * SECONDS)

CELL = """function forward(x, w)
  local h = x * w
  local y = h:tanh()
  return y
end
rate = 0.5
for i = 1, 3 do
  local y = forward(nb.ones(2, 3) * i, rate)
  print(i, y[1][1]:item())
end"""

MINE = """local M = {}
function M.forward(net, x)
  local h = net(x)
  return h:tanh()
end
return M
"""
CELLS = (
    "package.path = './?.lua;' .. package.path\nmine = require 'mine'\nnet = nn.Linear(2, 2)\nrate = 0.5",
    "local y = mine.forward(net, nb.ones(1, 2))\nreturn y.shape",
    "local count = 0\nwhile not stop do\n  count = count + 1\nend\nreturn count > 0",
    "local function f(t)\n  return t.a.b\nend\nf({})",
    "return h.shape",
)


class Panels(unittest.TestCase):
    setUpClass = classmethod(lab.Lab.setUpClass.__func__)
    tearDownClass = classmethod(lab.Lab.tearDownClass.__func__)
    open, run_cell, output, shoot, menu = lab.Lab.open, lab.Lab.run_cell, lab.Lab.output, lab.Lab.shoot, lab.Lab.menu

    def debug(self, name, *cells):
        """A notebook whose debugger is on, its panel open."""
        page = self.open(name, lab.notebook(*cells))
        page.locator(".jp-DebuggerBugButton").first.click()
        expect(page.locator(".jp-DebuggerBugButton[aria-pressed=true]")).to_be_visible()
        expect(page.locator("#jp-debugger-sidebar, .jp-DebuggerSidebar").first).to_be_visible()
        return page

    def gutter(self, page, cell, line):
        """Clicks beside a line, where breakpoints are set."""
        gutter = page.locator(".jp-CodeCell").nth(cell).locator(".cm-breakpoint-gutter .cm-gutterElement")
        gutter.nth(line).click(force=True)

    def stopped(self, page, line):
        expect(page.locator(".jp-DebuggerCallstackFrame-location").first).to_have_text(re.compile(":%d$" % line))

    def press(self, page, what):
        page.get_by_role("toolbar", name="Callstack panel toolbar").get_by_role("button", name=re.compile("^" + what)).click()

    def variable(self, page, name):
        return page.locator(".jp-DebuggerVariables-body .jp-DebuggerVariables-name", has_text=re.compile("^%s$" % name)).first

    def done(self, page, index, number):
        expect(page.locator(".jp-CodeCell .jp-InputPrompt").nth(index)).to_have_text("[%d]:" % number, timeout=60 * SECONDS)

    def test_a_breakpoint_in_a_cell(self):
        page = self.debug("cell.ipynb", CELL)
        time.sleep(1)
        self.gutter(page, 0, 3)
        expect(page.locator(".jp-DebuggerBreakpoint")).to_have_count(1)
        self.run_cell(page, 0)
        self.stopped(page, 3)
        expect(self.variable(page, "h")).to_be_visible()
        names = page.locator(".jp-DebuggerCallstackFrame-name").all_inner_texts()
        self.assertEqual([n.strip() for n in names], ["forward", "main chunk"])
        # A tensor says what it is, and has rows that have elements.
        tensor = page.locator(".jp-DebuggerVariables-body jp-tree-item, .jp-DebuggerVariables-body .jp-TreeItem").filter(
            has=page.locator(".jp-DebuggerVariables-name", has_text=re.compile("^h$"))).first
        expect(tensor).to_contain_text("f32")
        tensor.click()
        expect(page.locator(".jp-DebuggerVariables-name", has_text=re.compile(r"^\[1\]$")).first).to_be_visible()
        self.shoot(page, "debugger_light")
        self.press(page, "Next")
        self.stopped(page, 4)
        expect(self.variable(page, "y")).to_be_visible()
        # The rate is another from here on: at the console below, in the frame.
        self.press(page, "Evaluate")
        page.locator(".jp-CodeConsole-input .cm-content").click()
        page.keyboard.type("rate = 2")
        page.keyboard.press("Shift+Enter")
        expect(page.locator(".jp-CodeConsole-content .cm-content")).to_contain_text(["rate = 2"])
        self.press(page, "Continue")
        self.stopped(page, 3)
        self.press(page, "Step Out")
        self.stopped(page, 9)  # the call was all that line 8 had left to do
        self.press(page, "Continue")
        self.stopped(page, 3)
        self.gutter(page, 0, 3)
        expect(page.locator(".jp-DebuggerBreakpoint")).to_have_count(0)
        self.press(page, "Continue")
        self.done(page, 0, 1)
        shown = page.locator(".jp-CodeCell").first.locator(".jp-OutputArea-output").first.inner_text()
        self.assertIn("0.4621", shown)  # tanh 0.5
        self.assertIn("0.9993", shown)  # tanh 4

    # ---- in full ----

    def notebook_tab(self, page):
        page.locator(".lm-DockPanel-tabBar .lm-TabBar-tabLabel", has_text=re.compile("[.]ipynb$")).first.click()

    def console(self, page, line):
        """Evaluates a line in the debugger's console."""
        if page.locator(".jp-CodeConsole-input").count() == 0:
            self.press(page, "Evaluate")
        page.locator(".jp-CodeConsole-input .cm-content").click()
        page.keyboard.type(line)
        page.keyboard.press("Shift+Enter")
        expect(page.locator(".jp-CodeConsole-content .cm-content", has_text=line).last).to_be_visible()

    @unittest.skipUnless(os.environ.get("NABLUA_PROVE") == "1", "takes minutes: see ./dev prove")
    def test_every_panel(self):
        with open(os.path.join(self.folder, "mine.lua"), "w", encoding="utf-8") as f:
            f.write(MINE)
        page = self.debug("panels.ipynb", *CELLS)
        self.run_cell(page, 0)
        self.done(page, 0, 1)
        # Variables without a breakpoint.
        for name in ("net", "rate", "mine"):
            expect(self.variable(page, name)).to_be_visible()
        self.shoot(page, "panels_variables")
        self.variable(page, "net").hover()
        page.get_by_title("Render variable: net").click(force=True)
        expect(page.locator(".jp-VariableRendererPanel")).to_contain_text("Linear")
        self.shoot(page, "panels_rich")
        self.notebook_tab(page)
        # From a cell into a function of a file, and a breakpoint there.
        self.gutter(page, 1, 1)
        self.run_cell(page, 1)
        self.stopped(page, 1)
        self.press(page, "Step In")
        self.stopped(page, 3)
        expect(page.locator(".jp-DebuggerCallstackFrame-location").first).to_have_text(re.compile("mine[.]lua:3$"))
        source = page.locator(".cm-editor", has_text="function M.forward").first
        expect(source).to_be_visible()
        self.shoot(page, "panels_file")
        source.locator(".cm-breakpoint-gutter .cm-gutterElement").nth(4).click(force=True)
        expect(page.locator(".jp-DebuggerBreakpoint")).to_have_count(2)
        self.press(page, "Continue")
        self.stopped(page, 4)
        # A local of it becomes a global.
        self.variable(page, "h").click(button="right")
        page.locator(".lm-Menu-itemLabel", has_text="Copy Variable to Globals").click()
        self.press(page, "Continue")
        self.notebook_tab(page)
        self.done(page, 1, 2)
        self.run_cell(page, 4)
        self.done(page, 4, 3)
        expect(self.output(page, 4)).to_contain_text("1, 2")
        # A loop that runs is paused, and told to end.
        self.run_cell(page, 2)
        self.press(page, "Pause")
        expect(self.variable(page, "count")).to_be_visible()
        self.console(page, "stop = true")
        self.press(page, "Continue")
        self.done(page, 2, 4)
        # An error stops where it happens.
        page.locator(".jp-PauseOnExceptions").click()
        page.locator(".lm-Menu-itemLabel", has_text="uncaught").click()
        self.run_cell(page, 3)
        self.stopped(page, 2)
        names = page.locator(".jp-DebuggerCallstackFrame-name").all_inner_texts()
        self.assertEqual([n.strip() for n in names], ["f", "main chunk"])
        self.shoot(page, "panels_error")
        self.theme(page, "JupyterLab Dark")
        self.shoot(page, "panels_dark")
        self.press(page, "Continue")
        self.done(page, 3, 5)
        expect(self.output(page, 3)).to_contain_text("field 'a'")
        # The kernel begins anew; what was set still stops.
        self.menu(page, "Kernel", "Restart Kernel…")
        page.locator(".jp-Dialog button", has_text="Restart").last.click()
        expect(page.locator(".jp-StatusBar-Item", has_text="| Idle").first).to_be_visible(timeout=60 * SECONDS)
        expect(page.locator(".jp-DebuggerBugButton[aria-pressed=true]")).to_be_visible()
        self.run_cell(page, 0)
        self.done(page, 0, 1)
        self.run_cell(page, 1)
        self.stopped(page, 1)
        self.shoot(page, "panels_again")
        self.press(page, "Continue")
        self.stopped(page, 4)
        self.press(page, "Continue")
        self.done(page, 1, 2)

    def theme(self, page, name):
        page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Settings$")).click()
        page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Theme$")).hover()
        page.locator(".lm-Menu-itemLabel", has_text=re.compile("^%s$" % name)).click()
        expect(page.locator("body[data-jp-theme-name='%s']" % name)).to_be_attached()
        expect(page.locator('#jupyterlab-splash')).to_have_count(0)


if __name__ == "__main__":
    unittest.main()
