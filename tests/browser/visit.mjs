// Visits pages in Chromium and reports what a reader would meet. Reads {addresses, inside, views, chromium, shots, jobs}
// as JSON from stdin; writes one JSON list to stdout, in the order of addresses and views. A request that does not start
// with one of `inside` is refused and counted. `shots`, if given, is a folder for screenshots; `jobs` is how many
// addresses are open at a time. A view with `resize` keeps the page of the view before it and only changes its width.
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { chromium } from "playwright-core";

const job = JSON.parse(readFileSync(0, "utf8"));
const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];
const profile = mkdtempSync(join(tmpdir(), "attnkit-browser-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: job.chromium, headless: true, args: flags, reducedMotion: "reduce",
});

async function open(address, view) {
  const page = await context.newPage();
  const heard = { outside: [], errors: [], loaded: [] };
  await page.route("**/*", (route) => {
    const url = route.request().url();
    if (job.inside.some((start) => url.startsWith(start)) || url.startsWith("data:") || url.startsWith("blob:")) {
      heard.loaded.push(url);
      return route.continue();
    }
    heard.outside.push(url);
    return route.abort();
  });
  page.on("console", (message) => { if (message.type() === "error") heard.errors.push(message.text()); });
  page.on("pageerror", (error) => heard.errors.push(String(error)));
  page.on("requestfailed", (request) => heard.errors.push(`not loaded: ${request.url()}`));
  page.on("response", (response) => {
    if (response.status() >= 400) heard.errors.push(`${response.status()}: ${response.url()}`);
  });
  await page.addInitScript((mode) => { localStorage.setItem("mode", mode); localStorage.setItem("theme", mode); }, view.theme);
  await page.emulateMedia({ colorScheme: view.theme }); // for pages that follow the reader's own setting
  await page.setViewportSize({ width: view.width, height: 900 });
  await page.goto(address, { waitUntil: "load" });
  return { page, heard };
}

async function look(address, view, { page, heard }) {
  const report = { address, view: view.name, ...heard };
  await page.evaluate(async () => {
    if (window.MathJax?.startup?.promise) await window.MathJax.startup.promise;
    await document.fonts.ready;
  });
  Object.assign(report, await page.evaluate(() => ({
    theme: document.documentElement.dataset.theme,
    title: document.title,
    formulas: document.querySelectorAll(".math").length,
    rendered: document.querySelectorAll("mjx-container").length,
    broken: [...document.querySelectorAll("mjx-merror, [data-mjx-error]")].map((e) => e.textContent),
    mathFonts: [...document.fonts].filter((f) => f.family.startsWith("MJX") && f.status === "loaded").length,
    width: document.documentElement.scrollWidth,
    tooWide: [...document.querySelectorAll("body *")]
      .filter((e) => e.getBoundingClientRect().right > document.documentElement.clientWidth + 1 && e.checkVisibility())
      .slice(0, 5).map((e) => `${e.tagName}.${e.className}`),
    figures: document.querySelectorAll("figure svg").length,
    // An empty alt marks an image as decoration, which is right for the logo beside the book's name.
    unnamedFigures: [...document.querySelectorAll("figure svg, img")]
      .filter((e) => (e.getAttribute("alt") ?? e.getAttribute("aria-label")) === null)
      .map((e) => e.outerHTML.slice(0, 120)),
    raw: document.querySelector("article")?.innerText.match(/\{(glue|cite|eq|ref|doc|lab)(:[^}]*)?\}|```/g) ?? [],
    ids: [...document.querySelectorAll("[id]")].map((e) => e.id),
  })));
  if (view.axe) {
    await page.evaluate(() => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
    // A fold that is still fading in has too little contrast, and nobody reads it yet.
    await page.evaluate(() => Promise.all(document.getAnimations().map((a) => a.finished.catch(() => null))));
    await page.evaluate(axeSource);
    const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"], preload: false }));
    report.axe = found.violations.map((v) => ({
      id: v.id, impact: v.impact, help: v.help, nodes: v.nodes.length, first: v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200)),
    }));
  }
  if (job.shots) {
    const name = `${address.split("/").pop().replace(".html", "")}-${view.name}.png`;
    await page.screenshot({ path: join(job.shots, name), fullPage: true });
  }
  return report;
}

// Every address in turn, its views one after the other; several addresses side by side.
const waiting = job.addresses.map((address, place) => ({ address, place }));
const reports = [];
async function work() {
  for (let next = waiting.shift(); next; next = waiting.shift()) {
    reports[next.place] = [];
    let opened = null;
    for (const view of job.views) {
      if (opened && view.resize) {
        await opened.page.setViewportSize({ width: view.width, height: 900 });
      } else {
        await opened?.page.close();
        opened = await open(next.address, view);
      }
      reports[next.place].push(await look(next.address, view, opened));
    }
    await opened?.page.close();
  }
}
await Promise.all(Array.from({ length: job.jobs ?? 2 }, work));
await context.close();
rmSync(profile, { recursive: true, force: true });
process.stdout.write(JSON.stringify(reports.flat()));
