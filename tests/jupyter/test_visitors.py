# SPDX-License-Identifier: MIT
"""A cell that runs is no wall: what is asked meanwhile is answered, with the right parents, and the cell goes on."""
import os
import statistics
import subprocess
import time
import unittest

from kernels import BUILD, SANITIZED, TIMEOUT, kernel, slack, text_of

PROVE = os.environ.get("NABLUA_PROVE") == "1"
BEGINS = "print 'it begins'\n"
# A thread sanitizer defers signals until the program calls the system.
CALL = "nb.sleep(1e-4)" if BUILD == "tsan" else ""
PREPARE = """
function call() %s end
function burn(s) local t = os.clock() while os.clock() - t < s do for i = 1, 1000 do local x = i * i end call() end end
function fresh()
  nb.seed(3)
  net = nn.Sequential{nn.Linear(20, 64), nn.Tanh(), nn.Linear(64, 2)}
  x, y = nb.randn(512, 20), nb.randn(512, 2)
  opt, loss = optim.SGD(net:parameters(), {lr=0.01}), nn.MSELoss()
end
function step() opt:zero_grad() loss(net(x), y):backward() opt:step() end
fresh()
comms = require "nablua.session.comms"
got = {}
comms.register("count", function(comm) comm.on_message = function(data) got[#got + 1] = data.i end end)
""" % CALL


