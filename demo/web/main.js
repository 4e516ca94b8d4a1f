// The page: takes a photo or the camera's frames, has the faces found and classified, and shows them.
// Everything happens here in the browser. The only requests are for the page's own files.

import * as ort from "./ort/ort.wasm.min.mjs";
import { FaceFinder, scaleFace } from "./detector.js";
import { ExpressionModel, readDescription } from "./model.js";
import { clip, fromImageData, reduce } from "./picture.js";
import { TEXTS, className, shortName } from "./texts.js";

const MAX_SHOWN_SIDE = 1280; // pixels of the longer side of the canvas
const CAMERA_SIZE = { width: { ideal: 640 }, height: { ideal: 480 } };
// emotion.py decodes a JPEG at a whole fraction of its size while the shorter side keeps this.
const MIN_DECODED_SIDE = 960;
const DECODED_FRACTIONS = [8, 4, 2];

// WebAssembly in one thread: several threads need headers that a plain static server does not send.
ort.env.wasm.wasmPaths = new URL("ort/", import.meta.url).href;
ort.env.wasm.numThreads = 1;

const element = (id) => document.getElementById(id);
const canvas = element("canvas");
const cameraButton = element("camera");

let language = startLanguage();
let status = { key: "loading", args: [], isError: false };
let shown = null; // the answers on the page
let drawn = null; // what `draw` drew last: its arguments
let models = null; // a promise of {finder, model, description}
let camera = null; // the MediaStream of a running camera
let task = 0; // the number of the latest request: older ones are not shown any more

// ------------------------------------------------------------------ recognition

async function loadModels() {
  const [detectorBytes, modelBytes] = await Promise.all(["detector.onnx", "model.onnx"].map(fetchBytes));
  const description = readDescription(modelBytes);
  const detector = await ort.InferenceSession.create(detectorBytes, { executionProviders: ["wasm"] });
  const session = await ort.InferenceSession.create(modelBytes, { executionProviders: ["wasm"] });
  return {
    finder: new FaceFinder(detector, ort.Tensor),
    model: new ExpressionModel(session, ort.Tensor, description),
    description,
  };
}

async function fetchBytes(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name}: ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
}

/** Return the answers for the faces of a picture, as emotion.py gives them; [] if it shows none. */
async function recognize(picture, factor = 1, size = picture) {
  const { finder, model } = await models;
  const faces = await finder.find(picture);
  if (!faces.length) return [];
  const rows = await model.probabilities(faces.map((face) => model.cut(picture, face)));
  return faces.map((face, i) => {
    const { box } = factor === 1 ? face : scaleFace(face, size.width / picture.width, size.height / picture.height);
    return { box: clip(box, size), score: face.score, ...toAnswer(rows[i], model.classes) };
  });
}

/** Return the answer for a whole picture in which no face was found. */
async function recognizeWhole(picture, { width, height }) {
  const { model } = await models;
  const [row] = await model.probabilities([model.cut(picture, null)]);
  return { box: { left: 0, top: 0, right: width, bottom: height }, score: null, ...toAnswer(row, model.classes) };
}

function toAnswer(row, classes) {
  return { label: classes[row.indexOf(Math.max(...row))], probs: row.map((value) => 100 * value) };
}

// ------------------------------------------------------------------ inputs

async function openFile(file) {
  if (!file) return;
  stopCamera();
  const mine = ++task;
  say("searching");
  let bitmap;
  try {
    // Upright, but without the colour profile: Pillow shows the model such pixels, too.
    bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  } catch {
    if (mine === task) say("badPicture", [file.name || "?"], true);
    return;
  }
  try {
    await nextFrame(); // so that the words above are on the screen before the work begins
    const size = { width: bitmap.width, height: bitmap.height };
    const whole = pixelsOf(bitmap);
    const factor = (await isJpeg(file)) ? decodedFraction(size) : 1;
    const picture = factor > 1 ? reduce(whole, factor, factor) : whole;
    const found = await recognize(picture, factor, size);
    const answers = found.length ? found : [await recognizeWhole(picture, size)];
    if (mine !== task) return;
    draw(bitmap, size, found, false);
    show(answers);
    if (found.length) say("found", [found.length]);
    else say("noFace");
  } catch (error) {
    if (mine === task) say("failed", [error.message], true);
  } finally {
    if (drawn?.image !== bitmap) bitmap.close();
  }
}

