# SPDX-License-Identifier: MIT
"""Controls by the widgets' message protocol 2.1, spoken as a page speaks it."""
import subprocess
import sys
import time
import unittest

from kernels import SANITIZED, TIMEOUT, kernel

VIEW = "application/vnd.jupyter.widget-view+json"

# A page that drags a control without an end; it says when it is about to.
DRAG = """
import sys, jupyter_client
c = jupyter_client.BlockingKernelClient(connection_file=sys.argv[1])
c.load_connection_file()
c.start_channels(hb=False)
for i in range(1, 900000):
    c.shell_channel.send(c.session.msg("comm_msg", {"comm_id": sys.argv[2], "data": {
        "method": "update", "state": {"value": i}, "buffer_paths": []}}))
    if i == 200:
        print("drags", flush=True)
"""


class Widgets(unittest.TestCase):
    def setUp(self):
        self.context = kernel(stderr=subprocess.DEVNULL)
        self.manager, self.client = self.context.__enter__()
        self.addCleanup(self.context.__exit__, None, None, None)

    def show(self, code):
        """The state of the widget that a cell shows, its id, and all that were opened for it."""
        reply, messages = self.client.run(code)
        self.assertEqual(reply["status"], "ok", reply)
        opened = {}
        for m in messages:
            if m["msg_type"] == "comm_open":
                self.assertEqual(m["content"]["target_name"], "jupyter.widget")
                self.assertEqual(m["metadata"], {"version": "2.1.0"})
                opened[m["content"]["comm_id"]] = m
        result = [m for m in messages if m["msg_type"] == "execute_result"][-1]["content"]["data"]
        view = result[VIEW]
        self.assertEqual((view["version_major"], view["version_minor"]), (2, 0))
        self.assertIn("text/plain", result)
        return opened[view["model_id"]]["content"]["data"], view["model_id"], opened

    def update(self, comm, **state):
        return self.client.send("comm_msg", {"comm_id": comm, "data": {"method": "update", "state": state, "buffer_paths": []}})

    def told(self, messages):
        return [m["content"]["data"] for m in messages if m["msg_type"] == "comm_msg"]

    def test_a_toggle_has_an_icon_and_a_box_has_none(self):
        state = self.show("ui.toggle{icon='plus'}")[0]["state"]
        self.assertEqual((state["_model_name"], state["icon"]), ("ToggleButtonModel", "plus"))
        state = self.show("ui.toggle{icon='plus', box=true}")[0]["state"]
        self.assertEqual((state["_model_name"], "icon" in state), ("CheckboxModel", False))

    def test_a_slider_in_both_directions(self):
        data, comm, _ = self.show("s = ui.slider{label='rate', min=0, max=10, value=3} s")
        self.assertEqual(data["buffer_paths"], [])
        state = data["state"]
        self.assertEqual((state["_model_name"], state["_view_name"]), ("IntSliderModel", "IntSliderView"))
        self.assertEqual((state["_model_module"], state["_model_module_version"]), ("@jupyter-widgets/controls", "2.0.0"))
        self.assertEqual((state["description"], state["value"], state["min"], state["max"]), ("rate", 3, 0, 10))
        self.client.text("seen = {} s:on_change(function(v) seen[#seen + 1] = v end)")
        messages = self.client.outputs(self.update(comm, value=7))
        self.assertEqual(self.told(messages), [{"method": "echo_update", "state": {"value": 7}, "buffer_paths": []}])
        self.assertEqual(self.client.text("print(table.concat(seen, ' '))"), "7\n")
        _, messages = self.client.run("s.value = 2")
        self.assertEqual(self.told(messages), [{"method": "update", "state": {"value": 2}, "buffer_paths": []}])
        self.assertEqual(self.client.text("print(table.concat(seen, ' '))"), "7 2\n")

    def test_a_logarithmic_slider_speaks_of_exponents_at_its_ends(self):
        data, comm, _ = self.show("s = ui.slider{min=1e-4, max=1, value=0.01, log=true} s")
        state = data["state"]
        self.assertEqual(state["_model_name"], "FloatLogSliderModel")
        self.assertAlmostEqual(state["min"], -4)
        self.assertAlmostEqual(state["max"], 0)
        self.assertEqual(state["value"], 0.01)
        self.client.outputs(self.update(comm, value=0.1))
        self.assertEqual(self.client.text("s.value"), "0.1\n")

    def test_states_of_the_wrong_type_are_answered_with_the_right_one(self):
        _, comm, _ = self.show("s = ui.slider{min=0, max=10, value=3} s")
        for value in ("x", None, {}, [1], True):
            messages = self.client.outputs(self.update(comm, value=value))
            self.assertFalse([m for m in messages if m["msg_type"] == "error"])
            self.assertEqual(self.client.text("s.value"), "3\n")
        self.client.outputs(self.update(comm, value=99))
        self.assertEqual(self.client.text("s.value"), "10\n")
        for data in ({}, {"method": "update"}, {"method": 3}, {"method": "custom"}, {"method": "update", "state": 5}, 5, [], "x"):
            messages = self.client.outputs(self.client.send("comm_msg", {"comm_id": comm, "data": data}))
            self.assertFalse([m for m in messages if m["msg_type"] == "error"], data)
        self.client.outputs(self.update("nobody", value=1))

    def test_a_choice_has_a_place_from_0(self):
        data, comm, _ = self.show("c = ui.choice({'sgd', 'adam'}, {value='adam'}) c")
        self.assertEqual((data["state"]["_options_labels"], data["state"]["index"]), (["sgd", "adam"], 1))
        self.client.outputs(self.update(comm, index=0))
        self.assertEqual(self.client.text("print(c.value)"), "sgd\n")

    def test_a_change_is_handled_when_a_message_of_another_kind_is_the_last(self):
        _, comm, _ = self.show("c = ui.choice({'a', 'b', 'c'}, {as='buttons'}) c:on_change(function(v) last = v end) c")
        # As the stock buttons do, in one go: whatever comes first knows of the other.
        for place, other in ((3, "{method='custom', content={event='click'}}"), (2, "{method='request_state'}"), (3, "7")):
            self.client.text("comm = require('nablua.session.native').comms['%s'] comm.on_message({method='update', "
                             "state={index=%d}}, {}, true) comm.on_message(%s, {}, false)" % (comm, place - 1, other))
            self.assertEqual(self.client.text("last"), '"%s"\n' % "abc"[place - 1])
        self.client.text("comm.on_message({method='update', state={index=0}}, {}, true)")
        self.client.outputs(self.client.send("comm_close", {"comm_id": comm, "data": {}}))
        self.assertEqual(self.client.text("last"), '"a"\n')

    def test_what_is_given_no_value_begins_within_its_limits(self):
        for code, value in (("progress{min=10, max=20}", 10), ("number{min=10, max=20}", 10), ("number{min=-9, max=-5}", -5),
                            ("number{min=-1, max=1}", 0), ("slider{min=10, max=20}", 10), ("play{min=10, max=20}", 10)):
            self.assertEqual(self.show("ui." + code)[0]["state"]["value"], value, code)

    def test_children_are_open_before_what_holds_them(self):
        data, comm, opened = self.show("ui.column{ui.label 'a', ui.row{ui.button{label='b'}}}")
        ids = list(opened)
        self.assertEqual(ids[-1], comm)
        self.assertEqual(len(ids), 4)
        self.assertEqual(data["state"]["children"][0], "IPY_MODEL_" + ids[0])
        tabs, _, _ = self.show("ui.accordion{ui.label 'a'}")
        self.assertEqual((tabs["state"]["titles"], tabs["state"]["selected_index"]), (["1"], None))

    def test_a_picture_comes_as_bytes(self):
        _, _, opened = self.show("p = ui.picture(plot.curve{1, 2, 3}) p")
        m = list(opened.values())[-1]
        self.assertEqual(m["content"]["data"]["buffer_paths"], [["value"]])
        self.assertEqual(m["content"]["data"]["state"]["format"], "svg+xml")
        self.assertTrue(bytes(m["buffers"][0]).startswith(b"<svg"))

    def test_a_page_that_is_loaded_anew_learns_all_states(self):
        _, slider, _ = self.show("s = ui.slider{value=0.5} s")
        _, picture, _ = self.show("p = ui.picture(plot.curve{1, 2, 3}) p")
        _, gone, _ = self.show("g = ui.toggle{} g")
        closing = self.client.run("g:close()")[1]
        self.assertEqual([m["content"]["comm_id"] for m in closing if m["msg_type"] == "comm_close"], [gone])
        self.client.send("comm_open", {"comm_id": "ctl", "target_name": "jupyter.widget.control", "data": {}})
        asked = self.client.send("comm_msg", {"comm_id": "ctl", "data": {"method": "request_states"}})
        answer = [m for m in self.client.outputs(asked) if m["msg_type"] == "comm_msg"][0]
        data = answer["content"]["data"]
        self.assertEqual(data["method"], "update_states")
        self.assertEqual(set(data["states"]), {slider, picture})
        self.assertEqual(data["states"][slider]["state"]["value"], 0.5)
        self.assertEqual(data["states"][slider]["model_name"], "FloatSliderModel")
        self.assertEqual(data["buffer_paths"], [[picture, "state", "value"]])
        self.assertEqual(len(answer["buffers"]), 1)
        messages = self.client.outputs(self.client.send("comm_msg", {"comm_id": slider, "data": {"method": "request_state"}}))
        told = self.told(messages)[0]
        self.assertEqual((told["method"], told["state"]["value"], told["state"]["_model_name"], told["state"]["_model_module"]),
                         ("update", 0.5, "FloatSliderModel", "@jupyter-widgets/controls"))

    def test_a_drag_is_echoed_whole_and_handled_as_its_last(self):
        _, comm, _ = self.show("s = ui.slider{min=0, max=100000, value=0} s")
        self.client.text("calls = 0 s:on_change(function(v) calls, last = calls + 1, v nb.sleep(0.02) end)")
        cell = self.client.execute("local t = os.clock() local n = 0 while s.value < 500 do n = n + 1 end nb.sleep(0.5) return 'end'")
        time.sleep(0.3)
        ids = [self.update(comm, value=i) for i in range(1, 501)]
        echoes = {}
        while True:
            m = self.client.get_iopub_msg(timeout=TIMEOUT)
            parent = m["parent_header"].get("msg_id")
            if m["msg_type"] == "comm_msg":
                echoes[parent] = m["content"]["data"]["state"]["value"]
            if parent == cell and m["content"].get("execution_state") == "idle":
                break
        self.assertEqual([echoes.get(i) for i in ids], list(range(1, 501)))
        self.assertEqual(self.client.text("last"), "500\n")
        calls = int(self.client.text("calls"))
        print("figure: a drag of 500 messages is %d calls of a handler" % calls, flush=True)
        self.assertLess(calls, 250)

    def test_a_button_ends_a_loop_and_a_slider_moves_a_rate(self):
        _, stop, _ = self.show("stop = ui.button{label='stop'} stop")
        self.client.text("w = nb.zeros(4, {requires_grad=true}) opt = optim.SGD({w}, {lr=0.5})")
        _, rate, _ = self.show("rate = ui.bind(ui.slider{min=0, max=1}, opt, 'lr') rate")
        self.assertEqual(self.client.text("rate.value"), "0.5\n")
        cell = self.client.execute("rates = {} while not stop.pressed do rates[opt.lr] = true nb.sleep(0.01) end")
        time.sleep(0.3)
        self.update(rate, value=0.125)
        time.sleep(0.3)
        self.client.send("comm_msg", {"comm_id": stop, "data": {"method": "custom", "content": {"event": "click"}}})
        self.assertEqual(self.client.reply(cell)["content"]["status"], "ok")
        self.assertEqual(self.client.text("(rates[0.5] and rates[0.125]) == true"), "true\n")
        self.client.run("opt.lr = 0.25")
        self.assertEqual(self.client.text("rate.value"), "0.25\n")

    def test_interact_shows_what_the_function_gives(self):
        data, _, opened = self.show("ui.interact(function(x, name) print('for ' .. name) return 2 * x end, "
                                    "{x={1, 10}, name={'a', 'b'}})")
        out = data["state"]["children"][-1].replace("IPY_MODEL_", "")
        outputs = opened[out]["content"]["data"]["state"]["outputs"]
        self.assertEqual(outputs[0]["text"], "for a\n")
        self.assertEqual(outputs[1]["data"]["text/plain"], "2")
        slider = data["state"]["children"][0].replace("IPY_MODEL_", "")
        told = self.told(self.client.outputs(self.update(slider, value=4)))
        drawn = [d["state"]["outputs"] for d in told if "outputs" in d["state"]]
        self.assertEqual(drawn[-1][1]["data"]["text/plain"], "8")

    def test_handlers_that_misbehave(self):
        for body, says in (("error 'in a handler'", "in a handler"), ("coroutine.yield()", "yield"),
                           ("os.exit(3)", "in the middle of a run cannot end the program"),
                           ("return input('who? ')", "nobody to ask"),
                           ("coroutine.wrap(function() error({}) end)()", "the error value is"),
                           ("s.value = s.value == 1 and 2 or 1", "over and over"), ("local x = nil + 1", "nil")):
            _, comm, _ = self.show("s = ui.slider{min=0, max=10, value=3} s")
            self.client.text("s:on_change(function() %s end)" % body)
            cell = self.client.execute("nb.sleep(0.5) return 'whole'")
            time.sleep(0.2)
            messages = self.client.outputs(self.update(comm, value=1))
            self.assertIn(says, [m for m in messages if m["msg_type"] == "error"][0]["content"]["evalue"])
            self.assertEqual(self.client.reply(cell)["content"]["status"], "ok")

    def test_a_handler_that_waits_for_another_is_stopped_alone(self):
        _, first, _ = self.show("one = ui.toggle{} one")
        _, second, _ = self.show("two = ui.toggle{} two")
        self.client.text("one:on_change(function() print 'it waits' repeat nb.sleep(0.01) until seen end) "
                         "two:on_change(function() seen = true end)")
        cell = self.client.execute("repeat nb.sleep(0.01) until seen return 'whole'")
        waits, other = self.update(first, value=True), self.update(second, value=True)
        while "it waits" not in self.client.get_iopub_msg(timeout=TIMEOUT)["content"].get("text", ""):
            pass
        time.sleep(0.8)  # until it is long enough for an interrupt to mean it alone
        self.client.send("interrupt_request", {}, "control")
        errors = {}
        for _ in range(200):
            m = self.client.get_iopub_msg(timeout=TIMEOUT)
            parent = m["parent_header"].get("msg_id")
            if m["msg_type"] == "error":
                errors[parent] = m["content"]["ename"]
            if parent == cell and m["content"].get("execution_state") == "idle":
                break
        self.assertEqual(errors, {waits: "KeyboardInterrupt"})
        self.assertEqual(self.client.reply(cell)["content"]["status"], "ok")
        self.assertEqual(self.client.text("seen"), "true\n")
        del other

    def test_a_page_that_vanishes_in_the_middle_of_a_drag(self):
        _, comm, _ = self.show("s = ui.slider{min=0, max=1000000, value=0} s:on_change(function(v) last = v end) s")
        cell = self.client.execute("local n = 0 while last ~= 1000000 do n = n + 1 end return 'whole'")
        page = subprocess.Popen([sys.executable, "-c", DRAG, self.manager.connection_file, comm], stdout=subprocess.PIPE)
        page.stdout.readline()
        page.kill()
        page.wait()
        page.stdout.close()
        self.assertEqual(self.client.request("complete_request", {"code": "nb.ra", "cursor_pos": 5})["status"], "ok")
        self.assertRaises(Exception, self.client.reply, cell, timeout=0.1)  # it runs on
        self.update(comm, value=1000000)
        self.assertEqual(self.client.reply(cell)["content"]["status"], "ok")

    def test_a_page_that_closes_a_control_leaves_it_to_the_program(self):
        _, comm, _ = self.show("s = ui.slider{min=0, max=10, value=3} s")
        cell = self.client.execute("nb.sleep(0.5) s.value = 5 return s.value")
        time.sleep(0.2)
        self.client.outputs(self.client.send("comm_close", {"comm_id": comm, "data": {}}))
        for _ in range(2):  # a page that goes on as if it were there
            messages = self.client.outputs(self.update(comm, value=1))
            self.assertFalse([m for m in messages if m["msg_type"] == "error"])
        self.assertEqual(self.client.reply(cell)["content"]["status"], "ok")
        data, again, _ = self.show("return s")
        self.assertEqual((data["state"]["value"], again == comm), (5, False))

    def test_a_picture_that_is_clicked_at(self):
        data, _, opened = self.show("at = {} p = ui.picture(plot.curve{1, 2, 3}):on_click(function(x, y) at[#at + 1] = "
                                    "('%.2f %.2f'):format(x, y) end) p")
        self.assertEqual((data["state"]["_model_name"], data["state"]["_dom_classes"]), ("VBoxModel", ["nablua-picture"]))
        page, field = (c.replace("IPY_MODEL_", "") for c in data["state"]["children"])
        self.assertIn("onclick", opened[page]["content"]["data"]["state"]["value"])
        for text in ("0.25 0.5 1", "2 -1 2", "", "x y z", "1", "0.25 0.5 3"):
            messages = self.client.outputs(self.update(field, value=text))
            self.assertFalse([m for m in messages if m["msg_type"] == "error"])
        self.assertEqual(self.client.text("print(table.concat(at, ', '))"), "0.25 0.50, 1.00 0.00, 0.25 0.50\n")
        _, messages = self.client.run("p.value = plot.curve{3, 2, 1}")
        self.assertEqual([m["content"]["comm_id"] for m in messages if m["msg_type"] == "comm_msg"], [page])
        reply, _ = self.client.run("q = ui.picture(plot.curve{1}) display(q) q:on_click(print)")
        self.assertIn("shown already", reply["evalue"])

    def test_tabs_tell_which_is_open(self):
        _, comm, _ = self.show("t = ui.tabs{ui.label 'a', ui.label 'b'} t:on_change(function(i) open = i end) t")
        self.client.outputs(self.update(comm, selected_index=1))
        self.assertEqual(self.client.text("open"), "2\n")
        self.assertEqual(self.client.text("t.selected = 1; return open"), "1\n")

    def test_a_control_follows_another(self):
        _, slider, _ = self.show("s = ui.slider{min=0, max=10, value=3} n = ui.bind(ui.number{}, s, 'value') s")
        self.assertEqual(self.client.text("n.value"), "3\n")
        self.client.outputs(self.update(slider, value=7))
        self.assertEqual(self.client.text("n.value"), "7\n")
        self.assertEqual(self.client.text("n.value = 4; return s.value"), "4\n")

    def test_the_clock_ticks_while_something_runs_and_at_rest(self):
        c = self.client
        c.text("n = 0 timer = ui.every(0.05, function() n = n + 1 end)")
        for code in ("nb.sleep(1)", "local s = n while n < s + 10 do end"):
            before = int(c.text("n"))
            begun = time.monotonic()
            c.text(code)
            took = time.monotonic() - begun
            ticks = int(c.text("n")) - before
            self.assertTrue(3 <= ticks <= (took + 1) / 0.05, (code, ticks, took))
        before = int(c.text("n"))
        time.sleep(1)
        self.assertGreater(int(c.text("n")), before + 3)
        c.text("timer:close()")
        before = c.text("n")
        time.sleep(0.3)
        self.assertEqual(c.text("n"), before)
        cell = c.execute("timer = ui.every(0.05, function() error 'ticked wrong' end) nb.sleep(0.5) return 'whole'")
        errors = [m for m in c.outputs(cell) if m["msg_type"] == "error"]
        self.assertEqual(len(errors), 1)
        self.assertIn("ticked wrong", errors[0]["content"]["evalue"])
        self.assertEqual(c.reply(cell)["content"]["status"], "ok")

    def test_a_thousand_controls(self):
        many = 1000 if not SANITIZED else 100
        _, _, opened = self.show("local list = {} for i = 1, %d do list[i] = ui.slider{} end return ui.column(list)" % many)
        self.assertEqual(len(opened), many + 1)


if __name__ == "__main__":
    unittest.main()
