# SPDX-License-Identifier: MIT
"""The faults that a kernel survives, once more, while somebody else asks it all the time."""
import os
import unittest

os.environ["NABLUA_VISITORS"] = "1"

import kernels  # noqa: E402

if not kernels.SANITIZED and os.environ.get("NABLUA_PROVE") != "1":
    kernels.skip("this is for sanitizers and NABLUA_PROVE=1")
from test_faults import *  # noqa: E402,F401,F403

if __name__ == "__main__":
    unittest.main()
