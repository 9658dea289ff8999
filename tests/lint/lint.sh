#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The project's rules as a script: layers, banned calls, first lines, formatting, Lua lint.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
bad=0
report() {
  if [ -n "$2" ]; then
    printf '%s:\n%s\n' "$1" "$2"
    bad=1
  fi
}

mapfile -t c_files < <(find runtime lua kernel tests -name '*.[ch]')
mapfile -t lua_files < <(find lua tests examples -name '*.lua')

report "runtime/ includes another layer" \
  "$(grep -rnE '#include .*(lua|session)\b' runtime --include='*.[ch]')"
report "only kernel/session may include Lua in kernel/" \
  "$(grep -rnE '#include .*(lua|lauxlib|lualib)\.h' kernel --include='*.[ch]' | grep -v '^kernel/session/')"
report "the library must not call these" \
  "$(grep -rnE '(^|[^_a-z.])(exit|abort|printf|sprintf|puts|assert)\(' runtime lua --include='*.[ch]' | grep -v '^[^:]*:[0-9]*: *//')"
report "memory comes from memory.c alone" \
  "$(grep -rnE '(^|[^_a-z.])(malloc|calloc|realloc|free|aligned_alloc|strdup)\(' runtime lua --include='*.[ch]' | grep -v '^runtime/memory.c:')"
report "the licence line is missing" \
  "$(for f in "${c_files[@]}" "${lua_files[@]}"; do head -n 2 "$f" | grep -q 'SPDX-License-Identifier: MIT' || echo "$f"; done)"

if command -v clang-format >/dev/null; then
  report "clang-format would change" "$(clang-format --dry-run "${c_files[@]}" 2>&1 | grep -E 'warning' | cut -d: -f1 | sort | uniq -c)"
else
  echo "SKIPPED: clang-format is not installed"
fi
if command -v luacheck >/dev/null; then
  report "luacheck" "$(luacheck -q "${lua_files[@]}" | grep -vE '^(Total: 0 warnings|$)' || true)"
else
  echo "SKIPPED: luacheck is not installed"
fi
[ "$bad" -eq 0 ] && echo "lint: clean"
exit "$bad"
