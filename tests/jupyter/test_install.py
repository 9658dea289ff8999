# SPDX-License-Identifier: MIT
"""Installing the kernelspec where Jupyter looks, its logos, and taking it away; bad options."""
import json
import os
import struct
import subprocess
import unittest
import zlib

import kernels
from kernels import HOME, KERNEL


def run(*arguments, **env):
    return subprocess.run([KERNEL] + list(arguments), capture_output=True, text=True, timeout=kernels.TIMEOUT,
                          env=dict(os.environ, **env))


def pixels(path):
    """The size and rows of a PNG of 8 bits each of red, green, blue and opacity, without filters."""
    with open(path, "rb") as f:
        data = f.read()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    at, packed = 8, b""
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        body = data[at + 8:at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length:at + 12 + length])[0] == zlib.crc32(kind + body)
        if kind == b"IHDR":
            width, height, bits, color = struct.unpack(">IIBB", body[:10])
            assert (bits, color) == (8, 6)
        packed += body if kind == b"IDAT" else b""
        at += 12 + length
    raw = zlib.decompress(packed)
    row = 4 * width + 1
    return width, height, [raw[y * row + 1:(y + 1) * row] for y in range(height)]


class Install(unittest.TestCase):
    def spec(self, folder):
        with open(os.path.join(folder, "kernel.json"), encoding="utf-8") as f:
            return json.load(f)

    def test_under_a_prefix_and_away_again(self):
        prefix = os.path.join(HOME, "a prefix")
        folder = os.path.join(prefix, "share/jupyter/kernels/nablua")
        r = run("install", "--prefix", prefix)
        self.assertEqual((r.returncode, r.stdout), (0, "installed in %s\n" % folder))
        spec = self.spec(folder)
        self.assertEqual(spec["argv"], [os.path.realpath(KERNEL), "-f", "{connection_file}"])
        self.assertEqual((spec["language"], spec["interrupt_mode"], spec["display_name"]), ("lua", "message", "Lua (nablua)"))
        self.assertTrue(spec["metadata"]["debugger"])
        for size in (32, 64):
            width, height, rows = pixels(os.path.join(folder, "logo-%dx%d.png" % (size, size)))
            self.assertEqual((width, height), (size, size))
            middle = rows[size // 2]
            self.assertEqual(rows[0][:4], b"\0\0\0\0")                          # outside: nothing
            self.assertEqual(tuple(middle[size // 2:size // 2 + 4]), (0x1b, 0x2a, 0x7a, 255))  # an eighth from the left: the disc
        with open(os.path.join(folder, "logo-svg.svg"), encoding="utf-8") as f:
            self.assertIn("<svg", f.read())
        self.assertEqual(run("install", "--prefix", prefix).returncode, 0)  # again is fine
        r = run("uninstall", "--prefix", prefix)
        self.assertEqual((r.returncode, r.stdout), (0, "removed %s\n" % folder))
        self.assertFalse(os.path.exists(folder))
        self.assertEqual(run("uninstall", "--prefix", prefix).returncode, 1)

    def test_names_and_environments(self):
        prefix = os.path.join(HOME, "venv")
        self.assertEqual(run("install", "--sys-prefix", "--name", "mine", VIRTUAL_ENV=prefix).returncode, 0)
        self.assertEqual(self.spec(os.path.join(prefix, "share/jupyter/kernels/mine"))["display_name"], "Lua (nablua, mine)")
        data = os.path.join(HOME, "xdg-data")
        self.assertEqual(run("install", "--user", JUPYTER_DATA_DIR="", XDG_DATA_HOME=data).returncode, 0)
        self.assertTrue(os.path.exists(os.path.join(data, "jupyter/kernels/nablua/kernel.json")))

    def test_what_cannot_be_done_is_said_in_a_sentence(self):
        for arguments, status, expected in (
                (("install", "--name", "../x"), 2, "a kernel's name is made of"), (("install", "--frob"), 2, "--frob"),
                (("install", "--prefix"), 2, "--prefix"), (("install", "--prefix", "/dev/null"), 1, "cannot write into"),
                (("install", "--sys-prefix"), 2, "active environment"), (("-f",), 2, "nablua-kernel -f"), ((), 2, "install")):
            r = run(*arguments, VIRTUAL_ENV="") if "--sys-prefix" not in arguments else \
                subprocess.run([KERNEL] + list(arguments), capture_output=True, text=True,
                               env={k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "CONDA_PREFIX")})
            self.assertEqual(r.returncode, status, arguments)
            self.assertIn(expected, r.stderr)
        self.assertEqual(run("--help").returncode, 0)
        self.assertRegex(run("--version").stdout, r"^nablua-kernel \d+\.\d+\.\d+\n$")

    def test_the_kernel_is_free_of_readline(self):
        linked = subprocess.run(["ldd", KERNEL], capture_output=True, text=True).stdout
        self.assertIn("libzmq", linked)
        self.assertNotIn("readline", linked)


if __name__ == "__main__":
    unittest.main()
