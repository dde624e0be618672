// The shape in 3D, seen by the same camera as the image: azimuth, elevation, distance and opening angle are the model's.
import {
  BufferAttribute, BufferGeometry, Color, DirectionalLight, HemisphereLight, Mesh, MeshStandardMaterial, PerspectiveCamera,
  Scene, Sphere, SRGBColorSpace, Vector3, WebGLRenderer,
} from "./three/three.module.js";

const DISTANCE = 2.0;
const OPENING_DEG = 2 * Math.atan(0.0612 / 2 / 0.05) * 180 / Math.PI;
const ARRAYS = { 5121: Uint8Array, 5123: Uint16Array, 5125: Uint32Array, 5126: Float32Array };
const WIDTHS = { SCALAR: 1, VEC3: 3, VEC4: 4 };

// The first primitive of a binary glTF file as the studio writes it: tightly packed, one buffer, no transforms.
export function readGlb(buffer) {
  const view = new DataView(buffer);
  const length = view.getUint32(12, true);
  const scene = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 20, length)));
  const binary = 20 + length + 8;
  const attribute = (index) => {
    const { bufferView, byteOffset = 0, componentType, count, type, normalized = false } = scene.accessors[index];
    const start = binary + (scene.bufferViews[bufferView].byteOffset ?? 0) + byteOffset;
    const kind = ARRAYS[componentType];
    const bytes = buffer.slice(start, start + count * WIDTHS[type] * kind.BYTES_PER_ELEMENT);
    return new BufferAttribute(new kind(bytes), WIDTHS[type], normalized);
  };
  const { attributes, indices } = scene.meshes[0].primitives[0];
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", attribute(attributes.POSITION));
  if (attributes.COLOR_0 !== undefined) geometry.setAttribute("color", attribute(attributes.COLOR_0));
  geometry.setIndex(attribute(indices));
  if (attributes.NORMAL !== undefined) geometry.setAttribute("normal", attribute(attributes.NORMAL));
  else geometry.computeVertexNormals();
  return geometry;
}

export class Surface {
  // onTurn(azimuth, elevation, done) is told where a hand turns the shape to.
  constructor(canvas, onTurn) {
    this.canvas = canvas;
    this.onTurn = onTurn;
    this.azimuth = this.elevation = 0;
    this.zoom = 1;
    // What was drawn last stays readable, for whoever copies it.
    this.renderer = new WebGLRenderer({ canvas, antialias: true, alpha: true, preserveDrawingBuffer: true });
    this.renderer.outputColorSpace = SRGBColorSpace;
    this.camera = new PerspectiveCamera(OPENING_DEG, 1, 0.05, 10);
    this.scene = new Scene();
    const light = new DirectionalLight(0xffffff, 2.1);
    light.position.set(-0.8, 1.2, 0.6);
    this.camera.add(light);
    this.sky = new HemisphereLight(0xffffff, 0x8d877c, 1.5);
    this.scene.add(this.camera, this.sky);
    this.material = new MeshStandardMaterial({ color: new Color(0xc9b8a8), roughness: 0.85 });
    this.mesh = new Mesh(new BufferGeometry(), this.material);
    this.mesh.visible = false;
    this.sphere = new Sphere(new Vector3(), 1);
    this.scene.add(this.mesh);
    this.#listen();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  show(geometry) {
    this.mesh.geometry.dispose();
    this.mesh.visible = geometry !== null;
    this.mesh.geometry = geometry ?? new BufferGeometry();
    const painted = geometry?.getAttribute("color") !== undefined;
    if (painted !== this.material.vertexColors) {
      this.material.vertexColors = painted;
      this.material.color.set(painted ? 0xffffff : 0xc9b8a8);
      this.sky.intensity = painted ? 2.6 : 1.5;  // the texture has shadows of its own
      this.material.needsUpdate = true;
    }
    if (geometry) {
      geometry.computeBoundingBox();
      geometry.boundingBox.getBoundingSphere(this.sphere);
    }
    this.draw();
  }

  look(azimuth, elevation) {
    this.azimuth = azimuth;
    this.elevation = elevation;
    this.draw();
  }

  draw() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => {
      this.waiting = null;
      const size = this.canvas.clientWidth;
      if (!size) return;
      const ratio = Math.min(window.devicePixelRatio, 2);
      if (this.canvas.width !== Math.round(size * ratio)) {
        this.renderer.setPixelRatio(ratio);
        this.renderer.setSize(size, size, false);
      }
      const { center, radius } = this.sphere;
      const [azimuth, elevation] = [this.azimuth, this.elevation].map((angle) => angle * Math.PI / 180);
      this.camera.rotation.set(-elevation, azimuth, 0, "YXZ");
      this.camera.position.set(
        Math.sin(azimuth) * Math.cos(elevation), Math.sin(elevation), Math.cos(azimuth) * Math.cos(elevation),
      ).multiplyScalar(DISTANCE).add(center);
      // The sphere around the shape fills the picture.
      const half = Math.tan(Math.asin(Math.min(0.95, radius / DISTANCE)));
      this.camera.zoom = 1.1 * this.zoom * Math.tan(OPENING_DEG * Math.PI / 360) / half;
      this.camera.updateProjectionMatrix();
      this.renderer.render(this.scene, this.camera);
    });
  }

  #listen() {
    const { canvas } = this;
    let from = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      from = { x: event.clientX, y: event.clientY, azimuth: this.azimuth, elevation: this.elevation };
      canvas.setPointerCapture(event.pointerId);
    });
    const turned = (event, done) => {
      if (!from) return;
      const degrees = 180 / Math.max(200, canvas.clientWidth);
      this.#turn(from.azimuth - degrees * (event.clientX - from.x), from.elevation + degrees * (event.clientY - from.y), done);
    };
    canvas.addEventListener("pointermove", (event) => turned(event, false));
    canvas.addEventListener("pointerup", (event) => { turned(event, true); from = null; });
    canvas.addEventListener("pointercancel", () => { from = null; });
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom = Math.min(4, Math.max(0.5, this.zoom * Math.exp(-event.deltaY / 600)));
      this.draw();
    }, { passive: false });
    canvas.addEventListener("dblclick", () => { this.zoom = 1; this.draw(); });
    canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, 5], ArrowDown: [0, -5] }[event.key];
      if (!steps) return;
      event.preventDefault();
      this.#turn(this.azimuth + steps[0], this.elevation + steps[1], true);
    });
  }

  #turn(azimuth, elevation, done) {
    const around = ((azimuth + 180) % 360 + 360) % 360 - 180;
    this.onTurn(Math.round(around), Math.round(Math.min(90, Math.max(-90, elevation))), done);
  }
}
