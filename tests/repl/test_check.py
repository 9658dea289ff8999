# SPDX-License-Identifier: MIT
"""nablua check: what is true passes, and each of a dozen lies is found and named."""
import copy
import glob
import json
import os
import subprocess
import tempfile
import unittest

from terminal import NABLUA, ROOT, TIMEOUT, environment

os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")


def code(source, count, *outputs):
    return {"cell_type": "code", "id": "c%d" % count, "metadata": {}, "source": source.splitlines(True),
            "execution_count": count, "outputs": list(outputs)}


def printed(text):
    return {"output_type": "stream", "name": "stdout", "text": text.splitlines(True)}


def result(text, **more):
    data = {"text/plain": text, **{mime.replace("__", "/"): value for mime, value in more.items()}}
    return {"output_type": "execute_result", "execution_count": 1, "data": data, "metadata": {}}


def failed(message):
    return {"output_type": "error", "ename": "Error", "evalue": message, "traceback": []}


HTML = "setmetatable({}, {__display = function() return {['text/plain'] = 'page', ['text/html'] = '<b>1.5</b>'} end})"
SVG = "setmetatable({}, {__display = function() return {['text/plain'] = 'plot', " \
      "['image/svg+xml'] = '<svg><path d=\"M 1.25 2.5\"/></svg>'} end})"

# Written by hand: what each cell shows follows from its code.
TRUE = {
    "nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {"name": "nablua", "display_name": "nablua"}},
    "cells": [
        {"cell_type": "markdown", "id": "m", "metadata": {}, "source": "# A lesson"},
        code("x = 6\nprint('x is', x)", 1, printed("x is\t6\n")),
        code("local y = x * 7\ny", 2, result("42")),
        code("nb.tensor{1, 2, 3} / 3", 3, result("0.3333  0.6667  1\nf32 3")),
        code("for line in io.lines 'data.txt' do print(line) end", 4, printed("first\nsecond\n")),
        code("error 'on purpose'", 5, failed("input 5:1: on purpose")),
        code(HTML, 6, result("page", text__html="<b>1.5</b>")),
        code(SVG, 7, result("plot", **{"image__svg+xml": '<?xml version="1.0"?><svg><path d="M 1.25 2.5"/></svg>'})),
        code("%time x + y", 8, printed("1.23 ms (processor 4 µs)\n"), result("48")),
        code("display(1, {id='d'}) update_display(2, 'd')", 9,
             {"output_type": "display_data", "data": {"text/plain": "2"}, "metadata": {}}),
        code("x = x + 1;", 10),
    ],
}


