# SPDX-License-Identifier: MIT
"""The debugger over the control channel: requests of the Debug Adapter Protocol, and Jupyter's own."""
import json
import os
import queue
import random
import time
import unittest

import kernels

CODE = """function scale(x, w)
  local y = x * w

  local z = y + 1
  return z
end
rate = 2
total = 0
for i = 1, 10 do
  total = total + scale(i, rate)
end
print("total", total)"""


def murmur2(data, seed):
    """MurmurHash2 of 32 bits, as Austin Appleby wrote it."""
    m, h = 0x5bd1e995, (seed ^ len(data)) & 0xffffffff
    while len(data) >= 4:
        k = int.from_bytes(data[:4], "little") * m & 0xffffffff
        k = (k ^ k >> 24) * m & 0xffffffff
        h = (h * m & 0xffffffff) ^ k
        data = data[4:]
    if data:
        h = (h ^ int.from_bytes(data, "little")) * m & 0xffffffff
    h = (h ^ h >> 13) * m & 0xffffffff
    return h ^ h >> 15


class Debugger(unittest.TestCase):
    def setUp(self):
        context = kernels.kernel()
        self.manager, self.client = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        self.count, self.heard = 0, []

    # ---- talking ----

    def send(self, command, **arguments):
        self.count += 1
        return self.client.send("debug_request", {"type": "request", "seq": self.count, "command": command,
                                                  "arguments": arguments}, "control")

    def answer(self, msg_id):
        return self.client.control_reply(msg_id)["content"]

    def idle(self, msg_id):
        """Busy, what came between, idle; events that came are kept, and so is what a cell says."""
        end = time.monotonic() + kernels.TIMEOUT
        states = []
        while states[-1:] != ["idle"]:
            m = self.client.get_iopub_msg(timeout=max(0.01, end - time.monotonic()))
            if m["msg_type"] == "status" and m["parent_header"].get("msg_id") == msg_id:
                states.append(m["content"]["execution_state"])
            else:
                self.heard.append(m)
        self.assertEqual(states, ["busy", "idle"])

    def ask(self, command, **arguments):
        msg_id = self.send(command, **arguments)
        answer = self.answer(msg_id)
        self.assertEqual((answer["type"], answer["request_seq"], answer["command"]), ("response", self.count, command))
        self.idle(msg_id)
        return answer

    def body(self, command, **arguments):
        answer = self.ask(command, **arguments)
        self.assertTrue(answer["success"], answer)
        return answer["body"]

    def refused(self, command, **arguments):
        answer = self.ask(command, **arguments)
        self.assertFalse(answer["success"], answer)
        self.assertNotIn("\n", answer["message"])
        return answer["message"]

    def event(self, name):
        end = time.monotonic() + kernels.TIMEOUT
        while True:
            for i, m in enumerate(self.heard):
                if m["msg_type"] == "debug_event" and m["content"]["event"] == name:
                    del self.heard[i]
                    return m["content"]["body"]
            self.heard.append(self.client.get_iopub_msg(timeout=max(0.01, end - time.monotonic())))

    def printed(self):
        return "".join(m["content"]["text"] for m in self.heard if m["msg_type"] == "stream")

    def attach(self):
        self.body("initialize", clientID="test", adapterID="", pathFormat="path")
        self.body("attach")
        self.event("initialized")

    def breakpoints(self, code, *lines):
        path = self.body("dumpCell", code=code)["sourcePath"]
        asked = [line if isinstance(line, dict) else {"line": line} for line in lines]
        return self.body("setBreakpoints", source={"path": path}, breakpoints=asked, sourceModified=False)["breakpoints"]

    def stopped(self, reason, line):
        body = self.event("stopped")
        self.assertEqual((body["reason"], body["threadId"]), (reason, 1))
        frames = self.body("stackTrace", threadId=1)["stackFrames"]
        self.assertEqual(frames[0]["line"], line)
        return frames

    def finish(self, cell):
        content = self.client.reply(cell)["content"]
        self.body("threads")  # what the cell said has come when that is idle
        return content

    def variables(self, frame, scope=0):
        number = self.body("scopes", frameId=frame["id"])["scopes"][scope]["variablesReference"]
        return {v["name"]: v for v in self.body("variables", variablesReference=number)["variables"]}

    # ---- the protocol ----

    def test_a_script_of_many_requests(self):
        info = self.body("debugInfo")
        self.assertFalse(info["isStarted"])
        self.assertEqual(info["hashMethod"], "Murmur2")
        self.assertTrue(info["richRendering"] and info["copyToGlobals"])
        self.assertIn("not started", self.refused("stackTrace", threadId=1))
        capabilities = self.body("initialize", clientID="test")
        self.assertTrue(capabilities["supportsConditionalBreakpoints"])
        self.assertEqual([f["filter"] for f in capabilities["exceptionBreakpointFilters"]], ["uncaught", "raised"])
        self.body("attach")
        self.event("initialized")
        self.assertTrue(self.body("debugInfo")["isStarted"])
        # A cell's path holds the hash of its text that clients compute themselves.
        path = self.body("dumpCell", code=CODE)["sourcePath"]
        self.assertEqual(path, "%s%d%s" % (info["tmpFilePrefix"], murmur2(CODE.encode(), info["hashSeed"]),
                                           info["tmpFileSuffix"]))
        for text in ("", "a", "ab", "abc", "ä = 'ö'"):
            self.assertIn("/%d.lua" % murmur2(text.encode(), info["hashSeed"]), self.body("dumpCell", code=text)["sourcePath"])
        self.assertIn("code", self.refused("dumpCell"))
        self.assertEqual(self.body("source", source={"path": path})["content"], CODE)
        # Line 3 has no code; behind the last line there is none.
        found = self.breakpoints(CODE, 3, 90)
        self.assertEqual([(b["verified"], b["line"]) for b in found], [(True, 4), (False, 90)])
        self.assertIn("line 3 has no code", found[0]["message"])
        self.assertIn("no code", found[1]["message"])
        self.assertIn("line", self.refused("setBreakpoints", source={"path": path}, breakpoints=[{"line": "x"}]))
        self.assertIn("source", self.refused("setBreakpoints"))
        self.body("setExceptionBreakpoints", filters=[])
        self.body("configurationDone")
        cell = self.client.execute(CODE)
        frames = self.stopped("breakpoint", 4)
        self.assertEqual([(f["name"], f["line"]) for f in frames], [("scale", 4), ("main chunk", 10)])
        self.assertEqual(frames[0]["source"]["path"], path)
        self.assertEqual(self.body("threads")["threads"], [{"id": 1, "name": "Lua"}])
        self.assertEqual(self.body("debugInfo")["stoppedThreads"], [1])
        self.assertEqual(self.body("stackTrace", threadId=1, startFrame=1, levels=1)["stackFrames"][0]["name"], "main chunk")
        scopes = self.body("scopes", frameId=frames[0]["id"])["scopes"]
        self.assertEqual([s["name"] for s in scopes], ["Locals", "Globals"])
        mine = self.variables(frames[0])
        self.assertEqual({n: v["value"] for n, v in mine.items()}, {"x": "1", "w": "2", "y": "2"})
        self.assertIn("rate", self.variables(frames[0], 1))
        # What is looked at may be changed.
        self.assertEqual(self.body("evaluate", expression="x + y", frameId=frames[0]["id"])["result"], "3")
        self.body("evaluate", expression="y = 100", frameId=frames[0]["id"])
        self.assertEqual(self.variables(frames[0])["y"]["value"], "100")
        self.assertEqual(self.body("setVariable", variablesReference=scopes[0]["variablesReference"], name="y",
                                   value="y + 1")["value"], "101")
        self.assertEqual(self.body("setExpression", expression="rate", value="5", frameId=frames[0]["id"])["value"], "5")
        self.assertIn("attempt to", self.refused("evaluate", expression="nothing.x", frameId=frames[0]["id"]))
        self.assertIn("over", self.refused("scopes", frameId=99999))
        self.assertIn("over", self.refused("variables", variablesReference=99999))
        self.body("copyToGlobals", srcVariableName="y", dstVariableName="copied", srcFrameId=frames[0]["id"])
        self.assertIn("no variable", self.refused("copyToGlobals", srcVariableName="q", dstVariableName="c",
                                                  srcFrameId=frames[0]["id"]))
        self.assertEqual(self.body("richInspectVariables", variableName="y", frameId=frames[0]["id"])["data"]["text/plain"],
                         "101")
        # Steps: to the next line, out of the function, into it.
        self.body("next", threadId=1)
        self.event("continued")
        self.stopped("step", 5)
        self.assertIn("over", self.refused("variables", variablesReference=scopes[0]["variablesReference"]))
        self.body("stepOut", threadId=1)
        self.stopped("step", 10)
        self.body("stepIn", threadId=1)
        frames = self.stopped("step", 9)
        self.body("stepIn", threadId=1)
        self.stopped("step", 10)
        self.body("stepIn", threadId=1)
        frames = self.stopped("step", 2)
        self.assertEqual(frames[0]["name"], "scale")
        # Conditions, hits, texts.
        self.breakpoints(CODE, {"line": 4, "condition": "x == 5"})
        self.body("continue", threadId=1)
        self.stopped("breakpoint", 4)
        self.assertEqual(self.body("evaluate", expression="x")["result"], "5")
        self.breakpoints(CODE, {"line": 5, "hitCondition": "2"}, {"line": 4, "logMessage": "x is {x}"})
        self.body("continue", threadId=1)
        self.stopped("breakpoint", 5)
        self.assertEqual(self.body("evaluate", expression="x")["result"], "6")
        bad = self.breakpoints(CODE, {"line": 4, "condition": "x =="}, {"line": 5, "hitCondition": "often"})
        self.assertFalse(bad[0]["verified"] or bad[1]["verified"])
        self.assertIn("no expression", bad[0]["message"])
        self.assertIn("no number", bad[1]["message"])
        self.breakpoints(CODE)
        self.body("continue", threadId=1)
        self.assertEqual(self.finish(cell)["status"], "ok")
        self.assertIn("total", self.printed())
        self.assertIn("x is 6", self.printed())
        self.assertEqual(self.client.text("copied"), "101\n")
        # Nothing is paused any more.
        for command in ("continue", "next", "stepIn", "stepOut", "stackTrace", "exceptionInfo"):
            self.assertIn("nothing is paused", self.refused(command, threadId=1))
        self.assertIn("nothing runs", self.refused("pause", threadId=1))
        self.assertIn("no request", self.refused("dance"))
        self.assertIn("lines", self.refused("setFunctionBreakpoints", breakpoints=[]))
        self.assertIn("no filter", self.refused("setExceptionBreakpoints", filters=["often"]))
        # Without a breakpoint the variables are there all the same.
        names = {v["name"]: v for v in self.body("inspectVariables")["variables"]}
        self.assertEqual(names["rate"]["value"], "5")
        self.assertIn("no file", self.refused("source", source={"path": "/nowhere/at.lua"}))
        self.body("modules")
        self.body("loadedSources")
        self.body("disconnect")
        self.assertFalse(self.body("debugInfo")["isStarted"])
        print("figure: %d requests, idle after each" % self.count)
        self.assertGreaterEqual(self.count, 80)

    def test_the_first_line_stops_once_and_steps_into_a_file(self):
        self.attach()
        path = os.path.join(kernels.HOME, "first.lua")
        with open(path, "w", encoding="utf-8") as f:
            f.write("return function(x)\n  local y = x + 1\n  return y\nend\n")
        self.client.text("first = dofile(%s)" % json.dumps(path))
        code = "local a = first(1)\nlocal b = a * 2\nreturn b"
        self.breakpoints(code, 1)
        cell = self.client.execute(code)
        self.stopped("breakpoint", 1)
        self.body("stepIn", threadId=1)
        frames = self.stopped("step", 2)
        self.assertEqual([(f["source"]["path"] == path, f["line"]) for f in frames], [(True, 2), (False, 1)])
        self.body("continue", threadId=1)
        self.assertEqual(self.finish(cell)["status"], "ok")
        self.assertEqual([m for m in self.heard if m["msg_type"] == "debug_event" and m["content"]["event"] == "stopped"], [])
        # The file is another: its lines are those that were loaded.
        with open(path, "w", encoding="utf-8") as f:
            f.write("-- changed\nreturn function(x)\n  local y = x + 1\n  return y\nend\n")
        found = self.body("setBreakpoints", source={"path": path}, breakpoints=[{"line": 3}])["breakpoints"]
        self.assertIn("has changed since it was loaded", found[0]["message"])
        self.client.text("first = dofile(%s)" % json.dumps(path))
        found = self.body("setBreakpoints", source={"path": path}, breakpoints=[{"line": 3}])["breakpoints"]
        self.assertNotIn("message", found[0])

    def test_values_as_trees(self):
        self.attach()
        self.client.text("t = nb.arange(12):to('f32'):view(3, 4) n = nn.Sequential{nn.Linear(2, 3), nn.Tanh()} "
                         "d = {1, 'two', {deep=true}, name='x'} s = 'tex\\nt' big = {} for i = 1, 1000 do big[i] = i end")
        names = {v["name"]: v for v in self.body("inspectVariables")["variables"]}
        self.assertIn("3×4", names["t"]["value"])
        self.assertIn("norm 25.5:", names["t"]["value"])  # √(1² + … + 12²)
        rows = self.body("variables", variablesReference=names["t"]["variablesReference"])["variables"]
        self.assertEqual([r["name"] for r in rows], ["[1]", "[2]", "[3]"])
        row = self.body("variables", variablesReference=rows[2]["variablesReference"])["variables"]
        self.assertEqual([float(v["value"]) for v in row], [9, 10, 11, 12])
        self.assertEqual(row[1]["evaluateName"], "t[3][2]")
        net = self.body("variables", variablesReference=names["n"]["variablesReference"])["variables"]
        first = [v for v in net if v["name"] == "[1]"][0]
        self.assertIn("Linear", first["value"])
        inside = {v["name"]: v for v in self.body("variables", variablesReference=first["variablesReference"])["variables"]}
        self.assertIn("3×2", inside["weight"]["value"])
        fields = self.body("variables", variablesReference=names["d"]["variablesReference"])["variables"]
        self.assertEqual([v["name"] for v in fields], ["[1]", "[2]", "[3]", "name"])
        self.body("setVariable", variablesReference=names["d"]["variablesReference"], name="name", value="'y'")
        self.assertEqual(self.client.text("d.name"), '"y"\n')
        some = self.body("variables", variablesReference=names["big"]["variablesReference"], start=900, count=3)["variables"]
        self.assertEqual([v["value"] for v in some], ["901", "902", "903"])
        data = self.body("richInspectVariables", variableName="t")["data"]
        self.assertIn("text/html", data)

    def test_a_breakpoint_in_a_loop_that_runs_already(self):
        self.attach()
        code = "n = 0\nwhile true do\n  n = n + 1\n  if n < 0 then break end\nend"
        cell = self.client.execute(code)
        time.sleep(0.5)
        self.breakpoints(code, 4)
        self.stopped("breakpoint", 4)
        self.body("evaluate", expression="n = -5", frameId=self.body("stackTrace", threadId=1)["stackFrames"][0]["id"])
        self.body("continue", threadId=1)
        self.assertEqual(self.client.reply(cell)["content"]["status"], "ok")
        self.assertEqual(self.client.text("n"), "-5\n")

    def test_a_loop_pauses(self):
        self.attach()
        cell = self.client.execute("stop = false\nwhile not stop do\n  local x = 1\nend\nreturn 'over'")
        time.sleep(0.5)
        self.body("pause", threadId=1)
        self.assertEqual(self.event("stopped")["reason"], "pause")
        self.body("evaluate", expression="stop = true")
        self.body("continue", threadId=1)
        self.assertEqual(self.client.reply(cell)["content"]["status"], "ok")

    def test_a_file_of_the_users_and_a_coroutine(self):
        self.attach()
        path = os.path.join(kernels.HOME, "mine.lua")
        with open(path, "w", encoding="utf-8") as f:
            f.write("local M = {}\nfunction M.f(x)\n  local y = x + 1\n  return y\nend\nreturn M\n")
        self.client.text("package.path = %s .. '/?.lua;' .. package.path mine = require 'mine'" % json.dumps(kernels.HOME))
        self.assertIn({"id": 1, "name": "mine", "path": path}, self.body("modules")["modules"])
        self.body("setBreakpoints", source={"path": path}, breakpoints=[{"line": 4}])
        cell = self.client.execute("local co = coroutine.wrap(function(v) local r = mine.f(v) return r end)\nreturn co(41)")
        frames = self.stopped("breakpoint", 4)
        self.assertEqual(frames[0]["source"]["path"], path)
        self.assertEqual([f["line"] for f in frames], [4, 1, 2])
        self.assertEqual(self.variables(frames[0])["y"]["value"], "42")
        self.body("continue", threadId=1)
        self.assertEqual(self.client.reply(cell)["content"]["status"], "ok")

    def test_a_breakpoint_in_a_comm_handler(self):
        self.attach()
        code = ("require('nablua.session.comms').register('echo', function(comm)\n  comm.on_message = function(data)\n"
                "    got = data.x\n  end\nend)")
        self.client.text(code)
        self.breakpoints(code, 3)
        self.client.send("comm_open", {"comm_id": "c1", "target_name": "echo", "data": {}})
        self.client.send("comm_msg", {"comm_id": "c1", "data": {"x": 7}})
        frames = self.stopped("breakpoint", 3)
        self.assertIn("data", self.variables(frames[0]))
        self.body("continue", threadId=1)
        self.assertEqual(self.client.text("got"), "7\n")

    def test_errors_pause(self):
        self.attach()
        self.body("setExceptionBreakpoints", filters=["uncaught"])
        cell = self.client.execute("local function f(a) return a.b.c end\npcall(f, {})\nf({})")
        body = self.event("stopped")
        self.assertEqual(body["reason"], "exception")
        self.assertIn("field 'b'", body["text"])
        frames = self.body("stackTrace", threadId=1)["stackFrames"]
        self.assertEqual([f["line"] for f in frames], [1, 3])
        self.assertIn("field 'b'", self.body("exceptionInfo", threadId=1)["description"])
        self.body("continue", threadId=1)
        self.assertEqual(self.client.reply(cell)["content"]["status"], "error")
        self.body("setExceptionBreakpoints", filters=["raised"])
        cell = self.client.execute("pcall(function() error('once') end) return 5")
        self.assertIn("once", self.event("stopped")["text"])
        self.body("continue", threadId=1)
        self.assertEqual(self.client.reply(cell)["content"]["status"], "ok")
        self.body("setExceptionBreakpoints", filters=[])
        self.assertEqual(self.client.text("pcall(error, 'x') return 6"), "6\n")

    def test_an_evaluation_that_loops_is_stopped_alone(self):
        self.attach()
        code = "local a = 1\nreturn a"
        self.breakpoints(code, 2)
        cell = self.client.execute(code)
        frames = self.stopped("breakpoint", 2)
        msg_id = self.send("evaluate", expression="(function() while true do end end)()", frameId=frames[0]["id"])
        time.sleep(0.5)
        self.client.request("interrupt_request", {}, "control")
        self.assertFalse(self.answer(msg_id)["success"])
        self.idle(msg_id)
        self.assertEqual(self.body("evaluate", expression="a", frameId=frames[0]["id"])["result"], "1")
        self.body("continue", threadId=1)
        self.assertEqual(self.client.reply(cell)["content"]["status"], "ok")

    def test_an_interrupt_ends_what_is_paused(self):
        self.attach()
        code = "local a = 1\nreturn a"
        self.breakpoints(code, 2)
        cell = self.client.execute(code)
        self.stopped("breakpoint", 2)
        self.client.request("interrupt_request", {}, "control")
        self.assertEqual(self.client.reply(cell)["content"]["ename"], "KeyboardInterrupt")
        self.breakpoints(code)
        self.assertEqual(self.client.text(code), "1\n")

    def test_an_interrupt_may_come_at_any_time_of_a_pause(self):
        self.attach()
        code = "local a = 1\nreturn a"
        self.breakpoints(code, 2)
        for i in range(60):
            cell = self.client.execute(code)
            self.event("stopped")
            if i % 2 == 0:
                self.send("stackTrace", threadId=1)
            else:
                self.body("stackTrace", threadId=1)  # which may be answered while the pause begins
            time.sleep(i // 4 * 0.0005)
            self.client.send("interrupt_request", {}, "control")
            self.assertEqual(self.client.reply(cell)["content"]["ename"], "KeyboardInterrupt")

    def test_requests_out_of_order_and_a_client_that_vanishes(self):
        self.attach()
        code = "local a = 1\nreturn a"
        self.breakpoints(code, 2)
        cell = self.client.execute(code)
        self.stopped("breakpoint", 2)
        sent = [self.send(c, **a) for c, a in (("threads", {}), ("variables", {"variablesReference": 1}), ("stackTrace", {}),
                                               ("nothing", {}), ("scopes", {"frameId": -4}), ("threads", {}))]
        answers = [self.answer(m) for m in sent]
        self.assertEqual([a["success"] for a in answers], [True, False, True, False, False, True])
        # Another client finds it paused, and lets it go on.
        self.client.stop_channels()
        self.client = kernels.connect(self.manager.client())
        self.addCleanup(self.client.stop_channels)
        self.assertEqual(self.body("debugInfo")["stoppedThreads"], [1])
        self.body("disconnect")
        self.assertEqual(self.client.text("1 + 1"), "2\n")
        del cell

    def test_other_requests_are_served_meanwhile(self):
        self.attach()
        code = "local a = 1\nreturn a"
        self.breakpoints(code, 2)
        cell = self.client.execute(code)
        self.stopped("breakpoint", 2)
        self.assertIn("randn", self.client.request("complete_request", {"code": "nb.ran", "cursor_pos": 6})["matches"])
        self.assertEqual(self.client.request("is_complete_request", {"code": "for"})["status"], "incomplete")
        subshell = self.client.request("create_subshell_request", {}, "control")["subshell_id"]
        m = self.client.session.msg("execute_request", {"code": "%paused a + 1", "silent": False, "store_history": True,
                                                         "allow_stdin": False, "user_expressions": {}})
        m["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(m)
        self.assertEqual(self.client.reply(m["header"]["msg_id"])["content"]["status"], "ok")
        m = self.client.session.msg("execute_request", {"code": "%continue", "silent": False})
        m["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(m)
        self.assertEqual(self.client.reply(cell)["content"]["status"], "ok")

    def test_a_subshell_pauses_a_cell_and_lets_it_go_on(self):
        subshell = self.client.request("create_subshell_request", {}, "control")["subshell_id"]

        def beside(code):
            m = self.client.session.msg("execute_request", {"code": code, "silent": False, "user_expressions": {}})
            m["header"]["subshell_id"] = subshell
            self.client.shell_channel.send(m)
            return self.client.reply(m["header"]["msg_id"])["content"]

        self.assertEqual(beside("%pause")["status"], "error")
        cell = self.client.execute("count = 0\nwhile count >= 0 do\n  count = count + 1\nend\nreturn count")
        time.sleep(0.5)
        self.assertEqual(beside("%pause")["status"], "ok")
        time.sleep(0.3)
        first = beside("before = count")
        self.assertEqual(first["status"], "ok")
        time.sleep(0.3)
        self.assertEqual(beside("assert(count == before)")["status"], "ok")
        self.assertEqual(beside("%paused :where")["status"], "ok")
        self.assertEqual(beside("%paused count = -10")["status"], "ok")
        self.assertEqual(beside("%continue")["status"], "ok")
        self.assertEqual(self.client.reply(cell)["content"]["status"], "ok")
        self.assertEqual(beside("%continue")["status"], "error")

    def test_without_a_debugger_a_breakpoint_asks_the_client(self):
        msg_id = self.client.execute("local a = 3\nbreakpoint()\nreturn a", allow_stdin=True)
        for line in ("a", "a = 8", "c"):
            question = self.client.get_stdin_msg(timeout=kernels.TIMEOUT)
            self.assertEqual(question["content"]["prompt"], "paused> ")
            self.client.input(line)
        self.assertEqual(self.client.reply(msg_id)["content"]["status"], "ok")
        self.assertIn("8", kernels.text_of([m for m in self.client.outputs(msg_id) if m["msg_type"] == "execute_result"]))
        reply, _ = self.client.run("breakpoint()", allow_stdin=False)
        self.assertIn("nobody to ask", reply["evalue"])

    def test_training_under_pauses_ends_in_the_same_bits(self):
        code = """nb.seed(5)
local net = nn.Sequential{nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1)}
local x, y = nb.randn(32, 4), nb.randn(32, 1)
local opt, loss = optim.Adam(net:parameters(), {lr=0.01}), nn.MSELoss()
local function step() opt:zero_grad() local J = loss(net(x), y) J:backward() opt:step() return J end
if compiled then step = nb.compile(step) end
for i = 1, 40 do
  local J = step()
end
local s = {} for k, v in pairs(net:state()) do s[#s + 1] = k .. ('%a'):format(v:sum():item()) end
table.sort(s) return table.concat(s, ' ')"""
        for compiled in ("false", "true"):
            self.client.text("compiled = " + compiled)
            alone = self.client.text(code)
            self.attach()
            self.breakpoints(code, 8)
            cell = self.client.execute(code)
            pauses = 0
            for _ in range(40):
                self.event("stopped")
                pauses += 1
                if pauses % 10 == 1:
                    self.body("evaluate", expression="net(nb.randn(2, 4)):sum():backward()")
                    self.body("inspectVariables")
                self.body("continue", threadId=1)
            reply = self.client.reply(cell)["content"]
            self.assertEqual(reply["status"], "ok")
            self.body("threads")
            shown = kernels.text_of([m for m in self.heard if m["msg_type"] == "execute_result"])
            self.assertEqual(shown.strip().split("\n")[-1], alone.strip())
            self.heard = []
            self.body("disconnect")
        print("figure: %d pauses of a cell, the same bits" % (2 * pauses))

    def test_a_cell_that_pauses_at_any_time_ends_in_the_same_bits(self):
        self.client.text("""function train(compiled, enough)
nb.seed(5)
local net = nn.Sequential{nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 1)}
local x, y = nb.randn(32, 4), nb.randn(32, 1)
local opt, loss = optim.Adam(net:parameters(), {lr=0.01}), nn.MSELoss()
local function step() opt:zero_grad() local J = loss(net(x), y) J:backward() opt:step() return J end
if compiled then step = nb.compile(step) end
steps = 0
while not enough() do step() steps = steps + 1 end
local s = {} for k, v in pairs(net:state()) do s[#s + 1] = k .. ('%a'):format(v:to("f64"):sum():item()) end
table.sort(s) return table.concat(s, ' ')
end""")
        choose, total = random.Random(7), 0
        for compiled in ("false", "true"):
            self.attach()
            self.client.text("over = false")
            cell = self.client.execute("train(%s, function() return over end)" % compiled)
            for left in reversed(range(100 if os.environ.get("NABLUA_PROVE") else 10)):
                time.sleep(choose.uniform(0, 0.01))
                self.body("pause", threadId=1)
                self.assertEqual(self.event("stopped")["reason"], "pause")
                total += 1
                if left % 5 == 0:
                    self.body("evaluate", expression="nn.Dropout(0.5)(nb.randn(2, 4, {requires_grad=true})):sum():backward()")
                    self.body("inspectVariables")
                if left == 0:
                    self.body("evaluate", expression="over = true")
                self.body("continue", threadId=1)
            self.assertEqual(self.finish(cell)["status"], "ok")
            shown = kernels.text_of([m for m in self.heard if m["msg_type"] == "execute_result"])
            self.body("disconnect")
            self.heard = []
            alone = self.client.text("local n, count = steps, -1\n"
                                     "return train(%s, function() count = count + 1 return count == n end)" % compiled)
            self.assertEqual(shown.strip().split("\n")[-1], alone.strip())
        print("figure: %d pauses of a cell at any time, the same bits" % total)


if __name__ == "__main__":
    unittest.main()
