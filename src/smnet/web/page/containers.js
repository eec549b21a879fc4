// The packets of the first video track of MP4, MOV, WebM and Matroska files, without decoding.
//
// A track is {codec, description, colour, turns, times, packets}. colour: the matrix and range that
// the file declares. times: of the shown frames in their order, seconds. packets: in decoding order,
// {offset, size, key, frame}; frame is the number of the frame that the packet shows, -1 if none.
const TEXT = new TextDecoder("latin1");
const CHUNK = 1 << 22;  // bytes that are read at once

class Unsupported extends Error {}

const bytesOf = async (file, from, to) => new DataView(await file.slice(from, to).arrayBuffer());

/** The track of a file; null for another kind of container or one that is not understood. */
export async function trackOf(file) {
  try {
    const head = await bytesOf(file, 0, 12);
    if (head.byteLength < 12) return null;
    if (TEXT.decode(new Uint8Array(head.buffer, 4, 4)) === "ftyp") return await mp4(file);
    if (head.getUint32(0) === 0x1a45dfa3) return await webm(file);
    return null;
  } catch (error) {
    if (error instanceof Unsupported || error instanceof RangeError) return null;
    throw error;
  }
}

const MATRICES = {1: "bt709", 9: "bt2020-ncl"};

/** The colours of a matrix number of ISO/IEC 23091-2; BT.601 where it is not declared. */
const colourOf = (matrix, full = false) => (
  {matrix: MATRICES[matrix] || "smpte170m", fullRange: Boolean(full)});

/** The colours of a VP9 stream are in its first frame. */
async function vp9Colour(file, {offset}) {
  const head = new Uint8Array(await file.slice(offset, offset + 5).arrayBuffer());
  const plain = head[0] >> 4 === 8 && head[1] === 0x49;  // profile 0, a keyframe
  return colourOf(plain && head[4] >> 5 === 2 ? 1 : 2, plain && head[4] & 16);
}

const hex = (value, digits = 2) => value.toString(16).padStart(digits, "0");

// --- MP4 and MOV: ISO/IEC 14496-12 ------------------------------------------------------------

/** The boxes in a range of bytes: [type, first byte, last byte + 1]. */
function* boxes(view, from, to) {
  while (from + 8 <= to) {
    let size = view.getUint32(from), head = 8;
    if (size === 1) [size, head] = [Number(view.getBigUint64(from + 8)), 16];
    if (size === 0) size = to - from;
    if (size < head || from + size > to) throw new Unsupported("a box does not fit");
    yield [TEXT.decode(new Uint8Array(view.buffer, view.byteOffset + from + 4, 4)),
      from + head, from + size];
    from += size;
  }
}

function box(view, range, ...path) {
  for (const name of path) {
    if (!range) return null;
    range = [...boxes(view, range[1], range[2])].find(one => one[0] === name);
  }
  return range || null;
}

async function mp4(file) {
  const view = await movie(file), all = ["", 0, view.byteLength];
  if (box(view, all, "mvex")) throw new Unsupported("in fragments");
  const scale = view.getUint32(box(view, all, "mvhd")[1] + (view.getUint8(
    box(view, all, "mvhd")[1]) ? 20 : 12));
  for (const trak of [...boxes(view, 0, view.byteLength)].filter(one => one[0] === "trak")) {
    const handler = box(view, trak, "mdia", "hdlr");
    if (TEXT.decode(new Uint8Array(view.buffer, view.byteOffset + handler[1] + 8, 4)) === "vide") {
      const found = track(view, trak, scale);
      if (found.codec.startsWith("vp09")) found.colour = await vp9Colour(file, found.packets[0]);
      return found;
    }
  }
  throw new Unsupported("no video");
}

/** The content of the box "moov". */
async function movie(file) {
  for (let from = 0; from + 8 <= file.size;) {
    const head = await bytesOf(file, from, from + 16);
    let size = head.getUint32(0), start = 8;
    if (size === 1) [size, start] = [Number(head.getBigUint64(8)), 16];
    if (size === 0) size = file.size - from;
    if (size < start || from + size > file.size) throw new Unsupported("a box does not fit");
    if (head.getUint32(4) === 0x6d6f6f76) return bytesOf(file, from + start, from + size);
    from += size;
  }
  throw new Unsupported("no moov");
}

