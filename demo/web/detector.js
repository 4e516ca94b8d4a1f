// The face detector RetinaFace with a MobileNet, as utils/recognition/retinaface.py runs it, and the
// search in pictures of any size, as utils/recognition/face_detection.py does it. Tests compare.

import { clip, reduce, resize, roundHalfEven } from "./picture.js";

export const MIN_FACE = 0.1; // of a picture's shorter side: smaller faces are not looked for
export const MIN_SCORE = 0.5;
export const FACE_SIDE = 24; // pixels of the smallest face that the network should find
export const PICTURE_SIDE = 128; // pixels of the shorter side: a smaller picture is enlarged
export const MAX_OVERLAP = 0.4; // intersection over union of two faces; of more, the surer one is kept
export const MAX_CANDIDATES = 2000; // anchors that compete to be a face
export const CENTRE_UNIT = 0.1; // of the network's offsets from an anchor
export const SIZE_UNIT = 0.2;
const MEAN = [104, 117, 127]; // blue, green, red of the pictures it learnt from
// Pixels between the anchors of each level of the feature pyramid, and their sides in pixels.
const LEVELS = [[8, [16, 32]], [16, [64, 128]], [32, [256, 512]]];

export class FaceFinder {
  /** `session`: the network in onnxruntime. `Tensor`: onnxruntime's class. */
  constructor(session, Tensor) {
    this.session = session;
    this.Tensor = Tensor;
  }

  /** Return the faces in an RGB picture, {box, score, landmarks}, the largest first. */
  async find(picture) {
    const copy = searchCopy(picture);
    const input = new this.Tensor("float32", toInput(copy), [1, 3, copy.height, copy.width]);
    const outputs = await this.session.run({ [this.session.inputNames[0]]: input });
    const [offsets, scores, points] = this.session.outputNames.map((name) => outputs[name].data);
    const minSide = MIN_FACE * Math.min(copy.width, copy.height);
    const xFactor = picture.width / copy.width;
    const yFactor = picture.height / copy.height;
    return decode(offsets, scores, points, copy.width, copy.height)
      .filter(({ box }) => Math.max(box.right - box.left, box.bottom - box.top) >= minSide)
      .map((face) => scaleFace(face, xFactor, yFactor))
      .map((face) => ({ ...face, box: clip(face.box, picture) }))
      .filter(({ box }) => box.right > box.left && box.bottom > box.top)
      .sort((a, b) => area(b.box) - area(a.box) || a.box.left - b.box.left || a.box.top - b.box.top);
  }
}

/** Return the copy in which to search: its smallest face has as many pixels as the network needs. */
export function searchCopy(picture) {
  const shorter = Math.min(picture.width, picture.height);
  const least = Math.min(1, FACE_SIDE / Math.max(1, MIN_FACE * shorter));
  const factor = Math.max(least, PICTURE_SIDE / shorter);
  const width = Math.max(1, roundHalfEven(picture.width * factor));
  const height = Math.max(1, roundHalfEven(picture.height * factor));
  if (factor >= 1) return resize(picture, width, height, "bilinear");
  // First by whole numbers, to at least twice the size: that is quick. Pillow: reducing_gap=2.
  const xStep = Math.max(1, Math.floor(picture.width / width / 2));
  const yStep = Math.max(1, Math.floor(picture.height / height / 2));
  const reduced = xStep > 1 || yStep > 1 ? reduce(picture, xStep, yStep) : picture;
  return resize(reduced, width, height, "box", picture.width / xStep, picture.height / yStep);
}

/** Return the network's input: blue, green and red planes around 0. */
function toInput({ width, height, pixels }) {
  const count = width * height;
  const input = new Float32Array(3 * count);
  for (let i = 0; i < count; i++)
    for (let plane = 0; plane < 3; plane++) input[plane * count + i] = pixels[3 * i + 2 - plane] - MEAN[plane];
  return input;
}

/** Return the faces that the network's outputs mean, the surest first, in pixels of its input. */
export function decode(offsets, scores, points, width, height) {
  const anchors = anchorsOf(width, height);
  const scoreOf = (i) => scores[2 * i + 1]; // the other one is that of "no face"
  const candidates = anchors
    .map((_, i) => i)
    .filter((i) => scoreOf(i) >= MIN_SCORE)
    .sort((a, b) => scoreOf(b) - scoreOf(a))
    .slice(0, MAX_CANDIDATES)
    .map((i) => {
      const { x, y, side } = anchors[i];
      const centreX = x + offsets[4 * i] * CENTRE_UNIT * side;
      const centreY = y + offsets[4 * i + 1] * CENTRE_UNIT * side;
      const halfWidth = (side * Math.exp(offsets[4 * i + 2] * SIZE_UNIT)) / 2;
      const halfHeight = (side * Math.exp(offsets[4 * i + 3] * SIZE_UNIT)) / 2;
      const landmarks = Array.from({ length: 5 }, (_, k) => ({
        x: x + points[10 * i + 2 * k] * CENTRE_UNIT * side,
        y: y + points[10 * i + 2 * k + 1] * CENTRE_UNIT * side,
      }));
      const box = {
        left: centreX - halfWidth, top: centreY - halfHeight,
        right: centreX + halfWidth, bottom: centreY + halfHeight,
      };
      return { box, score: scoreOf(i), landmarks };
    });
  return suppressOverlaps(candidates);
}

/** Return the faces that stay when none may overlap a surer one. The surest come first. */
export function suppressOverlaps(faces) {
  const kept = [];
  for (const face of faces)
    if (kept.every((surer) => overlap(surer.box, face.box) <= MAX_OVERLAP)) kept.push(face);
  return kept;
}

function overlap(a, b) {
  const width = Math.max(0, Math.min(a.right, b.right) - Math.max(a.left, b.left));
  const height = Math.max(0, Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top));
  return (width * height) / (area(a) + area(b) - width * height);
}

function area(box) {
  return (box.right - box.left) * (box.bottom - box.top);
}

function anchorsOf(width, height) {
  const anchors = [];
  for (const [step, sides] of LEVELS)
    for (let row = 0; row < Math.ceil(height / step); row++)
      for (let column = 0; column < Math.ceil(width / step); column++)
        for (const side of sides) anchors.push({ x: (column + 0.5) * step, y: (row + 0.5) * step, side });
  return anchors;
}

/** Return the face in a picture that is resized by these factors. */
export function scaleFace({ box, score, landmarks }, xFactor, yFactor) {
  return {
    box: {
      left: box.left * xFactor, top: box.top * yFactor,
      right: box.right * xFactor, bottom: box.bottom * yFactor,
    },
    score,
    landmarks: landmarks.map(({ x, y }) => ({ x: x * xFactor, y: y * yFactor })),
  };
}