async function isJpeg(file) {
  const [first, second] = new Uint8Array(await file.slice(0, 2).arrayBuffer());
  return first === 0xff && second === 0xd8;
}

function decodedFraction({ width, height }) {
  return DECODED_FRACTIONS.find((factor) => Math.min(width, height) >= factor * MIN_DECODED_SIDE) ?? 1;
}

function pixelsOf(image, width = image.width, height = image.height) {
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, width, height);
  return fromImageData(context.getImageData(0, 0, width, height));
}

async function startCamera() {
  const mine = ++task;
  let stream;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: CAMERA_SIZE, audio: false });
  } catch {
    if (mine === task) say("noCamera", [], true);
    return;
  }
  if (mine !== task) {
    stream.getTracks().forEach((track) => track.stop()); // the user chose a photo meanwhile
    return;
  }
  camera = stream;
  say("searching");
  showButton();
  const video = document.createElement("video");
  video.muted = true;
  video.playsInline = true;
  video.srcObject = stream;
  stream.getVideoTracks()[0].addEventListener("ended", stopCamera); // unplugged
  try {
    await video.play();
    while (camera === stream) await showFrame(video, stream);
  } catch (error) {
    if (camera !== stream) return;
    stopCamera();
    say("failed", [error.message], true);
  }
}

async function showFrame(video, stream) {
  await nextFrame();
  const size = { width: video.videoWidth, height: video.videoHeight };
  if (!size.width) return;
  const frame = await createImageBitmap(video);
  try {
    const answers = await recognize(pixelsOf(frame));
    if (camera !== stream) return;
    draw(frame, size, answers, true);
    show(answers);
    if (answers.length) say("found", [answers.length]);
    else say("noFaceLive");
  } finally {
    if (drawn?.image !== frame) frame.close();
  }
}

function stopCamera() {
  if (!camera) return;
  camera.getTracks().forEach((track) => track.stop());
  camera = null;
  task++;
  say("ready");
  showButton();
}

function nextFrame() {
  return new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));
}

// ------------------------------------------------------------------ what the page shows

/** Draw a picture with its faces. The camera's is mirrored, as one knows one's own face. */
function draw(image, size, answers, isMirrored) {
  if (drawn && drawn.image !== image) drawn.image.close();
  drawn = { image, size, answers, isMirrored };
  const { width, height } = size;
  const factor = Math.min(1, MAX_SHOWN_SIDE / Math.max(width, height));
  canvas.width = Math.round(width * factor);
  canvas.height = Math.round(height * factor);
  const context = canvas.getContext("2d");
  context.save();
  if (isMirrored) context.setTransform(-1, 0, 0, 1, canvas.width, 0);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  context.restore();
  const line = Math.max(2, Math.round(Math.max(canvas.width, canvas.height) / 300));
  answers.forEach(({ box, label, probs }, i) => {
    const boxWidth = (box.right - box.left) * factor;
    const left = isMirrored ? canvas.width - box.right * factor : box.left * factor;
    drawFace(context, {
      left, top: box.top * factor, width: boxWidth, height: (box.bottom - box.top) * factor, line,
      text: `${answers.length > 1 ? `${i + 1} ` : ""}${shortName(label, language)} ${Math.max(...probs).toFixed(0)} %`,
    });
  });
  canvas.hidden = false;
  element("empty").hidden = true;
}

function drawFace(context, { left, top, width, height, line, text }) {
  context.strokeStyle = context.fillStyle = "#0b7a75";
  context.lineWidth = line;
  context.strokeRect(left, top, width, height);
  const size = 7 * line;
  context.font = `600 ${size}px ${getComputedStyle(document.body).fontFamily}`;
  const tag = { width: context.measureText(text).width + size, height: 1.5 * size };
  const x = Math.max(0, Math.min(left - line / 2, canvas.width - tag.width));
  const y = top >= tag.height ? top - tag.height : top + height + tag.height <= canvas.height ? top + height : 0;
  context.fillRect(x, y, tag.width, tag.height);
  context.fillStyle = "#fff";
  context.textBaseline = "middle";
  context.fillText(text, x + size / 2, y + tag.height / 2);
}

function show(answers) {
  shown = answers;
  render();
}

function say(key, args = [], isError = false) {
  const isSame = status.key === key && String(status.args) === String(args) && status.isError === isError;
  if (isSame) return; // a screen reader would read it again with every frame
  status = { key, args, isError };
  render();
}

