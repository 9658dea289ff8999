# SPDX-License-Identifier: MIT
"""Writes a wheel out of an installed tree: wheel.py TREE VERSION FOLDER.  auditwheel adds the libraries afterwards.

The kernel lies in the package, where auditwheel may give it a path to its libraries; the command that pip makes runs it.
The kernelspec and the notebooks go below the environment's share/, where Jupyter looks."""
import base64
import hashlib
import os
import re
import subprocess
import sys
import time
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TAG = "py3-none-linux_x86_64"

# What every Linux of the tag has, which auditwheel leaves out.
SYSTEM = re.compile(r"^(libc|libm|libpthread|libdl|librt|libresolv|libgcc_s|libstdc\+\+|ld-linux.*|linux-vdso)\.so")

ABOUT = """Metadata-Version: 2.1
Name: nablua
Version: {version}
Summary: Jupyter kernel for neural nets in Lua: define, train and inspect
License: MIT
Keywords: jupyter,kernel,lua,neural networks,backpropagation
Classifier: Framework :: Jupyter
Classifier: Intended Audience :: Education
Classifier: Intended Audience :: Science/Research
Classifier: License :: OSI Approved :: MIT License
Classifier: Operating System :: POSIX :: Linux
Classifier: Topic :: Scientific/Engineering :: Artificial Intelligence
Requires-Python: >=3.8
Description-Content-Type: text/markdown

# nablua

Notebooks in Lua with tensors, backpropagation, layers, optimizers and plots. After the installation every Jupyter of this
environment has the kernel *Lua (nablua)*; lessons are in `share/doc/nablua/examples` of the environment. Nothing else is
needed: drawings are SVG of the kernel's own. `gnuplot` adds PNG and PDF, Graphviz the graphs of `inspect.graph`.
"""


def licences(program):
    """The licences of the libraries that will be bundled, by their Debian packages."""
    found = {}
    for name, path in re.findall(r"(\S+) => (\S+)", subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout):
        if SYSTEM.match(name):
            continue
        for place in (path, os.path.realpath(path), re.sub("^/lib", "/usr/lib", path)):
            r = subprocess.run(["dpkg-query", "-S", place], capture_output=True, text=True)
            if r.returncode == 0:
                package = r.stdout.split(":")[0]
                found["%s.txt" % package] = "/usr/share/doc/%s/copyright" % package
                break
        else:
            sys.exit("wheel: no package is known to have %s" % path)
    return found


def main(tree, version, folder):
    program = os.path.join(tree, "bin/nablua-kernel")
    info, data = "nablua-%s.dist-info/" % version, "nablua-%s.data/data/" % version
    files = {"nablua/__init__.py": open(os.path.join(HERE, "nablua.py"), "rb").read(),
             "nablua/bin/nablua-kernel": open(program, "rb").read(),
             info + "METADATA": ABOUT.format(version=version).encode(),
             info + "WHEEL": ("Wheel-Version: 1.0\nGenerator: nablua\nRoot-Is-Purelib: false\nTag: %s\n" % TAG).encode(),
             info + "entry_points.txt": b"[console_scripts]\nnablua-kernel = nablua:kernel\n",
             info + "licenses/LICENSE": open(os.path.join(ROOT, "LICENSE"), "rb").read()}
    for name, path in licences(program).items():
        files[info + "licenses/" + name] = open(path, "rb").read()
    for below in ("share/jupyter/kernels/nablua", "share/doc/nablua/examples"):
        for name in sorted(os.listdir(os.path.join(tree, below))):
            path = os.path.join(tree, below, name)
            if os.path.isfile(path):
                files["%s%s/%s" % (data, below, name)] = open(path, "rb").read()
    record = ""
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        record += "%s,sha256=%s,%d\n" % (name, digest, len(content))
    files[info + "RECORD"] = (record + info + "RECORD,,\n").encode()
    when = time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"]))[:6]
    with zipfile.ZipFile(os.path.join(folder, "nablua-%s-%s.whl" % (version, TAG)), "w", zipfile.ZIP_DEFLATED) as z:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, when)
            entry.external_attr = (0o755 if name.endswith("bin/nablua-kernel") else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            z.writestr(entry, content)


main(*sys.argv[1:])
