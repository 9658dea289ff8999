# SPDX-License-Identifier: MIT
"""The CSV files that scikit-learn, statsmodels and vega_datasets carry: read as pandas reads them, number by number.

How each file is to be read was decided by looking at it, and is written below as pandas' options; nablua is told
nothing but the path.  The packages are taken from the Python that NABLUA_PEER_PYTHON names, else from the one that
runs this; without pandas or without any of the three the test is skipped (77).
"""
import fnmatch
import glob
import importlib.util
import os
import subprocess
import sys
import tempfile
import unittest
import warnings

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
NABLUA = os.environ.get("NABLUA", os.path.join(ROOT, "build/release/nablua"))

other = os.environ.get("NABLUA_PEER_PYTHON")
if other and not os.environ.get("NABLUA_PEER_STARTED"):
    os.environ["NABLUA_PEER_STARTED"] = "1"
    os.execv(other, [other] + sys.argv)

PACKAGES = [name for name in ("sklearn", "statsmodels", "vega_datasets") if importlib.util.find_spec(name)]
if not PACKAGES or not importlib.util.find_spec("pandas"):
    print("skipped: %s has no pandas, or none of scikit-learn, statsmodels and vega_datasets; NABLUA_PEER_PYTHON may "
          "name a Python that has" % sys.executable)
    sys.exit(77)
import pandas as pd  # noqa: E402

warnings.filterwarnings("ignore", message=".*float_precision.*")

BLANKS, NUMBERS, COUNTS = {"sep": r"\s+"}, {"header": None}, {"header": None, "skiprows": 1}
READ = {
    # blanks part the cells
    "*/sklearn/*/diabetes_data_raw.csv.gz": {**BLANKS, **NUMBERS}, "*/sklearn/*/linnerud_*.csv": BLANKS,
    "*/anes96/anes96.csv": {"sep": "\t"}, "*/anes96/src/anes96.csv": BLANKS, "*/spector.csv": BLANKS,
    "*/scotland/src/scotvote.csv": BLANKS, "*/E6_jmulti.csv": {**BLANKS, **NUMBERS},
    "*/phat_mnlogit.csv": {**BLANKS, **NUMBERS}, "*/yhat_mnlogit.csv": {**BLANKS, **NUMBERS},
    "*/survival_data_*.csv": {**BLANKS, **NUMBERS}, "*/test_coint.csv": {**BLANKS, **NUMBERS},
    "*/AROLS*ConstantPredict.csv": {**BLANKS, **NUMBERS}, "*/modechoice/modechoice.csv": {"sep": ";"},
    # a first line of counts
    "*/breast_cancer.csv": COUNTS, "*/wine_data.csv": COUNTS, "*/iris.csv": COUNTS,
    # no names
    **{"*/%s.csv*" % name: NUMBERS for name in (
        "diabetes_target digits mnlogit_resid nbinom_resids poisson_resid predict_prob_poisson yhat_poisson "
        "enet_binomial enet_poisson gee_linear_1 gee_logistic_1 gee_nested_linear_1 gee_nominal_1 gee_ordinal_1 "
        "gee_poisson_1 igaussident_resids medparlogresids Xi_test_data results_kde_fft lasso_data bootleg cfa_tvpvar_* "
        "clark1989 results_wpi1_ar3_matlab_ssm results_wpi1_missing_ar3_matlab_ssm stl_co2 ARMLEConstantPredict "
        "bds_data bds_results").split()},
}
# What comes before these tables, or the length of their rows, is what nobody could guess.
NO_TABLES = ["*/macrodata/src/unemp.csv", "*/scotland/src/scotland_population.csv", "*/arima212_forecast.csv"]

SCRIPT = r"""
local nb = require "nablua"
local function hex(s) return "x" .. (s:gsub(".", function(c) return ("%02x"):format(c:byte()) end)) end
local out = assert(io.open(arg[2], "w"))
for path in io.lines(arg[1]) do
  local ok, t = pcall(nb.data.csv, path, { dtype = "f64" })
  if not ok then
    out:write("error ", tostring(t):gsub("%s+", " "), "\n")
  else
    out:write(("table %d %d\n"):format(t.rows, #t.names))
    if t.row_names then
      out:write("rows")
      for _, name in ipairs(t.row_names) do out:write(" ", hex(name)) end
      out:write "\n"
    end
    for _, name in ipairs(t.names) do
      local labels = t.categories[name]
      out:write(labels and "labels " or "numbers ", hex(name))
      for _, v in ipairs(t.columns[name]:totable()) do
        out:write(" ", labels and (labels[v] and hex(labels[v]) or "-") or ("%.17g"):format(v))
      end
      out:write "\n"
    end
    assert(#tostring(t) > 0)
  end
end
out:close()
"""


