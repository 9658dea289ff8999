# SPDX-License-Identifier: MIT
"""What values are in a notebook: bundles, metadata, bytes, the helpers of the prompt; and that text from elsewhere is data."""
import base64
import html.parser
import io
import os
import re
import tempfile
import unittest
import wave
import xml.etree.ElementTree as ElementTree

import kernels
from kernels import kernel

PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
NET = "net = nn.Sequential{ nn.Linear(3, 4), nn.Sigmoid(), nn.Linear(4, 2) }\nx, y = nb.randn(6, 3), nb.rand(6, 2)\n"
EVIL = "</td><img src=x onerror=alert(1)><script>alert(2)</script>$\\\\href{javascript:alert(3)}{x}$\"'&"
# The same as a string of Lua.
EVIL_LUA = "[==[" + EVIL.replace("\\\\", "\\") + "]==]"


class Page(html.parser.HTMLParser):
    """What a page would do: its elements, in order, with their attributes; whether all that opens is closed."""

    VOID = ("br", "img", "hr", "audio", "input")

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open and self.open[-1] == tag, (tag, self.open)
            self.open.pop()

    def handle_data(self, data):
        self.text += data


class Display(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.context = kernel()
        _, cls.client = cls.context.__enter__()
        cls.client.run(NET)

    @classmethod
    def tearDownClass(cls):
        cls.context.__exit__(None, None, None)

    def shown(self, code):
        """The content of the last display or value of a cell."""
        reply, messages = self.client.run(code)
        self.assertEqual(reply["status"], "ok", reply)
        shown = [m["content"] for m in messages if "data" in m["content"]]
        self.assertTrue(shown, code)
        self.assertTrue(shown[-1]["data"]["text/plain"], "%s has no text" % code)
        return shown[-1]

    def fails(self, code, pattern):
        reply, messages = self.client.run(code)
        self.assertEqual(reply["status"], "error", code)
        self.assertRegex(reply["evalue"], pattern)

    # ---- bundles ----

    def test_a_table_of_types_is_a_bundle(self):
        c = self.shown("display{['text/html']='<b>1 &lt; 2</b>'}")
        self.assertEqual(c["data"], {"text/html": "<b>1 &lt; 2</b>", "text/plain": "1 < 2"})
        self.assertEqual(c["metadata"], {})
        # A table of anything else is a table.
        self.assertEqual(self.shown("display{1, 2}")["data"]["text/plain"], "{ 1, 2 }")
        self.assertNotIn("text/html", self.shown("display{html='x'}")["data"])

    def test_bytes_of_any_type_are_base64(self):
        for mime in ("image/png", "audio/wav", "video/mp4", "application/pdf", "application/x-thing", "font/woff2"):
            for data in (b"\x00\xff\x80", PNG, bytes(range(256))):
                code = "display{['%s']='%s'}" % (mime, "".join("\\x%02x" % b for b in data))
                self.assertEqual(base64.b64decode(self.shown(code)["data"][mime]), data, mime)
        self.assertEqual(base64.b64decode(self.shown("display{['image/x-portable-graymap']='P2 1 1 255 7'}")
                                          ["data"]["image/x-portable-graymap"]), b"P2 1 1 255 7")
        text = base64.b64encode(PNG).decode()
        self.assertEqual(self.shown("display{['image/png']='%s'}" % text)["data"]["image/png"], text)
        for mime in ("text/css", "application/javascript", "application/x-words"):
            self.assertEqual(self.shown("display{['%s']='ä {}'}" % mime)["data"][mime], "ä {}")

    def test_json(self):
        self.assertEqual(self.shown("display{['application/json']={a={1, 2.5, true}, b='x'}}")["data"]["application/json"],
                         {"a": [1, 2.5, True], "b": "x"})
        self.assertEqual(self.shown("display{['application/vnd.vega.v5+json']='[1]'}")["data"]["application/vnd.vega.v5+json"], [1])
        for broken in ("{", "{a: 1}", "[1,]", "", "\\xff"):
            self.fails("display{['application/json']='%s'}" % broken, "no JSON")
            self.fails("JSON '%s'" % broken, "no JSON")
        self.fails("display{['application/json']={print}}", "function")
        self.fails("t = {}; t[1] = t; JSON(t)", "nested")

    def test_what_is_no_bundle(self):
        self.fails("display{['text/html']=5}", "text/html must be a string, got 5")
        for result in ("{html='x'}", "{['text/html']=false}", "5", "nil"):
            self.fails("setmetatable({}, {__display = function() return %s end})" % result, "__display")
        self.fails("display(1, {metadata=5})", "metadata must be a table")

    def test_metadata(self):
        self.assertEqual(self.shown("display({['image/png']='\\x89PNG'}, {metadata={['image/png']={width=30}}})")["metadata"],
                         {"image/png": {"width": 30}})
        value = "setmetatable({}, {__display = function() return {['text/html']='<i>x</i>'}, {isolated=true} end})"
        for code in (value, "display(%s)" % value):
            c = self.shown(code)
            self.assertEqual((c["metadata"], c["data"]["text/plain"]), ({"isolated": True}, "x"))

    # ---- helpers ----

    def test_helpers(self):
        self.assertEqual(self.shown("HTML '<b>x</b>'")["data"], {"text/html": "<b>x</b>", "text/plain": "x"})
        self.assertEqual(self.shown("Markdown '# x'")["data"], {"text/markdown": "# x", "text/plain": "# x"})
        self.assertEqual(self.shown("Latex 'x^2'")["data"], {"text/latex": "$$x^2$$", "text/plain": "x^2"})
        self.assertEqual(self.shown("Latex '$x$'")["data"]["text/latex"], "$x$")
        svg = self.shown("SVG '<?xml version=\"1.0\"?><svg xmlns=\"http://www.w3.org/2000/svg\"/>'")["data"]["image/svg+xml"]
        self.assertEqual(svg, '<svg xmlns="http://www.w3.org/2000/svg"/>')
        c = self.shown("JSON({a={1}}, {expanded=true})")
        self.assertEqual((c["data"]["application/json"], c["metadata"]), ({"a": [1]}, {"application/json": {"expanded": True}}))
        for name in ("HTML", "Markdown", "Latex", "SVG", "Image", "Audio", "JSON"):
            self.fails("%s()" % name if name != "JSON" else "JSON(print)", name + ": ")

    def test_images(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "dot.png")
            with open(path, "wb") as f:
                f.write(PNG)
            c = self.shown("Image('%s', {width=40})" % path)
            self.assertEqual(base64.b64decode(c["data"]["image/png"]), PNG)
            self.assertEqual(c["metadata"], {"image/png": {"width": 40}})
            self.assertIn("image/png", c["data"]["text/plain"])
            self.shown("display(Image(io.open('%s', 'rb'):read('a')))" % path)
            with open(path, "w", encoding="utf-8") as f:
                f.write("words")
            self.fails("Image '%s'" % path, "expected the bytes of an image")
        self.fails("Image '/no/such.png'", "No such file")
        self.assertIn("image/svg+xml", self.shown("Image(nb.rand(8, 8))")["data"])

    def test_audio(self):
        data = self.shown("Audio(nb.tensor{{0, 1, -1, 0.5}, {0, 0, 0, 0}}, {rate=8000})")["data"]
        source = Page(data["text/html"]).elements[0]
        self.assertEqual(source[0], "audio")
        mime, encoded = re.match("data:(.*);base64,(.*)$", source[1]["src"]).groups()
        self.assertEqual(mime, "audio/wav")
        with wave.open(io.BytesIO(base64.b64decode(encoded))) as w:
            self.assertEqual((w.getnchannels(), w.getsampwidth(), w.getframerate(), w.getnframes()), (2, 2, 8000, 4))
            left = [int.from_bytes(w.readframes(1)[:2], "little", signed=True) for _ in range(4)]
        self.assertEqual(left, [0, 32767, -32767, 16384])
        self.fails("Audio(nb.zeros(2, 2, 2))", "shape")
        self.fails("Audio(nb.tensor{0/0})", "finite")

    def test_the_reference_knows_them(self):
        for name in ("display", "HTML", "Markdown", "Latex", "SVG", "Image", "Audio", "JSON", "__display", "plot.formats"):
            reply, _ = self.client.run("?" + name)
            self.assertIn(name, reply["payload"][0]["data"]["text/plain"].split("\n")[0])
        matches = self.client.request("complete_request", {"code": "Mark", "cursor_pos": 4})["matches"]
        self.assertIn("Markdown", matches)

    # ---- cards ----

    def page(self, code):
        c = self.shown(code)
        self.assertIn("text/html", c["data"], code)
        page = Page(c["data"]["text/html"])
        self.assertEqual(page.open, [], code)
        return page

    def test_tensors(self):
        page = self.page("nb.tensor{{1, -2, 3}, {4, 0.5, 6}}")
        for word in ("f32", "2×3", "min", "−2", "max", "6", "mean", "2.08", "std", "0.500"):
            self.assertIn(word, page.text)
        grounds = [a["style"] for t, a in page.elements if t == "td"]
        self.assertEqual(len(grounds), 6)
        opacity = [float(re.search(r"rgba\([\d,]*,([\d.]*)\)", g).group(1)) for g in grounds]
        self.assertEqual([round(o / opacity[-1], 1) for o in opacity], [0.2, 0.3, 0.5, 0.7, 0.1, 1.0])
        self.assertIn("2 not finite", self.page("nb.tensor{1, 0/0, 1/0, 2}").text)
        self.assertIn("true 2 of 3", self.page("nb.tensor({1, 0, 1}, {dtype='bool'})").text)
        self.assertIn("requires grad", self.page("nb.tensor({1, 2}, {requires_grad=true})").text)
        self.assertNotIn("text/html", self.shown("nb.tensor(3)")["data"])
        self.assertNotIn("text/html", self.shown("nb.zeros(0, 3)")["data"])

    def test_slices_are_paged_through_without_scripts(self):
        page = self.page("nb.arange(24):reshape(2, 3, 2, 2)")
        details = [a for t, a in page.elements if t == "details"]
        self.assertEqual(len(details), 6)
        self.assertEqual(len({a["name"] for a in details}), 1)
        self.assertEqual(sum("open" in a for a in details), 1)
        for i in (1, 2):
            for k in (1, 2, 3):
                self.assertIn("[%d, %d, :, :]" % (i, k), page.text)
        self.assertIn("more of 1000", self.page("nb.zeros(10, 100, 2, 2)").text)

    def test_nets_fold(self):
        page = self.page("nn.Sequential{ nn.Linear(2, 3), nn.Sequential{ nn.Tanh(), nn.Linear(3, 1) } }")
        self.assertEqual([t for t, _ in page.elements if t == "details"], ["details"] * 4)
        for word in ("Sequential", "Linear(2 → 3)", "weight", "3×2", "13 parameters", "Tanh"):
            self.assertIn(word, page.text)

    def test_lists_of_records_are_tables(self):
        page = self.page("{{name='a', loss=0.5}, {name='b', loss=1}, {name='c', extra=true}}")
        self.assertEqual(sum(t == "tr" for t, _ in page.elements), 4)
        for word in ("name", "loss", "extra", "0.5", "true"):
            self.assertIn(word, page.text)
        for other in ("{{1, 2}, {3, 4}}", "{{a={}}, {a=1}}", "{1, {a=1}}", "{{a=1}, {b=2}, x=3}"):
            self.assertNotIn("text/html", self.shown(other)["data"], other)

    def test_no_card_holds_tex_or_is_wider_than_a_page(self):
        self.client.run("s = inspect.step(net, x, y, {loss=nn.MSELoss(), lr=0.5})")
        cards = ["s"] + ["s:next()"] * 10 + ["inspect.summary(net, x)", "inspect.diagnose(net, x, y, nn.MSELoss())",
                                             "inspect.gradcheck(function(a) return (a * a:detach()):sum() end, { nb.randn(3) })"]
        raised = 0
        for code in cards:
            page = self.page(code)
            self.assertNotRegex(page.text, r"[$\\]|\^\{|_\{", code)
            raised += sum(t == "sup" for t, _ in page.elements)
            for _, attributes in page.elements:
                for width in re.findall(r"(?<!max-)(?<!min-)width:(\d+)px", attributes.get("style", "")):
                    self.assertLessEqual(int(width), 760)
        self.assertGreater(raised, 20)

    def test_drawings_fit_a_page_and_have_no_ground(self):
        self.client.run("w = inspect.watch(net); for i = 1, 3 do net(x):sum():backward() end; w:detach()\n"
                        "long = nb.rand(2, 2); long.requires_grad = true; v = long\n"
                        "for i = 1, 14 do v = nb.cat({v:sin(), v:cos(), v:tanh(), v:exp()}, 1)[{{1, 2}}] end")
        for code in ("plot.curve{a={3, 2, 1}, b={1, 2, 2}}", "plot.images(nb.rand(30, 8, 8))", "plot.activation('tanh')",
                     "inspect.diagram(net, {x=nb.rand(3)})", "inspect.graph(v:sum())", "w", "w:ridgeline()",
                     "plot.heatmap(nb.rand(5, 40))", "plot.histogram(nb.randn(1000))",
                     "inspect.diagram(nn.Sequential{ nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), "
                     "nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 3), nn.Tanh(), nn.Linear(3, 1) })"):
            root = ElementTree.fromstring(self.shown(code)["data"]["image/svg+xml"])
            width, unit = re.match(r"([\d.]+)(pt|px)?$", root.get("width")).groups()
            self.assertLessEqual(float(width) * (4 / 3 if unit == "pt" else 1), 760, code)
            for e in root.iter():
                if e.tag.endswith("rect") and float(e.get("width", "0")) >= float(width):
                    self.assertNotIn(e.get("fill"), ("#ffffff", "white", "#FFFFFF"), code)
            for group in root.iter("{http://www.w3.org/2000/svg}g"):
                if any(e.get("fill", "none") not in ("none", "transparent") for e in group if e.tag[-4:] in ("ipse", "rcle", "path", "ygon")):
                    continue  # the text of a box stands on the box
                for e in group:
                    if e.tag.endswith("}text") and (e.text or "").strip():
                        fill = e.get("fill") or group.get("fill") or "black"
                        self.assertNotIn(fill, ("#222222", "rgb(34,34,34)", "black"), "%s: dark ink on no ground: %s" % (code, e.text))

    def test_inks_are_legible_on_light_and_dark_pages(self):
        def contrast(rgb, ground):
            def luminance(c):
                c = [v / 255 for v in c]
                return sum(w * (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4) for w, v in zip((0.2126, 0.7152, 0.0722), c))
            a, b = luminance(rgb), luminance(ground)
            return (max(a, b) + 0.05) / (min(a, b) + 0.05)

        # Ten series have the palette's colours, more of them a scale that begins in the dark.
        for n in (10, 14):
            code = "local s = {} for i = 1, %d do s[('%%02d'):format(i)] = {i, i + 1, i + 3} end return plot.curve(s, {title='t', " \
                   "xlabel='x', ylabel='y'})" % n
            svg = self.shown(code)["data"]["image/svg+xml"]
            inks = set(re.findall(r'<text [^>]*fill="#(..)(..)(..)"', svg))
            self.assertGreater(len(inks), 5)
            for ink in inks:
                ink = [int(v, 16) for v in ink]
                self.assertGreater(contrast(ink, (17, 17, 17)), 3.3, ink)
            grays = [ink for ink in inks if len(set(ink)) == 1]
            self.assertTrue(grays)
            for ink in grays:
                self.assertGreater(contrast([int(v, 16) for v in ink], (255, 255, 255)), 3.9, ink)

    def test_formats_of_plots(self):
        data = self.shown("plot.formats('svg', 'png', 'pdf') return plot.curve{3, 2, 1}")["data"]
        self.assertEqual(base64.b64decode(data["image/png"])[:8], b"\x89PNG\r\n\x1a\n")
        pdf = base64.b64decode(data["application/pdf"])
        self.assertTrue(pdf.startswith(b"%PDF-") and pdf.rstrip().endswith(b"%%EOF"), pdf[-40:])
        self.assertIn("image/svg+xml", data)
        for code in ("inspect.diagram(net)", "inspect.graph(net(x):sum())"):
            data = self.shown("plot.formats('png') return " + code)["data"]
            self.assertEqual(base64.b64decode(data["image/png"])[:4], b"\x89PNG")
            self.assertNotIn("image/svg+xml", data)
        self.fails("plot.formats 'gif'", "svg")
        self.client.run("plot.formats 'svg'")

    # ---- text from elsewhere is data ----

    def test_nothing_from_a_string_becomes_an_element(self):
        for code in ("{{['<b>']=%(e)s, b=1}, {b=2}}", "local t = nb.tensor{1, 2} t.name = %(e)s return t",
                     "local m = nn.Sequential{ nn.Linear(2, 2) } m[%(e)s] = nn.Linear(2, 2) return m",
                     "local w = nb.tensor({1, 2}, {requires_grad=true, name=%(e)s}) local s = inspect.step(function() "
                     "return (w * w):sum() end) s:to('backward') return s"):
            c = self.client.run(code % {"e": EVIL_LUA})
            shown = [m["content"]["data"] for m in c[1] if "data" in m["content"]]
            if c[0]["status"] != "ok":
                continue  # a name that is refused is no danger
            page = Page(shown[-1]["text/html"])
            self.assertEqual(page.open, [], code)
            for tag, attributes in page.elements:
                self.assertNotIn(tag, ("script", "img", "a", "iframe"), code)
                self.assertFalse([a for a in attributes if a.startswith("on")], code)
            self.assertTrue(any("mathjax_ignore" in a.get("class", "") for _, a in page.elements), code)

    def test_names_in_formulas_are_escaped(self):
        code = ("local w = nb.tensor({1, 2}, {requires_grad=true, name=%s}) local J = (w * w):sum() return inspect.explain(J, w)"
                % EVIL_LUA)
        latex = self.shown(code)["data"]["text/latex"]
        self.assertNotRegex(latex, r"\\href|(?<!\\)#|<[a-zA-Z/!]")
        self.assertEqual(latex.replace(r"\{", "").replace(r"\}", "").count("{"), latex.replace(r"\{", "").replace(r"\}", "").count("}"))

    def test_drawings_hold_no_scripts(self):
        for code in ("plot.curve({[ %(e)s ]={1, 2}}, {title=%(e)s, xlabel=%(e)s})", "inspect.diagram(net, {title=%(e)s})",
                     "local w = nb.tensor({1, 2}, {requires_grad=true, name=%(e)s}) return inspect.graph((w * w):sum())"):
            root = ElementTree.fromstring(self.shown(code % {"e": EVIL_LUA})["data"]["image/svg+xml"])
            for e in root.iter():
                self.assertNotRegex(str(e.tag), "script|foreignObject|image$" if "curve" not in code else "script|foreignObject")
                for name, value in e.attrib.items():
                    self.assertFalse(name.startswith("on") or "javascript:" in value and "href" in name, (name, value))


if __name__ == "__main__":
    if not kernels.shutil.which("gnuplot") or not kernels.shutil.which("dot"):
        kernels.skip("this needs gnuplot and dot")
    unittest.main(warnings="ignore")
