// The player: draws sorted splats with WebGL 2, or shows the pictures of the worker, and turns weights and poses into head
// parameters. It knows its canvas, but nothing else of the page; the npm package is built from the same file.
const { Engine, FLOATS, ROW, read, rotation, multiply, apply, axisAngle, divided } = SpatialAvatarEngine;

const SIDE = 512; // of the canvas on the page; also its pixels if there is no GPU
const SHARPEST = 1024; // pixels
const SLOW = 50; // milliseconds of drawing above which the resolution is reduced


const VERTEX = `#version 300 es
uniform highp sampler2D splats;
uniform vec2 size;
uniform vec2 depths; // of a splat at z metres: depths.x + depths.y / z; zero where there is no depth buffer
out vec2 offset;
flat out vec4 conic;
flat out vec3 color;
void main() {
  // Two triangles per splat, not instances, which are slow in software renderers.
  int splat = gl_VertexID / 6, vertex = gl_VertexID % 6;
  int index = vertex < 3 ? vertex : 6 - vertex;
  vec2 corner = vec2(index & 1, index >> 1) * 2.0 - 1.0;
  ivec2 at = ivec2(splat % ${ROW} * ${FLOATS / 4}, splat / ${ROW});
  vec4 place = texelFetch(splats, at, 0);
  vec4 shape = texelFetch(splats, at + ivec2(1, 0), 0);
  vec4 paint = texelFetch(splats, at + ivec2(2, 0), 0);
  offset = corner * place.zw;
  conic = shape;
  color = paint.rgb;
  vec2 unit = (place.xy + offset) / size;
  gl_Position = vec4(unit.x * 2.0 - 1.0, 1.0 - unit.y * 2.0, depths.x + depths.y / paint.w, 1.0);
}`;
const FRAGMENT = `#version 300 es
precision highp float;
in vec2 offset;
flat in vec4 conic;
flat in vec3 color;
out vec4 result;
void main() {
  float sigma = 0.5 * (conic.x * offset.x * offset.x + conic.z * offset.y * offset.y) + conic.y * offset.x * offset.y;
  float alpha = min(0.999, conic.w * exp(-sigma));
  if (alpha < 1.0 / 255.0) discard;
  result = vec4(color * alpha, alpha);
}`;

/** Whether WebGL 2 runs on a GPU; software rendering is slower than the worker. */
function hasGPU() {
  const gl = document.createElement("canvas").getContext("webgl2");
  const about = gl?.getExtension("WEBGL_debug_renderer_info");
  const name = about ? gl.getParameter(about.UNMASKED_RENDERER_WEBGL) : "";
  gl?.getExtension("WEBGL_lose_context")?.loseContext();
  return Boolean(gl) && !/swiftshader|llvmpipe|softpipe|software|basic render/i.test(name);
}

/** Draws the sorted splats on the GPU. */
class Painter {
  constructor({ canvas, alpha, ground }) {
    Object.assign(this, { canvas, ground });
    const options = { alpha, antialias: false, depth: false, premultipliedAlpha: true, preserveDrawingBuffer: true };
    const gl = (this.gl = canvas.getContext("webgl2", options));
    if (!gl) throw new Error("This browser has WebGL 2 switched off, which draws the avatar; switch on graphics acceleration.");
    const program = gl.createProgram();
    for (const [kind, source] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
      throw new Error("This browser's graphics driver cannot draw the avatar; try another browser.");
    }
    gl.useProgram(program);
    this.size = gl.getUniformLocation(program, "size");
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.NEAREST);
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MAG_FILTER, gl.NEAREST);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
  }

  /** The entries of a frame request that depend on the painter. */
  requestOptions() {
    return {};
  }

  draw({ splats, count, times }, width, height) {
    const { gl, canvas } = this, start = performance.now();
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    gl.viewport(0, 0, width, height);
    gl.clearColor(...this.ground());
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.uniform2f(this.size, width, height);
    const columns = ROW * FLOATS / 4, rows = splats.length / (ROW * FLOATS);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA32F, columns, rows, 0, gl.RGBA, gl.FLOAT, splats);
    gl.drawArrays(gl.TRIANGLES, 0, 6 * count);
    gl.readPixels(0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4)); // waits until it is drawn
    times.draw = performance.now() - start;
  }
}

/** Shows the pictures that the worker renders. */
class Easel {
  constructor({ canvas, alpha, ground }) {
    Object.assign(this, { canvas, ground });
    this.context = canvas.getContext("2d", { alpha });
    if (!this.context) throw new Error("This browser can neither use WebGL 2 nor draw pictures; try another browser.");
  }

  requestOptions() {
    return { ground: this.ground() };
  }

  draw({ pixels }, width, height) {
    const { canvas } = this;
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
    this.context.putImageData(new ImageData(pixels, width, height), 0, 0);
  }
}

