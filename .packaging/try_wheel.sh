#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Tries the wheel of build/package/wheel in a new environment of Python's: JupyterLab lists the kernel, a lesson runs with
# its pictures where no gnuplot and no Graphviz is found, and no library comes from outside but those of every system.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
wheel=$(ls "$here"/build/package/wheel/*.whl)
env=$(mktemp -d)/env
trap 'rm -rf "$(dirname "$env")"' EXIT

say() { printf 'wheel: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
inside() { env -i PATH="$env/bin" HOME="$(dirname "$env")" LC_ALL=C.UTF-8 "$@"; }

python3 -m venv "$env"
"$env/bin/python" -m pip -q install --no-deps "$wheel"
inside nablua-kernel --version >&2
# jupyterlab has jupyter_client, nbconvert and ipykernel beside it.
"$env/bin/python" -m pip -q install jupyterlab
inside jupyter-kernelspec list 2>/dev/null | grep -E '^ *nablua ' >&2 || die "Jupyter does not list the kernel."
program=$(find "$env" -path '*nablua/bin/nablua-kernel')
outside=$(ldd "$program" | awk '$2 == "=>" { print $3 }' | grep -v "^$env\|^$(dirname "$program")" |
  grep -vE '/lib(c|m|gcc_s|stdc\+\+|resolv|pthread|dl|rt|z)\.so' || true)
[ -z "$outside" ] || die "these libraries come from outside: $outside"
for lesson in backpropagation vanishing_gradients; do
  inside jupyter-nbconvert --to notebook --execute --output-dir "$(dirname "$env")" \
    "$env/share/doc/nablua/examples/$lesson.ipynb" >"$env/log" 2>&1 || { tail "$env/log" >&2; die "$lesson.ipynb does not run."; }
  pictures=$(grep -c '"image/svg+xml"' "$(dirname "$env")/$lesson.ipynb" || true)
  [ "$pictures" -gt 0 ] || die "$lesson.ipynb has no pictures."
  ! grep -q 'apt install' "$(dirname "$env")/$lesson.ipynb" || die "$lesson.ipynb misses a program."
  say "$lesson.ipynb: $pictures pictures"
done
"$env/bin/python" -m pip -q uninstall -y nablua
! inside jupyter-kernelspec list 2>/dev/null | grep -qE '^ *nablua ' || die "the kernel is still listed after pip uninstall."
left=$(find "$env" -type f -ipath '*nablua*')
[ -z "$left" ] || die "pip uninstall leaves $left"
say "all is well"