def text(word):
    return None if word == "-" else bytes.fromhex(word[1:]).decode()


def tables(lines):
    """What SCRIPT wrote: an error's text, or (rows, names of rows, [(name, is numeric, values)])."""
    found = []
    for line in lines:
        words = line.rstrip("\n").split(" ")
        if words[0] == "error":
            found.append(line[6:].strip())
        elif words[0] == "table":
            found.append([int(words[1]), None, []])
        elif words[0] == "rows":
            found[-1][1] = [text(w) for w in words[1:]]
        elif words[0] == "labels":
            found[-1][2].append((text(words[1]), False, [text(w) for w in words[2:]]))
        else:
            found[-1][2].append((text(words[1]), True, [float(w) for w in words[2:]]))
    return found


def options_of(path):
    for pattern, options in READ.items():
        if fnmatch.fnmatch(path, pattern):
            return options
    return {}


def numbers_of(raw):
    """Numbers whose minus is an en dash, which pandas takes for text."""
    try:
        return [float("nan") if v is None else float(v.replace("\u2013", "-")) for v in raw]
    except ValueError:
        return None


def expected(path):
    """Columns as pandas has them: (name, is numeric, values), labels as text without blanks around it."""
    options = options_of(path)
    number = pd.read_csv(path, float_precision="round_trip", **options)
    raw = pd.read_csv(path, dtype=str, **options)
    index = [str(v) for v in number.index]
    if index == [str(i) for i in range(len(index))]:  # none but pandas' own
        index = None
    columns = []
    for i, name in enumerate(number.columns):
        series = number.iloc[:, i]
        words = [None if pd.isna(v) else v.strip() for v in raw.iloc[:, i]]
        if pd.api.types.is_numeric_dtype(series) and not pd.api.types.is_bool_dtype(series):
            columns.append((name, True, [float(v) for v in series]))
        else:
            values = numbers_of(words)
            columns.append((name, False, words) if values is None else (name, True, values))
    return index, columns


def same(a, b):
    return a == b or (a != a and b != b)


class Peers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folders = [os.path.dirname(importlib.util.find_spec(name).origin) for name in PACKAGES]
        cls.paths = sorted(p for f in folders for e in ("csv", "csv.gz")
                           for p in glob.glob(os.path.join(f, "**", "*." + e), recursive=True))
        with tempfile.TemporaryDirectory() as folder:
            script, listed, out = (os.path.join(folder, name) for name in ("s.lua", "paths", "out"))
            with open(script, "w") as f:
                f.write(SCRIPT)
            with open(listed, "w") as f:
                f.write("\n".join(cls.paths) + "\n")
            subprocess.run([NABLUA, script, listed, out], check=True, stderr=subprocess.DEVNULL)
            with open(out) as f:
                cls.found = tables(f)

    def check(self, path, table):
        index, columns = expected(path)
        rows, row_names, mine = table
        if row_names is not None and index is None:
            name, _, values = columns.pop(0)
            self.assertTrue(str(name).startswith("Unnamed"), "row names where pandas has " + str(name))
            index = ["%d" % v if isinstance(v, float) else v for v in values]
        self.assertEqual(row_names, index, "names of rows")
        self.assertEqual((rows, len(mine)), (len(columns[0][2]), len(columns)), "shape")
        for (name, numeric, values), (peer, peer_numeric, peer_values) in zip(mine, columns):
            if isinstance(peer, str) and not peer.startswith("Unnamed"):
                self.assertEqual(name, peer.strip(), "a column's name")
            self.assertEqual(numeric, peer_numeric, "kind of " + name)
            for i, (a, b) in enumerate(zip(values, peer_values)):
                self.assertTrue(same(a, b), "%s, row %d: %r, pandas has %r" % (name, i + 1, a, b))

    def test_tables_are_those_of_pandas(self):
        self.assertEqual(len(self.found), len(self.paths))
        refused, values = [], 0
        for path, table in zip(self.paths, self.found):
            if isinstance(table, str):
                refused.append((path, table))
                continue
            values += table[0] * len(table[2])
            with self.subTest(path=path):
                self.check(path, table)
        print("%d files, %d values, %d refused:" % (len(self.paths), values, len(refused)))
        for path, reason in refused:
            print("  " + reason)
            self.assertTrue(any(fnmatch.fnmatch(path, p) for p in NO_TABLES), path)


if __name__ == "__main__":
    unittest.main()
