// Drives explorers in Chromium, whose path is the first argument. Each line of stdin is a JSON list of visits {address,
// inside, theme, width, touch, steps, axe, shot, scripts}; each is answered by a line: a list of {values, errors, outside,
// axe}, or {failed: why}. One browser serves all lines, each visit has a context of its own. A step is [name, ...arguments]:
//   ["eval", js] (its value is kept)   ["frame", js] (the same in the first frame of the page)
//   ["focus", css]   ["press", key]    ["click", css, x, y]   ["tap", css, x, y]   ["drag", css, x0, y0, x1, y1]
//   ["select", css, label]   ["fill", css, text]   ["media", {forcedColors, ...}]
// x and y are parts of the element's width and height. After each step the page has two frames to draw in.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const axeSource = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync"];

const STEPS = {
  eval: (page, js) => page.evaluate(js),
  frame: (page, js) => page.frames()[1].evaluate(js),
  focus: (page, css) => page.locator(css).first().focus(),
  press: (page, key) => page.keyboard.press(key),
  click: async (page, css, x, y) => page.mouse.click(...(await at(page, css, x, y))),
  tap: async (page, css, x, y) => page.touchscreen.tap(...(await at(page, css, x, y))),
  async drag(page, css, x0, y0, x1, y1) {
    await page.mouse.move(...(await at(page, css, x0, y0)));
    await page.mouse.down();
    await page.mouse.move(...(await at(page, css, x1, y1)), { steps: 5 });
    await page.mouse.up();
  },
  select: (page, css, label) => page.locator(css).first().selectOption({ label }),
  fill: (page, css, text) => page.locator(css).first().fill(text),
  media: (page, wish) => page.emulateMedia(wish),
};

async function at(page, css, x = 0.5, y = 0.5) {
  const one = page.locator(css).first();
  await one.scrollIntoViewIfNeeded();
  const box = await one.boundingBox();
  return [box.x + box.width * x, box.y + box.height * y];
}

async function go(visit) {
  const context = await browser.newContext({
    reducedMotion: "reduce", colorScheme: visit.theme || "light",
    viewport: { width: visit.width || 1000, height: 900 }, hasTouch: Boolean(visit.touch), isMobile: Boolean(visit.touch),
    javaScriptEnabled: visit.scripts !== false,
  });
  const page = await context.newPage(), report = { values: [], errors: [], outside: [] };
  await page.route("**/*", (route) => {
    const url = route.request().url();
    if (url.startsWith(visit.inside || visit.address) || url.startsWith("data:")) return route.continue();
    report.outside.push(url);
    return route.abort();
  });
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) report.errors.push(message.text()); });
  page.on("pageerror", (error) => report.errors.push(String(error)));
  await page.addInitScript((mode) => {
    try { localStorage.setItem("mode", mode); localStorage.setItem("theme", mode); } catch { /* no storage here */ }
  }, visit.theme || "light");
  await page.goto(visit.address, { waitUntil: "load" });
  const rest = () => visit.scripts === false ? null :
    page.evaluate(() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))));
  await rest();
  for (const [name, ...rest_] of visit.steps || []) {
    const value = await STEPS[name](page, ...rest_);
    if (name === "eval" || name === "frame") report.values.push(value);
    await rest();
  }
  if (visit.axe) {
    await page.evaluate(axeSource);
    const found = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"], preload: false }));
    report.axe = found.violations.map((v) => ({ id: v.id, impact: v.impact, first: v.nodes.slice(0, 3).map((n) => n.html.slice(0, 200) + " :: " + n.failureSummary) }));
  }
  if (visit.shot) await page.screenshot({ path: visit.shot, fullPage: true });
  await context.close();
  return report;
}

const browser = await chromium.launch({ executablePath: process.argv[2], headless: true, args: flags });
for await (const line of createInterface({ input: process.stdin })) {
  let answer = [];
  try {
    for (const visit of JSON.parse(line)) answer.push(await go(visit));
  } catch (error) {
    answer = { failed: String(error.stack) };
    for (const context of browser.contexts()) await context.close();
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
await browser.close();
