// The shape in 3D, rendered by the same camera as the image: azimuth, elevation, distance and field of view are the model's.
import {
  BufferAttribute, BufferGeometry, Color, DirectionalLight, HemisphereLight, Mesh, MeshNormalMaterial, MeshStandardMaterial,
  PerspectiveCamera, Scene, Sphere, SRGBColorSpace, Vector3, WebGLRenderer,
} from "./three/three.module.js";

const DISTANCE = 2.0;
const OPENING_DEG = 2 * Math.atan(0.0612 / 2 / 0.05) * 180 / Math.PI;
const TURN_DEG_PER_S = 30;

// The geometry of a mesh that glb.js has read.
export function geometryOf({ arrays, indices }) {
  const geometry = new BufferGeometry();
  const attribute = ({ array, width, normalized }) => new BufferAttribute(array, width, normalized);
  geometry.setAttribute("position", attribute(arrays.POSITION));
  if (arrays.COLOR_0) geometry.setAttribute("color", attribute(arrays.COLOR_0));
  geometry.setIndex(attribute(indices));
  if (arrays.NORMAL) geometry.setAttribute("normal", attribute(arrays.NORMAL));
  else geometry.computeVertexNormals();
  return geometry;
}

export class Surface {
  // onTurn(azimuth, elevation, done) receives the viewpoint that the user turns the shape to.
  constructor(canvas, onTurn) {
    this.canvas = canvas;
    this.onTurn = onTurn;
    this.azimuth = this.elevation = 0;
    this.zoom = 1;
    // The last frame stays readable, for copies of the canvas.
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
    this.normals = new MeshNormalMaterial();
    this.mesh = new Mesh(new BufferGeometry(), this.material);
    this.mesh.visible = false;
    this.sphere = new Sphere(new Vector3(), 1);
    this.scene.add(this.mesh);
    this.#listen();
    new ResizeObserver(() => this.draw()).observe(canvas);
  }

  // A geometry (null for none), shown as painted, clay, normals or wireframe.
  show(geometry, look = this.shownAs) {
    this.mesh.geometry.dispose();
    this.mesh.visible = geometry !== null;
    this.mesh.geometry = geometry ?? new BufferGeometry();
    if (geometry) {
      geometry.computeBoundingBox();
      geometry.boundingBox.getBoundingSphere(this.sphere);
    }
    this.showAs(look);
  }

  showAs(look) {
    this.shownAs = look;
    const painted = look === "painted" && this.mesh.geometry.getAttribute("color") !== undefined;
    this.mesh.material = look === "normals" ? this.normals : this.material;
    this.material.wireframe = look === "wireframe";
    this.material.vertexColors = painted;
    this.material.color.set(painted ? 0xffffff : 0xc9b8a8);
    this.sky.intensity = painted ? 2.6 : 1.5;  // the texture has its own shading
    this.material.needsUpdate = true;
    this.draw();
  }

  // Turns by itself until it is stopped; the viewpoint is then the one reached.
  setTurning(turning) {
    if (turning === Boolean(this.turning)) return;
    this.turning = turning ? performance.now() : 0;
    if (turning) this.#step();
    else this.#turn(this.azimuth, this.elevation, true);
  }

  #step() {
    requestAnimationFrame((now) => {
      if (!this.turning) return;
      this.azimuth += TURN_DEG_PER_S * Math.min(0.1, Math.max(0, now - this.turning) / 1000);
      this.turning = now;
      this.draw();
      this.#step();
    });
  }

  look(azimuth, elevation) {
    if (this.turning) return;
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
      this.turning = 0;
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