class Check(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.write("data.txt", "first\nsecond\n")

    def write(self, name, content):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(content if isinstance(content, str) else json.dumps(content))
        return path

    def check(self, *arguments, cwd=ROOT):
        r = subprocess.run([NABLUA, "check", *arguments], capture_output=True, text=True, timeout=TIMEOUT * 3,
                           env=environment(), cwd=cwd)
        return r.returncode, r.stdout + r.stderr

    def passes(self, path):
        status, said = self.check(path)
        self.assertEqual(status, 0, said)
        return said

    def finds(self, notebook, cell, what):
        status, said = self.check(self.write("lie.ipynb", notebook))
        self.assertEqual(status, 1, said)
        self.assertRegex(said, r"lie\.ipynb: cell %d( \[|:).*%s" % (cell, what))

    def test_what_is_true(self):
        said = self.passes(self.write("true.ipynb", TRUE))
        self.assertIn("10 steps, 10 agree", said)

    def test_a_dozen_lies(self):
        def lie(cell, **changes):
            notebook = copy.deepcopy(TRUE)
            notebook["cells"][cell].update(changes)
            return notebook

        # 1, 2: an output that was changed, a number in a tensor by 2 in a thousand
        self.finds(lie(1, outputs=[printed("x is\t7\n")]), 2, "prints differs")
        self.finds(lie(3, outputs=[result("0.3333  0.668  1\nf32 3")]), 4, "shows differs")
        # 3: an output that nothing makes, and 4: one that was deleted
        self.finds(lie(10, outputs=[printed("done\n")]), 11, "prints differs")
        self.finds(lie(2, outputs=[]), 3, "shows 1 values, the notebook has 0")
        # 5: hidden state, a variable whose cell is gone
        notebook = copy.deepcopy(TRUE)
        del notebook["cells"][1]
        self.finds(notebook, 2, "an error that the notebook does not have")
        # 6: cells that were run out of order
        notebook = copy.deepcopy(TRUE)
        notebook["cells"][1]["execution_count"] = 12
        self.finds(notebook, 3, r"before cell 2 \[12\]: cells were run out of order")
        # 7: a cell that was edited after it ran, and 8: one that never did
        self.finds(lie(2, source="local y = x * 8\ny"), 3, "shows differs")
        self.finds(lie(10, execution_count=None), 11, "never run")
        # 9: a file that is not there any more
        os.remove(os.path.join(self.folder, "data.txt"))
        self.finds(TRUE, 5, "data.txt.*No such file")
        self.write("data.txt", "first\nsecond\n")
        # 10: a clock, and random numbers without a seed
        notebook = lie(1, source="x = 6\nprint(os.time())", outputs=[printed("1700000000\n")])
        self.finds(notebook, 2, "prints differs")
        self.finds(lie(1, source="x = 6\nprint(math.random(10^9))", outputs=[printed("123456789\n")]), 2, "prints differs")
        # 11: an error that was mended, and another in its place
        self.finds(lie(5, source="print 'fine'", outputs=[failed("input 5:1: on purpose")]), 6, "does not happen")
        self.finds(lie(5, source="error 'another'"), 6, "the error differs")
        # 12: another picture, another page
        self.finds(lie(7, source=SVG.replace("1.25", "1.75")), 8, "the picture differs")
        self.finds(lie(6, source=HTML.replace("1.5", "1.6")), 7, "shows differs")

    def test_what_ends_the_process(self):
        notebook = copy.deepcopy(TRUE)
        notebook["cells"][2] = code("os.exit(0)", 2)
        self.finds(notebook, 3, "the process ends here")

    def test_tolerance(self):
        notebook = copy.deepcopy(TRUE)
        notebook["cells"][3]["outputs"] = [result("0.3334  0.6666  1\nf32 3")]
        self.passes(self.write("near.ipynb", notebook))
        self.assertEqual(self.check("--tolerance=1e-6", os.path.join(self.folder, "near.ipynb"))[0], 1)
        notebook["cells"][1]["outputs"] = [printed("x is\t7\n")]
        self.assertEqual(self.check("--tolerance=10", self.write("far.ipynb", notebook))[0], 1)  # whole numbers are exact

    def test_examples_and_transcripts(self):
        left_out = ["fashion"]
        if not os.path.exists(os.path.join(os.path.dirname(NABLUA), "lib/nablua/dist.so")):
            left_out.append("parallel")  # built without MPI
        notebooks = [p for p in glob.glob(os.path.join(ROOT, "examples/*.ipynb")) if not any(w in p for w in left_out)]
        transcripts = sorted(glob.glob(os.path.join(ROOT, "tests/sessions/*.txt")))
        if not os.environ.get("NABLUA_PROVE"):
            always = "interrupts breakpoint debug_command stops".split()  # those that do more than show
            transcripts = sorted({*transcripts[::6], *(os.path.join(ROOT, "tests/sessions/%s.txt" % name) for name in always)})
        status, said = self.check(*notebooks, *transcripts)
        self.assertEqual(status, 0, said)
        self.assertEqual(len(said.splitlines()), 2 * len(notebooks) + len(transcripts))
        print("figure: nablua check passes %d notebooks and %d transcripts" % (len(notebooks), len(transcripts)), flush=True)

    def test_lies_in_transcripts(self):
        good = "-- a title\n1> x = 1\n2> x + 1\n2\n3> function f()\n |   error 'x'\n | end\n4> f()\ninput 3:2: x\n...\n" \
               "5> print(input 'who? ')\nwho? ‹me›\nme\n"
        self.passes(self.write("good.txt", good))
        for old, new, title in (("x + 1\n2", "x + 1\n3", "input 2"), ("3:2: x", "3:2: y", "input 4"), ("\nme\n", "\nyou\n",
                                "input 5"), ("x = 1", "x = 2", "input 2")):
            status, said = self.check(self.write("bad.txt", good.replace(old, new)))
            self.assertEqual(status, 1, said)
            self.assertIn("bad.txt: %s: what it shows differs" % title, said)

    def test_scripts(self):
        good = "#!/usr/bin/env nablua\nlocal function f(n)\n\n  return n * 2  -- twice\nend\nprint(f(2)) --> 4\n" \
               "local a, b = f(3), 'x'  --> 6, \"x\"\nfor i = 1, 2 do\n  print(i)\nend\n--> 1\n--> 2\n" \
               "print('--> no result')\nt = nb.tensor{1, 2} / 3  --> 0.3333  0.6667\n--> f32 2\nprint(arg[0] ~= nil) --> true\n"
        self.assertIn("5 agree", self.passes(self.write("good.lua", good)))
        for old, new, line in (("--> 4", "--> 5", 6), ("--> 6", "--> 7", 7), ("--> 2\n", "--> 3\n", 10),
                               ("0.6667", "0.67", 14)):
            status, said = self.check(self.write("bad.lua", good.replace(old, new)))
            self.assertEqual(status, 1, said)
            self.assertIn("bad.lua: line %d: the result differs" % line, said)
        status, said = self.check(self.write("error.lua", "print(1)\n\nerror 'x'\n"))
        self.assertEqual(status, 1)
        self.assertRegex(said, r"line 3: an error: .*:3: x")

    def test_a_session_that_was_saved(self):
        inputs = "x = 5\nprint('hi', x)\nio.write('a', 1, 2.5, '\\n');\nx + 1\nfunction f()\n  error 'boom'\nend\nf()\n" \
                 "%time x\ndisplay(1, {id='a'}) update_display(2, 'a')\nplot.curve{1, 2, 3}\nio.stdout:write('q\\n');\n" \
                 "%save saved.ipynb\n%save saved.txt\n%save saved.lua\n"
        subprocess.run([NABLUA, "-i", "--no-banner"], input=inputs, capture_output=True, text=True, timeout=TIMEOUT,
                       env=environment(COLUMNS="70"), cwd=self.folder, check=True)
        notebook, transcript = os.path.join(self.folder, "saved.ipynb"), os.path.join(self.folder, "saved.txt")
        self.assertIn("10 steps, 10 agree", self.passes(notebook))
        self.assertIn("10 steps, 10 agree", self.passes(transcript))
        with open(notebook, encoding="utf-8") as f:
            cells = json.load(f)["cells"]
        self.assertEqual(cells[1]["outputs"], [{"output_type": "stream", "name": "stdout", "text": ["hi\t5\n"]}])
        self.assertEqual(cells[5]["outputs"][0]["evalue"], "input 5:2: boom")
        self.assertEqual(cells[7]["outputs"][0]["data"]["text/plain"], ["2"])
        self.passes(os.path.join(self.folder, "saved.lua"))
        with open(os.path.join(self.folder, "saved.lua"), encoding="utf-8") as f:
            script = f.read()
        self.assertTrue(script.startswith("x = 5\nprint('hi', x)\n--> hi\t5\nio.write('a', 1, 2.5, '\\n');\n--> a12.5\nx + 1\n--> 6\n"
                                          "function f()\n  error 'boom'\nend\n-- f()\n-- input 5:2: boom\n"), script)
        for name, old, new in (("saved.ipynb", "a12.5", "a12.6"), ("saved.txt", "\n6\n", "\n7\n"),
                               ("saved.lua", "\n--> 6\n", "\n--> 7\n")):
            with open(os.path.join(self.folder, name), encoding="utf-8") as f:
                lie = f.read().replace(old, new)
            self.assertEqual(self.check(self.write("lie." + name.split(".")[1], lie))[0], 1)
        try:
            import nbformat
        except ImportError:
            return
        nbformat.validate(nbformat.read(notebook, 4))

    def test_what_cannot_be_read(self):
        for name, content, what in (("a.ipynb", "{", "no JSON"), ("b.ipynb", "{}", "no cells"), ("c.txt", "text", "begins with"),
                                    ("d.png", "", "can be checked")):
            status, said = self.check(self.write(name, content))
            self.assertEqual(status, 2, said)
            self.assertIn(what, said)
        self.assertEqual(self.check(os.path.join(self.folder, "none.lua"))[0], 2)
        self.assertEqual(self.check()[0], 2)
        self.assertEqual(self.check("--nonsense", "x.lua")[0], 2)


if __name__ == "__main__":
    unittest.main()
