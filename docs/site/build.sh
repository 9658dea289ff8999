#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Puts the site together in build/docs: pages of docs/, those that nablua writes, notebooks as they ran, then MkDocs.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out="$here/build/docs"
work="$out/work"
source="$work/source"
nablua="$here/build/release/nablua"

die() { printf 'docs: %s\n' "$*" >&2; exit 1; }

rm -rf "$out"
mkdir -p "$source/reference" "$source/lecture"
cp -r "$here"/docs/*.md "$here/docs/guides" "$here/docs/decisions" "$here/docs/pictures" "$source"
cp "$here/docs/site/mkdocs.yml" "$work"
cp "$here/docs/site/extra.css" "$here/docs/site/formulas.js" "$source"
# Formulas are drawn by the site itself.
katex=/usr/share/javascript/katex
[ -f "$katex/katex.min.js" ] || die "formulas need the package libjs-katex."
mkdir -p "$source/katex"
cp -rL "$katex/katex.min.js" "$katex/katex.min.css" "$katex/fonts" "$source/katex"
cp "$here/SECURITY.md" "$source/security.md"
sed '1s/.*/# Changes/' "$here/CHANGELOG.md" >"$source/changes.md"
for page in "$source"/decisions/[0-9]*.md; do
  following=$(cd "$source/decisions" && printf '%s\n' [0-9]*.md | awk -v page="$(basename "$page")" 'found { print; exit } $0 == page { found = 1 }')
  printf '\n---\n\n[All decisions](README.md)%s\n' "${following:+. Next: [$(sed -n '1s/^# *//p' "$source/decisions/$following")]($following)}" >>"$page"
done
printf '\nBack to the [first page](index.md).\n' | tee -a "$source/changes.md" "$source/security.md" >/dev/null

# Notebooks, run by this kernel; their pictures become files.
lecture() {
  local data="$work/jupyter" name next
  "$here/build/release/nablua-kernel" install --prefix "$data" >/dev/null
  while read -r name next; do
    JUPYTER_PATH="$data/share/jupyter" JUPYTER_RUNTIME_DIR="$work/runtime" JUPYTER_CONFIG_DIR="$work/config" IPYTHONDIR="$work/ipython" \
      XDG_STATE_HOME="$work/state" XDG_CONFIG_HOME="$work/config" NABLUA_SEED=1 \
      /usr/bin/python3 -m nbconvert --execute --to markdown --output-dir "$source/lecture" "$here/examples/$name.ipynb" \
      >"$work/$name.log" 2>&1 || { tail -n 20 "$work/$name.log" >&2; die "examples/$name.ipynb does not run."; }
    printf '\n---\n\nNext: %s\n' "$next" >>"$source/lecture/$name.md"
  done <<'TEXT'
backpropagation [vanishing gradients](vanishing_gradients.md)
vanishing_gradients [why a training exploded](time.md)
time [sixty thousand pictures of clothes](fashion_mnist.md)
fashion_mnist [train a net of your own](../guides/train.md)
TEXT
}

"$nablua" "$here/docs/site/reference.lua" "$source" "$here/docs/pytorch.tsv"
lecture
mkdocs build -f "$work/mkdocs.yml" -d "$out/site" >"$work/mkdocs.log" 2>&1 ||
  { grep -E 'WARNING|ERROR' "$work/mkdocs.log" >&2; die "MkDocs refuses the pages, see above."; }
rm -rf "$work"/jupyter "$work"/runtime "$work"/ipython "$work"/state "$work"/config
python3 "$here/docs/site/check.py" "$out/site" "$nablua"
