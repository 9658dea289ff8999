# SPDX-License-Identifier: MIT
"""Progress bars in a notebook: one display each, updated now and then, that says at the end what came of it."""
import time
import unittest

from kernels import kernel, text_of

FIT = ("x, y = nb.randn(200, 4), nb.randn(200, 1); net = nn.Linear(4, 1); opt = optim.SGD(net:parameters(), {lr=0.01})\n"
       "function slow(output, target) nb.sleep(0.005) return ((output - target) ^ 2):mean() end\n"
       "function fit(options) return nn.fit(net, slow, opt, {x, y}, options) end")


class Progress(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.context = kernel()
        _, cls.client = cls.context.__enter__()
        cls.client.run(FIT)

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def bars(self, code, status="ok"):
        """The texts of the one display that a cell shows, and everything else it says."""
        begin = time.monotonic()
        reply, messages = self.client.run(code)
        took = time.monotonic() - begin
        self.assertEqual(reply["status"], status, reply)
        shown = [m for m in messages if m["msg_type"].endswith("display_data")]
        kinds = ["display_data"] + ["update_display_data"] * (len(shown) - 1)
        self.assertEqual([m["msg_type"] for m in shown], kinds)
        self.assertEqual(len({m["content"]["transient"]["display_id"] for m in shown}), 1)
        self.assertLess(len(shown), 10 * took + 2)
        return [m["content"]["data"]["text/plain"] for m in shown], [m for m in messages if m not in shown]

    def test_a_loop(self):
        texts, others = self.bars("local bar = nb.progress(500, {label='walk'}); "
                                  "for i = 1, 500 do nb.sleep(0.001) bar:step('at ' .. i) end; bar:close();")
        self.assertEqual(others, [])
        self.assertGreater(len(texts), 3)
        self.assertRegex(texts[0], r"^walk  ▕.* +▏  \d+/500  .*/s  ETA 0:\d\d  at \d+$")
        self.assertRegex(texts[-1], r"^walk  ▕█+▏  500/500  .*/s  \d+\.\d s  at 500$")

    def test_the_epochs_of_a_training_share_a_place(self):
        texts, others = self.bars("fit{epochs=5, size=20};")
        self.assertRegex(texts[0], r"^epoch \d/5  ")
        self.assertRegex(texts[-1], r"^epoch 5/5  ▕█+▏  10/10  ")
        self.assertEqual(text_of(others).count("\n"), 5)

    def test_short_epochs_are_no_flood(self):
        texts, _ = self.bars("function quick(output, target) nb.sleep(0.0002) return ((output - target) ^ 2):mean() end\n"
                             "nn.fit(net, quick, opt, {x, y}, {epochs=300, size=20});")
        self.assertRegex(texts[-1], r"^epoch 300/300  ▕█+▏  10/10  ")

    def places(self, code):
        """The text that each display of a cell has at its end, in the order in which they stand; how many messages."""
        reply, messages = self.client.run(code)
        self.assertEqual(reply["status"], "ok", reply)
        texts, count = {}, 0
        for m in messages:
            if m["msg_type"].endswith("display_data"):
                name = m["content"]["transient"]["display_id"]
                self.assertEqual(m["msg_type"] == "display_data", name not in texts)
                texts[name] = m["content"]["data"]["text/plain"]
                count += 1
        return list(texts.values()), count

    def test_nested_bars_stand_in_the_order_of_their_making(self):
        texts, _ = self.places("local a = nb.progress(2, {label='outer'}) for i = 1, 2 do local b = nb.progress(2, {label='middle'}) "
                               "for k = 1, 2 do local c = nb.progress(15, {label='inner'}) for j = 1, 15 do nb.sleep(0.01) c:step() end "
                               "c:close() b:step() end b:close() a:step() end a:close();")
        self.assertEqual([t.split()[0] for t in texts], ["outer", "middle", "inner", "inner", "middle", "inner", "inner"])
        for t in texts:
            self.assertRegex(t, r" (\d+)/\1 ")

    def test_bars_that_do_not_stay_share_a_place(self):
        loop = ("local a = nb.progress(3, {label='outer'}) for i = 1, 3 do local b = nb.progress(15, {label='inner', leave=false}) "
                "for j = 1, 15 do nb.sleep(0.01) b:step() end b:close() a:step() end a:close();")
        texts, _ = self.places(loop)
        self.assertEqual((len(texts), texts[0].split()[0], texts[1]), (2, "outer", ""))
        self.assertRegex(texts[0], " 3/3 ")
        # Those of a later cell are shown there.
        again, _ = self.places(loop)
        self.assertEqual(len(again), 2)
        _, count = self.places("for i = 1, 3000 do local b = nb.progress(1, {leave=false}) b:step() nb.sleep(0.0001) b:close() end")
        self.assertLess(count, 60)

    def test_what_an_error_ends_says_how_far_it_came(self):
        texts, _ = self.bars("n = 0; function fails(o, t) n = n + 1; if n > 25 then error('enough') end return slow(o, t) end\n"
                             "nn.fit(net, fails, opt, {x, y}, {epochs=1, size=2});", "error")
        self.assertRegex(texts[-1], r"^epoch 1/1  ▕█+.? +▏  25/100  .* \d+\.\d s")

    def test_none_is_asked_for_and_none_is_needed(self):
        for code in ("fit{epochs=2, size=20, progress=false};",
                     "local bar = nb.progress(3); for i = 1, 3 do bar:step() end; bar:close();"):
            self.assertEqual(self.client.run(code)[1], [])


if __name__ == "__main__":
    unittest.main()
