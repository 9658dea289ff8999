# SPDX-License-Identifier: MIT
"""papermill -p with the translator of the examples: what is given replaces what the cell of parameters says.

Needs a Python with papermill: the one of NABLUA_JUPYTERLAB, or the one that runs this.
"""
import json
import os
import subprocess
import sys
import unittest

import kernels

PYTHON = os.environ.get("NABLUA_JUPYTERLAB") or sys.executable
if subprocess.run([PYTHON, "-c", "import papermill"], capture_output=True).returncode != 0:
    kernels.skip("this needs a Python with papermill, see NABLUA_JUPYTERLAB")
PROGRAM = os.path.join(kernels.ROOT, "examples/papermill_lua.py")


def cell(source, *tags):
    return {"cell_type": "code", "id": "c%d" % abs(hash(source)), "metadata": {"tags": list(tags)}, "execution_count": None, "outputs": [],
            "source": source}


class Papermill(unittest.TestCase):
    def run_with(self, *options):
        """What the notebook's last cell prints."""
        paths = [os.path.join(kernels.HOME, name + ".ipynb") for name in ("in", "out")]
        cells = [cell("local lr = 0.1\nepochs, name, on, extra = 3, 'plain', false, nil", "parameters"),
                 cell("print(lr, math.type(epochs), epochs, name, on, extra and nb.pretty(extra))")]
        with open(paths[0], "w", encoding="utf-8") as f:
            json.dump({"cells": cells, "nbformat": 4, "nbformat_minor": 5, "metadata": {"kernelspec": {
                "name": "nablua", "display_name": "Lua", "language": "lua"}}}, f)
        r = subprocess.run([PYTHON, PROGRAM] + paths + list(options), capture_output=True, text=True, timeout=120)
        self.assertEqual(r.returncode, 0, r.stderr)
        with open(paths[1], encoding="utf-8") as f:
            outputs = json.load(f)["cells"][-1]["outputs"]
        return "".join("".join(o.get("text", "")) for o in outputs)

    def test_parameters(self):
        self.assertEqual(self.run_with("-p", "lr", "0.5", "-p", "epochs", "7", "-p", "on", "true", "-r", "name", 'a"b\\c\n€'),
                         '0.5\tinteger\t7\ta"b\\c\n€\ttrue\tnil\n')
        self.assertEqual(self.run_with("-y", "{extra: {sizes: [1, 2.5], none: null, text: '[]'}, lr: .inf}"),
                         'inf\tinteger\t3\tplain\tfalse\t{ sizes = { 1, 2.5 }, text = "[]" }\n')


if __name__ == "__main__":
    unittest.main()
