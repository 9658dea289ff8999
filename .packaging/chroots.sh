#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Tries the Debian packages of build/package/deb as people use them, in clean systems: chroots.sh [bookworm | trixie]...
#
# Needs root and debootstrap.  A clean system is made once, in build/chroots (or the folder in NABLUA_CHROOTS); each try
# works in a copy of it, and leaves nothing.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bases=${NABLUA_CHROOTS:-$here/build/chroots}
packages=${NABLUA_PACKAGES:-$here/build/package/deb}
root="$bases/try"

say() { printf 'chroots: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
[ "$(id -u)" -eq 0 ] || die "clean systems are made by root; try: sudo $0"
command -v debootstrap >/dev/null || die "this needs debootstrap: apt-get install debootstrap"
ls "$packages"/*.deb >/dev/null 2>&1 || die "there are no packages in $packages; make them: ./dev package"

inside() { chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive "$@"; }
apt() { inside apt-get -qq -y --no-install-recommends -o Dpkg::Use-Pty=0 "$@" >"$bases/apt.log" 2>&1 </dev/null || { tail -n 20 "$bases/apt.log" >&2; die "apt-get $* fails in $suite"; }; }

# expect WHAT PATTERN COMMAND...: it ends well and says what matches.
expect() {
  local what=$1 pattern=$2 text
  shift 2
  text=$(inside "$@" 2>&1) || { printf '%s\n' "$text" >&2; die "$suite: $what: '$*' fails"; }
  grep -qE "$pattern" <<<"$text" || { printf '%s\n' "$text" >&2; die "$suite: $what: '$*' does not say $pattern"; }
  say "$suite: $what: $(grep -E -m 1 "$pattern" <<<"$text" | sed 's/^ *//')"
}

# All files but those that package managers and the system keep for themselves.
files() { (cd "$root" && find . -xdev \( -path ./proc -o -path ./sys -o -path ./dev -o -path ./packages -o -path ./tmp -o -path ./var/cache -o -path ./var/lib/apt -o -path ./var/lib/dpkg -o -path ./var/log \) -prune -o -print | sort); }

deb() { local path; path=$(cd "$root/packages" && ls "$1"_*.deb); printf './packages/%s' "$path"; }
old() { printf './packages/old/%s' "$(basename "$(deb "$1")")"; }

