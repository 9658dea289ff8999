# SPDX-License-Identifier: MIT
"""Values that are updated in the place where they were shown, and output that is cleared, on an emulated screen."""
import os
import random
import subprocess
import tempfile
import unittest

from terminal import NABLUA, ROOT, TIMEOUT, Terminal, environment

SHOW = ("local function text(t) return setmetatable({}, {__display = function() return {['text/plain'] = t} end}) end\n")


class Screen(unittest.TestCase):
    def script(self, code):
        f = tempfile.NamedTemporaryFile("w", suffix=".lua", delete=False)
        self.addCleanup(os.unlink, f.name)
        f.write(SHOW + code)
        f.close()
        return f.name

    def shown(self, code, columns=40, rows=30):
        t = Terminal(self.script(code), columns=columns, rows=rows)
        self.addCleanup(t.close)
        self.assertEqual(t.status(), 0, t.text())
        return t.text().split("\n")

    def test_an_update_takes_the_place_of_what_was_shown(self):
        self.assertEqual(self.shown("display(text 'one', {id='a'}) print 'below' update_display(text 'two', 'a') print 'end'"),
                         ["two", "below", "end"])

    def test_texts_that_grow_and_shrink_move_what_is_below(self):
        r = random.Random(7)
        for case in range(6):
            code, items, blocks = [], [], {}  # the model: a list of texts, of which blocks change
            for step in range(60):
                kind = r.random()
                words = ["%d:%d" % (case, step) + " word" * r.randrange(0, 12) for _ in range(r.randrange(1, 4))]
                if kind < 0.15 and len(blocks) < 3:
                    name = "b%d" % len(blocks)
                    blocks[name] = len(items)
                    items.append("\n".join(words))
                    code.append("display(text %r, {id=%r})" % (items[-1], name))
                elif kind < 0.8 and blocks:
                    name = r.choice(sorted(blocks))
                    items[blocks[name]] = "\n".join(words)
                    code.append("update_display(text %r, %r)" % (items[blocks[name]], name))
                elif len(items) < 14:
                    items.append("∇ printed %d" % step)
                    code.append("io.write(%r, '\\n')" % items[-1])
            expected = []
            for item in items:
                for line in item.split("\n"):
                    expected += [line[i:i + 40].rstrip() for i in range(0, max(len(line), 1), 40)]
            # Taller than what is written, and less tall: the end of it all is on the screen.
            self.assertEqual(self.shown("\n".join(code), rows=60), expected)

    def test_lines_above_are_kept_when_the_screen_scrolls(self):
        code = "for i = 1, 40 do print('before ' .. i) end display(text 'a', {id='x'}) print 'after' " \
               "update_display(text 'b\\nc\\nd', 'x') io.write('partial') update_display(text 'e', 'x') print ' line'"
        self.assertEqual(self.shown(code, rows=10)[-4:], ["before 40", "e", "after", "partial line"])

    def test_what_has_left_the_screen_is_shown_anew_below(self):
        code = "display(text 'first', {id='x'}) for i = 1, 20 do print(i) end update_display(text 'second', 'x') " \
               "update_display(text 'third', 'x') print 'end'"
        self.assertEqual(self.shown(code, rows=8)[-3:], ["20", "third", "end"])

    def test_a_text_taller_than_the_screen_does_not_flood_it(self):
        code = "local t = 'top' for i = 1, 30 do t = t .. '\\n' .. i end display(text(t), {id='x'}) " \
               "for i = 1, 5 do update_display(text(t), 'x') end print 'end'"
        lines = self.shown(code, rows=8)
        self.assertEqual(lines[-1], "end")
        self.assertEqual(lines.count("top"), 1 if "top" in lines else 0)

    def test_a_progress_bar_below_a_live_text(self):
        code = "display(text '0', {id='x'}) for i = 1, 5 do io.write('\\r\\27[Kbar ', i) update_display(text(i .. '\\n' .. i), 'x') end " \
               "io.write('\\r\\27[K') print 'end'"
        self.assertEqual(self.shown(code), ["5", "5", "end"])

    def test_clear_output(self):
        code = "print 'a' print 'b' clear_output() print 'c' clear_output{wait=true} print 'd' print 'e'"
        self.assertEqual(self.shown(code), ["d", "e"])
        self.assertEqual(self.shown("print 'a' clear_output{wait=true}"), ["a"])

    def test_a_program_that_writes_itself_is_not_drawn_over(self):
        code = "display(text 'old', {id='x'}) os.execute 'echo hello' update_display(text 'new', 'x')"
        self.assertEqual(self.shown(code), ["old", "hello", "new"])

    def test_without_a_terminal_the_first_and_the_last_state_are_written(self):
        code = "display(text 'first', {id='x'}) for i = 1, 100 do update_display(text(i .. ''), 'x') end print 'end'"
        r = subprocess.run([NABLUA, self.script(code)], capture_output=True, text=True, timeout=TIMEOUT,
                           env=environment(), cwd=ROOT)
        self.assertEqual((r.stdout, r.returncode), ("first\nend\n100\n", 0))

    def test_a_prompt_begins_a_line(self):
        t = Terminal()
        self.addCleanup(t.close)
        t.wait_for_prompt(1)
        t.type("io.write 'abc';\r")
        t.wait_for_prompt(2)
        t.type("display(1, {id='x'}) print 'p' update_display(2, 'x')\r")
        t.wait_for_prompt(3)
        t.type("update_display(3, 'x')\r")
        t.wait_for_prompt(4)
        self.assertEqual(t.text().split("\n")[1::2], ["abc", "2", "3> update_display(3, 'x')", "4>"])


if __name__ == "__main__":
    unittest.main()
