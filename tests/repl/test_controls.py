# SPDX-License-Identifier: MIT
"""Controls in a terminal: a line below what is printed while something runs, which a Tab gives the keys to."""
import re
import subprocess
import tempfile
import time
import unittest

from terminal import NABLUA, ROOT, TIMEOUT, Terminal, environment, without_times

CONTROLS = ("lr = ui.slider{label='lr', min=1e-4, max=1, value=0.01, log=true} stop = ui.button{label='stop'} "
            "noise = ui.toggle{label='noise'} display(ui.row{lr, stop, noise})\r")
LINE = r"(?m)^ lr 0[.]01  \(stop\)  noise off   Tab: keys\Z"
LEFT, RIGHT, UP, BACKTAB, ESC = "\x1b[D", "\x1b[C", "\x1b[A", "\x1b[Z", "\x1b"


class Controls(unittest.TestCase):
    def open(self, **options):
        t = Terminal(**options)
        self.addCleanup(t.close)
        t.wait_for_prompt(1)
        return t

    def prepared(self, **options):
        t = self.open(**options)
        t.type(CONTROLS)
        t.wait_for_prompt(2)
        return t

    def text(self, t):
        return without_times(t.text())

    def test_keys_move_a_slider_and_press_a_button(self):
        t = self.prepared()
        t.type("local n, seen = 0, {} repeat nb.sleep(0.01) n = n + 1 seen[lr.value] = true until stop.pressed "
               "print('rates', seen[0.01], lr.value > 0.01, lr.value)\r")
        t.wait_for(LINE)
        t.type("\t")
        t.wait_for(r"(?m)^\[lr 0[.]01\] \(stop\)  noise off   [?] help\Z")
        t.type(RIGHT * 3)
        t.wait_for(r"(?m)^\[lr 0[.]0131\d\]")  # 10^(-2 + 3 * 0.04): a hundredth of four decades each
        t.type("\t")
        t.wait_for(r" lr 0[.]0131\d \[\(stop\)\]")
        t.type("\t")
        t.wait_for(r"\[noise off\]")
        t.type(RIGHT)
        t.wait_for(r"\[noise on\]")
        t.type(BACKTAB + "\r")
        t.wait_for_prompt(3)
        self.assertRegex(t.text(), r"rates\s+true\s+true\s+0[.]0131")
        self.assertNotIn("Tab: keys", t.text())
        self.assertNotIn("? help", t.text())

    def test_a_rate_that_is_moved_is_the_optimizers(self):
        t = self.open()
        t.type("w = nb.zeros(4, {requires_grad=true}) opt = optim.SGD({w}, {lr=0.5}) "
               "display(ui.bind(ui.slider{label='rate', min=0, max=1, step=0.25}, opt, 'lr'))\r")
        t.wait_for_prompt(2)
        t.type("rates = {} while not rates[1.0] do opt:zero_grad() w:sum():backward() opt:step() rates[opt.lr] = true end\r")
        t.wait_for(r"(?m)^ rate 0[.]5   Tab: keys\Z")
        t.type("\t" + RIGHT + RIGHT + RIGHT)
        t.wait_for_prompt(3)
        t.type("rates[0.5] and opt.lr\r")
        t.wait_for(r"(?m)^1[.]0\n4>\Z")

    def test_what_is_typed_ahead_arrives_whole(self):
        t = self.prepared()
        t.type("for i = 1, 20 do print('at', i) nb.sleep(0.1) end\r")
        t.wait_for(LINE)
        for c in 'require "quit x"':
            t.type(c)
            t.read(0.02)
        t.wait_for(r'(?m)^3> require "quit x"\Z')
        self.assertIn("at\t20", t.text().replace(" " * 6, "\t"))
        t.type("\x15for i = 1, 10 do nb.sleep(0.1) end\r")
        t.wait_for(LINE)
        t.type("x = 5 --\tq \r\rx + 1\r")  # a Tab behind other keys is no longer the line's
        t.wait_for(r"(?m)^6\n\d>\Z")

    def wait_until_away(self, t):
        """Somebody else reads: until then what is typed is shown by nobody.  While the line is drawn anew it is away, too,
        for a moment."""
        away = 0
        for _ in range(20 * 50):
            away = 0 if re.search(LINE, t.text()) else away + 1
            if away == 15:
                return
            t.read(0.02)
        self.fail("the line stays:\n" + t.text())

    def test_what_is_typed_comes_where_it_is_read(self):
        t = self.prepared()
        t.type("nb.sleep(0.5) print('read ' .. io.read()) nb.sleep(0.5) print('asked ' .. input 'who? ') nb.sleep(0.5) "
               "os.execute 'read x; echo \"executed $x\"' nb.sleep(0.5) print 'end'\r")
        t.wait_for(LINE)
        self.wait_until_away(t)
        t.type("some")
        t.wait_for(r"(?m)^some\Z")  # it is echoed, and the line is away
        t.type(" words\r")
        t.wait_for(r"(?m)^read some words\n lr 0[.]01")
        t.wait_for(r"(?m)^who[?]\Z")
        t.type("Ada")
        t.wait_for(r"(?m)^who[?] Ada\Z")
        t.type("\r")
        t.wait_for(r"(?m)^asked Ada\n lr 0[.]01")
        self.wait_until_away(t)
        t.type("this")
        t.wait_for(r"(?m)^this\Z")
        t.type("\r")
        t.wait_for(r"(?m)^executed this\n\n? lr 0[.]01")
        t.wait_for(r"(?m)^end\n")
        t.wait_for_prompt(3)

    def test_the_line_never_mixes_with_what_is_printed(self):
        for columns, rows in ((100, 120), (40, 120), (100, 8)):
            with self.subTest((columns, rows)):
                t = self.prepared(columns=columns, rows=rows)
                t.type("p = plot.curve({}, {title='Live', height=60}) for i = 1, 20 do if i % 3 == 0 then p:update{loss = i} end "
                       "io.write('out ', i, '\\n') io.stderr:write('err ', i, '\\n') io.stdout:write('ha') io.stdout:flush() "
                       "nb.sleep(0.03) io.write('lf ', i, '\\n') if i == 12 then os.execute 'echo program' end end\r")
                seen = 0
                while not re.search(r"(?m)^3>\Z", t.text()):
                    t.read(0.01)
                    lines = [line for line in t.text().split("\n") if "noise off" in line or "… " in line and "lr" in line]
                    seen += len(lines)
                    self.assertLessEqual(len(lines), 1, t.text())
                self.assertGreater(seen, 3)
                printed = self.text(t).split("end end")[-1]
                self.assertNotIn("lr 0.01", printed)
                if rows == 120:
                    for expected in ("out %d", "err %d", "half %d"):
                        self.assertEqual([int(n) for n in re.findall("(?m)^%s$" % expected.replace("%d", r"(\d+)"), printed)],
                                         list(range(1, 21)), printed)
                t.type("1 + 1\r")
                t.wait_for(r"(?m)^2\n4>\Z")

    def test_a_pause_holds_what_runs_and_changes_nothing(self):
        t = self.prepared()
        t.type("function sum() nb.seed(1) local s = nb.zeros(8) for i = 1, 100 do s = s * 0.9 + nb.randn(8) n = i nb.sleep(0.01) "
               "end return ('%a'):format(s:sum():item()) end\r")
        t.wait_for_prompt(3)
        t.type("alone = sum()\r")
        t.wait_for_prompt(4)
        t.type("print(sum() == alone, n)\r")
        t.wait_for(LINE)
        t.type("\t ")
        t.wait_for(r"(?m)^\[lr 0[.]01\] .*paused, Space: on\Z")
        begun = time.monotonic()
        while time.monotonic() < begun + 2:
            t.read(0.1)
        self.assertRegex(t.text(), r"paused, Space: on\Z")
        t.type(RIGHT)  # a paused run is visited, too
        t.wait_for(r"(?m)^\[lr 0[.]01096\]")
        t.type(" ")
        t.wait_for(r"(?m)^true +100\n")
        t.wait_for_prompt(5)

    def test_q_and_an_interrupt_stop_and_escape_gives_the_keys_back(self):
        t = self.prepared()
        for keys in ("\tq", "\t \x03", "\t?q\x03", "\x03"):
            number = t.wait_for(r"(?m)^(\d+)>\Z").group(1)
            t.type("while true do nb.sleep(0.01) end\r")
            t.wait_for(LINE)
            for key in keys:
                t.type(key)
                t.read(0.2)
            t.wait_for(r"interrupted\n.*\n.*\n%d>\Z" % (int(number) + 1))
        t.type("for i = 1, 100 do nb.sleep(0.02) end\r")
        t.wait_for(LINE)
        t.type("\t")
        t.wait_for(r"[?] help\Z")
        t.type("?")
        t.wait_for(r"(?m)^←→ change  Tab next  Enter press  Space pause  q stop  Esc back\Z")
        t.type("x" + ESC)
        t.wait_for(LINE)
        t.type("q = 7\r")
        t.type("q\r")
        t.wait_for(r"(?m)^7\n\d+>\Z")

    def test_texts_and_numbers_are_typed(self):
        t = self.open()
        t.type("name = ui.text{label='name', value='Ad'} secret = ui.text{label='key', password=true} "
               "n = ui.number{label='n', value=3} c = ui.choice({'sgd', 'adam'}, {label='by'}) "
               "display(ui.column{name, secret, n, c, ui.progress{value=0.25}, ui.label 'a label'})\r")
        t.wait_for_prompt(2)
        t.type("repeat nb.sleep(0.02) until c.value == 'adam'\r")
        t.wait_for(r' name "Ad"  key   n 3  by sgd  25 %  a label   Tab: keys\Z')
        t.type("\t\r")
        t.wait_for(r"\[name Ad_\]")
        t.type("a q\x7f?\r")
        t.wait_for(r'\[name "Ada [?]"\]')
        t.type("\t\rsesam")
        t.wait_for(r"\[key •••••_\]")
        t.type("\r\t\rtwelve\r")
        t.wait_for(r'value must be a number, got (a string|"twelve")')
        t.type("\r12\r")
        t.wait_for(r"\[n 12\]")
        t.type(RIGHT + "\t" + RIGHT)
        t.wait_for_prompt(3)
        t.type("name.value .. secret.value .. n.value\r")
        t.wait_for(r'(?m)^"?Ada [?]sesam13"?\n4>\Z')

    def test_handlers_that_fail_leave_what_runs_alone(self):
        t = self.prepared()
        t.type("noise:on_change(function() error 'of a handler' end) stop:on_change(function() print 'endless' while true do end end)\r")
        t.wait_for_prompt(3)
        t.type("for i = 1, 400 do nb.sleep(0.01) end print 'whole'\r")
        t.wait_for(LINE)
        t.type("\t" + BACKTAB + "\r")
        t.wait_for(r"(?m)^input 2:1: of a handler")
        t.type(BACKTAB + "\r")
        t.wait_for(r"(?m)^endless$")
        time.sleep(1)
        t.type("\x03")  # an endless one is stopped alone
        t.wait_for(r"(?m)^whole\n")
        t.wait_for_prompt(4)

    def test_what_interact_gives_is_redrawn_in_its_place(self):
        t = self.open()
        t.type("x = ui.slider{label='x', min=0, max=9} display(ui.interact(function(x) print('twice', 2 * x) end, {x=x}))\r")
        t.wait_for(r"(?m)^twice\s+0$")
        t.wait_for_prompt(2)
        t.type("repeat nb.sleep(0.02) until x.value == 9 print 'end'\r")
        t.wait_for(r"(?m)^ x 0   Tab: keys\Z")
        for i in range(1, 10):
            t.type(("\t" if i == 1 else "") + RIGHT)
            t.wait_for(r"(?m)^twice\s+%d$" % (2 * i))
        t.wait_for_prompt(3)
        self.assertEqual(re.findall(r"(?m)^twice\s+(\d+)$", t.text()), ["0", "18"])

    def test_narrow_terminals(self):
        for columns, rows in ((34, 10), (20, 6), (12, 4)):
            with self.subTest(columns):
                t = self.prepared(columns=columns, rows=rows)
                t.type("while not stop.pressed do nb.sleep(0.01) end\r")
                t.wait_for(r"(?m)^ lr 0[.]01")
                t.type("\t\t")
                t.wait_for(r"(?m)^.*\[\(stop\)\].*\Z" if columns > 12 else r"(?m)^.*\[\(st.*\Z")
                self.assertLess(max(map(len, t.text().split("\n")[-1:])), columns)
                t.resize(columns + 30, rows)
                t.wait_for(r"\[\(stop\)\] +noise off")
                t.type("\r")
                t.wait_for_prompt(3)

    def test_no_line_where_there_is_no_terminal(self):
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as f:
            f.write("local s = ui.slider{label='rate', value=0.5} display(s) "
                    "for i = 1, 6 do print(i, s.value) nb.sleep(0.1) end")
            f.flush()
            r = subprocess.run([NABLUA, f.name], capture_output=True, text=True, timeout=TIMEOUT, cwd=ROOT, check=True,
                               env=environment(), stdin=subprocess.DEVNULL)
            whole = "slider rate = 0.5, from 0 to 1\n" + "".join("%d\t0.5\n" % i for i in range(1, 7))
            self.assertEqual((r.stdout, r.stderr), (whole, ""))
            for variables, line in (({"TERM": "dumb"}, False), ({}, True)):
                t = Terminal(f.name, **variables)
                self.addCleanup(t.close)
                received = []
                t.stream.feed = lambda data, feed=t.stream.feed: (received.append(data), feed(data))
                self.assertEqual(t.status(), 0)
                self.assertEqual(b"Tab: keys" in b"".join(received), line)
                self.assertEqual(b"\x1b" in b"".join(received), line)
                self.assertEqual([" ".join(row.split()) for row in t.text().split("\n")],
                                 [" ".join(row.split()) for row in whole.strip().split("\n")])

    def test_what_is_typed_ahead_of_a_script_is_the_shells(self):
        with tempfile.NamedTemporaryFile("w", suffix=".lua") as f:
            f.write("display(ui.slider{label='rate', value=0.5}) nb.sleep(1.5)")
            f.flush()
            t = Terminal("-i", "-e", "os.execute([[%s %s; read x; echo got $x]])" % (NABLUA, f.name))
            self.addCleanup(t.close)
            t.wait_for(r"Tab: keys")
            t.type("quit now\r")
            t.wait_for(r"(?m)^got quit now$")


if __name__ == "__main__":
    unittest.main()
