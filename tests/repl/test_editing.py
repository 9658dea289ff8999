# SPDX-License-Identifier: MIT
"""Editing a block on an emulated screen: its lines, keys of many terminals, vi, the history, and what is shown beside."""
import os
import random
import re
import select
import sqlite3
import tempfile
import time
import unittest

from terminal import TIMEOUT, Terminal

UP, DOWN, RIGHT, LEFT, ENTER, ALT_ENTER = "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\r", "\x1b\r"
CTRL_A, CTRL_E, CTRL_K, CTRL_U, CTRL_Y, CTRL_R, CTRL_W = "\x01", "\x05", "\x0b", "\x15", "\x19", "\x12", "\x17"


def bracketed(text):
    return "\x1b[200~" + text + "\x1b[201~"


class Editing(unittest.TestCase):
    def setUp(self):
        home = tempfile.TemporaryDirectory()
        self.addCleanup(home.cleanup)
        self.home = home.name

    def begin(self, *arguments, **more):
        self.t = Terminal(*(arguments or ("--no-banner",)), home=self.home, **more)
        self.addCleanup(self.t.close)
        self.t.wait_for_prompt(1)

    def settings(self, text):
        os.makedirs(os.path.join(self.home, "nablua"), exist_ok=True)
        with open(os.path.join(self.home, "nablua/init.lua"), "w") as f:
            f.write(text)

    def until(self, seen):
        """Reads until seen(lines) is true, and the screen then stays."""
        end = time.monotonic() + TIMEOUT
        while not seen(self.t.text().split("\n")):
            if time.monotonic() > end:
                raise AssertionError("this is not what was waited for:\n" + self.t.text())
            self.t.read(0.05)

    def expect(self, *lines):
        """What stands at the screen's end."""
        self.until(lambda shown: shown[-len(lines):] == list(lines))

    def cursor(self, row, column):
        c = self.t.screen.cursor
        self.until(lambda _: (c.y, c.x) == (row, column))

    def type(self, *keys):
        for key in keys:
            self.t.type(key)

    # ---- blocks taller than the screen ----

    def test_a_block_taller_than_the_screen_is_edited_everywhere(self):
        for columns, rows, count in ((80, 24, 45), (20, 5, 7)):
            lines = ["t = {"] + ["  %d," % i for i in range(1, count)] + ["}"]
            self.begin(columns=columns, rows=rows)
            self.type(bracketed("\n".join(lines)))
            self.expect(" | }")
            self.assertEqual(self.t.text().split("\n")[0], " ↑ " + lines[-rows])
            for i in range(count, 0, -1):  # up to the first line: the part that is shown follows
                self.type(UP)
                top = min(i - 1, len(lines) - rows)
                self.cursor(i - 1 - top, 4)
            self.until(lambda shown: (shown[0], shown[-1]) == ("1> t = {", " ↓ " + lines[rows - 1]))
            self.type(CTRL_E, " 0,")
            self.until(lambda shown: shown[0] == "1> t = { 0,")
            self.type("\x1b[1;5F", ENTER)
            self.t.wait_for_prompt(2)
            self.type("#t", ENTER)
            self.expect(str(count), "3>")

    def test_a_key_redraws_what_it_changes(self):
        self.begin(columns=80, rows=24)
        self.type(bracketed("\n".join("x%d = %d" % (i, i) for i in range(60))))
        self.expect(" | x59 = 59")
        sent = []
        feed = self.t.stream.feed
        self.t.stream.feed = lambda data: (sent.append(data), feed(data))
        self.type("0")
        self.expect(" | x59 = 590")
        self.type(LEFT)
        self.cursor(23, 11)
        self.assertLess(sum(map(len, sent)), 60, sent)

    def test_what_keys_have_drawn_is_what_is_drawn_anew(self):
        keys = [UP, DOWN, LEFT, RIGHT, "\x1b[5~", "\x1b[6~", "\x1b[1;5H", "\x1b[1;5F", CTRL_A, CTRL_E, CTRL_K, CTRL_U,
                CTRL_Y, CTRL_W, "\x1f", "\x7f", "\x1b[3~", ALT_ENTER, "\x1bf", "\x1bb", "x = 1", "print(", ")", "[[", "]]",
                "'", "-- ", "界", "ä", "e\u0301", "function f()", "end", "nn.Linear(2,", "long words " * 5,
                bracketed("a\tb\n\n  c\x01d\n"), "return "]
        r = random.Random(11)
        for size in ((40, 8), (17, 5), (80, 24)):
            self.begin(columns=size[0], rows=size[1], NO_COLOR="")
            for _ in range(4):
                for _ in range(r.randrange(1, 15)):
                    self.type(r.choice(keys))
                    if r.random() < 0.5:
                        self.t.read(0.01)
                self.type("z")  # what was typed before is drawn by then
                while self.t.read(0.15) and select.select([self.t.fd], [], [], 0.15)[0]:
                    pass

                def cells():
                    return [[self.t.screen.buffer[y][x][:8] for x in range(size[0])] for y in range(size[1])]

                before, at = cells(), (self.t.screen.cursor.y, self.t.screen.cursor.x)
                # The block may begin further down than where a screen that is cleared has it.
                self.type("\x0c")
                while self.t.read(0.15) and select.select([self.t.fd], [], [], 0.15)[0]:
                    pass
                self.assertEqual((cells(), (self.t.screen.cursor.y, self.t.screen.cursor.x)), (before, at))

    # ---- Enter ----

    def test_enter_in_the_middle_inserts_and_at_the_end_runs(self):
        self.begin()
        self.type(bracketed("function f()\n  return 1\nend"))
        self.expect(" | end")
        self.type(UP, UP, CTRL_E, ENTER, "local x = 2")
        self.expect("1> function f()", " |   local x = 2", " |   return 1", " | end")
        self.type(DOWN, CTRL_A, "  return x -- ", CTRL_E, ALT_ENTER, "-- two")
        self.expect(" |   local x = 2", " |   return x --   return 1", " |   -- two", " | end")
        self.type(DOWN, ENTER)
        self.t.wait_for_prompt(2)
        self.type("f()", ENTER)
        self.expect("2", "3>")
        self.type("1 + 1", LEFT, LEFT, ENTER)  # a single line is run from anywhere
        self.expect("2", "4>")

    def test_alt_enter_begins_a_line_in_what_is_complete(self):
        self.begin()
        self.type("x = 1", ALT_ENTER, "x + 1")
        self.expect("1> x = 1", " | x + 1")
        self.type(ENTER)
        self.expect("2", "2>")

    def test_pasted_lines_without_brackets_may_be_empty(self):
        self.begin()
        self.type("function f()\r\r\r\r  if true then\r\r\r    return 7\r  end\r\rend\r")
        self.t.wait_for_prompt(2)
        self.assertIn(" |     return 7\n |   end", self.t.text())  # as it was indented
        self.type("f()", ENTER)
        self.expect("7", "3>")

    def test_other_commands_that_end_an_input_leave_its_line(self):
        self.begin()
        self.type("x = 1", "\x0f")  # Ctrl-O
        self.expect("1> x = 1", "2>")
        self.begin_vi()
        self.type("x + 1", "\x04", ENTER)  # in vi's mode Ctrl-D does nothing there
        self.t.wait_for_prompt(2)

    # ---- lines ----

    def test_killing_and_moving_know_lines(self):
        self.begin()
        self.type(bracketed("do\n  local alpha = 1\n  beta = 2\nend"), UP, UP)
        self.cursor(1, 6)
        self.type(CTRL_E, "\x1bb", CTRL_K)
        self.expect("1> do", " |   local alpha =", " |   beta = 2", " | end")
        self.type(CTRL_U)
        self.expect("1> do", " |", " |   beta = 2", " | end")
        self.type(CTRL_Y)  # both are one text
        self.expect("1> do", " |   local alpha = 1", " |   beta = 2", " | end")
        self.type(CTRL_A)
        self.cursor(1, 3)
        self.type(CTRL_E, CTRL_K)  # joins the next line
        self.until(lambda shown: len(shown) == 3 and shown[1].endswith("  beta = 2"))
        self.type("\x1f")
        self.until(lambda shown: len(shown) == 4)
        self.type(DOWN, DOWN, CTRL_E, CTRL_W, CTRL_W)  # the word, then the line end
        self.until(lambda shown: len(shown) == 3)

    def test_the_column_is_kept_over_short_lines(self):
        self.begin()
        self.type(bracketed("x = 123456789\ny\nz = 123456789"))
        self.cursor(2, 16)
        self.type(UP)
        self.cursor(1, 4)
        self.type(UP)
        self.cursor(0, 16)
        self.type(DOWN, DOWN, LEFT, UP)
        self.cursor(1, 4)

    def test_tabs_are_blanks_of_the_right_width(self):
        self.begin()
        self.type(bracketed("do\n\tx = 1\n  \ty = 2\nend"))
        self.expect("1> do", " |     x = 1", " |     y = 2", " | end")
        self.assertNotIn("^I", self.t.text())
        self.type(UP, UP, CTRL_A, RIGHT)
        self.cursor(1, 7)

    # ---- keys of terminals ----

    KEYS = {  # what it does: the bytes that terminals send for it
        "home": ["\x1b[H", "\x1bOH", "\x1b[1~", "\x1b[7~", "\x1b[1;2H", "\x1b[7$"],
        "end": ["\x1b[F", "\x1bOF", "\x1b[4~", "\x1b[8~", "\x1b[1;2F", "\x1b[8$"],
        "up": ["\x1b[A", "\x1bOA", "\x1b[1;2A", "\x1b[a"],
        "down": ["\x1b[B", "\x1bOB", "\x1b[1;2B", "\x1b[b"],
        "left": ["\x1b[D", "\x1bOD", "\x1b[1;2D", "\x1b[d"],
        "right": ["\x1b[C", "\x1bOC", "\x1b[1;2C", "\x1b[c"],
        "word left": ["\x1b[1;5D", "\x1b[1;3D", "\x1bOd", "\x1b\x1b[D", "\x1bb"],
        "word right": ["\x1b[1;5C", "\x1b[1;3C", "\x1bOc", "\x1b\x1b[C", "\x1bf"],
        "delete": ["\x1b[3~"],
        "page up": ["\x1b[5~", "\x1b[5;2~"],
        "page down": ["\x1b[6~"],
    }
    PLACES = {"home": (1, 3), "end": (1, 15), "up": (0, 7), "down": (2, 7), "left": (1, 6), "right": (1, 8),
              "word left": (1, 3), "word right": (1, 9), "delete": (1, 7), "page up": (0, 7), "page down": (2, 7)}

    def test_keys_do_what_they_say_on_every_terminal(self):
        for name, sequences in self.KEYS.items():
            for sequence in sequences:
                with self.subTest(name, sequence=sequence):
                    self.begin()
                    self.type(bracketed("first = 123\nsecond = 456\nthird = 789"), UP, CTRL_A, RIGHT * 4)
                    self.cursor(1, 7)
                    self.type(sequence)
                    self.cursor(*self.PLACES[name])
                    text = "seco%sd = 456" % ("" if name == "delete" else "n")
                    self.until(lambda shown: shown == ["1> first = 123", " | " + text, " | third = 789"])

    def test_keys_without_a_meaning_leave_nothing(self):
        self.begin()
        unknown = ["\x1b[15~", "\x1b[24;5~", "\x1bOP", "\x1b[[A", "\x1b[[E", "\x1b[2;5~", "\x1b[1;5P", "\x1b[57399u",
                   "\x1b[I", "\x1b[O", "\x1b[M !!", "\x1b[<0;3;4M", "\x1b]11;rgb:0000/0000/0000\x07", "\x1b[?1;2c",
                   "\x1b[24;80R", "\x1bP1$r0m\x1b\\", "\x1b[25$", "\x1b[11^", "\x1b[12@"]
        for sequence in unknown:
            self.type("a", sequence)
            if sequence[-1] == "$":
                time.sleep(0.2)  # what ends it is that nothing follows
            self.type("b")
        self.expect("1> " + "ab" * len(unknown))

    # ---- vi ----

    def begin_vi(self, text=None):
        path = os.path.join(self.home, "inputrc")
        with open(path, "w") as f:
            f.write("set editing-mode vi\n")
        self.begin(INPUTRC=path)
        if text:
            self.type(bracketed(text))
            self.expect(*text_lines(text))

    def test_vi_commands_know_lines(self):
        text = "function f(a)\n  local x = a + 10\n  return x\nend"
        for keys, changed in (
                ("kkdd", ["function f(a)", "  return x", "end"]),
                ("ggdd", ["  local x = a + 10", "  return x", "end"]),
                ("dd", ["function f(a)", "  local x = a + 10", "  return x"]),
                ("kkddp", ["function f(a)", "  return x", "  local x = a + 10", "end"]),
                ("kyyP", ["function f(a)", "  local x = a + 10", "  return x", "  return x", "end"]),
                ("gg2dd", ["  return x", "end"]),
                ("dgg", [""]),
                ("kkojunk = 1\x1b", ["function f(a)", "  local x = a + 10", "  junk = 1", "  return x", "end"]),
                ("kOjunk = 1\x1b", ["function f(a)", "  local x = a + 10", "  junk = 1", "  return x", "end"]),
                ("ggA -- b\x1b", ["function f(a) -- b", "  local x = a + 10", "  return x", "end"]),
                ("kk0wcwglobal\x1b", ["function f(a)", "  global x = a + 10", "  return x", "end"]),
                ("kk$x", ["function f(a)", "  local x = a + 1", "  return x", "end"]),
                ("kk0wwD", ["function f(a)", "  local ", "  return x", "end"]),
                ("kk^dw", ["function f(a)", "  x = a + 10", "  return x", "end"]),
                ("kk^wdb", ["function f(a)", "  x = a + 10", "  return x", "end"]),
                ("kk$hr2", ["function f(a)", "  local x = a + 20", "  return x", "end"]),
                ("kk^fxsyy\x1b", ["function f(a)", "  local yy = a + 10", "  return x", "end"]),
                ("ggf(ci(b, c\x1b", ["function f(b, c)", "  local x = a + 10", "  return x", "end"]),
                ("kkJ", ["function f(a)", "  local x = a + 10 return x", "end"]),
                ("kk>>", ["function f(a)", "    local x = a + 10", "  return x", "end"]),
                ("kk^dw.", ["function f(a)", "  = a + 10", "  return x", "end"]),
                ("kk^dwdwu", ["function f(a)", "  x = a + 10", "  return x", "end"]),
                ("kkccy = 1\x1bu", ["function f(a)", "  local x = a + 10", "  return x", "end"]),
                ("kkI-- \x1bj.", ["function f(a)", "  -- local x = a + 10", "  -- return x", "end"]),
                ("gg%x", ["function f(a", "  local x = a + 10", "  return x", "end"]),
                ("kk3x", ["function f(a)", "ocal x = a + 10", "  return x", "end"])):
            with self.subTest(keys):
                self.begin_vi(text)
                self.type("\x1b")
                self.until(lambda shown: shown[0].startswith("1: "))  # commands are typed
                if keys.startswith("kk") and keys[2] in "d3IJ>o":
                    keys = "0" + keys
                self.type(keys)
                self.until(lambda shown: [line[3:].rstrip() for line in shown] == [c.rstrip() for c in changed])

    def test_vi_runs_with_enter_and_goes_through_the_history(self):
        self.begin_vi()
        self.type("x = 4", "\x1b")
        self.until(lambda shown: shown[0] == "1: x = 4")
        self.type(ENTER)
        self.t.wait_for_prompt(2)
        self.type("function f()", "\x1b")
        self.until(lambda shown: shown[-1] == "2: function f()")
        self.type(ENTER, "return x", ENTER, "end", "\x1b", "k", "$", "x", ENTER)
        self.t.wait_for_prompt(3)
        self.type("\x1b", "k")
        self.expect("3: function f()", " |   return", " | end")
        self.type("jAy = 1", "\x1b", "u")
        self.expect("3: function f()", " |   return", " | end")
        self.type("k", "k")
        self.expect("3: x = 4")
        self.type("j")
        self.expect("3: function f()", " |   return", " | end")

    # ---- history ----

    def fill_history(self, count, *inputs):
        os.makedirs(os.path.join(self.home, "nablua"), exist_ok=True)
        db = sqlite3.connect(os.path.join(self.home, "nablua/history.sqlite"))
        db.executescript("CREATE TABLE sessions (session INTEGER PRIMARY KEY AUTOINCREMENT, start TEXT NOT NULL);"
                         "CREATE TABLE history (session INTEGER NOT NULL, line INTEGER NOT NULL, source TEXT NOT NULL,"
                         " PRIMARY KEY (session, line)); INSERT INTO sessions (start) VALUES ('2020')")
        rows = list(inputs) + ["filler%d = %d" % (i, i) for i in range(count)]
        db.executemany("INSERT INTO history VALUES (1, ?, ?)", enumerate(rows, 1))
        db.commit()
        db.close()

    def test_the_search_sees_all_inputs_in_large_and_small_letters(self):
        self.fill_history(4000, "Needle = 'ÄÖÜ'", "function deep()\n  return 'hay'\nend")
        self.begin()
        self.type(CTRL_R, "nEEdle")
        self.expect("1> Needle = 'ÄÖÜ'", "search back: nEEdle")
        self.type("\x07")
        self.expect("1>")
        self.type(CTRL_R, "äöü")
        self.expect("1> Needle = 'ÄÖÜ'", "search back: äöü")
        self.type("\x7f" * 3, "HAY")
        self.expect("1> function deep()", " |   return 'hay'", " | end", "search back: HAY")
        self.cursor(1, len(" |   return '"))
        self.type(ENTER)
        self.t.wait_for_prompt(2)
        self.type("deep()", ENTER)
        self.expect('"hay"', "3>")
        self.type(CTRL_R, "filler", CTRL_R)
        self.expect("3> filler3998 = 3998", "search back: filler")
        self.type("\x1b[D", " ", CTRL_E, " ", ENTER)
        self.t.wait_for_prompt(4)

    def test_up_goes_beyond_what_was_read_at_the_start(self):
        self.fill_history(3000, "oldest = 1")
        self.begin()
        self.type("ol", UP)
        self.expect("1> oldest = 1")

    # ---- what is shown beside ----

    def test_suggestions_inside_of_blocks_and_word_by_word(self):
        self.fill_history(0, "function long()\n  local total_weight = compute(1, 2)\n  return total_weight\nend")
        self.begin(NO_COLOR="")
        self.type("fu")
        self.expect("1> function long()", " |   local total_weight = compute(1, 2)", " |   return total_weight", " | end")
        self.cursor(0, 5)
        self.type("\x1bf")
        self.cursor(0, len("1> function"))
        self.type("\x1bf", CTRL_E)
        self.cursor(3, len(" | end"))
        self.type("\x03")
        self.until(lambda shown: shown[-1] == "1>")
        self.type("do", ENTER, "local to")
        self.expect("1> do", " |   local total_weight = compute(1, 2)")
        at = self.t.screen.cursor
        self.assertEqual(at.x, len(" |   local to"))
        self.type("\x1b[1;5C")  # Ctrl and right
        self.until(lambda _: at.x == len(" |   local total_weight"))
        self.type(RIGHT, ENTER, "end", ENTER)
        self.t.wait_for(r"(?s)total_weight = compute\(1, 2\)\n \| end\n.*'compute'")

    def test_the_partner_of_a_bracket_is_marked(self):
        self.begin(NO_COLOR="")
        self.type("print((1 + 2) * ')' .. 3)")
        self.until(lambda shown: shown[0].endswith("3)"))

        def marked():
            row = self.t.screen.buffer[0]
            return [x - 3 for x in range(60) if row[x].underscore]

        self.until(lambda _: marked() == [5, 24])
        self.type(LEFT * 12)
        self.until(lambda _: marked() == [6, 12])

    def test_the_parameters_of_the_call_are_shown(self):
        self.begin()
        self.type("net = nn.Linear(")
        self.expect("1> net = nn.Linear(", "nn.Linear(in_features, out_features, {bias=true})")
        self.type("2, 3)")
        self.expect("1> net = nn.Linear(2, 3)")
        self.type(ENTER)
        self.t.wait_for_prompt(2)
        self.type("function area(width, height) return width * height end", ENTER)
        self.t.wait_for_prompt(3)
        self.type("area(net(nb.ones(1, 2)):sum(), ")
        self.expect("area(width, height)")
        self.type(CTRL_U, "net(")
        self.until(lambda shown: shown[-1].startswith("net("))
        for typed, parameters in (("math.max(1, ", "math.max(x, ...)"), ("('a'):rep(", "string.rep(s, n [, separator])"),
                                  ("print(", "print(...)")):  # Lua's own, which are in C
            self.type(CTRL_U, typed)
            self.expect("3> " + typed.rstrip(), parameters)

    def test_the_parameters_stay_above_a_menu_and_say_where_they_are_cut(self):
        self.begin(columns=60, rows=24)
        self.type("nn.Linear(", "\t")
        self.until(lambda shown: shown[:2] == ["1> nn.Linear(", "nn.Linear(in_features, out_features, {bias=true})"] and
                   shown[2:] and shown[2].startswith("Audio "))
        self.type("\x07", CTRL_U, "nn.Conv2d(1, ")
        self.expect("1> nn.Conv2d(1,", "nn.Conv2d(in_channels, out_channels, kernel_size, {strid...")
        self.type("2, 3, {")
        self.expect("1> nn.Conv2d(1, 2, 3, {", "nn.Conv2d(... {stride=1, padding=0, dilation=1, groups=1...")

    # ---- other terminals ----

    def raw(self, keys, **variables):
        """All bytes that come while keys are typed one after the other."""
        t = Terminal("--no-banner", home=self.home, **variables)
        self.addCleanup(t.close)
        sent = []
        t.stream.feed = sent.append
        for key in [""] + list(keys):
            t.type(key)
            for _ in range(3):
                t.read(0.1)
        return b"".join(sent)

    def test_a_dumb_terminal_gets_no_escape_sequence(self):
        sent = self.raw(["x = 6\n", "x * 7\n", "function f()\n", "return 1\n", "end\n", "f()\n", "error 'e'\n",
                         "do local bar = nb.progress(2) nb.sleep(0.3) bar:step() bar:step() bar:close() end\n"],
                        TERM="dumb", NO_COLOR="")
        self.assertNotIn(b"\x1b", sent)
        self.assertIn(b"42\r\n", sent)
        self.assertIn(b"\r\n1\r\n", sent)

    def test_without_utf8_bytes_are_shown_and_the_cursor_is_right(self):
        self.begin(LC_ALL="C", LANG="C")
        self.type("x = 'ä'")
        self.expect("1> x = '\\xc3\\xa4'")
        self.cursor(0, len("1> x = '\\xc3\\xa4'"))
        self.type(LEFT, LEFT)
        self.cursor(0, len("1> x = '\\xc3"))
        self.type(CTRL_E, ENTER)
        self.t.wait_for_prompt(2)
        self.type("#x", ENTER)
        self.expect("2", "3>")

    def test_a_container_without_a_locale_has_utf8(self):
        self.begin(LC_ALL="", LANG="")
        self.type("x = 'ä∇界'", LEFT, LEFT)
        self.cursor(0, len("1> x = 'ä∇"))

    # ---- text that would steer the terminal ----

    def test_no_byte_that_is_typed_or_pasted_reaches_the_terminal_as_a_control(self):
        self.begin()
        evil = "x = '\x1b]0;title\x07\x1b[2J\x9b\x00\x08\x7f\u202e\u200f\u0085'"
        sent = []
        feed = self.t.stream.feed
        self.t.stream.feed = lambda data: (sent.append(data), feed(data))
        os.write(self.t.fd, b"\x1b[200~" + evil.encode().replace(b"\xc2\x9b", b"\x9b") + b"\x1b[201~")
        self.expect("1> x = '^[]0;title^G^[[2J\\x9b\ufffd^H^?\\u{202e}\\u{200f}\\u{85}'")
        self.type(ENTER)
        self.t.wait_for_prompt(2)
        self.type("x", ENTER)
        self.t.wait_for_prompt(3)
        self.type("y = error(x)", ENTER)
        self.t.wait_for_prompt(4)
        self.type(UP, UP, UP)
        self.t.wait_for(r"title\^G")
        out = re.sub(rb"\x1b\[[0-9;?]*[A-KhlmJ]", b"", b"".join(sent))
        self.assertNotRegex(out, b"\x1b|\x07|\x9b|\x08|\xe2\x80\xae|\xc2\x85")
        self.assertNotIn(b"2J", re.sub(rb"\^\[\[2J|\\27\[2J|x1b\[2J", b"", out))

    # ---- settings ----

    def test_prompts_colours_and_keys_are_set_in_the_init_file(self):
        self.settings("nb.terminal.prompt = function(n) return ('[%d] '):format(n) end\n"
                      "nb.terminal.continuation = '... '\n"
                      "nb.terminal.colors.keyword = 'bold blue'\n"
                      "nb.terminal.keys['C-x u'] = function(text, at) return text:upper(), at end\n"
                      "nb.terminal.keys['F5'] = 'beginning-of-line'\n")
        self.t = Terminal("--no-banner", home=self.home, NO_COLOR="")
        self.addCleanup(self.t.close)
        self.t.wait_for(r"\[1\]\Z")
        self.type("do", ENTER)
        self.expect("[1] do", "...")
        cell = self.t.screen.buffer[0][4]
        self.assertEqual((cell.fg, cell.bold), ("blue", True))
        self.type("end", ENTER)
        self.t.wait_for(r"\[2\]\Z")
        self.type("abc", "\x18u")
        self.t.wait_for(r"\[2\] ABC\Z")
        self.type("\x1b[15~", "x")
        self.t.wait_for(r"\[2\] xABC\Z")

    def test_settings_are_checked_and_vi_is_one(self):
        self.begin()
        for code, said in (("nb.terminal.promt = 'x'", "there is no setting \"promt\"; there are brackets, colors"),
                           ("nb.terminal.editing = 'ed'", 'expected "emacs" or "vi", got'),
                           ("nb.terminal.colors.keyword = 'mauve'", "expected names such as"),
                           ("nb.terminal.colors.loop = 'red'", 'there is no part "loop"'),
                           ("nb.terminal.keys['Hyper-x'] = 'yank'", "is no key"),
                           ("nb.terminal.prompt = 5", "expected a string, or a function")):
            self.type(code, ENTER)
            self.t.wait_for(re.escape(said).replace("\\ ", r"\s"))
        self.type("nb.terminal.editing = 'vi'", ENTER)
        self.t.wait_for_prompt(8)
        self.type("abc", "\x1b")
        self.t.wait_for(r"8: abc\Z")

    def test_stock_prompts_are_honoured(self):
        self.begin()
        self.type("_PROMPT, _PROMPT2 = 'lua> ', 'lua>> '", ENTER)
        self.t.wait_for(r"lua>\Z")
        self.type("do", ENTER)
        self.expect("lua> do", "lua>>")

    def test_a_wide_character_that_does_not_fit_begins_the_next_row(self):
        self.begin(columns=20, rows=6)
        self.type("'" + "x" * 15 + "\u754cy'")  # 19 columns are taken before it
        self.until(lambda shown: shown[:2] == ["1> '" + "x" * 15, "\u754cy'"])
        self.cursor(1, 4)
        self.type(LEFT, LEFT)
        self.cursor(1, 2)

    def test_what_is_above_a_tall_block_takes_no_room_that_a_prompt_has_not(self):
        self.begin("--no-banner", rows=6, columns=40)
        self.type("_PROMPT, _PROMPT2 = '$', ':'", ENTER)
        self.t.wait_for(r"\$\Z")
        self.type("do", ENTER)
        self.type(*[key for i in range(8) for key in (f"x{i} = 1", ENTER)])
        self.until(lambda shown: re.fullmatch(r"   x\d = 1", shown[0]) and shown[-1].rstrip() == ":")
        self.assertTrue(all(line.startswith(":  x") for line in self.t.text().split("\n")[1:-1]), self.t.text())


def text_lines(text):
    return [("1> " if i == 0 else " | ") + line for i, line in enumerate(text.split("\n"))]


if __name__ == "__main__":
    unittest.main()
