# SPDX-License-Identifier: MIT
"""jupyter_kernel_test, all of it, with samples for every attribute that it knows."""
import unittest

import kernels

try:
    import jupyter_kernel_test
except ImportError:
    kernels.skip("this needs jupyter_kernel_test")


class Nablua(jupyter_kernel_test.KernelTests):
    kernel_name = "nablua"
    language_name = "lua"
    file_extension = ".lua"
    code_hello_world = "print('hello, world')"
    code_stderr = "io.stderr:write('oops\\n')"
    completion_samples = [
        {"text": "string.for", "matches": {"format"}},
        {"text": "nb.log_sof", "matches": {"log_softmax"}},
        {"text": "retur", "matches": {"return"}},
    ]
    complete_code_samples = ["x = 1", "print('hello')", "for i = 1, 2 do print(i) end", "", "1 + 1", "?nb.ones"]
    incomplete_code_samples = ["for i = 1, 2 do", "print(", "x = [[", "function f()", "local t = {1,"]
    invalid_code_samples = ["x = = 1", "end", "print('hello"]
    code_generate_error = "error('on purpose')"
    code_execute_result = [
        {"code": "6 * 7", "result": "42"},
        {"code": "'a' .. 'b'", "result": '"ab"'},
        {"code": "nb.tensor{1, 2}", "result": "1  2\nf32 2"},
        {"code": "return 1, 2", "result": "1\n2"},
    ]
    code_display_data = [
        {"code": "display(setmetatable({}, {__display = function() return {['text/plain'] = 's', "
                 "['image/svg+xml'] = '<svg xmlns=\"http://www.w3.org/2000/svg\"/>'} end}))", "mime": "image/svg+xml"},
        {"code": "display(setmetatable({}, {__display = function() return {['text/plain'] = 'p', "
                 "['image/png'] = '\\x89PNG\\r\\n'} end}))", "mime": "image/png"},
        {"code": "display(setmetatable({}, {__display = function() return {['text/plain'] = 'x', "
                 "['text/latex'] = '$$x$$'} end}))", "mime": "text/latex"},
        {"code": "display{1, 2}", "mime": "text/plain"},
    ]
    code_page_something = "?nb.ones"
    code_history_pattern = "6 [*] 7"
    supported_history_operations = ("tail", "range", "search")
    code_inspect_sample = "nb.ones"
    code_clear_output = "clear_output{wait=true}"


if hasattr(jupyter_kernel_test, "IopubWelcomeTests"):
    class Welcome(jupyter_kernel_test.IopubWelcomeTests):
        kernel_name = "nablua"
        support_iopub_welcome = True


if __name__ == "__main__":
    unittest.main()
