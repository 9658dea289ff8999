# SPDX-License-Identifier: MIT
"""Plots in a notebook: SVG beside the text, live updates in one place and not too many, a message without gnuplot."""
import shutil
import time
import unittest
import xml.etree.ElementTree as ElementTree

from kernels import kernel, skip

if not shutil.which("gnuplot") or not shutil.which("dot"):
    skip("this needs gnuplot and dot")

NET = "net = nn.Sequential{ nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1) }\n"


class Plots(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.context = kernel()
        _, cls.client = cls.context.__enter__()

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def run_cell(self, code):
        reply, messages = self.client.run(code)
        self.assertEqual(reply["status"], "ok", reply)
        return messages

    def test_every_picture_is_svg_that_parses(self):
        for code in ("plot.curve{train={3, 2, 1}, valid={3, 2, 2}}", "plot.images(nb.rand(4, 8, 8))",
                     "plot.activation('tanh')", NET + "plot.boundary(net, {range={-1, 1, -1, 1}})",
                     NET + "inspect.diagram(net, {x=nb.rand(2)})", NET + "inspect.graph(net(nb.rand(4, 2)):sum())"):
            message = self.run_cell(code)[-1]
            self.assertEqual(message["msg_type"], "execute_result", code)
            data = message["content"]["data"]
            self.assertIn("text/plain", data)
            root = ElementTree.fromstring(data["image/svg+xml"])
            self.assertTrue(root.tag.endswith("svg"), root.tag)
            self.assertFalse([e for e in root.iter() if e.tag.endswith("script")], code)

    def test_updates_are_few_in_one_place_and_the_last_is_shown(self):
        begin = time.monotonic()
        messages = self.run_cell("p = plot.curve{}\nfor i = 1, 3000 do p:update{loss = 3001 - i} nb.sleep(0.0003) end")
        took = time.monotonic() - begin
        shown = [m for m in messages if m["msg_type"] in ("display_data", "update_display_data")]
        self.assertEqual([m["msg_type"] for m in shown[:2]], ["display_data", "update_display_data"])
        self.assertEqual(len({m["content"]["transient"]["display_id"] for m in shown}), 1)
        self.assertEqual(sum(m["msg_type"] == "display_data" for m in shown), 1)
        self.assertLess(len(shown), 10 * took + 3)
        self.assertIn(">loss  1<", shown[-1]["content"]["data"]["image/svg+xml"])

    def test_an_update_in_a_later_cell_changes_the_earlier_plot(self):
        first = self.run_cell("q = plot.curve{1, 2}; q:update();")
        later = self.run_cell("q:update{3, 4};")
        self.assertEqual(later[-1]["msg_type"], "update_display_data")
        self.assertEqual(first[-1]["content"]["transient"], later[-1]["content"]["transient"])


class WithoutPrograms(unittest.TestCase):
    def test_plots_are_drawn_and_the_text_says_what_graphs_need(self):
        with kernel(env={"PATH": "/nonexistent", "HOME": "/nonexistent"}) as (_, client):
            _, messages = client.run("plot.curve{3, 2, 1}")
            self.assertIn("<path", messages[-1]["content"]["data"]["image/svg+xml"])
            _, messages = client.run("w = nb.ones(2, {requires_grad=true}); inspect.graph((w * w):sum())")
            data = messages[-1]["content"]["data"]
            self.assertNotIn("image/svg+xml", data)
            self.assertIn("apt install graphviz", data["text/plain"])


if __name__ == "__main__":
    unittest.main()
