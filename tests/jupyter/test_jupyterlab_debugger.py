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
MODULE = """local net = {}
function net.forward(x)
  local z = x + 1
  return z * 2
end
return net
"""


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

    def location(self, page):
        return page.locator(".jp-DebuggerCallstackFrame-location").first.inner_text()

    def theme(self, page, name):
        page.locator(".lm-MenuBar-itemLabel", has_text=re.compile("^Settings$")).click()
        page.locator(".lm-Menu-itemLabel", has_text=re.compile("^Theme$")).hover()
        page.locator(".lm-Menu-itemLabel", has_text=re.compile("^%s$" % name)).click()
        page.wait_for_selector("body[data-jp-theme-name='%s']" % name, state="attached")

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
        expect(page.locator(".jp-DebuggerCallstackFrame-location").first).to_have_text(re.compile(":8$"))
        self.press(page, "Continue")
        self.stopped(page, 3)
        self.gutter(page, 0, 3)
        expect(page.locator(".jp-DebuggerBreakpoint")).to_have_count(0)
        self.press(page, "Continue")
        self.done(page, 0, 1)
        shown = page.locator(".jp-CodeCell").first.locator(".jp-OutputArea-output").first.inner_text()
        self.assertIn("0.4621", shown)  # tanh 0.5
        self.assertIn("0.9993", shown)  # tanh 4
    def test_a_file_exceptions_and_variables(self):
        path = os.path.join(self.folder, "mine.lua")
        with open(path, "w", encoding="utf-8") as f:
            f.write(MODULE)
        page = self.debug("file.ipynb", "mine = require 'mine'", "x = mine.forward(3)\nlevel = 7", "error('on purpose')")
        self.run_cell(page, 0)
        self.done(page, 0, 1)
        # Variables without a breakpoint.
        expect(self.variable(page, "mine")).to_be_visible()
        # Into the file from the cell that calls it.
        self.gutter(page, 1, 1)
        expect(page.locator(".jp-DebuggerBreakpoint")).to_have_count(1)
        self.run_cell(page, 1)
        self.stopped(page, 1)
        self.press(page, "Step In")
        expect(page.locator(".jp-DebuggerCallstackFrame-location").first).to_have_text(re.compile(r"mine\.lua:3$"))
        expect(page.locator(".jp-DebuggerEditor, .jp-SourceViewer, .cm-content", has_text="local z = x + 1").first).to_be_visible()
        self.shoot(page, "debugger_file")
        self.press(page, "Step Out")
        expect(page.locator(".jp-DebuggerCallstackFrame-location").first).to_have_text(re.compile(r":[12]$"))
        self.press(page, "Continue")
        self.done(page, 1, 2)
        expect(self.variable(page, "level")).to_be_visible()
        self.theme(page, "JupyterLab Dark")
        page.get_by_role("button", name="Pause on exception filter").click()
        page.locator(".lm-Menu-itemLabel", has_text=re.compile("Uncaught")).first.click()
        page.keyboard.press("Escape")
        self.run_cell(page, 2)
        expect(page.locator(".jp-DebuggerCallstackFrame-name").first).to_be_visible()
        self.shoot(page, "debugger_dark")
        self.press(page, "Continue")
        self.done(page, 2, 3)
        # A kernel that restarts has its debugger again.
        self.menu(page, "Kernel", "Restart Kernel…")
        page.locator(".jp-Dialog button.jp-mod-accept").click()
        expect(page.locator(".jp-StatusBar-Item", has_text="| Idle").first).to_be_visible()
        page.wait_for_timeout(2000)
        self.run_cell(page, 1)
        expect(page.locator(".jp-CodeCell .jp-InputPrompt").nth(1)).to_have_text(re.compile(r"\[[*1]\]:"))
        self.shoot(page, "debugger_restarted")


if __name__ == "__main__":
    unittest.main()
