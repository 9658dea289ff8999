# SPDX-License-Identifier: MIT
"""The command nablua-kernel of the wheel: the program that lies in the package takes its place."""
import os
import sys

FOLDER = os.path.dirname(os.path.abspath(__file__))
PROGRAM = os.path.join(FOLDER, "bin", "nablua-kernel")


def kernel():
    """Runs the kernel with the command line; does not return."""
    try:
        os.execv(PROGRAM, [PROGRAM] + sys.argv[1:])
    except OSError as e:
        sys.exit("nablua-kernel: %s cannot be run: %s; is this Linux on x86-64 with glibc?" % (PROGRAM, e.strerror))
