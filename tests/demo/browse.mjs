// Use the page in a headless Chromium as a person would, and print what happened as JSON.
//
//   node browse.mjs '{"page": URL, "chromium": PATH, "folder": DIR, "photos": [PATH],
//                     "dropped": PATH, "camera": PATH, "screenshots": {"name.png": {"colorScheme": "dark"}}}'

import { createRequire } from "node:module";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const request = JSON.parse(process.argv[2]);
const { chromium } = createRequire(join(request.folder, "package.json"))("playwright-core");

// Chromium would ask its maker's servers for updates; the camera is a film of MJPEG.
const flags = ["--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync", "--use-fake-ui-for-media-stream",
  "--use-fake-device-for-media-stream", `--use-file-for-fake-video-capture=${request.camera}`];
const profile = mkdtempSync(join(tmpdir(), "browse-"));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: request.chromium, args: flags, chromiumSandbox: false, locale: request.locale ?? "ko-KR",
  viewport: { width: 1180, height: 820 }, permissions: ["camera"],
});
const seen = { addresses: [], messages: [], answers: [] };
try {
  const page = await context.newPage();
  page.setDefaultTimeout(120_000); // the machine may be busy
  context.on("request", (sent) => seen.addresses.push(`${sent.method()} ${sent.url()}`));
  page.on("console", (message) => seen.messages.push(`${message.type()}: ${message.text()}`));
  page.on("pageerror", (error) => seen.messages.push(`error: ${error.message}`));
  await page.goto(request.page);
  const reach = (...states) =>
    page.waitForFunction((names) => names.includes(document.getElementById("status").dataset.state), states);
  const words = () => page.locator("#status").textContent();
  const printed = () => page.locator("#json pre").textContent();
  const ends = ["found", "noFace", "failed", "badPicture"];
  await reach("ready", "noModel");
  seen.start = await words();
  for (const photo of request.photos ?? []) {
    await page.evaluate(() => (document.getElementById("status").dataset.state = ""));
    await page.locator("#file").setInputFiles(photo);
    await reach(...ends);
    seen.answers.push({ status: await words(), printed: await printed() });
  }
  if (request.dropped) {
    const content = readFileSync(request.dropped).toString("base64");
    await page.evaluate(async (base64) => {
      document.getElementById("status").dataset.state = "";
      const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([bytes], "dropped"));
      document.getElementById("drop").dispatchEvent(new DragEvent("drop", { bubbles: true, dataTransfer }));
    }, content);
    await reach(...ends);
    seen.dropped = { status: await words(), printed: await printed() };
  }
  if (request.camera) {
    await page.locator("#camera").focus();
    await page.keyboard.press("Enter");
    await reach("found", "noCamera", "failed");
    await page.waitForTimeout(500); // some frames more
    seen.camera = { status: await words(), printed: await printed(), button: await page.locator("#camera").innerText() };
    await page.locator("#camera").click();
    await reach("ready");
    seen.stopped = await page.locator("#camera").innerText();
  }
  for (const [path, { photo, width, height, ...media }] of Object.entries(request.screenshots ?? {})) {
    await page.emulateMedia(media);
    await page.setViewportSize({ width: width ?? 1180, height: height ?? 820 });
    if (photo) {
      await page.evaluate(() => (document.getElementById("status").dataset.state = ""));
      await page.locator("#file").setInputFiles(photo);
      await reach(...ends);
    }
    await page.screenshot({ path, fullPage: true });
  }
  await page.locator("#language").click();
  seen.otherLanguage = { title: await page.title(), lang: await page.locator("html").getAttribute("lang") };
  console.log(JSON.stringify(seen));
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
