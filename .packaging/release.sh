#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# What must hold before a version is given away, asked one by one: release.sh [STEP...]
#
# Prints a line for each, goes on behind what fails, and ends with 1 if anything did.
# shellcheck disable=SC2317  # steps are called by their names
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$here" || exit 2
log="$here/build/release.log"
version=$(sed -nE 's/^project\(nablua VERSION ([0-9.]+).*/\1/p' CMakeLists.txt)
steps=(committed changelog security lint docs packages reproducible rock wheel systems tests)

committed() { [ -z "$(git status --porcelain)" ] || { echo "there are changes that are not committed"; return 1; }; }

changelog() {
  grep -qE "^## $version( |\$)" CHANGELOG.md || { echo "CHANGELOG.md has no section '## $version': name it so, in place of Unreleased"; return 1; }
  ! grep -qE '^## Unreleased' CHANGELOG.md || { echo "CHANGELOG.md still has a section Unreleased"; return 1; }
}

# SECURITY.md speaks of what is there.
security() {
  local word
  for word in safetensors npy npz IDX CSV PNG JPEG HMAC-SHA256; do
    grep -q "$word" SECURITY.md || { echo "SECURITY.md does not speak of $word"; return 1; }
  done
}

lint() { ./dev lint; }

docs() {
  local begin=$SECONDS
  ./dev docs || return 1
  ! grep -q 'says nothing of' "$log" || { echo "docs/pytorch.tsv is not complete"; return 1; }
  [ $((SECONDS - begin)) -lt 180 ] || { echo "the site takes $((SECONDS - begin)) seconds, more than 180"; return 1; }
}

packages() { ./dev package; }

reproducible() {
  local first file
  first=$(mktemp -d)
  cp build/package/deb/*.deb build/package/rock/*.rock build/package/wheel/*.whl "$first"
  ./dev package || return 1
  for file in build/package/deb/*.deb build/package/rock/*.rock build/package/wheel/*.whl; do
    cmp "$file" "$first/$(basename "$file")" || return 1
  done
  rm -r "$first"
}

rock() {
  local tree
  tree=$(mktemp -d)
  luarocks --lua-version 5.4 --tree "$tree" install build/package/rock/*.src.rock || return 1
  [ "$(LUA_CPATH="$tree/lib/lua/5.4/?.so" lua5.4 -e 'io.write(require("nablua").version)')" = "$version" ] || return 1
  rm -r "$tree"
}

wheel() { .packaging/try_wheel.sh; }
systems() { .packaging/chroots.sh; }
tests() { ./dev test; }

[ $# -gt 0 ] || set -- "${steps[@]}"
mkdir -p build
bad=0
for step in "$@"; do
  [[ " ${steps[*]} " == *" $step "* ]] || { echo "release: there is no step '$step'. There are: ${steps[*]}" >&2; exit 2; }
  if "$step" >"$log" 2>&1 </dev/null; then
    printf 'ok   %s\n' "$step"
  else
    printf 'not  %s: %s\n' "$step" "$(tail -n 1 "$log")"
    cp "$log" "build/release-$step.log"
    bad=1
  fi
done
exit "$bad"
