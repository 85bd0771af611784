// A button that copies code, where the browser lets a page do so.
"use strict";
(() => {
  if (!navigator.clipboard) return;
  for (const code of document.querySelectorAll("pre.copied")) {
    const [box, button] = [document.createElement("div"), document.createElement("button")];
    box.className = "with-copy";
    button.type = "button";
    button.textContent = "Copy";
    button.setAttribute("aria-label", `Copy: ${code.getAttribute("aria-label")}`);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not copied";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    code.replaceWith(box);
    box.append(code, button);
  }
})();
