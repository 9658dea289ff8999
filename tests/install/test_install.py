# SPDX-License-Identifier: MIT
"""The installed tree: put somewhere, moved elsewhere, and used from there as people use it: the terminal, Jupyter, a stock
interpreter, programs in C.  What is expected of it says the build's own list of public headers, ldd and pkg-config."""
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.path.dirname(os.environ["NABLUA_INSTALLABLE"])
FOLDER = tempfile.mkdtemp(prefix="nablua-install-")
TREE = os.path.join(FOLDER, "moved to here", "usr")
LIB = os.path.join(TREE, "lib")


def run(*command, **env):
    r = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=FOLDER,
                       env=dict(os.environ, HOME=FOLDER, **env))
    if r.returncode != 0:
        raise AssertionError("%s gives %d: %s%s" % (command, r.returncode, r.stdout, r.stderr))
    return r.stdout


def setUpModule():
    """Installs below DESTDIR, and moves what came."""
    prefix = "/opt/first"
    run("cmake", "--install", BUILD, "--prefix", prefix, DESTDIR=os.path.join(FOLDER, "staged"))
    os.makedirs(os.path.dirname(TREE))
    os.rename(os.path.join(FOLDER, "staged") + prefix, TREE)


def tearDownModule():
    shutil.rmtree(FOLDER)


def version():
    with open(os.path.join(ROOT, "CMakeLists.txt"), encoding="utf-8") as f:
        return re.search(r"project\(nablua VERSION ([\d.]+)", f.read()).group(1)


def read(*path):
    with open(os.path.join(TREE, *path), encoding="utf-8") as f:
        return f.read()


class Tree(unittest.TestCase):
    def test_one_version_everywhere(self):
        for text in (run(TREE + "/bin/nablua", "--version"), run(TREE + "/bin/nablua-kernel", "--version"),
                     run(TREE + "/bin/nablua", "-e", "print(nb.version)"), read("lib/pkgconfig/nablua.pc"),
                     read("share/man/man1/nablua.1")):
            self.assertEqual(re.search(r"\d+\.\d+\.\d+", text).group(0), version())
        self.assertTrue(os.path.exists("%s/libnablua.so.%s" % (LIB, version())))

    def test_no_file_names_the_places_it_was_built_or_installed_in(self):
        for folder, _, names in os.walk(TREE):
            for name in names:
                with open(os.path.join(folder, name), "rb") as f:
                    content = f.read()
                self.assertNotIn(b"/opt/first", content, name)
                # Debug information may, until it is stripped.
                if not content.startswith(b"\x7fELF"):
                    self.assertNotIn(BUILD.encode(), content, name)
                else:
                    self.assertNotRegex(run("readelf", "-d", os.path.join(folder, name)), "RPATH|RUNPATH")

    def test_the_libraries_that_each_needs(self):
        def needed(path):
            return set(re.findall(r"NEEDED.*\[(.*?)\.so", run("readelf", "-d", os.path.join(TREE, path))))
        for path in ("lib/libnablua.so.0", "lib/lua/5.4/nablua.so", "bin/nablua-kernel"):
            self.assertFalse({n for n in needed(path) if re.match("libreadline|libhistory|libnablua", n)}, path)
        self.assertFalse({n for n in needed("lib/libnablua.so.0") if re.match("liblua|libzmq|libsqlite", n)})
        self.assertFalse({n for n in needed("lib/lua/5.4/nablua.so") if n.startswith("liblua")})

    def test_scripts_run(self):
        text = run(TREE + "/bin/nablua", TREE + "/share/doc/nablua/examples/xor.lua")
        self.assertEqual([round(float(p)) for p in re.findall(r"xor \d = ([\d.]+)", text)], [0, 1, 1, 0])

    def test_a_stock_interpreter_finds_the_module(self):
        text = run("lua5.4", "-e", "print(require('nablua').tensor{1, 2}:sum():item())", LUA_CPATH=LIB + "/lua/5.4/?.so")
        self.assertEqual(float(text), 3)

    def test_the_manual_says_all_that_help_says(self):
        for program in ("nablua", "nablua-kernel"):
            page = run("man", "-l", "%s/share/man/man1/%s.1" % (TREE, program), MANWIDTH="1000", LC_ALL="C.UTF-8")
            page = " ".join(page.replace("\u2010", "-").split())
            for line in run("%s/bin/%s" % (TREE, program), "--help").splitlines():
                for part in re.split(r"\s{2,}", line.strip()):
                    if not part.startswith("Environment"):
                        self.assertIn(" ".join(part.split()), page)

    def test_editors_can_read_the_names(self):
        meta = os.path.join(TREE, "share/nablua/meta/nablua.lua")
        run("luac5.4" if shutil.which("luac5.4") else "luac", "-p", meta)
        self.assertTrue(read("share/nablua/meta/nablua.lua").startswith("---@meta"))


