# SPDX-License-Identifier: MIT
"""Lua's own ways to read standard input ask the client: io.read, io.lines, io.stdin, in all their formats."""
import queue
import time
import unittest

from kernels import TIMEOUT, kernel, text_of


class Stdin(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.context = kernel()
        cls.manager, cls.client = cls.context.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def dialogue(self, code, answers):
        """The reply, what was shown, and the prompts of the questions, all of which were answered in turn."""
        c = self.client
        msg_id = c.execute(code, allow_stdin=True)
        prompts = []
        for answer in answers:
            try:
                prompts.append(c.get_stdin_msg(timeout=5)["content"]["prompt"])
            except queue.Empty:
                break
            c.input(answer)
        messages = [m for m in c.outputs(msg_id) if m["msg_type"] not in ("status", "execute_input")]
        return c.reply(msg_id)["content"], messages, prompts

    def check(self, code, answers, expected):
        reply, messages, prompts = self.dialogue(code, answers)
        self.assertEqual(reply["status"], "ok", reply)
        self.assertEqual(prompts, [""] * len(answers))
        self.assertEqual(text_of(messages), expected)

    def test_every_way_to_read_a_line(self):
        for way in ("io.read()", "io.read('l')", "io.stdin:read()", "io.input():read('*l')", "io.lines()()",
                    "io.stdin:lines()()", "io.read('L'):sub(1, -2)"):
            with self.subTest(way):
                self.check("io.write('got ', %s);" % way, ["Ada Lovelace"], "got Ada Lovelace")

    def test_numbers_characters_and_several_formats(self):
        self.check("print(io.read('n', 'n'))", ["12 3.5"], "12\t3.5\n")
        self.check("print(io.read('n', 'n'))", ["7", "8"], "7\t8\n")
        self.check("io.write(io.read(3), '|', io.read(2));", ["abcde"], "abc|de")
        self.check("print(io.read('l', 'l'))", ["ä€𝄞", ""], "ä€𝄞\t\n")
        self.check("print(#io.read())", ["x" * 100000], "100000\n")

    def test_lines_until_the_end(self):
        self.check("for line in io.lines() do io.write('<', line, '>') if line == '' then break end end", ["a", "b", ""], "<a><b><>")
        # Consoles send Ctrl-D as the end of input.
        self.check("local n = 0; for _ in io.lines() do n = n + 1 end; print(n)", ["a", "b", "\x04"], "2\n")
        self.check("io.write(io.read('a'));", ["a", "b", "\x04"], "a\nb\n")
        self.check("print(io.read(), io.read())", ["\x04", "more"], "nil\tmore\n")
        self.check("print(input('') == nil)", ["\x04"], "true\n")

    def test_the_text_before_is_shown_first(self):
        c = self.client
        msg_id = c.execute("io.write('name? ') local n = io.read() print('hello ' .. n)", allow_stdin=True)
        c.get_stdin_msg(timeout=TIMEOUT)
        seen = ""
        while seen != "name? ":
            m = c.get_iopub_msg(timeout=TIMEOUT)
            if m["msg_type"] == "stream":
                seen += m["content"]["text"]
        c.input("you")
        self.assertEqual(text_of(m for m in c.outputs(msg_id) if m["msg_type"] == "stream"), "hello you\n")
        c.reply(msg_id)

    def test_what_is_left_of_an_answer_is_not_read_by_the_next_cell(self):
        self.check("print(io.read(1))", ["left over"], "l\n")
        self.check("print(io.read())", ["fresh"], "fresh\n")

    def test_an_answer_with_a_zero_byte_is_whole(self):
        self.check("print(#input(''), #io.read())", ["a\0b", "c\0\0d"], "3\t4\n")

    def test_interrupt_while_reading(self):
        c = self.client
        for code in ("io.read()", "for l in io.lines() do end", "while true do io.read('a') end"):
            msg_id = c.execute(code, allow_stdin=True)
            c.get_stdin_msg(timeout=TIMEOUT)
            time.sleep(0.1)
            self.manager.interrupt_kernel()
            self.assertEqual(c.reply(msg_id)["content"]["ename"], "KeyboardInterrupt", code)
            c.outputs(msg_id)
        self.assertEqual(c.text("1 + 1"), "2\n")

    def test_who_cannot_be_asked_gets_an_error(self):
        for code in ("io.read()", "local l = io.read('n')", "for l in io.lines() do end", "pcall(pcall, error, io.stdin:read())",
                     "coroutine.wrap(function() return io.read() end)()"):
            reply, messages = self.client.run(code, allow_stdin=False)
            self.assertEqual(reply["status"], "error", code)
            self.assertIn("nobody can be asked", reply["evalue"], code)
        self.assertEqual(self.client.text("print(pcall(io.read))", allow_stdin=False)[:5], "false")
        self.assertEqual(self.client.text("1 + 1", allow_stdin=False), "2\n")


if __name__ == "__main__":
    unittest.main()
