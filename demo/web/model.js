// The trained model: what its ONNX file tells about it, how a face becomes its input, and how its
// outputs become probabilities. The rules are those of utils/inference/model_info.py,
// utils/recognition/faces.py, utils/imaging/preprocess.py and utils/inference/onnx_model.py.

import { clip, crop, cropTurned, resize, toGrey } from "./picture.js";

const METADATA_KEY = "facial_expression_model"; // of the description, as JSON
const METADATA_FIELD = 14; // metadata_props of ONNX's ModelProto
const VIEWS = { none: [false], flip: [false, true] }; // tta: whether each view is mirrored

/** Return the description that export.py wrote into an ONNX file. */
export function readDescription(bytes) {
  for (const [field, value] of protobufFields(bytes)) {
    if (field !== METADATA_FIELD) continue;
    const entry = new Map(protobufFields(value)); // 1: the key, 2: the value
    const text = (part) => new TextDecoder().decode(entry.get(part));
    if (text(1) === METADATA_KEY) return JSON.parse(text(2));
  }
  throw new Error("the model does not describe itself: write it with export.py");
}

/** Yield number and bytes of each field of a protobuf message that has bytes; skip numbers. */
export function* protobufFields(bytes) {
  let position = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      if (position >= bytes.length) throw new Error("the model file is cut off");
      const byte = bytes[position++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (position < bytes.length) {
    const key = varint();
    const kind = key % 8;
    if (kind === 0) varint();
    else if (kind === 1) position += 8;
    else if (kind === 5) position += 4;
    else if (kind === 2) {
      const length = varint();
      if (position + length > bytes.length) throw new Error("the model file is cut off");
      yield [Math.floor(key / 8), bytes.subarray(position, (position += length))];
    } else throw new Error("the model is not an ONNX file");
  }
}

export class ExpressionModel {
  /** `session`: the network in onnxruntime. `Tensor`: onnxruntime's class. */
  constructor(session, Tensor, description) {
    this.session = session;
    this.Tensor = Tensor;
    this.classes = description.classes;
    this.preprocess = description.preprocess;
    this.face = { shape: "box", margin: 0, level: false, ...description.face };
    this.temperature = description.temperature ?? 1;
    const priors = description.class_priors ?? [];
    this.offsets = this.classes.map((_, k) => (priors[k] > 0 ? (description.balance ?? 0) * Math.log(priors[k]) : 0));
    this.views = VIEWS[description.tta ?? "none"];
    if (!this.views) throw new Error(`the page cannot average over --tta ${description.tta}`);
  }

  /** Return the model's input for a face of a picture; without a face, for the whole picture. */
  cut(picture, face) {
    const { image_size: side, image_channel: channels, resample } = this.preprocess;
    const part = face ? cutFace(picture, face, this.face) : picture;
    return resize(channels === 1 ? toGrey(part) : part, side, side, resample);
  }

  /** Return the probabilities of the classes, from 0 to 1, for each of some inputs. */
  async probabilities(inputs) {
    const { image_size: side, image_channel: channels } = this.preprocess;
    const size = channels * side * side;
    const views = this.views.flatMap((isMirrored) => inputs.map((input) => toPlanes(input, isMirrored)));
    const batch = new Float32Array(views.length * size);
    views.forEach((view, i) => batch.set(view, i * size));
    const tensor = new this.Tensor("float32", batch, [views.length, channels, side, side]);
    const outputs = await this.session.run({ images: tensor });
    const { data } = outputs[this.session.outputNames[0]];
    const count = this.classes.length;
    const rows = views.map((_, i) => softmax(Array.from(data.subarray(i * count, (i + 1) * count))));
    return inputs.map((_, i) => {
      const ofViews = this.views.map((_, view) => rows[view * inputs.length + i]);
      const means = ofViews[0].map((_, k) => ofViews.reduce((sum, row) => sum + row[k], 0) / ofViews.length);
      const calibrated = softmax(means.map((mean) => Math.log(mean) / this.temperature));
      return softmax(calibrated.map((value, k) => Math.log(value) - this.offsets[k]));
    });
  }
}

/** Return the part of a picture that the network sees of a face, as `FaceGeometry` says. */
export function cutFace(picture, { box, landmarks }, { shape, margin, level }) {
  let width = box.right - box.left;
  let height = box.bottom - box.top;
  if (shape === "square") width = height = Math.max(width, height);
  const x = (box.left + box.right) / 2;
  const y = (box.top + box.bottom) / 2;
  const halfWidth = width * (0.5 + margin);
  const halfHeight = height * (0.5 + margin);
  const region = { left: x - halfWidth, top: y - halfHeight, right: x + halfWidth, bottom: y + halfHeight };
  const [leftEye, rightEye] = landmarks;
  const tilt = Math.atan2(rightEye.y - leftEye.y, rightEye.x - leftEye.x);
  return level && tilt ? cropTurned(picture, region, tilt) : crop(picture, clip(region, picture));
}

/** Return a picture as planes of numbers from 0 to 1, mirrored or not. */
function toPlanes({ width, height, channels, pixels }, isMirrored) {
  const planes = new Float32Array(pixels.length);
  let to = 0;
  for (let channel = 0; channel < channels; channel++)
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++) {
        const from = isMirrored ? width - 1 - x : x;
        planes[to++] = pixels[(y * width + from) * channels + channel] / 255;
      }
  return planes;
}

export function softmax(values) {
  const largest = Math.max(...values);
  const powers = values.map((value) => Math.exp(value - largest));
  const sum = powers.reduce((a, b) => a + b, 0);
  return powers.map((power) => power / sum);
}
