# SPDX-License-Identifier: MIT
"""What completes an expression: the methods of what it would give, found without running it."""
import os
import subprocess
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NABLUA = os.environ.get("NABLUA", os.path.join(ROOT, "build/release/nablua"))

SETUP = """
net = nn.Sequential{ nn.Linear(2, 3), nn.Tanh() }
x, y = nb.ones(2, 2), nb.ones(2, 2)
s = { a = { bell = { 1, 2 } } }
opt = optim.SGD(net:parameters(), {lr=0.1})
function ruin() ran = true; return nb.ones(1) end
"""

# Text before the cursor, and what is offered (beginning with, then never).
CASES = [
    ("nb.rand(3, 4):mat", ["matmul"], []),
    ("nb.rand(3, 4):matmul(x):su", ["sub", "sum"], []),
    ("nb.rand(2):add_(3):su", ["sub", "sum"], []),
    ("net(x):sig", ["sigmoid", "sign"], []),
    ("(y - net(x)):pow(2):mea", ["mean"], []),
    ("(1 + #x.shape):", [], ["abs", "print"]),
    ("nn.Linear(3, 4):para", ["parameters"], ["print"]),
    ("net[1].wei", ["weight"], []),
    ("net[1].weight.T:su", ["sum"], []),
    ("nn.mse(x, y):back", ["backward"], []),
    ("nb.tensor{1, 2}:su", ["sum"], []),
    ("print(net[1]:forw", ["forward"], []),
    ("opt:st", ["step", "state"], []),
    ("s.a.be", ["bell"], []),
    ("s['a'].", ["bell"], []),
    ("'text':re", ["rep", "reverse"], []),
    ("x = 1.5 + prin", ["print"], []),
    ("a..prin", ["print"], []),
    ("unknown(3):prin", [], ["print"]),
    ("ruin():su", [], ["sum"]),
    ("f(')'):prin", [], ["print"]),
    (")):prin", [], ["print"]),
    ("x:sum{1}:it", ["item"], []),
    # What the input itself makes.
    (r"local fresh = nn.Linear(3, 4)\nfresh:para", ["parameters"], ["print"]),
    (r"local t = nb.ones(2)\nlocal u = t:exp()\nu:su", ["sum"], []),
    ("function f(apple, pear) return app", ["apple"], ["pear"]),
    ("for place, item in ipairs{} do ite", ["item"], []),
    ("for count = 1, 3 do cou", ["count"], []),
    ("local function helper() end; hel", ["helper", "help"], []),
    ("local first, second = 1, 2; sec", ["second"], []),
    ("local half, hal", [], ["hal"]),
    (r"local loop = loop\nloop:su", [], ["sum"]),
    (r"-- local hidden = 3\nhid", [], ["hidden"]),
    ("local s = 'local secret = 1'; sec", [], ["secret"]),
    # Where nothing begins so: capitals apart, then by letters in order.
    ("nn.lin", ["Linear"], ["ReLU"]),
    ("nn.Lin", ["Linear"], ["LogSigmoid"]),
    ("nn.cnv1", ["Conv1d"], ["Conv2d"]),
    ("nb.RESH", ["reshape"], []),
    ("nb.no_such_thing_at_all", [], ["ones"]),
]


class Completion(unittest.TestCase):
    def test_expressions(self):
        lines = [SETUP, 'local complete = require "nablua.session.complete".complete']
        for text, _, _ in CASES:
            lines.append(
                "do local n, list = complete(%s) for i = 1, #list do list[i] = list[i].text end\n"
                "print(table.concat(list, ' ')) end" % ('"' + text.replace('"', '\\"') + '"'))
        lines.append("print(ran)")
        run = subprocess.run([NABLUA, "-"], input="\n".join(lines), capture_output=True, text=True, timeout=60)
        self.assertEqual(run.stderr, "")
        *offers, ran = run.stdout.rstrip("\n").split("\n")
        self.assertEqual(ran, "nil", "completion ran the user's code")
        for (text, wanted, never), offer in zip(CASES, offers, strict=True):
            with self.subTest(text):
                names = offer.split()
                for name in wanted:
                    self.assertIn(name, names)
                for name in never:
                    self.assertNotIn(name, names)

    def test_of_thousands_the_first_are_offered(self):
        run = subprocess.run([NABLUA, "-"], capture_output=True, text=True, timeout=60, input="""
            local complete, want = require "nablua.session.complete".complete, {}
            big = {}
            for i = 0, 9999 do big[("n%05d"):format(i * 7919 % 10007)] = i; big["_" .. i] = i end
            for name in pairs(big) do if name:match "^n" then want[#want + 1] = name end end
            table.sort(want)
            local n, list = complete("big.")
            assert(n == 0 and #list == 500)
            for i = 1, 500 do assert(list[i].text == want[i] and list[i].kind == "number") end
            n, list = complete("big._1")
            assert(n == 2 and #list == 500 and list[1].text == "_1" and list[2].text == "_10")
            -- Where nothing is typed yet, what begins with _ comes last.
            shown, _hidden = 1, 2
            n, list = complete("")
            for i, match in ipairs(list) do list[match.text] = i end
            assert(list._hidden > list.shown and list._hidden > list["while"])
            print "right" """)
        self.assertEqual((run.stdout, run.stderr), ("right\n", ""))


if __name__ == "__main__":
    unittest.main()
