// Binary glTF as the studio writes it: one primitive, tightly packed, one buffer, no transforms.
const ARRAYS = { 5121: Uint8Array, 5123: Uint16Array, 5125: Uint32Array, 5126: Float32Array };
const WIDTHS = { SCALAR: 1, VEC3: 3, VEC4: 4 };

// The arrays of the first primitive by attribute, its indices, and the file's extras.
export function readGlb(buffer) {
  const view = new DataView(buffer);
  const length = view.getUint32(12, true);
  const scene = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 20, length)));
  const binary = 20 + length + 8;
  const read = (index) => {
    const { bufferView, byteOffset = 0, componentType, count, type, normalized = false } = scene.accessors[index];
    const start = binary + (scene.bufferViews[bufferView].byteOffset ?? 0) + byteOffset;
    const kind = ARRAYS[componentType];
    const bytes = buffer.slice(start, start + count * WIDTHS[type] * kind.BYTES_PER_ELEMENT);
    return { array: new kind(bytes), width: WIDTHS[type], normalized };
  };
  const { attributes, indices } = scene.meshes[0].primitives[0];
  const arrays = Object.fromEntries(Object.entries(attributes).map(([name, index]) => [name, read(index)]));
  return { arrays, indices: read(indices), extras: scene.asset.extras ?? {} };
}

// The mesh as viewer.js takes it: sRGB colours of 8 bits, clay where the file has none.
export function turnableMesh({ arrays, indices }) {
  const positions = arrays.POSITION.array, colours = new Uint8Array(positions.length);
  const linear = arrays.COLOR_0;
  for (let index = 0; index < colours.length; index++) {
    if (!linear) { colours[index] = [201, 190, 178][index % 3]; continue; }
    const value = linear.array[linear.width * Math.floor(index / 3) + index % 3];
    colours[index] = 255 * (value <= 0.0031308 ? 12.92 * value : 1.055 * value ** (1 / 2.4) - 0.055);
  }
  return { positions, normals: arrays.NORMAL?.array, indices: indices.array, colours };
}