/** Bring all words of the page up to date, in the chosen language. */
function render() {
  const texts = TEXTS[language];
  document.documentElement.lang = language;
  document.title = texts.title;
  for (const node of document.querySelectorAll("[data-text]")) node.textContent = texts[node.dataset.text];
  element("language").textContent = texts.otherLanguage;
  element("language").lang = language === "ko" ? "en" : "ko";
  const words = texts[status.key];
  element("status").textContent = typeof words === "function" ? words(...status.args) : words;
  element("status").classList.toggle("error", status.isError);
  element("status").dataset.state = status.key; // for tests
  showButton();
  if (shown) showAnswers(shown, texts);
}

function showAnswers(answers, texts) {
  element("faces").replaceChildren(...answers.map((answer, i) => faceItem(answer, i, answers.length, texts)));
  const summary = answers.map(({ label, probs }) => `${className(label, language)} ${Math.max(...probs).toFixed(1)} %`);
  canvas.setAttribute("aria-label", texts.resultLabel(summary.join(", ")));
  element("json").hidden = !answers.length;
  element("json").querySelector("pre").textContent = JSON.stringify(answers.map(asPrinted));
}

function faceItem({ label, probs, score }, i, count, texts) {
  const item = document.createElement("li");
  const title = add(item, "h2");
  const name = score === null ? `${texts.whole}: ` : count > 1 ? `${texts.face(i + 1)}: ` : "";
  add(title, "span").textContent = name + className(label, language);
  if (score !== null) add(title, "small").textContent = texts.sure((100 * score).toFixed(0));
  const list = add(item, "dl");
  models.then(({ model }) =>
    model.classes.forEach((emotion, k) => {
      const row = add(list, "div");
      const term = add(row, "dt");
      const meter = add(row, "meter"); // a bar; the number beside it says the same
      const value = add(row, "dd");
      term.textContent = className(emotion, language);
      value.textContent = `${probs[k].toFixed(1)} %`;
      meter.max = 100;
      meter.value = probs[k];
      meter.setAttribute("aria-hidden", "true");
      for (const node of [term, value]) node.classList.toggle("best", emotion === label);
    }),
  );
  return item;
}

/** Return an answer with the keys and the rounding of emotion.py. */
function asPrinted({ box, score, label, probs }) {
  const xywh = [box.left, box.top, box.right - box.left, box.bottom - box.top];
  const answer = { rect: `(${xywh.join(", ")})`, label, probs: probs.map((value) => Math.round(100 * value) / 100) };
  return score === null ? { ...answer, detected: false } : answer;
}

function add(parent, tag) {
  return parent.appendChild(document.createElement(tag));
}

function showButton() {
  cameraButton.querySelector("span").textContent = TEXTS[language][camera ? "stop" : "start"];
}

function showModel({ network, classes, val_accuracy: accuracy }) {
  const texts = TEXTS[language];
  const line = texts.modelLine({ network, classes: classes.length });
  element("model").textContent = line + (accuracy == null ? "" : texts.accuracy((100 * accuracy).toFixed(1)));
}

function startLanguage() {
  const asked = new URLSearchParams(location.search).get("lang");
  if (asked in TEXTS) return asked;
  return navigator.language.toLowerCase().startsWith("ko") ? "ko" : "en";
}

// ------------------------------------------------------------------ start

element("language").addEventListener("click", () => {
  language = language === "ko" ? "en" : "ko";
  render();
  if (drawn) draw(drawn.image, drawn.size, drawn.answers, drawn.isMirrored);
  models.then(({ description }) => showModel(description), () => {});
});
element("file").addEventListener("change", ({ target }) => {
  openFile(target.files[0]);
  target.value = ""; // so that the same file can be chosen again
});
cameraButton.addEventListener("click", () => (camera ? stopCamera() : startCamera()));
document.addEventListener("paste", ({ clipboardData }) => openFile(clipboardData.files[0]));
for (const type of ["dragover", "dragleave", "drop"])
  document.addEventListener(type, (event) => {
    event.preventDefault(); // or the browser would leave the page to show the photo
    element("drop").classList.toggle("over", type === "dragover");
    if (type === "drop") openFile(event.dataTransfer.files[0]);
  });

render();
models = loadModels();
models.then(
  ({ description }) => {
    if (status.key === "loading") say("ready");
    showModel(description);
  },
  (error) => say("noModel", [error.message], true),
);
