#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""papermill for notebooks in Lua: `python3 papermill_lua.py in.ipynb out.ipynb -p lr 0.1`, options as papermill's own.

papermill knows how to write parameters in some languages; this is Lua's, in the form of those it has
(papermill/translators.py).  A cell with the tag "parameters" holds the defaults; what is given stands in a cell after it.
"""
import math

from papermill.translators import Translator, papermill_translators


class LuaTranslator(Translator):
    @classmethod
    def translate_str(cls, val):
        escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\0": "\\0"}
        return '"' + "".join(escapes.get(c) or (c if c.isprintable() else "\\u{%x}" % ord(c)) for c in val) + '"'

    @classmethod
    def translate_none(cls, val):
        return "nil"

    @classmethod
    def translate_float(cls, val):
        if math.isfinite(val):
            return repr(val)
        return "(0/0)" if math.isnan(val) else "math.huge" if val > 0 else "-math.huge"

    @classmethod
    def translate_dict(cls, val):
        items = ", ".join("[%s] = %s" % (cls.translate_str(str(k)), cls.translate(v)) for k, v in val.items())
        return "{%s}" % items

    @classmethod
    def translate_list(cls, val):
        return "{%s}" % ", ".join(cls.translate(v) for v in val)

    @classmethod
    def comment(cls, cmt_str):
        return ("-- %s" % cmt_str).strip()


papermill_translators.register("lua", LuaTranslator)

if __name__ == "__main__":
    from papermill.cli import papermill

    papermill()
