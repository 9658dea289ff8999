# SPDX-License-Identifier: MIT
"""Files that NumPy, safetensors and Pillow wrote are read, and what nablua writes they read: bit for bit.

NumPy is taken from the Python that NABLUA_PEER_PYTHON names, else from the one that runs this.  Without NumPy the
test is skipped (77), without one of the others its part is, with a message.
"""
import importlib
import os
import subprocess
import sys
import tempfile
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NABLUA = os.environ.get("NABLUA", os.path.join(ROOT, "build/release/nablua"))

other = os.environ.get("NABLUA_PEER_PYTHON")
if other and not os.environ.get("NABLUA_PEER_STARTED"):
    os.environ["NABLUA_PEER_STARTED"] = "1"
    os.execv(other, [other] + sys.argv)


def optional(name):
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


np = optional("numpy")
if np is None:
    print("skipped: %s has no NumPy; NABLUA_PEER_PYTHON may name a Python that has" % sys.executable)
    sys.exit(77)
safetensors = optional("safetensors.numpy")
image = optional("PIL.Image")


def arrays():
    """All that a tensor can be, with the numbers that get lost most easily."""
    draw = np.random.RandomState(3)
    odd = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-45, 1e-310, 3.4028235e38, 0.1]
    return {
        "f32": np.array(odd, "f4"), "f64": np.array(odd, "f8"),
        "nan payloads": np.array([0x7fc00001, 0xffc12345, 0x7f800001], "u4").view("f4"),
        "i64": np.array([-2**63, 2**63 - 1, 0, -1, 2**53 + 1]), "u8": np.arange(256, dtype="u1"),
        "bool": np.array([[True, False], [False, False]]), "number": np.array(7.25, "f4"),
        "empty": np.zeros((3, 0, 2), "f4"), "one": np.ones((1, 1, 1, 1, 1, 1, 1, 1), "f8"),
        "many": draw.standard_normal((37, 41)).astype("f4"), "name of é and /": draw.standard_normal(5),
    }