class Visitors(unittest.TestCase):
    def setUp(self):
        self.context = kernel(stderr=subprocess.DEVNULL)
        _, self.client = self.context.__enter__()
        self.addCleanup(self.context.__exit__, None, None, None)
        self.client.text(PREPARE)

    def begin(self, code, **options):
        """Starts a cell and waits until it runs."""
        return self.begun(self.client.execute(BEGINS + code, **options))

    def begin_in(self, subshell, code):
        return self.begun(self.execute_in(subshell, BEGINS + code))

    def begun(self, msg_id):
        while True:
            m = self.client.get_iopub_msg(timeout=TIMEOUT)
            if m["parent_header"].get("msg_id") == msg_id and "it begins" in m["content"].get("text", ""):
                return msg_id

    def subshell(self):
        return self.client.request("create_subshell_request", {}, "control")["subshell_id"]

    def send_to(self, subshell, msg_type, content):
        m = self.client.session.msg(msg_type, content)
        m["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(m)
        return m["header"]["msg_id"]

    def execute_in(self, subshell, code, **options):
        content = {"code": code, "silent": False, "store_history": True, "user_expressions": {}, "allow_stdin": False,
                   "stop_on_error": True}
        content.update(options)
        return self.send_to(subshell, "execute_request", content)

    def states(self, messages):
        return [m["content"]["execution_state"] for m in messages if m["msg_type"] == "status"]

    # ---- latency ----

    def latencies(self, cell, subshell):
        """How long answers take, by what was asked."""
        took = {"complete": [], "inspect": [], "subshell": []}
        for _ in range(12):
            for kind, ask in (
                    ("complete", lambda: self.client.send("complete_request", {"code": "nb.ra", "cursor_pos": 5})),
                    ("inspect", lambda: self.client.send("inspect_request", {"code": "nb.randn", "cursor_pos": 5,
                                                                             "detail_level": 0})),
                    ("subshell", lambda: self.execute_in(subshell, "return 6 * 7"))):
                begun = time.monotonic()
                reply = self.client.reply(ask())
                took[kind].append(time.monotonic() - begun)
                self.assertEqual(reply["content"]["status"], "ok")
        self.assertRaises(Exception, self.client.reply, cell, timeout=0.01)  # it runs on
        return took

    def test_answers_come_soon_while_something_runs(self):
        stretches = {  # none ends by itself
            "Lua": "burn(1e6)",
            "nn.fit": "nn.fit(net, loss, opt, {x, y}, {epochs=1e6, progress=false})",
            "a compiled loop": "local f = nb.compile(step) while true do f() call() end",
            "nb.sleep": "nb.sleep(1e6)",
            "os.execute": "os.execute 'sleep 6000'",
            "io.popen": "io.popen('sleep 6000'):read 'a'",
        }
        subshell = self.subshell()
        for name, code in stretches.items():
            with self.subTest(name):
                cell = self.begin(code)
                for attempt in range(3):  # others may have had the processors
                    took = self.latencies(cell, subshell)
                    if all(statistics.median(times) < 0.05 for times in took.values()):
                        break
                for kind, times in took.items():
                    print("figure: %s in %s: median %.1f ms, worst %.1f ms" %
                          (kind, name, 1000 * statistics.median(times), 1000 * max(times)), flush=True)
                    self.assertLess(statistics.median(times), 0.05 * slack())
                self.client.control_channel.send(self.client.session.msg("interrupt_request", {}))
                self.client.outputs(cell)

    def test_a_question_waits_and_the_rest_does_not(self):
        subshell = self.subshell()
        cell = self.begin("answer = input('name? ')", allow_stdin=True)
        question = self.client.get_stdin_msg(timeout=TIMEOUT)
        self.assertEqual(self.client.request("complete_request", {"code": "nb.ra", "cursor_pos": 5})["status"], "ok")
        content = self.client.reply(self.execute_in(subshell, "return input('me too? ')", allow_stdin=True))["content"]
        self.assertIn("nobody to ask", content["evalue"])
        self.client.input("Ada")
        self.assertEqual(question["parent_header"]["msg_id"], cell)
        self.assertEqual(self.client.reply(cell)["content"]["status"], "ok")
        self.assertEqual(self.client.text("print(answer)"), "Ada\n")

    # ---- order on the wire ----

    def test_each_message_has_its_own_parent_and_the_cell_is_busy_again(self):
        subshell = self.subshell()
        cell = self.begin("burn(0.3) for i = 1, 40 do print('cell', i) burn(0.02) end repeat burn(0.01) until came == 15")
        ids = {cell: "cell"}
        for i in range(15):
            ids[self.execute_in(subshell, "print('visitor', %d) display{['text/plain'] = 'shown'} came = %d return %d"
                                % (i, i + 1, i))] = "visitor %d" % i
        log = []
        while True:
            m = self.client.get_iopub_msg(timeout=TIMEOUT)
            log.append(m)
            if m["parent_header"].get("msg_id") == cell and self.states([m]) == ["idle"]:
                break
        for m in log:
            owner = ids[m["parent_header"]["msg_id"]]
            if m["msg_type"] == "stream":
                for line in m["content"]["text"].splitlines():
                    self.assertEqual(line.split("\t")[0], owner.split()[0])
        for msg_id, owner in ids.items():
            own = [m for m in log if m["parent_header"]["msg_id"] == msg_id]
            if owner == "cell":
                self.assertEqual(text_of(own), "".join("cell\t%d\n" % i for i in range(1, 41)))
                continue
            kinds = [m["msg_type"] for m in own]
            self.assertEqual(kinds, ["status", "execute_input", "stream", "display_data", "execute_result", "status"])
            self.assertEqual(own[4]["content"]["execution_count"], own[1]["content"]["execution_count"])
            after = log[log.index(own[-1]) + 1]
            self.assertEqual((self.states([after]), after["parent_header"]["msg_id"]), (["busy"], cell))
        # Nothing of the cell stands between a visitor's busy and its idle.
        inside = None
        for m in log:
            owner = ids[m["parent_header"]["msg_id"]]
            if inside:
                self.assertEqual(owner, inside)
            if owner != "cell" and m["msg_type"] == "status":
                inside = owner if self.states([m]) == ["busy"] else None

    # ---- subshells ----

    def test_subshells_are_made_listed_and_deleted(self):
        c = self.client
        first, second = self.subshell(), self.subshell()
        self.assertEqual(c.request("list_subshell_request", {}, "control")["subshell_id"], [first, second])
        self.assertEqual(c.request("delete_subshell_request", {"subshell_id": first}, "control")["status"], "ok")
        self.assertEqual(c.request("list_subshell_request", {}, "control")["subshell_id"], [second])
        again = c.request("delete_subshell_request", {"subshell_id": first}, "control")
        self.assertEqual(again["status"], "error")
        unknown = self.execute_in(first, "x = 1")
        self.assertEqual(c.reply(unknown)["content"]["status"], "error")
        self.assertEqual(self.states(c.outputs(unknown)), ["busy", "idle"])
        lost = self.send_to("nowhere", "comm_msg", {"comm_id": "c", "data": {}})
        self.assertEqual(self.states(c.outputs(lost)), ["busy", "idle"])

    def test_subshells_count_apart_and_share_variables(self):
        c = self.client
        self.assertEqual(c.text("local kept = 5; return 17"), "17\n")
        number = c.run("return 1")[0]["execution_count"]
        one, two = self.subshell(), self.subshell()
        for _ in range(2):  # while a cell runs, and at rest
            cell = self.begin("burn(0.5)")
            for subshell in (one, two):
                msg_id = self.execute_in(subshell, "return kept + _")
                self.assertEqual(c.reply(msg_id)["content"]["status"], "ok")
                self.assertEqual(text_of(c.outputs(msg_id)), "6\n")
            self.assertEqual(c.reply(cell)["content"]["execution_count"], number + 1)
            number += 1
            self.assertEqual(c.text("kept", store_history=False), "5\n")
        reply = c.reply(self.execute_in(one, "fresh_name = 'from there'"))
        self.assertEqual(reply["content"]["execution_count"], 3)
        self.assertEqual(c.text("print(fresh_name)"), "from there\n")

    def test_an_error_in_a_subshell_aborts_there_alone(self):
        c = self.client
        one, two = self.subshell(), self.subshell()
        cell = self.begin("repeat burn(0.01) until over")
        first = self.execute_in(one, "burn(0.3) error 'here'")
        rest = [self.execute_in(one, "return 1") for _ in range(3)]
        other = self.execute_in(two, "over = true")
        replies = {}
        while len(replies) < 6:
            m = c.get_shell_msg(timeout=TIMEOUT)
            replies[m["parent_header"]["msg_id"]] = m["content"]["status"]
        self.assertEqual(replies[first], "error")
        self.assertEqual([replies[r] for r in rest], ["aborted"] * 3)
        self.assertEqual((replies[other], replies[cell]), ("ok", "ok"))

    def test_what_a_deleted_subshell_has_queued_is_dropped(self):
        c = self.client
        one = self.subshell()
        cell = self.begin("repeat burn(0.01) until over")
        running = self.begin_in(one, "burn(1) over = true")
        queued = [self.execute_in(one, "dropped = false") for _ in range(3)]
        c.request("complete_request", {"code": "nb.ra", "cursor_pos": 5})  # they have arrived when it is answered
        c.request("delete_subshell_request", {"subshell_id": one}, "control")
        replies = {}
        while len(replies) < 5:
            m = c.get_shell_msg(timeout=TIMEOUT)
            replies[m["parent_header"]["msg_id"]] = m["content"]["status"]
        self.assertEqual((replies[cell], replies[running]), ("ok", "ok"))
        self.assertEqual([replies[q] for q in queued], ["aborted"] * 3)
        self.assertEqual(c.text("dropped == nil"), "true\n")

    # ---- comms ----

    def test_comm_messages_come_while_a_cell_runs_all_and_in_order(self):
        c = self.client
        many = 10000 if not SANITIZED else 1000
        cell = self.begin("local n, t = 0, os.clock() while #got < %d and os.clock() - t < 600 do step() n = n + 1 end steps = n"
                          % many)
        c.send("comm_open", {"comm_id": "c1", "target_name": "count", "data": {}})
        for i in range(many):
            c.send("comm_msg", {"comm_id": "c1", "data": {"i": i + 1}})
        self.assertEqual(c.reply(cell, timeout=10 * TIMEOUT)["content"]["status"], "ok")
        self.assertEqual(c.text("#got", timeout=10 * TIMEOUT), "%d\n" % many)  # behind what was said of each message
        self.assertEqual(c.text("local ok = true for i, v in ipairs(got) do ok = ok and i == v end return ok"), "true\n")
        print("figure: %s training steps while %d messages came" % (c.text("steps").strip(), many), flush=True)
        self.assertGreater(int(c.text("steps")), 20)

    def test_a_comm_does_not_pass_the_cell_that_registers_it(self):
        c = self.client
        first = self.begin("burn(0.5)")
        second = c.execute("comms.register('late', function(comm) comm:send{here=true} end)")
        c.send("comm_open", {"comm_id": "c2", "target_name": "late", "data": {}})
        for cell in (first, second):
            self.assertEqual(c.reply(cell)["content"]["status"], "ok")
        while True:
            m = c.get_iopub_msg(timeout=TIMEOUT)
            self.assertNotEqual(m["msg_type"], "comm_close")
            if m["msg_type"] == "comm_msg":
                self.assertEqual(m["content"]["data"], {"here": True})
                break

    def test_an_error_of_a_handler_stays_with_it(self):
        c = self.client
        c.text("comms.register('bad', function(comm) comm.on_message = function() error 'in the handler' end end)")
        cell = self.begin("burn(0.5) return 'whole'")
        c.send("comm_open", {"comm_id": "c3", "target_name": "bad", "data": {}})
        message = c.send("comm_msg", {"comm_id": "c3", "data": {}})
        errors = [m for m in c.outputs(message) if m["msg_type"] == "error"]
        self.assertIn("in the handler", errors[0]["content"]["evalue"])
        self.assertEqual(c.reply(cell)["content"]["status"], "ok")

    # ---- interrupts ----

    def test_an_interrupt_reaches_the_cell_through_visitors(self):
        c = self.client
        subshell = self.subshell()
        times = 10 if SANITIZED else 200 if PROVE else 40
        for i in range(times):
            cell = self.begin("while true do step() call() end" if i % 2 else "while true do pcall(burn, 0.01) end")
            asked = [c.send("complete_request", {"code": "nb.ra", "cursor_pos": 5}) if k % 2 else
                     self.execute_in(subshell, "burn(0.001)", stop_on_error=False) for k in range(20)]
            time.sleep(0.001 * (i % 20))
            c.send("interrupt_request", {}, "control")
            replies = {}
            while len(replies) < 1 + len(asked):
                m = c.get_shell_msg(timeout=TIMEOUT)
                replies[m["parent_header"]["msg_id"]] = m["content"]
            self.assertEqual(replies[cell].get("ename"), "KeyboardInterrupt")
        print("figure: %d of %d interrupts have reached the cell through visitors" % (times, times), flush=True)

    def test_an_endless_visitor_is_stopped_alone(self):
        c = self.client
        subshell = self.subshell()
        cell = self.begin("repeat burn(0.01) until over")
        visitor = self.begin_in(subshell, "while true do call() end")
        time.sleep(0.8)  # until it is long enough for an interrupt to mean it alone
        self.assertEqual(c.request("complete_request", {"code": "nb.ra", "cursor_pos": 5})["status"], "ok")
        c.send("interrupt_request", {}, "control")
        self.assertEqual(c.reply(visitor)["content"].get("ename"), "KeyboardInterrupt")
        self.execute_in(subshell, "over = true")
        self.assertEqual(c.reply(cell)["content"]["status"], "ok")


if __name__ == "__main__":
    unittest.main()
