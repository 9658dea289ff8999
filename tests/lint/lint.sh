#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The project's rules as a script: layers, links, banned calls, first lines, formatting, Lua lint.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." || exit 2

bad=0
report() {  # report RULE OFFENDERS
  [ -n "$2" ] || return 0
  printf '%s:\n%s\n\n' "$1" "$2"
  bad=1
}

c_of() { find "$@" -name '*.[ch]' 2>/dev/null | sort; }
lua_of() { find "$@" -name '*.lua' 2>/dev/null | sort; }
mapfile -t c_files < <(c_of runtime lua kernel tests examples)
mapfile -t lua_files < <(lua_of lua tests examples docs .packaging)
mapfile -t scripts < <(find dev .ci .packaging docs tests -type f \( -name '*.sh' -o -name run -o -name dev \))

# ---- layers: runtime/ <- lua/ <- kernel/ ----

# includes FOLDER...: "file:line:#include ..." of what lies there
includes() {
  local files
  mapfile -t files < <(c_of "$@")
  [ ${#files[@]} -eq 0 ] || grep -nE '^[[:space:]]*#[[:space:]]*include' /dev/null "${files[@]}"
}
# The names of the headers that lie below a folder, as a pattern.
headers() { find "$@" -name '*.h' -printf '%f\n' 2>/dev/null | sed 's/\./\\./g' | paste -sd '|'; }
has_lua='[<"/](lua|lauxlib|lualib|luaconf|lua\.hpp)\.h[>"]'

report "runtime/ knows no Lua, no front end" \
  "$(includes runtime | grep -E "$has_lua|[\"/]($(headers lua kernel))\"|zmq|readline|\.\./")"
report "lua/ knows no front end" "$(includes lua | grep -E "[\"/]($(headers kernel | sed 's/^$/-/'))\"|zmq|readline|\.\./")"
report "lua/ sees only the public headers of runtime/" \
  "$(includes lua | grep -E "\"($(find runtime -name '*.h' -not -path '*/include/*' -printf '%f\n' | sed 's/\./\\./g' | paste -sd '|'))\"")"
report "in kernel/, only session/ may include Lua or the layers below" \
  "$(includes kernel | grep -v '^kernel/session/' | grep -E "$has_lua|[\"<](nablua/|nablua_lua\.h|[^\"]*\.\./)")"
report "kernel/session/ knows no front end" "$(includes kernel/session | grep -E 'zmq|readline|editline|repl/|jupyter/|\.\./')"
report "session.h names no Lua and no tensor" "$(includes kernel/session/session.h | grep -E "$has_lua|nablua")"

report "a private header is its own folder's" \
  "$(includes runtime lua kernel | grep -E '_private\.h"' | while IFS=: read -r file line text; do
       header=${text#*\"}
       [ -f "$(dirname "$file")/${header%\"*}" ] || echo "$file:$line:$text"
     done)"
report "what a file may use of others" "$(python3 tests/lint/links.py "${NABLUA_BUILD:-build/release}" 2>&1)"

report "README.md and docs/ agree with the tree" "$(python3 tests/lint/docs.py)"
report "a mutation applies to the source as it is" "$(python3 tests/mutations/mutate.py --check)"
report "what is said never to run is there" "$(python3 tests/coverage.py --check)"

# ---- banned calls ----

# "file:line:code" without comments, strings and character constants
code() {
  local file
  while read -r file; do
    sed -E 's/\\./_/g; s/"[^"]*"/""/g; s/'"'[^']*'"'/0/g; s,//.*,,; s,/\*([^*]|\*[^/])*\*/,,g' "$file" | grep -n '' | sed "s|^|$file:|"
  done < <(c_of "$@")
}
call() { grep -E "(^|[^_[:alnum:].>])($1)[[:space:]]*\\("; }

runtime_code=$(code runtime)
lua_code=$(code lua)
report "the library and the binding never end the process, and never assert" \
  "$(printf '%s\n' "$runtime_code" "$lua_code" | call 'exit|_exit|_Exit|quick_exit|abort|assert')"
report "the library never prints, and formats with a bound" \
  "$(printf '%s\n' "$runtime_code" | grep -E '[^_[:alnum:]](stdout|stderr)([^_[:alnum:]]|$)'
     printf '%s\n' "$runtime_code" | call 'printf|vprintf|puts|putchar|perror|sprintf|vsprintf|gets')"
report "memory comes from runtime/base/memory.c alone" \
  "$(printf '%s\n' "$runtime_code" "$lua_code" | call 'malloc|calloc|realloc|reallocarray|free|aligned_alloc|posix_memalign|strdup|strndup' |
     grep -v '^runtime/base/memory\.c:')"

