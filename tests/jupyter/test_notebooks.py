# SPDX-License-Identifier: MIT
"""The example notebooks, run whole by nbclient and by nbconvert; tracked without outputs."""
import glob
import json
import os
import re
import subprocess
import sys
import unittest

import kernels

try:
    import nbclient
    import nbformat
except ImportError:
    kernels.skip("this needs nbclient and nbformat")

os.environ.update(OMPI_ALLOW_RUN_AS_ROOT="1", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
os.environ["NABLUA_SAMPLES"] = "128" if kernels.SANITIZED else "1280"
LONG = 600


class Notebooks(unittest.TestCase):
    pass


def add(path):
    name = os.path.splitext(os.path.basename(path))[0]

    def run(self):
        with open(path, encoding="utf-8") as f:
            raw = json.load(f)
        for cell in raw["cells"]:
            if cell["cell_type"] == "code":
                self.assertEqual((cell["outputs"], cell["execution_count"]), ([], None), "outputs are not for the repository")
        notebook = nbformat.read(path, as_version=4)
        nbformat.validate(notebook)
        nbclient.NotebookClient(notebook, timeout=LONG, kernel_name="nablua").execute(cwd=os.path.dirname(path))
        kinds = set()
        for cell in notebook.cells:
            for output in cell.get("outputs", []):
                self.assertNotEqual(output["output_type"], "error")
                kinds |= set(output.get("data", {}))
                # What is drawn again and again stays one output.
            self.assertLess(len(cell.get("outputs", [])), 12)
        self.assertIn("image/svg+xml", kinds)

    setattr(Notebooks, "test_" + name, run)


ALL = sorted(glob.glob(os.path.join(kernels.ROOT, "examples/*.ipynb")))
if not os.path.exists(os.path.join(os.path.dirname(kernels.KERNEL), "lib/nablua/dist.so")):
    print("examples/parallel.ipynb is left out: this was built without MPI")
    ALL = [path for path in ALL if not path.endswith("parallel.ipynb")]
for notebook_path in ALL:
    add(notebook_path)


class Controls(unittest.TestCase):
    def test_a_client_without_widgets_keeps_their_text(self):
        v4 = nbformat.v4
        notebook = v4.new_notebook(cells=[v4.new_code_cell(source) for source in (
            "rate = ui.slider{label='rate', value=0.5} ui.row{rate, ui.button{label='stop'}}",
            "for i = 1, 3 do rate.value = i / 4 nb.sleep(0.01) end return rate")])
        nbclient.NotebookClient(notebook, timeout=LONG, kernel_name="nablua").execute()
        nbformat.validate(notebook)
        shown = [cell.outputs[-1]["data"] for cell in notebook.cells]
        self.assertEqual([data["text/plain"] for data in shown],
                         ["slider rate = 0.5, from 0 to 1   button stop", "slider rate = 0.75, from 0 to 1"])
        for data in shown:
            self.assertIn("application/vnd.jupyter.widget-view+json", data)


class Convert(unittest.TestCase):
    @unittest.skipIf(kernels.SANITIZED, "once is enough")
    def test_nbconvert_makes_pages(self):
        r = subprocess.run([sys.executable, "-m", "nbconvert", "--execute", "--to", "html", "--output-dir", kernels.HOME] + ALL,
                           capture_output=True, text=True, timeout=LONG)
        self.assertEqual(r.returncode, 0, r.stderr)
        for path in ALL:
            name = os.path.splitext(os.path.basename(path))[0]
            with open(os.path.join(kernels.HOME, name + ".html"), encoding="utf-8") as f:
                page = f.read()
            # Newer nbconverts embed the drawing as an image in base64.
            self.assertRegex(page, "<svg|data:image/svg\\+xml", name)
            # TeX would stay as it is written where there is no network.
            body = re.sub(r"(?s)<(script|style)\b.*?</\1>", "", page)
            self.assertNotRegex(body, r"\\(begin|frac|underbrace|partial|sigma|delta|hat)\b", name)


if __name__ == "__main__":
    unittest.main()