class Jupyter(unittest.TestCase):
    def test_it_finds_and_starts_the_kernel(self):
        for name, folder in (("PATH", "share/jupyter"), ("DATA_DIR", "data"), ("RUNTIME_DIR", "runtime")):
            os.environ["JUPYTER_" + name] = os.path.join(TREE if name == "PATH" else FOLDER, folder)
        os.environ["XDG_STATE_HOME"] = FOLDER
        from jupyter_client.kernelspec import KernelSpecManager
        from jupyter_client.manager import start_new_kernel
        spec = KernelSpecManager().get_kernel_spec("nablua")
        self.assertEqual(os.path.realpath(spec.resource_dir), os.path.realpath(TREE + "/share/jupyter/kernels/nablua"))
        self.assertEqual(sorted(os.listdir(spec.resource_dir)), ["kernel.json", "logo-32x32.png", "logo-64x64.png", "logo-svg.svg"])
        manager, client = start_new_kernel(kernel_name="nablua")
        try:
            said = []
            client.execute_interactive("print(nb.version)", output_hook=lambda m: said.append(m["content"].get("text")), timeout=60)
            self.assertIn(version() + "\n", said)
        finally:
            client.stop_channels()
            manager.shutdown_kernel()


class Library(unittest.TestCase):
    FLAGS = ["-std=c17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"]

    def config(self, *options):
        path = os.path.join(LIB, "pkgconfig")
        # A blank in a path arrives with a backslash before it.
        text = run("pkg-config", *options, "nablua", PKG_CONFIG_PATH=path)
        return [word.replace("\\ ", " ") for word in re.findall(r"(?:\\.|\S)+", text)]

    def test_a_program_trains_xor(self):
        program = os.path.join(FOLDER, "xor")
        run("cc", *self.FLAGS, os.path.join(ROOT, "examples/xor.c"), *self.config("--cflags", "--libs"), "-o", program)
        needs = run("readelf", "-d", program)
        self.assertIn("[libnablua.so.0]", needs)
        text = run(program, LD_LIBRARY_PATH=LIB)
        self.assertEqual([round(float(p)) for p in re.findall(r"xor \d = ([\d.]+)", text)], [0, 1, 1, 0])

    def test_every_header_stands_alone(self):
        headers = sorted(glob.glob(TREE + "/include/nablua/*.h"))
        ours = sorted(os.path.basename(h) for h in glob.glob(ROOT + "/runtime/*/include/nablua/*.h"))
        self.assertEqual([os.path.basename(h) for h in headers], ours)
        for header in headers:
            run("cc", *self.FLAGS, "-fsyntax-only", "-include", header, "-x", "c", "/dev/null", *self.config("--cflags"))

    def test_it_shows_what_headers_declare(self):
        text = run("nm", "-D", "--defined-only", LIB + "/libnablua.so.0")
        shown = set(re.findall(r"\b[TDBRV] (\w+)", text))
        declared = set()
        for header in glob.glob(TREE + "/include/nablua/*.h"):
            with open(header, encoding="utf-8") as f:
                declared.update(re.findall(r"\bnb_\w+", re.sub(r"//.*", "", f.read())))
        self.assertFalse(shown - declared)
        self.assertLessEqual({"nb_open", "nb_apply", "nb_backward", "nb_optimizer_step", "nb_file_load"} & declared, shown)


if __name__ == "__main__":
    if not shutil.which("lua5.4") or not shutil.which("man"):
        print("skipped: this needs lua5.4 and man")
        sys.exit(77)
    unittest.main()