class Formats(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()

    def tearDown(self):
        self.folder.cleanup()

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def run_lua(self, code):
        r = subprocess.run([NABLUA, "-"], input="local folder = %r\n%s" % (self.folder.name + "/", code), text=True,
                           capture_output=True, timeout=300)
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        return r.stdout

    def assert_same(self, got, want):
        self.assertEqual(sorted(got), sorted(want))
        for name, array in want.items():
            self.assertEqual((got[name].dtype, got[name].shape), (array.dtype, array.shape), name)
            self.assertEqual(got[name].tobytes(), np.ascontiguousarray(array).tobytes(), name)

    def test_npz_from_numpy_and_back(self):
        want = arrays()
        for write in (np.savez, np.savez_compressed):
            write(self.path("a.npz"), **want)
            self.run_lua("local t = nb.load(folder .. 'a.npz') nb.save(folder .. 'b.npz', t) "
                         "nb.save(folder .. 'c.npz', t, { compress = true })")
            for name in "b.npz", "c.npz":
                with np.load(self.path(name)) as got:
                    self.assert_same(dict(got), want)

    def test_npz_of_other_types_and_orders(self):
        given = {"f2": np.array([1.5, -2, np.inf], "f2"), "i4": np.array([[-5, 7]], "i4"), "u2": np.array([65535], "u2"),
                 "big": np.array([1.5, -2], ">f8"), "fortran": np.asfortranarray(np.arange(6, dtype="f4").reshape(2, 3))}
        np.savez(self.path("a.npz"), **given)
        self.run_lua("nb.save(folder .. 'b.npz', nb.load(folder .. 'a.npz'))")
        with np.load(self.path("b.npz")) as got:
            kinds = {"f2": "f4", "i4": "i8", "u2": "i8", "big": "f8", "fortran": "f4"}
            self.assert_same(dict(got), {name: array.astype(kinds[name]) for name, array in given.items()})

    def test_npy_both_ways(self):
        for array in arrays().values():
            np.save(self.path("a.npy"), array)
            self.run_lua("nb.save(folder .. 'b.npy', nb.load(folder .. 'a.npy'))")
            self.assert_same({"x": np.load(self.path("b.npy"))}, {"x": array})

    def test_views_are_written_in_their_own_order(self):
        self.run_lua("local t = nb.arange(24):view(2, 3, 4) nb.save(folder .. 'a.npz', { t = t:transpose(1, 3), "
                     "s = t[{ 2, { 1, 3, 2 }, { -2, -1 } }], e = nb.ones(2, 1):expand(2, 3) }, { compress = true })")
        t = np.arange(1, 25, dtype="f4").reshape(2, 3, 4)
        with np.load(self.path("a.npz")) as got:
            self.assert_same(dict(got), {"t": t.transpose(2, 1, 0), "s": t[1, 0:3:2, 2:], "e": np.ones((2, 3), "f4")})

    @unittest.skipIf(safetensors is None, "there is no Python module safetensors")
    def test_safetensors_both_ways(self):
        want = {name: np.ascontiguousarray(array) for name, array in arrays().items()}
        safetensors.save_file(want, self.path("a.safetensors"), metadata={"made": "here"})
        self.run_lua("nb.save(folder .. 'b.safetensors', nb.load(folder .. 'a.safetensors'))")
        self.assert_same(safetensors.load_file(self.path("b.safetensors")), want)

    @unittest.skipIf(safetensors is None, "there is no Python module safetensors")
    def test_a_checkpoint_is_a_safetensors_file(self):
        self.run_lua("""
            nb.seed(1)
            local net = nn.Sequential { nn.Linear(3, 2), nn.Dropout(0.5) }
            local opt = optim.Adam(net:parameters())
            local x = nb.rand(8, 3)
            nn.fit(net, nn.MSELoss(), opt, { x, x[{ nb.ALL, { 1, 2 } }] }, { progress = false,
              checkpoint = folder .. "c.safetensors", schedule = optim.StepLR(opt, { step_size = 1 }) })
            nb.save(folder .. "net.npz", net:state())""")
        got = safetensors.load_file(self.path("c.safetensors"))
        with np.load(self.path("net.npz")) as net:
            self.assert_same({name[4:]: array for name, array in got.items() if name.startswith("net.")}, dict(net))
        self.assertTrue(any(name.startswith("opt.") for name in got))

    @unittest.skipIf(image is None, "there is no Python module PIL")
    def test_pictures(self):
        draw = np.random.RandomState(4)
        rgba = draw.randint(0, 256, (13, 17, 4)).astype("u1")
        smooth = np.clip(np.add.outer(np.arange(40) * 3, np.arange(50) * 2)[:, :, None] + np.array([0, 20, 60]), 0, 255)
        for name, picture, options in [
            ("rgb.png", image.fromarray(rgba[:, :, :3]), {}), ("rgba.png", image.fromarray(rgba), {}),
            ("grey.png", image.fromarray(rgba[:, :, 0]), {}), ("palette.png", image.fromarray(rgba[:, :, :3]).convert("P"), {}),
            ("bits.png", image.fromarray(rgba[:, :, 0] > 99), {}),
            ("colour.jpg", image.fromarray(smooth.astype("u1")), {"quality": 95}),
            ("progressive.jpg", image.fromarray(smooth.astype("u1")), {"progressive": True}),
            ("grey.jpg", image.fromarray(smooth.astype("u1")[:, :, 0]), {}),
        ]:
            picture.save(self.path(name), **options)
            with image.open(self.path(name)) as file:
                rgb, grey = np.asarray(file.convert("RGB")), np.asarray(file.convert("L"))
            self.run_lua("local p = folder .. %r nb.save(folder .. 'a.npz', { rgb = data.image(p, { channels = 3 }), "
                         "grey = data.image(p, { channels = 1 }) })" % name)
            with np.load(self.path("a.npz")) as got:
                self.assert_same(dict(got), {"rgb": rgb.transpose(2, 0, 1), "grey": grey[None]})


if __name__ == "__main__":
    unittest.main()
