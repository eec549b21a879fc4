// Pixels as Python's readers make them, bit for bit: colours as FFmpeg's swscale converts them,
// sizes as Pillow scales them (bilinear with antialiasing, 22 bits).
const BITS = 22;
const TABLES = {  // of YUV, in 16 bits after the point: V to R, U to B, U to G, V to G
  bt709: [117489, 138438, -13975, -34925],
  "bt2020-ncl": [110013, 140363, -12277, -42626],
};
const BT601 = [104597, 132201, -25675, -53279];

const sixteen = value => Math.floor((value * 8192 + 32768) / 65536);

/**
 * RGB (height, width, 3) of a picture in YUV 4:2:0.
 *
 * planes: Y, U, V, each {data, offset, stride, step}. matrix, full: its colour space.
 */
export function rgbOf([luma, cb, cr], width, height, matrix, full) {
  const scale = full ? value => Math.trunc(value * 224 / 255) : value => value;
  const [vr, ub, ug, vg] = (TABLES[matrix] || BT601).map(value => sixteen(scale(value)));
  const gain = sixteen(full ? 65536 : Math.floor(65536 * 255 / 219)), black = full ? 0 : 128;
  const bright = Int32Array.from({length: 256}, (_, y) => ((8 * y - black) * gain) >> 16);
  const rgb = new Uint8ClampedArray(3 * width * height);
  for (let y = 0, to = 0; y < height; y++) {
    const row = luma.offset + y * luma.stride;
    const us = cb.offset + (y >> 1) * cb.stride, vs = cr.offset + (y >> 1) * cr.stride;
    for (let x = 0; x < width; x += 2) {
      const u = 8 * cb.data[us + (x >> 1) * cb.step] - 1024;
      const v = 8 * cr.data[vs + (x >> 1) * cr.step] - 1024;
      const r = (v * vr) >> 16, g = ((u * ug) >> 16) + ((v * vg) >> 16), b = (u * ub) >> 16;
      for (let k = x; k < width && k < x + 2; k++, to += 3) {
        const value = bright[luma.data[row + k * luma.step]];
        rgb[to] = value + r;
        rgb[to + 1] = value + g;
        rgb[to + 2] = value + b;
      }
    }
  }
  return rgb;
}

/** A picture after quarter turns clockwise: {data, width, height, channels}. */
export function turned(picture, turns) {
  let {data, width, height} = picture;
  const {channels} = picture;
  for (let turn = 0; turn < turns; turn++) {
    const made = new Uint8ClampedArray(data.length);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        const from = channels * (y * width + x), to = channels * (x * height + height - 1 - y);
        for (let c = 0; c < channels; c++) made[to + c] = data[from + c];
      }
    }
    [data, width, height] = [made, height, width];
  }
  return {data, width, height, channels};
}

function roundHalfEven(value) {
  const low = Math.floor(value), rest = value - low;
  return rest < 0.5 || (rest === 0.5 && low % 2 === 0) ? low : low + 1;
}

/** Where the centre crop lies: the size of the scaled frame, and the crop's corner. */
export function centreCrop(width, height, size, shortSide) {
  const scale = shortSide / Math.min(height, width);
  const scaled = height <= width
    ? {width: Math.max(roundHalfEven(width * scale), shortSide), height: shortSide}
    : {width: shortSide, height: Math.max(roundHalfEven(height * scale), shortSide)};
  return {
    ...scaled,
    left: Math.floor((scaled.width - size) / 2),
    top: Math.floor((scaled.height - size) / 2),
  };
}

/** What each output from `first` on takes of the input: first input, count, and integer weights. */
function taps(length, scaled, first, count) {
  const scale = length / scaled, filter = Math.max(scale, 1), most = Math.ceil(filter) * 2 + 1;
  const starts = new Int32Array(count), counts = new Int32Array(count);
  const weights = new Int32Array(count * most);
  for (let k = 0; k < count; k++) {
    const centre = (first + k + 0.5) * scale;
    const low = Math.max(Math.trunc(centre - filter + 0.5), 0);
    const high = Math.min(Math.trunc(centre + filter + 0.5), length);
    const triangle = Array.from({length: high - low}, (_, x) =>
      Math.max(1 - Math.abs((x + low - centre + 0.5) * (1 / filter)), 0));
    let sum = 0;
    for (const weight of triangle) sum += weight;
    [starts[k], counts[k]] = [low, high - low];
    triangle.forEach((weight, x) => {
      weights[k * most + x] = Math.trunc(0.5 + (sum ? weight / sum : weight) * 2 ** BITS);
    });
  }
  return {starts, counts, weights, most};
}

/**
 * The crop (3, size, size) that a network sees of a picture.
 *
 * picture: {data, width, height, channels}, rows of pixels with 3 or 4 channels.
 */
export function cropOf(picture, size, shortSide) {
  const {data, width, height, channels} = picture;
  const place = centreCrop(width, height, size, shortSide);
  const across = taps(width, place.width, place.left, size);
  const down = taps(height, place.height, place.top, size);
  const first = down.starts[0], last = down.starts[size - 1] + down.counts[size - 1];
  const rows = new Uint8ClampedArray(3 * size * (last - first));  // (channel, row, column)
  for (let c = 0, to = 0; c < 3; c++) {
    for (let y = first; y < last; y++) {
      const row = y * width;
      for (let x = 0; x < size; x++, to++) {
        let sum = 1 << (BITS - 1), from = channels * (row + across.starts[x]) + c;
        for (let k = 0, w = x * across.most; k < across.counts[x]; k++, w++, from += channels) {
          sum += data[from] * across.weights[w];
        }
        rows[to] = sum >> BITS;
      }
    }
  }
  const crop = new Uint8ClampedArray(3 * size * size), plane = size * (last - first);
  for (let c = 0, to = 0; c < 3; c++) {
    for (let y = 0; y < size; y++) {
      const start = c * plane + size * (down.starts[y] - first);
      for (let x = 0; x < size; x++, to++) {
        let sum = 1 << (BITS - 1), from = start + x;
        for (let k = 0, w = y * down.most; k < down.counts[y]; k++, w++, from += size) {
          sum += rows[from] * down.weights[w];
        }
        crop[to] = sum >> BITS;
      }
    }
  }
  return crop;
}