# Uninstalling removes, so does the end of a kernel whose sockets are files; SQLite's file is made private before it is SQLite's, and examples are a user's.
report "files are written through runtime/base/replace.c alone" \
  "$({ printf '%s\n' "$runtime_code" "$lua_code"; code kernel; } |
     grep -E '(^|[^_[:alnum:].>])(rename|renameat|fsync|fdatasync|creat|mkstemp|pwrite|unlink|unlinkat)[[:space:]]*\(|O_CREAT' |
     grep -vE '^(runtime/base/replace\.c|kernel/session/history\.c|kernel/jupyter/(install|connection)\.c):'
     grep -nE 'io\.open\(.*"[wa]' "${lua_files[@]}" | grep -E '^lua/' | grep -vE ':local f <close> = io\.open\(path, "w"\)$')"
report "durations are measured by nb_clock" \
  "$(printf '%s\n' "$runtime_code" "$lua_code" | grep CLOCK_MONOTONIC | grep -v '^runtime/base/clock\.c:')"
report "a text's columns are native.width, which knows wide characters" \
  "$(grep -nE 'utf8\.len\([^)]*\) or ' "${lua_files[@]}" | grep '^lua/')"

# ---- native names: each set by one file ----

report "a name of nablua.native is set twice" \
  "$(awk '/^void nb_open_/ { on = !/nb_open_(core|public_mode|metatable|scalar_metatable)\(/ } /^}/ { on = 0 }
           /luaL_Reg (methods|of_[a-z]+)\[\]/ { of_class = 1 } of_class { if (/;/) of_class = 0; next } on' lua/binding/*.c |
     grep -oE '\{"[a-z_0-9]+", [a-z_0-9]+\}' | cut -d'"' -f2 | sort | uniq -d)"

# ---- environment variables: a row of runtime/base/environment.c each ----

environment=runtime/base/environment.c
report "a variable of ours is a row in $environment, and read through it" \
  "$(grep -rnE 'getenv[ (]*["'"'"']NABLUA_' runtime lua kernel --include='*.[ch]' --include='*.lua' | grep -v "^$environment:")"
# "NAME applied" or "NAME asked": whether the row sets something, or its owner must ask
rows=$(awk -F'"' '/\.name = "/ { name = $2; kind = "asked" } /\.apply = / { kind = "applied" } name && /}/ { print name, kind; name = "" }' \
  "$environment")
asked=$(grep -rhoE 'nb_environment\("[A-Z_]+"' runtime lua kernel --include='*.c' | cut -d'"' -f2 | sort -u)
report "a variable that stands in $environment is read" \
  "$(comm -23 <(printf '%s\n' "$rows" | sed -n 's/ asked$//p' | sort) <(printf '%s\n' "$asked"))"
report "a variable that is read stands in $environment" \
  "$(comm -13 <(printf '%s\n' "$rows" | cut -d' ' -f1 | sort) <(printf '%s\n' "$asked"))"
# The front ends' help names what they read of other programs' variables, but for what belongs to the terminal, the
# user's account and Jupyter's installation.
report "a front end's help names the variables that it reads" \
  "$(grep -rhoE 'getenv[ (]*"[A-Z_]+"' lua kernel --include='*.c' --include='*.lua' | cut -d'"' -f2 | sort -u |
     grep -vxE 'HOME|TERM|JPY_PARENT_PID|JUPYTER_DATA_DIR|XDG_DATA_HOME|VIRTUAL_ENV|CONDA_PREFIX' |
     while read -r name; do grep -q "\"Environment.*\b$name\b" kernel/repl/main.c || echo "$name"; done)"

# ---- first lines: the licence, then what the file is for ----

first_lines() {
  local file
  for file in "${c_files[@]}" "${lua_files[@]}" "${scripts[@]}"; do
    awk -v file="$file" '
      NR == 1 && /^#!/ { next }
      ++n == 1 && !/^(\/\/|--|#) SPDX-License-Identifier: MIT$/ { print file ": no SPDX line"; exit }
      n == 2 { if ($0 !~ /^(\/\/|---?|#) [^ ]+ [^ ]+/) print file ": no sentence that says what it is for"; exit }
    ' "$file"
  done
}
report "a file starts with its licence and one sentence" "$(first_lines)"
report "an empty file came by accident" \
  "$(git ls-files -z 2>/dev/null | xargs -0 -r -I{} find {} -maxdepth 0 -type f -empty 2>/dev/null)"

# ---- tools ----

# Versions of clang-format disagree with each other; ours is Debian 12's.
format_version=$(clang-format --version 2>/dev/null | sed -nE 's/.*version ([0-9]+).*/\1/p')
if [ "$format_version" = 14 ]; then
  report "clang-format would change these" \
    "$(clang-format --dry-run "${c_files[@]}" 2>&1 | grep -E 'warning' | cut -d: -f1 | sort | uniq -c)"
else
  echo "not checked: formatting, which needs clang-format 14 (here: ${format_version:-none})"
fi
if command -v luacheck >/dev/null; then
  report "luacheck" "$(luacheck --quiet --no-color --codes "${lua_files[@]}" | grep -vE '^(Total: 0 warnings|$)')"
else
  echo "not checked: luacheck is not installed"
fi
if command -v shellcheck >/dev/null; then
  report "shellcheck" "$(shellcheck "${scripts[@]}" 2>&1)"
fi

[ "$bad" -eq 0 ] && echo "lint: clean"
exit "$bad"