function track(view, trak, movieScale) {
  const header = box(view, trak, "mdia", "mdhd")[1];
  const scale = view.getUint32(header + (view.getUint8(header) ? 20 : 12));
  const table = box(view, trak, "mdia", "minf", "stbl");
  const list = name => {
    const found = box(view, table, name);
    return found && {at: found[1] + 8, count: view.getUint32(found[1] + 4), from: found[1]};
  };
  const sizes = list("stsz"), fixed = view.getUint32(sizes.from + 4);
  const count = view.getUint32(sizes.from + 8);
  if (!count || count > 1e6) throw new Unsupported("no frames, or too many");
  const packets = Array.from({length: count}, (_, i) => ({
    size: fixed || view.getUint32(sizes.from + 12 + 4 * i), key: false,
  }));
  place(view, list, packets);
  const sync = list("stss");
  if (!sync) packets.forEach(packet => { packet.key = true; });
  else {
    for (let k = 0; k < sync.count; k++) packets[view.getUint32(sync.at + 4 * k) - 1].key = true;
  }
  stamp(view, list, packets);
  const {first, end} = shown(view, trak, scale, movieScale);
  const order = packets.filter(packet => packet.stamp >= first && packet.stamp < end)
    .sort((a, b) => a.stamp - b.stamp);
  packets.forEach(packet => { packet.frame = -1; });
  order.forEach((packet, index) => { packet.frame = index; });
  const matrix = box(view, trak, "tkhd")[1] + (view.getUint8(box(view, trak, "tkhd")[1]) ? 52 : 40);
  const turns = Math.round(Math.atan2(view.getInt32(matrix + 4), view.getInt32(matrix))
    / (Math.PI / 2));
  return {
    ...entry(view, box(view, table, "stsd")),
    turns: (turns + 4) % 4,
    times: order.map(packet => (packet.stamp - order[0].stamp) / scale),
    packets,
  };
}

/** Where each packet lies: chunks of packets, one after another. */
function place(view, list, packets) {
  const runs = list("stsc"), large = list("co64"), chunks = large || list("stco");
  let next = 0;
  for (let run = 0; run < runs.count; run++) {
    const [first, per] = [0, 4].map(k => view.getUint32(runs.at + 12 * run + k));
    const end = run + 1 < runs.count ? view.getUint32(runs.at + 12 * run + 12) : chunks.count + 1;
    for (let chunk = first; chunk < end; chunk++) {
      let offset = large ? Number(view.getBigUint64(chunks.at + 8 * (chunk - 1)))
        : view.getUint32(chunks.at + 4 * (chunk - 1));
      for (let k = 0; k < per && next < packets.length; k++) {
        packets[next].offset = offset;
        offset += packets[next++].size;
      }
    }
  }
  if (next < packets.length) throw new Unsupported("packets without a place");
}

/** When each packet is shown, in units of the track. */
function stamp(view, list, packets) {
  const steps = list("stts"), shifts = list("ctts");
  let next = 0, time = 0;
  for (let k = 0; k < steps.count; k++) {
    const [many, step] = [0, 4].map(at => view.getUint32(steps.at + 8 * k + at));
    for (let i = 0; i < many && next < packets.length; i++) {
      packets[next++].stamp = time;
      time += step;
    }
  }
  if (next < packets.length) throw new Unsupported("packets without a time");
  if (!shifts) return;
  next = 0;
  for (let k = 0; k < shifts.count; k++) {
    const shift = view.getInt32(shifts.at + 8 * k + 4);
    for (let i = view.getUint32(shifts.at + 8 * k); i > 0 && next < packets.length; i--) {
      packets[next++].stamp += shift;
    }
  }
}