/** Returns a function from a request to the promise of a frame, computed in a worker, or on the page if it may have none. */
function frames(buffer, source, fail) {
  const waiting = new Map(); // requests in the worker, and the functions that resolve their promises
  let next = 0, worker = null, engine = null;
  try {
    worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
  } catch {
    engine = new Engine(buffer);
    return Object.assign(async (request) => engine.frame(request), { end: () => {} });
  }
  let answered = false;
  worker.onmessage = ({ data }) => {
    answered = true;
    waiting.get(data.id).resolve(data);
    waiting.delete(data.id);
  };
  worker.onerror = () => {
    if (answered) return fail("The avatar's computation stopped; load the page again.");
    engine ??= new Engine(buffer); // the embedding page's policy forbids workers, which raises this event late
    for (const { request, resolve } of waiting.values()) resolve(engine.frame(request));
    waiting.clear();
  };
  worker.postMessage({ buffer });
  const ask = (request) => new Promise((resolve) => {
    if (engine) return resolve(engine.frame(request));
    waiting.set(++next, { request, resolve });
    worker.postMessage({ id: next, ...request });
  });
  return Object.assign(ask, { end: () => worker.terminate() });
}

const VIEWS = { front: [0, 0], left: [45, 0], right: [-45, 0] }; // by the subject's side; degrees

/** The view that a text names: left, right, front, or yaw and pitch in degrees and a zoom, such as -20,5,1.3 */
function viewOf(text) {
  const [yaw = 0, pitch = 0, zoom = 1] = VIEWS[text] ?? text.split(",").map(Number);
  if (![yaw, pitch, zoom].every(Number.isFinite)) return {};
  const within = (value, low, high) => Math.min(high, Math.max(low, value)), radians = Math.PI / 180;
  return { yaw: within(yaw, -180, 180) * radians, pitch: within(pitch, -60, 60) * radians, zoom: within(zoom, 0.5, 4) };
}

/** The state of an avatar's face and head, from which its head parameters follow. */
class Puppet {
  /** `avatar`: { info, arrays } of its binary. */
  constructor({ info, arrays }) {
    Object.assign(this, { info, arrays, driven: null }); // driven: parameters from the webcam or a stream while it is on
    this.reset();
  }

  reset() {
    const { rotation, translation, neck } = this.info.reference;
    this.weights = new Array(this.info.units.length).fill(0);
    this.base = { rotation, translation, neck, jaw: [0, 0, 0], eyes: [0, 0, 0, 0, 0, 0] };
    this.place = this.info.home; // where a turn leaves the root of an undivided turn
    this.orbit = { yaw: 0, pitch: 0, zoom: 1 };
    this.frame = null; // of the embedded motion while it plays
    this.dirty = true;
  }

  /** Sets ARKit weights by name; other weights do not change. */
  setExpression(weights) {
    for (const [name, weight] of Object.entries(weights)) {
      const index = this.info.units.indexOf(name);
      if (index < 0) throw new RangeError(`There is no ARKit unit ${name}.`);
      this.weights[index] = weight;
    }
    this.frame = null;
    this.dirty = true;
  }

  /** Any of rotation, translation, neck, jaw, eyes (axis-angle, radians; metres), and orbit { yaw, pitch, zoom }. */
  setPose({ orbit = {}, ...pose }) {
    Object.assign(this.base, pose);
    if (pose.translation) this.place = pose.translation;
    Object.assign(this.orbit, orbit);
    this.frame = null;
    this.dirty = true;
  }

  /** Sets the head angles of Motion.held, radians; torso and neck share them as in driving. */
  turn({ yaw = 0, pitch = 0, roll = 0 }) {
    const angles = axisAngle(multiply(multiply(rotation(0, yaw, 0), rotation(pitch, 0, 0)), rotation(0, 0, roll)));
    const { driving } = this.info, share = driving.neckShare, translation = this.place;
    const shared = { rotation: angles.map((a) => (1 - share) * a), neck: angles.map((a) => share * a), translation };
    this.setPose(divided(shared, driving));
    this.place = translation;
  }

  /** The current head parameters: from the webcam, from the motion's frame, or from the weights and the pose. */
  params() {
    const { info, arrays, base, weights } = this;
    const rows = (array, width, row) => Array.from(array.subarray(row * width, (row + 1) * width));
    const count = info.expressions;
    if (this.driven) return this.driven;
    if (this.frame !== null) {
      return {
        expression: rows(arrays.motion_expression, count, this.frame),
        rotation: rows(arrays.motion_rotation, 3, this.frame),
        translation: rows(arrays.motion_translation, 3, this.frame),
        neck: rows(arrays.motion_neck, 3, this.frame),
        jaw: rows(arrays.motion_jaw, 3, this.frame),
        eyes: rows(arrays.motion_eyes, 6, this.frame),
      };
    }
    const mapped = (matrix, width) => {
      const out = new Array(width).fill(0);
      weights.forEach((weight, u) => {
        if (weight) for (let k = 0; k < width; k++) out[k] += weight * matrix[u * width + k];
      });
      return out;
    };
    const angles = mapped(arrays.unit_pose, 9);
    return {
      ...base,
      expression: mapped(arrays.unit_expression, count),
      jaw: base.jaw.map((value, k) => value + angles[k]),
      eyes: base.eyes.map((value, k) => value + angles[3 + k]),
    };
  }

