# SPDX-License-Identifier: MIT
"""Runs in a notebook: sliders and a subshell change one while it goes, and its steps are repeated to the same bits; its
controls move it."""
import os
import random
import subprocess
import time
import unittest

from kernels import TIMEOUT, kernel, slack
import test_widgets

RUNS = 100 if os.environ.get("NABLUA_PROVE") == "1" else 6

PREPARE = """
nb.threads(1)
rules = {function(p) return optim.SGD(p, {lr=0.05, momentum=0.9}) end, function(p) return optim.Adam(p, {lr=0.01}) end,
  function(p) return optim.RMSprop(p, {lr=0.01}) end}
rate, scale = ui.slider{label='rate', min=1e-4, max=0.1, log=true}, ui.slider{label='scale', min=0.5, max=1.5, value=1}
writes = 0
rate:on_change(function(v) writes = writes + 1 opt.lr = v end)
scale:on_change(function(v) writes = writes + 1 nb.no_grad(function() net[1].weight:mul_(v) end) end)
function fresh(i)
  nb.seed(i)
  net = nn.Sequential(nn.Linear(4, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 1))
  opt = rules[i % 3 + 1](net:parameters())
  local x = nb.randn(64, 4)
  run = nb.run{net=net, loss=nn.MSELoss(), opt=opt, data={x, x:sum(2):view(64, 1)}, size=16, epochs=EPOCHS or 150, seed=i,
    schedule = i % 2 == 0 and optim.StepLR(opt, {step_size=20}) or nil}
end
function standing()
  local all = {}
  for path, t in pairs(net:state()) do all[path] = t:totable() end
  for path, t in pairs(opt:state()) do all['opt.' .. path] = t:totable() end
  local function text(v)
    if type(v) ~= 'table' then return string.format(math.type(v) == 'float' and '%a' or '%s', v) end
    local parts = {}
    for k, e in pairs(v) do parts[#parts + 1] = tostring(k) .. '=' .. text(e) end
    table.sort(parts)
    return '{' .. table.concat(parts, ',') .. '}'
  end
  return text(all)
end
"""


class Runs(unittest.TestCase):
    show, update, told = test_widgets.Widgets.show, test_widgets.Widgets.update, test_widgets.Widgets.told

    def setUp(self):
        self.context = kernel(stderr=subprocess.DEVNULL)
        _, self.client = self.context.__enter__()
        self.addCleanup(self.context.__exit__, None, None, None)
        self.client.text(PREPARE)

    def press(self, comm):
        self.client.send("comm_msg", {"comm_id": comm, "data": {"method": "custom", "content": {"event": "click"}}})

    def test_changes_by_sliders_and_subshells_are_repeated(self):
        rng = random.Random(4)
        _, rate, _ = self.show("rate")
        _, scale, _ = self.show("scale")
        subshell = self.client.request("create_subshell_request", {}, "control")["subshell_id"]
        for i in range(1, RUNS + 1):
            self.client.text("fresh(%d)" % i)
            cell = self.client.execute("print 'it begins' run:go() after = standing()")
            while "it begins" not in self.client.get_iopub_msg(timeout=TIMEOUT)["content"].get("text", ""):
                pass
            for _ in range(rng.randint(3, 10)):
                time.sleep(0.03 * rng.random())
                way = rng.randint(1, 3)
                if way == 1:
                    self.update(rate, value=rng.uniform(-4, -1))
                elif way == 2:
                    self.update(scale, value=rng.uniform(0.8, 1.2))
                else:
                    m = self.client.session.msg("execute_request", {
                        "code": "writes = writes + 1 net[4].p = %.3f" % (rng.random() / 2), "silent": True,
                        "store_history": False, "user_expressions": {}, "allow_stdin": False, "stop_on_error": True})
                    m["header"]["subshell_id"] = subshell
                    self.client.shell_channel.send(m)
            self.assertEqual(self.client.reply(cell)["content"]["status"], "ok")
            self.client.text("last = standing()")  # what came after the last step is part of where it stands
            self.client.text("run:to(0):to(run.last)")
            self.assertEqual(self.client.text("print(standing() == last, run.step)"), "true\t600\n")
        writes = int(self.client.text("writes"))
        self.assertGreater(writes, RUNS)
        print("figure: %d runs with %d changes by sliders and subshells, repeated to the same bits" % (RUNS, writes))

    def test_controls_move_a_run_that_goes_and_one_at_rest(self):
        self.client.text("fresh(2)")
        data, _, opened = self.show("c = ui.controls(run) c")
        by = {}
        for comm, m in opened.items():
            state = m["content"]["data"]["state"]
            by[state.get("description") or state["_model_name"]] = comm
        place, play, on, back = by["step"], by["▶ play"], by["step ▶"], by["◀ back"]
        # The place has a line of its own, as wide as the page: beside others there is no room to drag it.
        layout = opened[place]["content"]["data"]["state"]["layout"].removeprefix("IPY_MODEL_")
        self.assertEqual(opened[layout]["content"]["data"]["state"]["width"], "98%")

        def step(wanted):
            until = time.monotonic() + 10 * slack()
            while time.monotonic() < until:
                if self.client.text("run.step") == "%d\n" % wanted:
                    return
                time.sleep(0.05)
            self.assertEqual(self.client.text("run.step"), "%d\n" % wanted)

        # At rest.
        self.press(on)
        self.press(on)
        step(2)
        self.press(back)
        step(1)
        self.update(place, value=40)
        step(40)
        self.press(play)
        until = time.monotonic() + 20 * slack()
        while int(self.client.text("run.step")) <= 40 and time.monotonic() < until:
            time.sleep(0.05)
        self.press(play)
        held = int(self.client.text("run.step"))
        self.assertGreater(held, 40)
        self.assertEqual(self.client.text("run.step"), "%d\n" % held)
        # While it goes: held at once, moved, and let go.
        self.client.text("EPOCHS = 2000 fresh(3)")
        _, _, opened = self.show("c = ui.controls(run) c")
        by = {}
        for comm, m in opened.items():
            state = m["content"]["data"]["state"]
            by[state.get("description") or state["_model_name"]] = comm
        place, play = by["step"], by["▶ play"]
        subshell = self.client.request("create_subshell_request", {}, "control")["subshell_id"]

        def ask(code):
            m = self.client.session.msg("execute_request", {
                "code": code, "silent": False, "store_history": False, "user_expressions": {"x": code}, "allow_stdin": False,
                "stop_on_error": True})
            m["header"]["subshell_id"] = subshell
            self.client.shell_channel.send(m)
            return self.client.reply(m["header"]["msg_id"])["content"]["user_expressions"]["x"]["data"]["text/plain"]

        cell = self.client.execute("run:go()")
        until = time.monotonic() + 20 * slack()
        while ask("require('nablua.run').standing(run) or false") != "true":  # else it would be played at rest
            self.assertLess(time.monotonic(), until)
        self.press(play)
        while ask("require('nablua.run').standing(run) and select(2, require('nablua.run').standing(run))") != "true":
            self.assertLess(time.monotonic(), until)
        held = int(ask("run.step"))
        self.assertEqual(int(ask("run.step")), held)
        self.update(place, value=5)
        while ask("run.step") != "5":
            self.assertLess(time.monotonic(), until)
        self.press(play)
        self.assertEqual(self.client.reply(cell)["content"]["status"], "ok")
        self.assertEqual(self.client.text("run.step"), "8000\n")


if __name__ == "__main__":
    unittest.main()
