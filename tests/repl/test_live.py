# SPDX-License-Identifier: MIT
"""Plots that are updated while a script runs: in their place on a terminal, once at the end elsewhere."""
import os
import subprocess
import tempfile
import unittest

from terminal import NABLUA, ROOT, TIMEOUT, Terminal, environment

CODE = """
local p = plot.curve({}, {title="Live", xlabel="step"})
for i = 1, 60 do
  p:update{loss = 61 - i}
  nb.sleep(0.01)
end
print "done"
"""


class Live(unittest.TestCase):
    def script(self, code):
        f = tempfile.NamedTemporaryFile("w", suffix=".lua", delete=False)
        self.addCleanup(os.unlink, f.name)
        f.write(code)
        f.close()
        return f.name

    def run_piped(self, code, **variables):
        r = subprocess.run([NABLUA, self.script(code)], capture_output=True, timeout=TIMEOUT, cwd=ROOT,
                           env=environment(**variables))
        self.assertEqual((r.returncode, r.stderr), (0, b""))
        return r.stdout.decode()

    def test_a_terminal_shows_one_plot_with_the_last_state(self):
        t = Terminal(self.script(CODE), columns=80, rows=40)
        self.addCleanup(t.close)
        t.wait_for(r"Live")
        t.wait_for(r"loss  [2-5]\d")  # drawn in between
        self.assertEqual(t.status(), 0)
        text = t.text()
        self.assertEqual(text.count("Live"), 1, text)
        self.assertEqual(text.count("step"), 1, text)
        self.assertRegex(text, r"loss  1\n")
        self.assertRegex(text, r"(?m)^done$")

    def test_at_the_prompt_the_picture_stays_where_it_is(self):
        t = Terminal(columns=80, rows=40)
        self.addCleanup(t.close)
        t.wait_for_prompt(1)
        t.type("p = plot.curve({}, {title='Live'}); for i = 1, 150 do p:update{loss = 151 - i} nb.sleep(0.01) end\r")
        t.wait_for(r"loss  \d")
        places, shown = set(), set()
        for _ in range(40):
            t.read(0.03)
            rows = [t.row(y) for y in range(40)]
            titles = [y for y, row in enumerate(rows) if row.strip() == "Live"]
            numbers = [row.split("loss")[1].strip() for row in rows if " loss  " in row]
            if len(titles) == 1 and len(numbers) == 1:  # not between the parts of one drawing
                places.add(titles[0])
                shown.add(numbers[0])
        self.assertEqual(len(places), 1, places)
        self.assertGreater(len(shown), 3)
        t.wait_for_prompt(2)
        text = t.text()
        self.assertEqual(text.count("Live"), 2, text)  # what was typed, and one picture
        self.assertRegex(text, r"loss  1\n")

    def test_output_that_is_no_terminal_gets_one_plot(self):
        text = self.run_piped(CODE)
        self.assertEqual(text.count("Live"), 1, text)
        self.assertIn("loss  1\n", text)
        self.assertTrue(text.startswith("done\n"), text)
        self.assertNotIn("\033", text)

    def test_colours_only_where_they_are_wanted(self):
        code = "display(plot.curve{train={1, 2}, valid={2, 1}})"
        self.assertNotIn("\033", self.run_piped(code))
        for variables, wanted in (({}, False), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "", "TERM": "dumb"}, False)):
            t = Terminal(self.script(code), columns=80, rows=40, **variables)
            self.addCleanup(t.close)
            self.assertEqual(t.status(), 0)
            colors = {t.screen.buffer[y][x].fg for y in range(20) for x in range(80)}
            self.assertEqual(len(colors) > 2, wanted, (variables, colors))

    def test_a_small_terminal_is_not_overflowed(self):
        for columns, rows in ((12, 4), (30, 8), (60, 10)):
            t = Terminal(self.script("display(plot.curve({3, 2, 1}, {title='A long title of a small plot'}))"),
                         columns=columns, rows=rows)
            self.addCleanup(t.close)
            self.assertEqual(t.status(), 0)

    def test_an_interrupt_ends_gnuplot_and_not_the_session(self):
        if subprocess.run(["sh", "-c", "command -v gnuplot"], capture_output=True).returncode:
            self.skipTest("gnuplot is not installed")
        t = Terminal(columns=80, rows=40)
        self.addCleanup(t.close)
        t.wait_for_prompt(1)
        t.type("x = 17; p = plot.curve{1, 2}\r")
        t.wait_for_prompt(2)
        t.type("io.write('saving\\n'); f = os.tmpname() .. '.svg'; while true do p:save(f) end\r")
        t.wait_for(r"(?m)^saving")
        t.read(0.5)
        t.type("\x03")
        t.wait_for(r"interrupted")
        t.wait_for_prompt(3)
        t.type("x, pcall(p.save, p, os.tmpname() .. '.svg')\r")
        t.wait_for(r"(?m)^17$")
        t.wait_for_prompt(4)
        self.assertNotIn("false", t.text().split("interrupted")[1])

    def test_without_gnuplot_the_terminal_form_remains(self):
        # A path where there is nothing.
        text = self.run_piped("print(plot.curve{3, 2, 1}) print(pcall(function() plot.curve{1}:save('x.png') end))",
                              PATH="/nonexistent")
        self.assertIn("┤", text)
        self.assertIn("gnuplot is not installed; install it with: apt install gnuplot-nox", text)
        text = self.run_piped("print(pcall(function() inspect.diagram(nn.Linear(2, 1)):save('x.png') end))",
                              PATH="/nonexistent")
        self.assertIn("apt install graphviz", text)


if __name__ == "__main__":
    unittest.main()
