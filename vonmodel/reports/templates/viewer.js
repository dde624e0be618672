// Turnable meshes: one WebGL canvas draws for all views of a page, and each view shows its picture in 2D.
const VERTEX = `#version 300 es
in vec3 position; in vec3 normal; in vec3 colour;
uniform mat4 camera; uniform mat3 turn;
out vec3 shade; out vec3 facing;
vec3 linear(vec3 value) { return mix(value / 12.92, pow((value + 0.055) / 1.055, vec3(2.4)), step(0.04045, value)); }
void main() { shade = linear(colour); facing = turn * normal; gl_Position = camera * vec4(position, 1.0); }`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec3 shade; in vec3 facing; out vec4 pixel;
vec3 srgb(vec3 value) { return mix(12.92 * value, 1.055 * pow(value, vec3(1.0 / 2.4)) - 0.055, step(0.0031308, value)); }
void main() {
  vec3 n = normalize(facing);
  float sky = 0.66 + 0.26 * n.y;
  float key = max(dot(n, normalize(vec3(-0.45, 0.65, 0.75))), 0.0);
  float rim = pow(1.0 - max(n.z, 0.0), 3.0) * 0.12;
  pixel = vec4(srgb(min(shade * (sky + 0.55 * key) + rim, vec3(1.0))), 1.0);
}`;
const FIELD_DEG = 32;
const TURN_DEG_PER_S = 14;
const FRAME_MS = 33;
const START = { azimuth: 35, elevation: 18 };

// The mesh that viewer.py wrote: see there for the bytes.
export function decodeMesh(text) {
  const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  const vertices = view.getUint32(0, true), faces = view.getUint32(4, true);
  const number = (index) => view.getFloat32(8 + 4 * index, true);
  const low = [number(0), number(1), number(2)], extent = [number(3), number(4), number(5)];
  let at = 32;
  const quantised = new Uint16Array(bytes.buffer, at, 3 * vertices);
  at += quantised.byteLength;
  const indices = new Uint16Array(bytes.buffer, at, 3 * faces);
  at += indices.byteLength;
  const positions = new Float32Array(3 * vertices);
  for (let index = 0; index < positions.length; index++) {
    positions[index] = low[index % 3] + extent[index % 3] * quantised[index] / 65535;
  }
  return { positions, indices, colours: new Uint8Array(bytes.buffer, at, 3 * vertices) };
}

// Unit normals at the vertices: those of the faces around them, by their areas.
export function smoothNormals({ positions, indices }) {
  const normals = new Float32Array(positions.length);
  for (let face = 0; face < indices.length; face += 3) {
    const [a, b, c] = [3 * indices[face], 3 * indices[face + 1], 3 * indices[face + 2]];
    const u = [0, 1, 2].map((axis) => positions[b + axis] - positions[a + axis]);
    const v = [0, 1, 2].map((axis) => positions[c + axis] - positions[a + axis]);
    const n = [u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]];
    for (const corner of [a, b, c]) for (let axis = 0; axis < 3; axis++) normals[corner + axis] += n[axis];
  }
  for (let index = 0; index < normals.length; index += 3) {
    const length = Math.hypot(normals[index], normals[index + 1], normals[index + 2]) || 1;
    for (let axis = 0; axis < 3; axis++) normals[index + axis] /= length;
  }
  return normals;
}

// Column-major matrices of a camera at azimuth and elevation (radians) that sees a sphere around the centre whole.
export function cameraOf(azimuth, elevation, centre, radius, zoom = 1) {
  const [sa, ca, se, ce] = [Math.sin(azimuth), Math.cos(azimuth), Math.sin(elevation), Math.cos(elevation)];
  const rows = [[ca, 0, -sa], [-sa * se, ce, -ca * se], [sa * ce, se, ca * ce]];
  const half = FIELD_DEG * Math.PI / 360, distance = radius / Math.sin(half) / zoom;
  const [near, far] = [Math.max(0.01, distance - 2 * radius), distance + 2 * radius];
  const focal = 1 / Math.tan(half), depth = (far + near) / (near - far), bias = 2 * far * near / (near - far);
  const camera = new Float32Array(16);
  for (let column = 0; column < 4; column++) {
    const seen = rows.map((row) => column < 3 ? row[column] : -row.reduce((sum, each, axis) => sum + each * centre[axis], 0));
    if (column === 3) seen[2] -= distance;
    camera.set([focal * seen[0], focal * seen[1], depth * seen[2] + (column === 3 ? bias : 0), -seen[2]], 4 * column);
  }
  return { camera, turn: new Float32Array([0, 1, 2].flatMap((column) => rows.map((row) => row[column]))) };
}

class Painter {
  constructor() {
    this.canvas = document.createElement("canvas");
    const gl = this.gl = this.canvas.getContext("webgl2", { antialias: true, alpha: true, premultipliedAlpha: true });
    if (!gl) return;
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    this.program = program;
    gl.enable(gl.DEPTH_TEST);
    gl.clearColor(0, 0, 0, 0);
  }

  upload(mesh) {
    const { gl, program } = this;
    const array = gl.createVertexArray();
    gl.bindVertexArray(array);
    for (const [name, values, kind, normalised] of [
      ["position", mesh.positions, gl.FLOAT, false], ["normal", mesh.normals ?? smoothNormals(mesh), gl.FLOAT, false],
      ["colour", mesh.colours, gl.UNSIGNED_BYTE, true],
    ]) {
      const place = gl.getAttribLocation(program, name);
      gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
      gl.bufferData(gl.ARRAY_BUFFER, values, gl.STATIC_DRAW);
      gl.enableVertexAttribArray(place);
      gl.vertexAttribPointer(place, 3, kind, normalised, 0, 0);
    }
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, mesh.indices, gl.STATIC_DRAW);
    const kind = mesh.indices instanceof Uint16Array ? gl.UNSIGNED_SHORT : gl.UNSIGNED_INT;
    return { array, count: mesh.indices.length, kind };
  }

  draw(uploaded, matrices, size) {
    const { gl, canvas, program } = this;
    if (canvas.width < size) canvas.width = canvas.height = size;
    gl.viewport(0, canvas.height - size, size, size);
    gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
    gl.uniformMatrix4fv(gl.getUniformLocation(program, "camera"), false, matrices.camera);
    gl.uniformMatrix3fv(gl.getUniformLocation(program, "turn"), false, matrices.turn);
    gl.bindVertexArray(uploaded.array);
    gl.drawElements(gl.TRIANGLES, uploaded.count, uploaded.kind, 0);
    return canvas;
  }
}

let painter = null;
const views = new Set();
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const view = [...views].find((each) => each.canvas === target);
    if (view) view.setVisible(isIntersecting);
  }
});
const calm = matchMedia("(prefers-reduced-motion: reduce)");

// A canvas that shows a mesh, slowly turning until the user turns it.
export class Turnable {
  constructor(canvas, mesh, { interactive = true, phase = 0 } = {}) {
    painter ??= new Painter();
    Object.assign(this, { canvas, visible: false, turning: true, zoom: 1, ...START });
    this.azimuth += phase;
    if (!painter.gl) { canvas.replaceWith("This browser shows no WebGL."); return; }
    this.setMesh(mesh);
    if (interactive) this.#listen();
    views.add(this);
    seen.observe(canvas);
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  setMesh(mesh) {
    this.uploaded = painter.upload(mesh);
    const low = [Infinity, Infinity, Infinity], high = [-Infinity, -Infinity, -Infinity];
    mesh.positions.forEach((value, index) => {
      low[index % 3] = Math.min(low[index % 3], value);
      high[index % 3] = Math.max(high[index % 3], value);
    });
    this.centre = low.map((value, axis) => (value + high[axis]) / 2);
    this.radius = Math.hypot(...low.map((value, axis) => high[axis] - value)) / 2;
    this.draw();
  }

  setVisible(visible) {
    this.visible = visible;
    if (visible) this.draw();
    start();
  }

  remove() {
    views.delete(this);
    seen.unobserve(this.canvas);
  }

  get moves() { return this.visible && this.turning && !calm.matches && !document.hidden; }

  draw() {
    const size = Math.round(this.canvas.clientWidth * Math.min(devicePixelRatio, 2));
    if (!size || !this.uploaded) return;
    if (this.canvas.width !== size) this.canvas.width = this.canvas.height = size;
    const [azimuth, elevation] = [this.azimuth, this.elevation].map((angle) => angle * Math.PI / 180);
    const source = painter.draw(this.uploaded, cameraOf(azimuth, elevation, this.centre, this.radius, this.zoom), size);
    const context = this.canvas.getContext("2d");
    context.clearRect(0, 0, size, size);
    context.drawImage(source, 0, 0, size, size, 0, 0, size, size);
    this.canvas.dataset.drawn = "true";
  }

  turn(azimuth, elevation) {
    this.turning = false;
    this.azimuth = azimuth;
    this.elevation = Math.min(90, Math.max(-90, elevation));
    this.draw();
  }

  #listen() {
    const { canvas } = this;
    let from = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      from = { x: event.clientX, y: event.clientY, azimuth: this.azimuth, elevation: this.elevation };
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!from) return;
      const degrees = 180 / Math.max(200, canvas.clientWidth);
      this.turn(from.azimuth - degrees * (event.clientX - from.x), from.elevation + degrees * (event.clientY - from.y));
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { from = null; });
    canvas.addEventListener("dblclick", () => {
      Object.assign(this, START, { zoom: 1, turning: true });
      start();
    });
    canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [-10, 0], ArrowRight: [10, 0], ArrowUp: [0, 10], ArrowDown: [0, -10] }[event.key];
      const factor = { "+": 1.15, "=": 1.15, "-": 1 / 1.15 }[event.key];
      if (factor) this.zoom = Math.min(4, Math.max(0.5, this.zoom * factor));
      if (!steps && !factor) return;
      event.preventDefault();
      this.turn(this.azimuth + (steps?.[0] ?? 0), this.elevation + (steps?.[1] ?? 0));
    });
  }
}

let last = 0, running = false;
function start() {
  if (running) return;
  running = true;
  requestAnimationFrame(step);
}

function step(now) {
  const moving = [...views].filter((view) => view.moves);
  if (now - last >= FRAME_MS) {
    const elapsed = Math.min(0.1, (now - last) / 1000);
    last = now;
    for (const view of moving) {
      view.azimuth += TURN_DEG_PER_S * elapsed;
      view.draw();
    }
  }
  running = moving.length > 0;
  if (running) requestAnimationFrame(step);
}
document.addEventListener("visibilitychange", start);
calm.addEventListener("change", start);
