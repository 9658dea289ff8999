#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs a test that the thread sanitizer looks at: threads.sh COMMAND...
#
# Older compilers' sanitizers refuse the addresses that newer kernels choose at random, so none are; where the system
# does not permit that and the sanitizer refuses, the test is skipped.
set -uo pipefail
command=("$@")
if setarch -R true 2>/dev/null; then command=(setarch -R "$@"); fi
said=$(mktemp)
trap 'rm -f "$said"' EXIT
"${command[@]}" 2>&1 | tee "$said"
status=${PIPESTATUS[0]}
if grep -q 'FATAL: ThreadSanitizer: unexpected memory mapping' "$said"; then exit 77; fi
exit "$status"
