# SPDX-License-Identifier: MIT
"""A group from a prompt and a notebook: cells on all ranks, errors, interrupts, deaths, and nothing left behind."""
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import unittest

from mpi import FOLDER, NABLUA, ROOT, environment, is_alive, wait_for

sys.path.insert(0, os.path.join(ROOT, "tests/repl"))
from terminal import Terminal  # noqa: E402

ROOTLY = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def processes(name):
    """Living processes whose command line has the text."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/cmdline" % pid, "rb") as f:
                line = f.read().replace(b"\0", b" ").decode(errors="replace")
            if name in line:
                found.append(int(pid))
        except OSError:
            continue
    return found


def prompt(*lines, **variables):
    """What a prompt that reads lines from a pipe prints, and complains of."""
    r = subprocess.run([NABLUA, "-i", "--no-banner"], input="\n".join(lines) + "\n", capture_output=True, text=True,
                       timeout=100, env={k: v for k, v in environment(**{**ROOTLY, **variables}).items() if v})
    return re.sub(r"(?m)^(\d+> |  *\| )+", "", r.stdout), r.stderr


class Prompt(unittest.TestCase):
    def test_cells_on_all_and_on_some(self):
        out, err = prompt("dist.start(3)", "%all dist.rank", "%on 2-3 10 * dist.rank", "%on 1 dist.size",
                          "%%all", "t = nb.tensor{dist.rank}", "print(dist.allreduce_(t):item())", "",
                          "%all nb.rand(1):item() == nb.rand(1):item()", "dist.stop()", "dist.size")
        for line in ("[2] 2", "[3] 3", "[2] 20", "[3] 30", "6.0", "[2, 3] 6.0", "[2, 3] false"):
            self.assertIn("\n%s\n" % line, "\n" + out, err)
        self.assertTrue(out.rstrip().endswith("1"), out)

    def test_a_group_of_two_and_another_after_it(self):
        out, err = prompt("dist.start(2)", "%all dist.size", "dist.stop()", "dist.start(3)", "%all dist.size",
                          "dist.start(2)")
        self.assertIn("[2] 2\n", out, err)
        self.assertIn("[2, 3] 3\n", out, err)
        self.assertIn("there is a group of 3 already; dist.stop() ends it", err)

    def test_a_group_outlives_what_is_left_of_the_one_before(self):
        """Garbage of the first does not end the second, and its processes are gone while the prompt goes on."""
        count = ('local pid, n = io.open("/proc/self/stat"):read("n"), 0; '
                 'for _ in io.popen("grep -laE \'dist_c[a]rry.*, " .. pid .. ", \' /proc/[0-9]*/cmdline "'
                 ' .. "2>/dev/null"):lines() do n = n + 1 end print("carriers", n)')
        out, err = prompt("dist.start(2)", "dist.stop()", "nb.sleep(0.5)", count, "dist.start(3)",
                          "for i = 1, 3 do collectgarbage() end", "nb.sleep(0.2)", "%all 10 * dist.size", count)
        self.assertIn("[2, 3] 30\n", out, err)
        self.assertRegex(out, r"(?s)carriers\t0\n.*carriers\t[1-9]\n", err)
        self.assertEqual(err, "")

    def test_an_error_on_one_and_going_on(self):
        out, err = prompt("dist.start(3)", "%%all", 'if dist.rank == 3 then error("bad luck") end',
                          "dist.allreduce_(nb.ones(2))", "", "%all dist.allreduce_(nb.tensor{dist.rank}):item()")
        self.assertRegex(out, r"\[3\] input \d+:\d+: bad luck\n")
        # On a busy machine rank 2 may be interrupted before it has found that out.
        self.assertRegex(out, r"\[2\] (.*allreduce_ \(sum\) of f32 2 at .*: rank 3 has failed: .*bad luck|interrupted)")
        self.assertRegex(err, r"rank 3 has failed: .*bad luck")
        self.assertIn("[2, 3] 6.0", out)

    def test_a_net_trains_and_where_says_what_was_last(self):
        out, err = prompt("dist.start(2)", "%%all", "nb.seed(1)", "net = dist.parallel(nn.Linear(1, 1))",
                          "opt = optim.SGD(net:parameters(), {lr=0.1})",
                          "for i = 1, 9 do opt:zero_grad() net(nb.full({4, 1}, dist.rank)):mean():backward() opt:step() end",
                          "print(net.weight:item())", "", "dist.where()", "%all dist.figures(net).exchanges")
        weights = re.findall(r"(?m)^(?:\[2\] )?(-?\d+\.\d+)$", out)
        self.assertEqual(len(weights), 2, out + err)
        self.assertEqual(weights[0], weights[1])
        self.assertEqual(len(re.findall(r"rank [12]  process \d+  exchange \d+ .* backward of 2 parameters", out)), 2)
        self.assertIn("[2] 9", out)

    def test_an_interrupt_stops_all_and_they_go_on(self):
        with contextlib.closing(Terminal(**ROOTLY)) as t:
            t.wait_for_prompt(1)
            t.type("dist.start(3)\r")
            t.wait_for_prompt(2)
            t.type("%all net = dist.parallel(nn.Linear(50, 50)) while true do net(nb.ones(5, 50)):sum():backward() end\r")
            time.sleep(2)
            t.type("\x03")
            t.wait_for_prompt(3)
            self.assertIn("interrupted", t.text())
            t.type("%all dist.allreduce_(nb.tensor{dist.rank}):item()\r")
            t.wait_for(r"\[2, 3\] 6\.0")
            t.type("%all net:zero_grad() net(nb.ones(1, 50)):sum():backward() print(net.bias.grad:sum():item())\r")
            t.wait_for(r"\[2, 3\] 50\.0")

    def test_a_worker_that_dies_is_a_sentence_and_the_prompt_lives(self):
        with contextlib.closing(Terminal(**ROOTLY)) as t:
            t.wait_for_prompt(1)
            t.type("dist.start(3)\r")
            t.wait_for_prompt(2)
            t.type("%all while true do dist.allreduce_(nb.ones(10)) end\r")
            time.sleep(1)
            workers = [p for p in processes(NABLUA + " --cells") if is_alive(p)]
            self.assertEqual(len(workers), 2)
            os.kill(workers[0], signal.SIGKILL)
            t.wait_for_prompt(3)
            self.assertRegex(re.sub(r"\s+", " ", t.text()), r"rank [23] \(process \d+\) has died")
            self.assertTrue(wait_for(lambda: not any(map(is_alive, workers))))
            t.type("dist.start(2)\r")
            t.wait_for_prompt(4)
            t.type("%all dist.size * 100\r")
            t.wait_for(r"\[2\] 200")

    def test_nothing_is_left_behind(self):
        for how in ("exit", "kill"):
            t = Terminal(**ROOTLY)
            t.wait_for_prompt(1)
            t.type("dist.start(3)\r")
            t.wait_for_prompt(2)
            t.type('%all io.open("/proc/self/stat"):read("n")\r')
            t.wait_for(r"\[3\]")
            workers = [int(n) for n in re.findall(r"\[[23]\] (\d+)", t.text())]
            self.assertEqual(len(workers), 2)
            with open("/proc/%d/stat" % workers[0]) as f:
                daemon = int(f.read().rsplit(")", 1)[1].split()[1])
            if how == "exit":
                t.type("exit\r")
            else:
                os.kill(t.pid, signal.SIGKILL)
            self.assertTrue(wait_for(lambda: not any(map(is_alive, workers + [daemon]))), how)
            t.close()

    def test_bad_starts_are_sentences(self):
        out, err = prompt("dist.start(1)", "dist.stop()", "%all 1", "%on 1", "%on x 1")
        self.assertIn("a group has at least 2 ranks, this prompt among them, got 1", err)
        self.assertEqual(err.count("there is no group; dist.start(3) makes one"), 2, err)
        self.assertIn("%on RANKS CODE", err)
        if os.geteuid() == 0:
            _, err = prompt("dist.start(2)", OMPI_ALLOW_RUN_AS_ROOT="", OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="")
            self.assertIn("OMPI_ALLOW_RUN_AS_ROOT=1 and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 are set", err)

    def test_nothing_is_left_of_workers_that_compute_when_the_prompt_is_killed(self):
        with subprocess.Popen([NABLUA, "-i", "--no-banner"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                              stderr=subprocess.STDOUT, env=environment(**ROOTLY)) as p:
            p.stdin.write("dist.start(3)\n%on 2-3 print('pid', io.open('/proc/self/stat'):read 'n')\n"
                          "%all while true do end\n")
            p.stdin.flush()
            seen, workers = "", []
            while len(workers) < 2:
                seen += p.stdout.read(1)
                workers = [int(n) for n in re.findall(r"pid\s+(\d+)\n", seen)]
            time.sleep(0.5)
            p.kill()
        self.assertTrue(wait_for(lambda: not any(map(is_alive, workers))))

    def test_reading_standard_input_on_all_is_an_end_of_file(self):
        out, err = prompt("dist.start(3)", "%on 2-3 print(io.read())")
        self.assertIn("[2, 3] nil", out, err)


class Notebook(unittest.TestCase):
    def setUp(self):
        kernel = os.path.join(FOLDER, "nablua-kernel")
        if not os.path.exists(kernel):
            self.skipTest("there is no kernel")
        os.environ["NABLUA_KERNEL"] = kernel
        sys.path.insert(0, os.path.join(ROOT, "tests/jupyter"))
        try:
            import kernels
        except SystemExit:
            self.skipTest("jupyter_client is missing")
        context = kernels.kernel(env={**environment(), **ROOTLY})
        self.manager, self.client = context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)

    def workers(self):
        return [p for p in processes(NABLUA + " --cells") if is_alive(p)]

    def visit(self, code):
        """What a cell of a subshell gives."""
        subshell = self.client.request("create_subshell_request", {}, "control")["subshell_id"]
        m = self.client.session.msg("execute_request", {"code": code, "silent": False, "store_history": False,
                                                        "user_expressions": {"it": code}, "allow_stdin": False,
                                                        "stop_on_error": True})
        m["header"]["subshell_id"] = subshell
        self.client.shell_channel.send(m)
        return self.client.reply(m["header"]["msg_id"])["content"]["user_expressions"]["it"]["data"]["text/plain"]

    def test_a_session(self):
        text = self.client.text
        text("dist.start(3)")
        self.assertIn("[2] 2\n[3] 3", text("%%all\nprint(dist.rank)"))
        self.assertIn("[2, 3] 6.0", text("%%all\nprint(dist.allreduce_(nb.tensor{dist.rank}):item())"))
        # An error on one: the others learn of it where they wait for it.
        out = text("%on 3 error('bad luck')")
        self.assertRegex(out, r"\[3\] input \d+:1: bad luck")
        # A training on all, looked at while it runs and interrupted.
        text("%%all\nnet = dist.parallel(nn.Linear(50, 50))")
        loop = self.client.execute("%%all\nprint 'begun'\nwhile true do net(nb.ones(5, 50)):sum():backward() end")
        while "begun" not in str(self.client.get_iopub_msg(timeout=60)["content"].get("text")):
            continue
        time.sleep(1)
        for _ in range(50):  # between two of them parameters may be compared
            where = self.visit("tostring(dist.where())")
            doing = re.findall(r"rank [123]  process \d+  exchange \d+ .*?backward of 2 parameters.*?:3", where)
            if len(doing) == 3:
                break
        self.assertEqual(len(doing), 3, where)
        self.manager.interrupt_kernel()
        self.assertEqual(self.client.reply(loop)["content"]["status"], "error")
        self.client.outputs(loop)
        self.assertIn("[2, 3] 6.0", text("%all dist.allreduce_(nb.tensor{dist.rank}):item()"))
        # A worker that dies, another group, and its end.
        os.kill(self.workers()[0], signal.SIGKILL)
        reply, _ = self.client.run("%all nb.sleep(5)")
        self.assertEqual(reply["status"], "error")
        self.assertRegex(reply["evalue"], r"rank [23] \(process \d+\) has died, and the group with it|launcher has ended")
        text("dist.start(3)")
        self.assertIn("[2, 3] 3", text("%all dist.size"))
        workers = self.workers()
        self.assertEqual(len(workers), 2)
        text("dist.stop()")
        self.assertTrue(wait_for(lambda: not any(map(is_alive, workers))))
        self.assertEqual(text("dist.size"), "1\n")

    def test_a_kernel_that_ends_leaves_nothing(self):
        self.client.text("dist.start(3)")
        workers = self.workers()
        self.assertEqual(len(workers), 2)
        self.manager.shutdown_kernel(now=True)
        self.assertTrue(wait_for(lambda: not any(map(is_alive, workers))))


if __name__ == "__main__":
    unittest.main()