begin() {
  [ -f "$bases/$suite/etc/debian_version" ] || {
    say "making a clean $suite (this takes some minutes)"
    debootstrap --variant=minbase "$suite" "$bases/$suite" >"$bases/$suite.log" 2>&1 || die "debootstrap fails, see $bases/$suite.log"
  }
  finish
  cp -a --reflink=auto "$bases/$suite" "$root"
  mount -t proc proc "$root/proc"
  mount --bind /dev "$root/dev"
  mkdir -p "$root/packages/old"
  cp "$packages"/*.deb "$root/packages"
  # The same contents under an earlier version, to come from.
  for file in "$packages"/*.deb; do
    dpkg-deb -R "$file" "$root/packages/tree"
    sed -i -E 's/0\.[0-9]+\.[0-9]+-1/0.1.0-1/' "$root/packages/tree/DEBIAN/control"
    dpkg-deb --root-owner-group -b "$root/packages/tree" "$root/packages/old/$(basename "$file")" >/dev/null
    rm -r "$root/packages/tree"
  done
  inside sh -c 'which cc gcc clang' >/dev/null 2>&1 && die "$suite: there is a compiler"
  apt update
}

finish() {
  [ -d "$root" ] || return 0
  umount "$root/proc" "$root/dev" 2>/dev/null || true
  ! mountpoint -q "$root/dev" || die "$root/dev is still mounted"
  rm -rf --one-file-system "$root"
}
trap finish EXIT

terminal() {
  apt install "$(deb nablua)"
  expect "the terminal alone" "^nablua [0-9.]+" nablua --version
  expect "a script" "^1 xor 0 = 0.9" nablua /usr/share/doc/nablua/examples/xor.lua
  expect "a locale that is not there" "6" env LC_ALL=xx_YY.broken nablua -e 'print(nb.tensor{1, 2, 3}:sum():item())'
  expect "without data" "apt install dataset-fashion-mnist" sh -c 'nablua /usr/share/doc/nablua/examples/fashion_mnist.lua || true'
  apt install dataset-fashion-mnist
  expect "60,000 images" "accuracy|0\.8|8[0-9]\.[0-9] ?%" sh -c 'nablua /usr/share/doc/nablua/examples/fashion_mnist.lua | tail -n 3'
}

kernel() {
  apt install "$(deb nablua-kernel)" jupyter-client
  expect "the kernel beside Jupyter" "nablua +/usr/share/jupyter/kernels/nablua" jupyter kernelspec list
  apt install python3-jupyter-kernel-test
  mkdir -p "$root/packages/tests"
  cp "$here"/tests/jupyter/{kernels,test_conformance}.py "$root/packages/tests"
  expect "jupyter_kernel_test" "^OK" env NABLUA_KERNEL=/usr/bin/nablua-kernel python3 /packages/tests/test_conformance.py
  cat >"$root/packages/removal.py" <<'PY'
import subprocess
from jupyter_client.manager import start_new_kernel
manager, client = start_new_kernel(kernel_name="nablua")
subprocess.run(["apt-get", "-qq", "-y", "remove", "nablua-kernel"], check=True, capture_output=True)
client.execute_interactive("print(6 * nb.tensor{7}:item())", output_hook=lambda m: print(m["content"].get("text", ""), end=""), timeout=60)
client.stop_channels()
manager.shutdown_kernel(now=True)
PY
  expect "a kernel goes on after its package has gone" "^42" python3 /packages/removal.py
}

module() {
  apt install "$(deb lua-nablua)" lua5.4
  expect "a stock lua5.4" "^6" lua5.4 -e 'print(require("nablua").tensor{1, 2, 3}:sum():item())'
}

library() {
  apt install "$(deb libnablua0)"
  apt install "$(deb libnablua-dev)" gcc libc6-dev pkgconf
  # shellcheck disable=SC2016
  expect "a program in C" "^1 xor 0 = 0.9" sh -c \
    'cc -std=c17 /usr/share/doc/libnablua-dev/examples/xor.c $(pkg-config --cflags --libs nablua) -o /tmp/xor && /tmp/xor'
}

# The package is for the Open MPI that it was built with.
machines() {
  if ! inside apt-get -s install "$(deb nablua-dist)" >/dev/null 2>&1; then
    say "$suite: nablua-dist was built for another Open MPI, and is not for this system"
    return
  fi
  apt install "$(deb nablua)" "$(deb nablua-dist)" openmpi-bin
  # shellcheck disable=SC2016
  expect "two processes" "^2" env OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1 \
    mpirun -n 2 nablua -e 'print(require("nablua").dist.size)'
}

names=(nablua nablua-kernel lua-nablua libnablua0 libnablua-dev)

# What an older version leaves, and what the user wrote, stays or goes as it should.
upgrade() {
  local before after
  apt install jupyter-client lua5.4
  inside apt-get -qq clean
  before=$(files)
  apt install "$(old nablua)" "$(old nablua-kernel)" "$(old lua-nablua)" "$(old libnablua0)" "$(old libnablua-dev)"
  # shellcheck disable=SC2016
  expect "the version before" "0.1.0-1" dpkg-query -W -f '${Version}\n' nablua
  inside sh -c 'mkdir -p /root/.local/state/nablua && echo kept >/root/.local/state/nablua/history.sqlite'
  apt install "$(deb nablua)" "$(deb nablua-kernel)" "$(deb lua-nablua)" "$(deb libnablua0)" "$(deb libnablua-dev)"
  # shellcheck disable=SC2016
  expect "an upgrade" "0\.[2-9]" dpkg-query -W -f '${Version}\n' nablua
  expect "after it" "^2" nablua -e 'print(1 + 1)'
  apt remove "${names[@]}"
  inside dpkg --purge "${names[@]}" >/dev/null 2>&1 || die "$suite: purging fails"  # apt knows none without files any more
  apt autoremove --purge
  after=$(files | grep -vE '^\./(root/\.local|etc/ld\.so\.cache)' || true)
  after=$(comm -13 <(printf '%s\n' "$before") <(printf '%s\n' "$after"))
  [ -z "$after" ] || { printf '%s\n' "$after" >&2; die "$suite: after purging these are left"; }
  say "$suite: purged, left: $(cd "$root" && find root/.local -type f | paste -sd ' ')"
}

mkdir -p "$bases"
[ $# -gt 0 ] || set -- bookworm trixie
for suite in "$@"; do
  begin
  upgrade
  terminal
  module
  kernel
  library
  machines
  finish
done
say "all is well"
