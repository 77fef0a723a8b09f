// An avatar as an object of three.js. The engine projects and sorts the Gaussians for the camera of each frame, on the page's
// own thread, so that they are never a frame behind the scene; they are drawn as one mesh with the depth of each Gaussian.
import {
  BufferAttribute, BufferGeometry, CustomBlending, DataTexture, DoubleSide, FloatType, GLSL3, Matrix4, Mesh, NearestFilter, OneFactor,
  OneMinusSrcAlphaFactor, PerspectiveCamera, RGBAFormat, RawShaderMaterial, Sphere, Vector2, Vector3, Vector4,
} from "three";
import { Engine, FLOATS, FRAGMENT, Puppet, ROW, SPEECH_SOURCE, Speaker, VERTEX, followed, loadAvatar } from "./core.js";

const WIDTH = ROW * FLOATS / 4; // texels in a row
const withoutVersion = (shader) => shader.slice(shader.indexOf("\n") + 1);

/** The avatar's head; its origin is the middle of the skull, its axes are three's (y up, the face looks along +z), metres. */
export class SpatialAvatarObject extends Mesh {
  /** The avatar at an address: a page that `spatialavatar export --format html` wrote. */
  static async load(src) {
    return new SpatialAvatarObject(await loadAvatar(new URL(src, document.baseURI)));
  }

  constructor(buffer) {
    const engine = new Engine(buffer), rows = Math.ceil(engine.count / ROW);
    const texture = new DataTexture(new Float32Array(rows * ROW * FLOATS), WIDTH, rows, RGBAFormat, FloatType);
    texture.minFilter = texture.magFilter = NearestFilter;
    texture.generateMipmaps = false;
    const material = new RawShaderMaterial({
      glslVersion: GLSL3,
      vertexShader: withoutVersion(VERTEX),
      fragmentShader: withoutVersion(FRAGMENT),
      uniforms: { splats: { value: texture }, size: { value: new Vector2() }, depths: { value: new Vector2() } },
      transparent: true,
      side: DoubleSide,
      depthWrite: false,
      toneMapped: false,
      blending: CustomBlending,
      blendSrc: OneFactor,
      blendDst: OneMinusSrcAlphaFactor,
    });
    const geometry = new BufferGeometry();
    geometry.setAttribute("position", new BufferAttribute(new Uint8Array(6 * engine.count), 1)); // only its length is used
    geometry.boundingSphere = new Sphere(new Vector3(), 0.3); // metres; three cannot compute it
    super(geometry, material);
    this.type = "SpatialAvatarObject";
    this.frustumCulled = false;
    this.engine = engine;
    this.puppet = new Puppet(engine);
    this.drawnState = "";
    this.middle = new Matrix4().makeTranslation(...engine.info.pivot.map((value) => -value));
  }

  /** Sets ARKit weights by name; other weights do not change. */
  setExpression(weights) {
    this.puppet.setExpression(weights);
  }

  /** Turns the head: { yaw, pitch, roll } in radians, shared by torso and neck. */
  turn(angles) {
    this.puppet.turn(angles);
  }

  /** Poses the head by a frame of motion { weights, rotation, translation }, or by the weights and turns set before (null). */
  follow(frame) {
    this.puppet.drive(frame && followed(this.puppet, frame));
  }

  /** Speaks an AudioBuffer, a file or a MediaStream. Call it from a click. */
  speak(sound) {
    this.speaker ??= new Speaker(this.engine, SPEECH_SOURCE, (frame) => this.follow(frame));
    return this.speaker.speak(sound);
  }

  reset() {
    this.puppet.drive(null);
    this.puppet.reset();
  }

  /** The camera of a portrait, as a child for this object: `avatar.add(avatar.portraitCamera())`. */
  portraitCamera() {
    const { camera, pivot } = this.engine.info;
    const fov = 2 * Math.atan(camera.height / (2 * camera.intrinsics[1])) * 180 / Math.PI;
    const portrait = new PerspectiveCamera(fov, camera.width / camera.height, 0.05, 20);
    portrait.position.set(...pivot.map((value) => -value));
    return portrait;
  }

  raycast() {} // the geometry has no places

  onBeforeRender(renderer, _scene, camera) {
    const viewport = renderer.getCurrentViewport(new Vector4()), width = viewport.z, height = viewport.w;
    const p = camera.projectionMatrix.elements;
    const intrinsics = [p[0] * width / 2, p[5] * height / 2, (1 - p[8]) * width / 2, (1 + p[9]) * height / 2];
    const m = new Matrix4().multiplyMatrices(camera.matrixWorldInverse, this.matrixWorld).multiply(this.middle).elements;
    // Row-major, with OpenCV's axes: y down, z forward.
    const view = [1, -1, -1].flatMap((sign, row) => [0, 1, 2, 3].map((column) => sign * m[4 * column + row]));
    const params = this.puppet.params(), state = JSON.stringify([intrinsics, view, params, width, height]);
    if (state === this.drawnState) return;
    this.drawnState = state;
    const { uniforms } = this.material, texture = uniforms.splats.value;
    const { splats, count } = this.engine.frame({ params, camera: { intrinsics, view: [...view, 0, 0, 0, 1] }, width, height });
    texture.image.data.set(splats);
    texture.needsUpdate = true;
    uniforms.size.value.set(width, height);
    uniforms.depths.value.set(-p[10], p[14]);
    this.geometry.setDrawRange(0, 6 * count);
  }

  dispose() {
    this.speaker?.stop();
    this.material.uniforms.splats.value.dispose();
    this.material.dispose();
    this.geometry.dispose();
  }
}