/** The stretch of the track that is shown, by its edit list. */
function shown(view, trak, scale, movieScale) {
  const found = box(view, trak, "edts", "elst");
  if (!found) return {first: -Infinity, end: Infinity};
  const wide = view.getUint8(found[1]) === 1, size = wide ? 20 : 12, edits = [];
  for (let k = 0; k < view.getUint32(found[1] + 4); k++) {
    const at = found[1] + 8 + size * k;
    const [length, media] = wide
      ? [Number(view.getBigUint64(at)), Number(view.getBigInt64(at + 8))]
      : [view.getUint32(at), view.getInt32(at + 4)];
    if (media >= 0) edits.push([length, media]);
  }
  if (edits.length !== 1) throw new Unsupported("several edits");
  const [length, media] = edits[0];
  const end = length ? media + Math.ceil(length * scale / movieScale) : Infinity;
  return {first: media, end};
}

/** The codec of a sample description, in the words of WebCodecs. */
function entry(view, range) {
  const [kind, from, to] = [...boxes(view, range[1] + 8, range[2])][0];
  const inner = ["", from + 78, to], colr = box(view, inner, "colr");
  const declared = colr && view.getUint32(colr[1]) === 0x6e636c78;  // nclx
  const colour = declared ? colourOf(view.getUint16(colr[1] + 8), view.getUint8(colr[1] + 10) >> 7)
    : colourOf(2);
  const config = name => {
    const found = box(view, inner, name);
    if (!found) throw new Unsupported(`no ${name}`);
    return new Uint8Array(view.buffer.slice(view.byteOffset + found[1], view.byteOffset + found[2]));
  };
  if (kind === "avc1" || kind === "avc3") {
    const description = config("avcC");
    return {codec: avc(description), description, colour};
  }
  if (kind === "hvc1" || kind === "hev1") {
    const description = config("hvcC");
    return {codec: `${kind}.${hevc(description)}`, description, colour};
  }
  if (kind === "vp09") {
    const [, , , , profile, level, depth] = config("vpcC");
    return {codec: vp9(profile, level, depth >> 4), colour};
  }
  if (kind === "av01") return {codec: av1(config("av1C")), colour};
  throw new Unsupported(kind);
}

const avc = config => `avc1.${[1, 2, 3].map(k => hex(config[k])).join("")}`;

/** ISO/IEC 14496-15, E.3. */
function hevc(config) {
  const space = ["", "A", "B", "C"][config[1] >> 6], tier = config[1] & 32 ? "H" : "L";
  let flags = 0;
  for (let bit = 0; bit < 32; bit++) {
    if (config[2 + (bit >> 3)] & (128 >> (bit & 7))) flags += 2 ** bit;
  }
  const limits = [...config.slice(6, 12)];
  while (limits.length && !limits.at(-1)) limits.pop();
  return [`${space}${config[1] & 31}`, hex(flags, 1), `${tier}${config[12]}`,
    ...limits.map(value => hex(value, 1))].join(".");
}

const two = value => String(value).padStart(2, "0");
const vp9 = (profile, level, depth) => `vp09.${two(profile)}.${two(level)}.${two(depth)}`;

function av1(config) {
  const depth = config[2] & 64 ? (config[2] & 32 ? 12 : 10) : 8;
  return `av01.${config[1] >> 5}.${two(config[1] & 31)}${config[2] & 128 ? "H" : "M"}.${two(depth)}`;
}

// --- WebM: RFC 8794 and 9559 ------------------------------------------------------------------

const SEGMENT = 0x18538067, INFO = 0x1549a966, SCALE = 0x2ad7b1, TRACKS = 0x1654ae6b;
const ENTRY = 0xae, NUMBER = 0xd7, KIND = 0x83, CODEC = 0x86, PRIVATE = 0x63a2;
const PICTURE = 0xe0, COLOUR = 0x55b0, MATRIX = 0x55b1, RANGE = 0x55b9;
const NUMBERS = new Set([NUMBER, KIND, MATRIX, RANGE]);
const CLUSTER = 0x1f43b675, TIME = 0xe7, GROUP = 0xa0, SIMPLE = 0xa3, BLOCK = 0xa1, REFERENCE = 0xfb;
const INSIDE = new Set([SEGMENT, INFO, TRACKS, CLUSTER, GROUP, PICTURE, COLOUR]);

/** The codecs of Matroska that browsers decode, by their CodecPrivate. */
const CODECS = {
  V_VP8: () => ({codec: "vp8"}),
  V_VP9: () => ({codec: vp9(0, 10, 8)}),
  V_AV1: config => ({codec: av1(config)}),
  "V_MPEG4/ISO/AVC": description => ({codec: avc(description), description}),
  "V_MPEGH/ISO/HEVC": description => ({codec: `hvc1.${hevc(description)}`, description}),
};

