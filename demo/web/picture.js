// Pictures as Pillow sees them: the same pixels out of the same pixels as in the Python toolkit.
//
// The browser's own drawing would be quicker to write, but each browser reduces pictures in another
// way, and the network's answer would change with it. A picture is {width, height, channels, pixels}:
// one byte per channel, row by row, the channels of a pixel side by side. A box is
// {left, top, right, bottom} in pixels; right and bottom are exclusive.

const FIXED_BITS = 22; // Pillow resizes with whole numbers: weights are multiples of 2 ** -22

// Weight by distance, and the distance beyond which it is 0, both in source pixels of a picture that
// is not reduced. Pillow widens them when it reduces: that is its antialiasing.
export const FILTERS = {
  box: { support: 0.5, weight: (x) => (x > -0.5 && x <= 0.5 ? 1 : 0) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
  bicubic: { support: 2, weight: bicubic },
};

function bicubic(x) {
  const a = -0.5;
  x = Math.abs(x);
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/** Round as Python does: a half to the even number. */
export function roundHalfEven(value) {
  const floor = Math.floor(value);
  if (value - floor !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Return the box in whole pixels, cut off at the borders of a picture. */
export function clip(box, { width, height }) {
  return {
    left: Math.max(0, roundHalfEven(box.left)),
    top: Math.max(0, roundHalfEven(box.top)),
    right: Math.min(width, roundHalfEven(box.right)),
    bottom: Math.min(height, roundHalfEven(box.bottom)),
  };
}

/** Return RGB without the alpha of a canvas's ImageData. */
export function fromImageData({ width, height, data }) {
  const pixels = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    pixels[to++] = data[from];
    pixels[to++] = data[from + 1];
    pixels[to++] = data[from + 2];
  }
  return { width, height, channels: 3, pixels };
}

/** Return the part of a picture inside a box of whole pixels. */
export function crop({ width, channels, pixels }, box) {
  const part = { width: box.right - box.left, height: box.bottom - box.top, channels };
  const rowBytes = part.width * channels;
  part.pixels = new Uint8Array(rowBytes * part.height);
  for (let y = 0; y < part.height; y++) {
    const start = ((box.top + y) * width + box.left) * channels;
    part.pixels.set(pixels.subarray(start, start + rowBytes), y * rowBytes);
  }
  return part;
}

/** Return an RGB picture in grey: the luma of ITU-R BT.601, as Pillow rounds it. */
export function toGrey({ width, height, pixels }) {
  const grey = new Uint8Array(width * height);
  for (let i = 0, from = 0; i < grey.length; i++, from += 3) {
    const luma = pixels[from] * 19595 + pixels[from + 1] * 38470 + pixels[from + 2] * 7471;
    grey[i] = (luma + 0x8000) >> 16;
  }
  return { width, height, channels: 1, pixels: grey };
}

/** Return a picture in which each cell of `xFactor` × `yFactor` pixels is one, their mean. */
export function reduce({ width, height, channels, pixels }, xFactor, yFactor) {
  const small = { width: Math.ceil(width / xFactor), height: Math.ceil(height / yFactor), channels };
  small.pixels = new Uint8Array(small.width * small.height * channels);
  let to = 0;
  for (let top = 0; top < height; top += yFactor) {
    const bottom = Math.min(height, top + yFactor);
    for (let left = 0; left < width; left += xFactor) {
      const right = Math.min(width, left + xFactor);
      const count = (right - left) * (bottom - top);
      // Pillow multiplies by 1 / count with 24 bits, which rounds some halves down.
      const factor = Math.floor(Math.fround(2 ** 24 / count));
      for (let channel = 0; channel < channels; channel++) {
        let sum = count >> 1;
        for (let y = top; y < bottom; y++) {
          const row = y * width;
          for (let x = left; x < right; x++) sum += pixels[(row + x) * channels + channel];
        }
        small.pixels[to++] = Math.floor((sum * factor) / 2 ** 24);
      }
    }
  }
  return small;
}

/** Return the picture in another size. `right`, `bottom`: where it ends, if not at its borders. */
export function resize(picture, width, height, filter, right = picture.width, bottom = picture.height) {
  const passes = [
    { isHorizontal: true, size: picture.width, length: width, end: right },
    { isHorizontal: false, size: picture.height, length: height, end: bottom },
  ];
  // The order of Pillow 13. Before, the width came first always; a value of the result may differ by 1.
  const lostRows = picture.height - height;
  if (lostRows > 0 && lostRows > 2 * (picture.width - width)) passes.reverse();
  let result = picture;
  for (const { isHorizontal, size, length, end } of passes)
    if (length !== size || end !== size) result = resizeAlong(result, length, end, FILTERS[filter], isHorizontal);
  return result;
}

function resizeAlong({ width, height, channels, pixels }, length, end, filter, isHorizontal) {
  const result = isHorizontal ? { width: length, height } : { width, height: length };
  result.channels = channels;
  result.pixels = new Uint8Array(result.width * result.height * channels);
  const lines = isHorizontal ? height : width;
  const step = isHorizontal ? channels : width * channels; // from pixel to pixel of the source
  const lineStep = isHorizontal ? width * channels : channels;
  const resultStep = isHorizontal ? channels : width * channels;
  const resultLineStep = isHorizontal ? length * channels : channels;
  weightsOf(isHorizontal ? width : height, length, end, filter).forEach(({ first, weights }, i) => {
    for (let line = 0; line < lines; line++) {
      for (let channel = 0; channel < channels; channel++) {
        let from = line * lineStep + first * step + channel;
        let sum = 2 ** (FIXED_BITS - 1);
        for (const weight of weights) {
          sum += weight * pixels[from];
          from += step;
        }
        const value = Math.floor(sum / 2 ** FIXED_BITS);
        result.pixels[line * resultLineStep + i * resultStep + channel] = Math.min(255, Math.max(0, value));
      }
    }
  });
  return result;
}

/** Return, for each pixel of the result, its first source pixel and the weights from there on. */
function weightsOf(size, length, end, filter) {
  const scale = end / length;
  const reduction = Math.max(1, scale);
  const support = filter.support * reduction;
  return Array.from({ length }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const last = Math.min(size, Math.trunc(centre + support + 0.5));
    const exact = [];
    for (let x = first; x < last; x++) exact.push(filter.weight((x - centre + 0.5) / reduction));
    const sum = exact.reduce((a, b) => a + b, 0);
    const weights = exact.map((value) => toFixed(sum ? value / sum : value));
    return { first, weights };
  });
}

function toFixed(value) {
  return Math.trunc(value * 2 ** FIXED_BITS + (value < 0 ? -0.5 : 0.5));
}

/** Return the part of a picture in a box that is turned around its middle by an angle in radians. */
export function cropTurned(picture, box, angle) {
  const { width, height, channels, pixels } = picture;
  const part = {
    width: Math.max(1, roundHalfEven(box.right - box.left)),
    height: Math.max(1, roundHalfEven(box.bottom - box.top)),
    channels,
  };
  part.pixels = new Uint8Array(part.width * part.height * channels);
  const cos = Math.cos(angle);
  const sin = Math.sin(angle);
  const left = (box.left + box.right) / 2 - (cos * part.width - sin * part.height) / 2;
  const top = (box.top + box.bottom) / 2 - (sin * part.width + cos * part.height) / 2;
  const clamp = (value, size) => Math.min(size - 1, Math.max(0, value));
  for (let row = 0, to = 0; row < part.height; row++) {
    for (let column = 0; column < part.width; column++, to += channels) {
      const x = cos * (column + 0.5) - sin * (row + 0.5) + left;
      const y = sin * (column + 0.5) + cos * (row + 0.5) + top;
      if (x < 0 || y < 0 || x >= width || y >= height) continue; // black
      const x0 = Math.floor(x - 0.5);
      const y0 = Math.floor(y - 0.5);
      const dx = x - 0.5 - x0;
      const dy = y - 0.5 - y0;
      const columns = [clamp(x0, width), clamp(x0 + 1, width)];
      const rows = [clamp(y0, height), clamp(y0 + 1, height)];
      for (let channel = 0; channel < channels; channel++) {
        const [upper, lower] = rows.map((line) => {
          const [a, b] = columns.map((place) => pixels[(line * width + place) * channels + channel]);
          return a + (b - a) * dx;
        });
        part.pixels[to + channel] = upper + (lower - upper) * dy;
      }
    }
  }
  return part;
}