  /** Sets head parameters that override sliders and motion; null ends that. */
  drive(params) {
    this.driven = params;
    this.dirty = true;
  }
}

/** Options of a Viewer that need not be given. */
const QUIET = { alpha: false, renderer: "", fail: () => {}, ready: () => {}, measured: () => {} };

/**
 * Poses and draws an avatar on a canvas. `options`: `canvas`; `source`, the text of engine.js for its worker; `ground()`, the
 * premultiplied RGBA behind the avatar; `alpha`, whether that may be transparent; `renderer`, "gpu", "cpu" or "" for the
 * better one; `fail(sentence)`, `ready()` and `measured(stats)`, which are called when the picture cannot be drawn, when
 * it is there, and twice a second.
 */
class Viewer extends Puppet {
  constructor(buffer, options) {
    super(read(buffer));
    this.options = { ...QUIET, ...options };
    const { renderer } = this.options, able = hasGPU(), gpu = renderer === "gpu" || renderer !== "cpu" && able;
    this.painter = new (gpu ? Painter : Easel)(this.options);
    this.ask = frames(buffer, this.options.source, this.options.fail);
    this.sharp = gpu && able;
    this.fit(SIDE);
    this.times = {};
    this.fps = this.drawn = 0;
    this.dirty = true;
  }

  /** Chooses the resolution for a canvas of `side` CSS pixels: the screen's with a GPU, and what a CPU can draw without. */
  fit(side) {
    this.resize(this.sharp ? Math.min(SHARPEST, Math.max(SIDE, Math.round(side * devicePixelRatio))) : SIDE);
  }

  /** Sets the width of the pictures. */
  resize(width) {
    this.width = width;
    this.height = Math.round(width * this.info.camera.height / this.info.camera.width);
    this.dirty = true;
  }

  /** The photo's camera, rotated around the head. */
  camera() {
    const { camera, pivot } = this.info, { yaw, pitch, zoom } = this.orbit;
    const [fx, fy, cx, cy] = camera.intrinsics, sx = this.width / camera.width, sy = this.height / camera.height;
    const turn = multiply(rotation(pitch, 0, 0), rotation(0, yaw, 0));
    const v = camera.view;
    const at = [0, 1, 2].map((i) => v[4 * i] * pivot[0] + v[4 * i + 1] * pivot[1] + v[4 * i + 2] * pivot[2] + v[4 * i + 3]);
    const linear = multiply(turn, [v[0], v[1], v[2], v[4], v[5], v[6], v[8], v[9], v[10]]);
    const from = apply(turn, v[3] - at[0], v[7] - at[1], v[11] - at[2]);
    const view = [0, 1, 2].flatMap((i) => [...linear.slice(3 * i, 3 * i + 3), from[i] + at[i]]);
    return { intrinsics: [fx * sx * zoom, fy * sy * zoom, cx * sx, cy * sy], view: [...view, 0, 0, 0, 1] };
  }

  /** Draws the current state, by default at the canvas's size; the promise resolves when it is drawn. */
  async render({ width = this.width, height = this.height } = {}) {
    this.width = width;
    this.height = height;
    this.dirty = false;
    const request = { params: this.params(), camera: this.camera(), width, height, ...this.painter.requestOptions() };
    const frame = await this.ask(request);
    this.painter.draw(frame, width, height);
    this.times = frame.times;
    this.splats = frame.count;
    if (!this.drawn++) this.options.ready();
  }

  stats() {
    return { fps: this.fps, frames: this.drawn, splats: this.splats, ...this.times };
  }

  /** Rotates and zooms the view: any of yaw, pitch (radians) and zoom. */
  setView(view) {
    Object.assign(this.orbit, view);
    this.dirty = true;
  }

  /** Draws on a graphics context that the browser has restored. */
  restore() {
    this.painter = new Painter(this.options);
    this.dirty = true;
  }

  play() {
    this.started = performance.now();
    this.frame = 0;
    this.dirty = true;
  }

  async run() {
    const { motion } = this.info;
    let last = performance.now(), shown = 0;
    for (;;) {
      const now = await new Promise(requestAnimationFrame);
      if (this.ended) return;
      if (motion && this.frame !== null) {
        this.frame = Math.floor((now - this.started) / 1000 * motion.fps) % motion.frames;
        this.dirty = true;
      }
      if (!this.dirty) continue;
      const start = performance.now();
      await this.render();
      if (this.width > SIDE && this.drawn > 3 && this.times.draw > SLOW) this.resize(SIDE);
      this.fps = 0.8 * this.fps + 0.2 * (1000 / Math.max(performance.now() - start, 1));
      if (now - last > 500 || !shown++) {
        this.options.measured(this.stats());
        last = now;
      }
    }
  }

  /** Stops drawing and frees the worker. */
  end() {
    this.ended = true;
    this.ask.end();
  }
}
