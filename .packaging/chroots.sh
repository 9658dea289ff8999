#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Tries the Debian packages as people use them, in clean systems: chroots.sh [bookworm | trixie]...
#
# Those of build/package/deb are for the release that this system is; for another they are built in it first, into
# build/package/RELEASE.  Needs root and debootstrap.  A clean system is made once, in build/chroots (or the folder in
# NABLUA_CHROOTS); each try works in a copy of it, and leaves nothing.  NABLUA_BEFORE names a checkout of an earlier
# version with what it built: packages of that are upgraded, in place of the same contents under a lower number.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bases=${NABLUA_CHROOTS:-$here/build/chroots}
ours="$here/build/package/deb"
before=${NABLUA_BEFORE:-}
host=$(sed -n "s/^VERSION_CODENAME=//p" /etc/os-release)
root="$bases/try"

say() { printf 'chroots: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
[ "$(id -u)" -eq 0 ] || die "clean systems are made by root; try: sudo $0"
command -v debootstrap >/dev/null || die "this needs debootstrap: apt-get install debootstrap"
ls "$ours"/*.deb >/dev/null 2>&1 || die "there are no packages in $ours; make them: ./dev package"

names=(nablua nablua-kernel lua-nablua libnablua0 libnablua-dev)

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
old() { (cd "$root" && printf './%s ' packages/old/*.deb); }

# A clean system at $root.
clean() {
  [ -f "$bases/$suite/etc/debian_version" ] || {
    say "making a clean $suite (this takes some minutes)"
    debootstrap --variant=minbase "$suite" "$bases/$suite" >"$bases/$suite.log" 2>&1 || die "debootstrap fails, see $bases/$suite.log"
  }
  finish
  cp -a --reflink=auto "$bases/$suite" "$root"
  # How this system reaches the archive.
  cp /etc/resolv.conf /etc/hosts "$root/etc"
  cp /etc/apt/apt.conf.d/*artifact-registry* "$root/etc/apt/apt.conf.d" 2>/dev/null || true
  mount -t proc proc "$root/proc"
  mount -t sysfs -o ro sys "$root/sys"
  mount --bind /dev "$root/dev"
  mount --bind /dev/pts "$root/dev/pts"
  apt update
}

# Packages for a release that is not this system's, unless those that are there are of this source.
build() {
  local mark
  packages="$here/build/package/$suite"
  [ "$suite" != "$host" ] || { packages=$ours; return; }
  mark=$(sha256sum "$ours"/*.deb | sha256sum)
  [ "$(cat "$packages/of" 2>/dev/null)" != "$mark" ] || return 0
  say "$suite: building its packages"
  rm -rf "$packages"
  mkdir -p "$packages"
  "$here/.packaging/package.sh" debian_source
  clean
  mv "$here/build/package/source" "$root/root/source"
  apt install dpkg-dev
  apt build-dep /root/source
  inside sh -c 'cd /root/source && DEB_BUILD_OPTIONS="nocheck noautodbgsym parallel=2" dpkg-buildpackage -b -us -uc' \
    >"$packages/log" 2>&1 || { tail -n 20 "$packages/log" >&2; die "$suite: dpkg-buildpackage fails, see $packages/log"; }
  cp "$root"/root/*.deb "$packages"
  printf '%s\n' "$mark" >"$packages/of"
  finish
}

# Packages that an earlier version would have had, in $root/packages/old: of its build, or else of the same contents.
make_old() {
  local file name tree="$root/packages/tree" library
  mkdir -p "$root/packages/old"
  for name in "${names[@]}"; do
    file=$(ls "$packages/${name}"_*.deb)
    dpkg-deb -R "$file" "$tree"
    sed -i -E 's/0\.[0-9]+\.[0-9]+-1/0.1.0-1/' "$tree/DEBIAN/control"
    if [ -n "$before" ]; then
      library=$(cd "$tree" && find usr -name nablua.so)
      rm -r "${tree:?}/usr"
      case $name in
        nablua)
          mkdir -p "$tree/usr/bin" "$tree/usr/share/doc/nablua"
          cp "$before/build/release/nablua" "$tree/usr/bin"
          cp -r "$before/README.md" "$before/examples" "$tree/usr/share/doc/nablua"
          ;;
        nablua-kernel)
          mkdir -p "$tree/usr/bin"
          cp "$before/build/release/nablua-kernel" "$tree/usr/bin"
          "$before/build/release/nablua-kernel" install --prefix "$tree/usr" >/dev/null
          sed -i "s#$before/build/release/#/usr/bin/#" "$tree/usr/share/jupyter/kernels/nablua/kernel.json"
          ;;
        lua-nablua)
          mkdir -p "$tree/$(dirname "$library")"
          cp "$before/build/release/nablua.so" "$tree/$library"
          ;;
        *)  # It had no library of its own.
          rm -r "$tree"
          continue
          ;;
      esac
      rm -f "$tree/DEBIAN"/{md5sums,triggers,shlibs,symbols}
    fi
    dpkg-deb --root-owner-group -b "$tree" "$root/packages/old/$(basename "$file")" >/dev/null
    rm -r "$tree"
  done
}

begin() {
  build
  clean
  mkdir -p "$root/packages"
  cp "$packages"/*.deb "$root/packages"
  make_old
  inside sh -c 'which cc gcc clang' >/dev/null 2>&1 && die "$suite: there is a compiler"
  return 0
}

finish() {
  [ -d "$root" ] || return 0
  umount "$root/proc" "$root/sys" "$root/dev/pts" "$root/dev" 2>/dev/null || true
  ! grep -q " $root/" /proc/mounts || die "something is still mounted below $root"
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

# A line typed at the prompt, which the history keeps.
remember() {
  # shellcheck disable=SC2016  # for the shell inside
  inside env WORD="$1" TERM=dumb sh -c 'printf "\"%s\"\n" "$WORD" | script -qec "nablua --no-banner" /dev/null' >/dev/null 2>&1 || die "$suite: the prompt fails"
  grep -aq "$1" "$root"/root/.local/state/nablua/* || die "$suite: the history does not know '$1'"
}

# What an older version leaves, and what the user wrote, stays or goes as it should.
upgrade() {
  local before after
  apt install jupyter-client lua5.4
  inside apt-get -qq clean
  before=$(files)
  # shellcheck disable=SC2046  # a word each
  apt install $(old)
  expect "the version before" "^nablua 0.1.0" nablua --version
  remember before_the_upgrade
  apt install "$(deb nablua)" "$(deb nablua-kernel)" "$(deb lua-nablua)" "$(deb libnablua0)" "$(deb libnablua-dev)"
  expect "an upgrade" "^nablua 0\.[2-9]" nablua --version
  expect "its kernel" "^nablua-kernel 0\.[2-9]" nablua-kernel --version
  expect "its module" "^0\.[2-9]" lua5.4 -e 'print(require("nablua").version)'
  expect "the kernelspec of now" "{resource_dir}|/usr/bin/nablua-kernel" grep -m 1 nablua-kernel /usr/share/jupyter/kernels/nablua/kernel.json
  remember after_the_upgrade
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
