# SPDX-License-Identifier: MIT
# Prints how many tests passed, failed and were skipped: awk -f count.awk CTEST-OUTPUT LastTest.log
# What luaunit, cmocka and unittest count inside a test of ctest's counts one by one; any other test
# counts as one.  Whether a test failed is ctest's word: a crash after the last count is a failure.

# " 1/8 Test #3: lua.test_nn ......   Passed    0.01 sec", or "...***Failed", "***Timeout", "***Skipped"
FNR == NR {
  if ($0 ~ /^ *[0-9]+\/[0-9]+ Test +#[0-9]+: /) {
    line = $0
    sub(/^ *[0-9]+\/[0-9]+ Test +#[0-9]+: /, "", line)
    split(line, word, " ")
    result[word[1]] = line ~ /\*\*\*(Skipped|Not Run \(Disabled\))/ ? "skipped" : line ~ /\*\*\*/ ? "failed" : "passed"
  }
  next
}

/^[0-9]+\/[0-9]+ Testing: / { name = $3 }

# "Ran 5 tests in 0.001 seconds, 3 successes, 1 failure, 1 error, 2 skipped"
/^Ran [0-9]+ tests? in [0-9.]+ seconds, / {
  n = split($0, part, ", ")
  for (i = 2; i <= n; i++) {
    split(part[i], word, " ")
    if (word[2] ~ /^success/) p[name] += word[1]
    else if (word[2] ~ /^(failure|error)/) f[name] += word[1]
    else if (word[2] == "skipped") s[name] += word[1]
  }
}

# "[  PASSED  ] 2 test(s)."
/^\[  (PASSED|FAILED)  \] [0-9]+ test\(s\)/ { if ($2 == "PASSED") p[name] += $4; else f[name] += $4 }
/^\[  SKIPPED \] [0-9]+ test\(s\)/ { s[name] += $4 }

# "Ran 4 tests in 0.000s", then "OK", "OK (skipped=1)" or "FAILED (failures=1, errors=1, skipped=1)"
/^Ran [0-9]+ tests? in [0-9.]+s$/ { ran = $2 }
ran && /^(OK|FAILED)( \(.*\))?$/ {
  n = split($0, part, /[(), ]+/)
  for (i = 2; i <= n; i++) {
    split(part[i], word, "=")
    if (word[1] == "failures" || word[1] == "errors") { f[name] += word[2]; ran -= word[2] }
    if (word[1] == "skipped") { s[name] += word[2]; ran -= word[2] }
  }
  p[name] += ran
  ran = 0
}

END {
  for (name in result) {
    counted = p[name] + f[name] + s[name]
    if (result[name] == "skipped") { skipped++; continue }
    if (result[name] == "passed" && !counted) p[name] = 1
    if (result[name] == "failed" && !f[name]) f[name] = 1
    passed += p[name]; failed += f[name]; skipped += s[name]
  }
  print passed + 0, failed + 0, skipped + 0
}