/** Reads elements of a file, a chunk at a time. */
class Elements {
  constructor(file) {
    Object.assign(this, {file, from: 0, view: new DataView(new ArrayBuffer(0))});
  }

  /** size bytes at a place of the file. */
  async at(place, size) {
    const rest = this.from + this.view.byteLength - place;
    if (place < this.from || rest < Math.min(size, this.file.size - place)) {
      this.from = place;
      this.view = await bytesOf(this.file, place, place + Math.max(size, CHUNK));
    }
    return new Uint8Array(this.view.buffer, place - this.from,
      Math.min(size, this.from + this.view.byteLength - place));
  }

  /** The identity, content and end of the element at a place. */
  async element(place) {
    const bytes = await this.at(place, 12), width = Math.clz32(bytes[0]) - 23;
    if (width > 4 || bytes.length < width + 1) throw new Unsupported("no element");
    const id = number(bytes.subarray(0, width)), long = Math.clz32(bytes[width]) - 23;
    if (long > 8 || bytes.length < width + long) throw new Unsupported("no size");
    const digits = bytes.slice(width, width + long);
    digits[0] &= (1 << (8 - long)) - 1;
    const unknown = digits[0] === (1 << (8 - long)) - 1
      && digits.subarray(1).every(digit => digit === 255);
    const content = place + width + long, size = unknown ? Infinity : number(digits);
    return {id, content, end: Math.min(content + size, this.file.size)};
  }
}

const number = bytes => bytes.reduce((value, digit) => 256 * value + digit, 0);

async function webm(file) {
  const elements = new Elements(file), packets = [];
  let scale = 1e6, time = 0, video = null, entryEnd = 0, fields = {};
  for (let place = 0; place < file.size;) {
    const {id, content, end} = await elements.element(place);
    const size = end - content;
    place = INSIDE.has(id) ? content : end;
    if (id === SCALE) scale = number(await elements.at(content, size));
    else if (id === TIME) time = number(await elements.at(content, size));
    else if (id === ENTRY) [place, entryEnd, fields] = [content, end, {}];
    else if (content < entryEnd) {
      if (NUMBERS.has(id)) fields[id] = number(await elements.at(content, size));
      if (id === CODEC) fields[id] = TEXT.decode(await elements.at(content, size));
      if (id === PRIVATE) fields[id] = (await elements.at(content, size)).slice();
      if (!video && fields[KIND] === 1) video = fields;
    } else if (id === SIMPLE || id === BLOCK) {
      const head = await elements.at(content, 5);
      if (!video) throw new Unsupported("a block before the tracks");
      if (head[0] !== 128 + video[NUMBER]) continue;
      if (head[3] & 6) throw new Unsupported("laced");
      const shift = (head[1] << 24 | head[2] << 16) >> 16;
      packets.push({offset: content + 4, size: size - 4, stamp: time + shift,
        key: id === BLOCK || (head[3] & 128) > 0, first: head[4]});
    } else if (id === REFERENCE) packets.at(-1).key = false;
    if (packets.length > 1e6) throw new Unsupported("too many frames");
  }
  if (!packets.length) throw new Unsupported("no video");
  const kind = CODECS[video[CODEC]], isVp9 = video[CODEC] === "V_VP9";
  if (!kind) throw new Unsupported(video[CODEC]);
  const {codec, ...more} = kind(video[PRIVATE]);
  const order = packets.filter(({first}) => codec !== "vp8" || first & 16)  // its show_frame bit
    .sort((a, b) => a.stamp - b.stamp);
  packets.forEach(packet => { packet.frame = -1; });
  order.forEach((packet, index) => { packet.frame = index; });
  const stamps = order.map(packet => packet.stamp);
  return {
    codec,
    ...more,
    colour: isVp9 ? await vp9Colour(file, packets[0]) : colourOf(video[MATRIX], video[RANGE] === 2),
    turns: 0,
    times: stamps.map(stamp => (stamp - stamps[0]) * scale / 1e9),
    packets,
  };
}
