// Prints pages to PDF in Chromium. Reads {chromium, jobs: [{address, target}], side} as JSON from stdin; writes a list
// of {address, title, sections, tooWide} to stdout. `side` is the margin left and right in millimetres.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const job = JSON.parse(readFileSync(0, "utf8"));
const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const profile = mkdtempSync(join(tmpdir(), "attnkit-print-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: job.chromium, headless: true, args: flags, reducedMotion: "reduce",
});
const width = Math.floor(((210 - 2 * job.side) / 25.4) * 96); // the text's on A4, in CSS pixels
const told = [];

for (const { address, target } of job.jobs) {
  const page = await context.newPage();
  await page.route("**/*", (route) => (/^(file|data|blob):/.test(route.request().url()) ? route.continue() : route.abort()));
  await page.addInitScript(() => { localStorage.setItem("mode", "light"); localStorage.setItem("theme", "light"); });
  await page.emulateMedia({ media: "print", colorScheme: "light" });
  await page.setViewportSize({ width, height: 1000 });
  await page.goto(address, { waitUntil: "load" });
  const report = await page.evaluate(async (width) => {
    if (window.MathJax?.startup?.promise) await window.MathJax.startup.promise;
    await document.fonts.ready;
    // Paper cannot be unfolded: proofs and solutions are printed, code that only draws and tables behind figures are not.
    for (const fold of document.querySelectorAll("details")) {
      const left = fold.closest(".ak-figure") || fold.classList.contains("above-input") || fold.closest(".tag_hide-input") && fold.querySelector(".cell_input");
      if (left) fold.remove(); else fold.open = true;
    }
    for (const hidden of document.querySelectorAll(".toggle-hidden")) hidden.classList.remove("toggle-hidden");
    // What is wider than the paper is made smaller, and does not scroll.
    const wide = "mjx-container[display=true], .ak-scroll, .pst-scrollable-table-container, div.math";
    for (const box of document.querySelectorAll(wide)) {
      const shrink = Math.min(1, box.clientWidth / Math.max(1, box.scrollWidth));
      if (shrink < 1) box.style.zoom = Math.max(0.4, shrink * 0.98);
      box.style.overflow = "visible";
    }
    const article = document.querySelector("article") ?? document.body;
    return {
      // The number of a chapter stands in a node of its own, and so does the link to the heading, which is no title.
      title: [...((article.querySelector("h1") ?? document.querySelector("h1"))?.childNodes ?? [])]
        .filter((e) => !e.classList?.contains("headerlink")).map((e) => e.textContent).join("").trim() || document.title,
      tooWide: [...article.querySelectorAll("*")]
        .filter((e) => e.checkVisibility() && e.getBoundingClientRect().right > width + 1)
        .filter((e) => !e.closest("mjx-assistive-mml, .visually-hidden, .sr-only"))
        .slice(0, 5).map((e) => `${e.tagName}.${e.className?.baseVal ?? e.className} ${Math.round(e.getBoundingClientRect().right)}`),
    };
  }, width);
  const margin = { top: "18mm", bottom: "20mm", left: `${job.side}mm`, right: `${job.side}mm` };
  await page.pdf({ path: target, format: "A4", margin, printBackground: true });
  told.push({ address, ...report });
  await page.close();
}
await context.close();
rmSync(profile, { recursive: true, force: true });
process.stdout.write(JSON.stringify(told));
