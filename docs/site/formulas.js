// SPDX-License-Identifier: MIT
// Draws the formulas of a page, which Arithmatex has put between \( \) and \[ \].
document.addEventListener("DOMContentLoaded", () => {
  for (const e of document.querySelectorAll(".arithmatex")) {
    const text = e.textContent.trim();
    katex.render(text.slice(2, -2), e, {displayMode: text.startsWith("\\["), throwOnError: false, strict: false});
  }
});
