#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs a fuzzer on what it has learned and keeps what it finds: run.sh FUZZER FOLDER [SECONDS]
#
# What leads somewhere new stays in FOLDER/fuzz-corpus/NAME, an input that fails in FOLDER/fuzz-found/NAME-*.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
fuzzer=$1 folder=$2 name=${1##*/fuzz_}
seconds=${3:-$([ -n "${NABLUA_PROVE:-}" ] && echo 900 || echo 12)}
corpus="$folder/fuzz-corpus/$name" found="$folder/fuzz-found"
mkdir -p "$corpus" "$found"

# A beginning: each example is an input of the session, behind the byte that says where the cursor is.
if [ "$name" = session ] && [ -z "$(find "$corpus" -type f -print -quit)" ]; then
  for file in "$here"/../../examples/*.lua; do
    { printf '\x08'; head -c 2000 "$file"; } >"$corpus/$(basename "$file")"
  done
fi

count() { find "$corpus" -type f | wc -l; }
before=$(count) log=$(mktemp)
trap 'rm -f "$log"' EXIT
touch "$log"
"$fuzzer" -max_total_time="$seconds" -timeout=60 -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix="$found/$name-" \
  "$corpus" >"$log" 2>&1
status=$?
runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
echo "figure: ${runs:-?} inputs in $seconds s, $(($(count) - before)) of them new ways (in $corpus)"
[ "$status" -ne 0 ] || exit 0
tail -n 60 "$log"
failing=$(find "$found" -name "$name-*" -newer "$corpus" -printf '%T@ %p\n' | sort -n | tail -n 1 | cut -d' ' -f2-)
[ -z "$failing" ] || printf '\nThe input that failed: %s\nOnce more: %s %s\n' "$failing" "$fuzzer" "$failing"
exit 1
