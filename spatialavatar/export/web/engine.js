// The engine: reads the binary, poses the head, projects and sorts the Gaussians. It runs in a worker, or on the page if
// workers are forbidden. It computes the same as spatialavatar/head (pose, binding) and spatialavatar/render.
"use strict";

const SpatialAvatarEngine = (() => {
  const MAGIC = "SAVW";
  const VERSION = 2;
  const HEADER = 20; // magic, version, length of all, CRC-32 of what follows the header, length of the description
  const EPS2D = 0.3; // pixels squared
  const ALPHA_MIN = 1 / 255;
  const NEAR = 0.01; // metres
  const COVERED = 1 / 512; // transmittance at which a pixel is finished
  const FLOATS = 12; // a splat: mean xy, half size xy, conic abc, opacity, rgb, depth
  const ROW = 512; // splats in a row of their texture
  const ARRAYS = { float32: Float32Array, uint32: Uint32Array, uint16: Uint16Array, int16: Int16Array, uint8: Uint8Array };

  function crc32(bytes) {
    const table = new Uint32Array(256);
    for (let n = 0; n < 256; n++) {
      let c = n;
      for (let k = 0; k < 8; k++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
      table[n] = c;
    }
    let crc = 0xffffffff;
    for (let i = 0; i < bytes.length; i++) crc = table[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
    return (crc ^ 0xffffffff) >>> 0;
  }

  const LAST_PLACES = Float64Array.from({ length: 32 }, (_, exponent) => 2 ** (Math.max(1, exponent) - 25));

  function half(bits) {
    const exponent = (bits >> 10) & 31, size = (bits & 1023 | (exponent && 1024)) * LAST_PLACES[exponent];
    return bits & 0x8000 ? -size : size;
  }

  /** Returns the description and the named arrays of an avatar's binary (ArrayBuffer); errors have a message for users. */
  function read(buffer) {
    const view = new DataView(buffer);
    const magic = buffer.byteLength >= 4 ? String.fromCharCode(...new Uint8Array(buffer, 0, 4)) : "";
    if (magic !== MAGIC) throw new Error("This page holds no avatar, or its data is damaged; export it again.");
    if (buffer.byteLength < HEADER) throw new Error("The avatar's data is cut short; copy or export the page again.");
    const version = view.getUint32(4, true);
    if (version !== VERSION) {
      throw new Error(`The avatar's data is of version ${version}, this page reads version ${VERSION}; export it again.`);
    }
    if (view.getUint32(8, true) !== buffer.byteLength) {
      throw new Error("The avatar's data is cut short; copy or export the page again.");
    }
    if (view.getUint32(12, true) !== crc32(new Uint8Array(buffer, HEADER))) {
      throw new Error("The avatar's data is damaged; copy or export the page again.");
    }
    const length = view.getUint32(16, true);
    const info = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, HEADER, length)));
    const arrays = {};
    for (const { name, type, offset, count, scale } of info.arrays) {
      const stored = new (type === "float16" ? Uint16Array : ARRAYS[type])(buffer, offset, count);
      if (type === "float16") arrays[name] = Float32Array.from(stored, half);
      else arrays[name] = scale ? Float32Array.from(stored, (value) => value * scale) : stored;
    }
    return { info, arrays };
  }

  /** Rodrigues' formula: an axis-angle vector as a row-major 3 x 3 matrix. */
  function rotation(x, y, z) {
    const squared = x * x + y * y + z * z, angle = Math.sqrt(squared), small = squared < 1e-8;
    const s = small ? 1 - squared / 6 : Math.sin(angle) / angle;
    const c = small ? 0.5 - squared / 24 : (1 - Math.cos(angle)) / squared;
    return [
      1 - c * (y * y + z * z), c * x * y - s * z, c * x * z + s * y,
      c * x * y + s * z, 1 - c * (x * x + z * z), c * y * z - s * x,
      c * x * z - s * y, c * y * z + s * x, 1 - c * (x * x + y * y),
    ];
  }

  function multiply(a, b) {
    const out = new Array(9);
    for (let i = 0; i < 3; i++) {
      for (let j = 0; j < 3; j++) out[3 * i + j] = a[3 * i] * b[j] + a[3 * i + 1] * b[3 + j] + a[3 * i + 2] * b[6 + j];
    }
    return out;
  }

  function apply(m, x, y, z) {
    return [m[0] * x + m[1] * y + m[2] * z, m[3] * x + m[4] * y + m[5] * z, m[6] * x + m[7] * y + m[8] * z];
  }

  const transposed = (m) => [m[0], m[3], m[6], m[1], m[4], m[7], m[2], m[5], m[8]];

  /** The inverse of rotation(), for angles below half a circle. */
  function axisAngle(m) {
    const x = m[7] - m[5], y = m[2] - m[6], z = m[3] - m[1], sine = Math.hypot(x, y, z) / 2;
    const factor = sine < 1e-9 ? 0.5 : Math.atan2(sine, (m[0] + m[4] + m[8] - 1) / 2) / (2 * sine);
    return [factor * x, factor * y, factor * z];
  }

  /**
   * head.torso.turned_at_neck: rotation, neck and translation with the turn of the skull divided between the torso of a
   * bust and the neck. `driving`: the description's constants.
   */
  function divided({ rotation: turn, neck, translation }, { torso, neckShare }) {
    if (!torso) return { rotation: turn, neck, translation };
    const root = rotation(...turn), skull = multiply(root, rotation(...neck));
    const away = axisAngle(multiply(skull, transposed(torso.skull))).map((angle) => (1 - neckShare) * angle);
    const held = multiply(rotation(...away), torso.root), before = apply(root, ...torso.arm), after = apply(held, ...torso.arm);
    return {
      rotation: axisAngle(held),
      neck: axisAngle(multiply(transposed(held), skull)),
      translation: translation.map((value, k) => value + before[k] - after[k]),
    };
  }

  /** The row-major matrix of a quaternion of any nonzero length, into `out` at `at`. */
  function setRotation(out, at, w, x, y, z) {
    const length = Math.sqrt(w * w + x * x + y * y + z * z) || 1;
    w /= length; x /= length; y /= length; z /= length;
    out[at] = 1 - 2 * (y * y + z * z); out[at + 1] = 2 * (x * y - w * z); out[at + 2] = 2 * (x * z + w * y);
    out[at + 3] = 2 * (x * y + w * z); out[at + 4] = 1 - 2 * (x * x + z * z); out[at + 5] = 2 * (y * z - w * x);
    out[at + 6] = 2 * (x * z - w * y); out[at + 7] = 2 * (y * z + w * x); out[at + 8] = 1 - 2 * (x * x + y * y);
  }

  /** weight (rows, columns) times vector, and bias. */
  function linear(weight, bias, vector) {
    return Float64Array.from(bias, (start, row) => {
      let sum = start;
      for (let k = 0, at = row * vector.length; k < vector.length; k++) sum += weight[at + k] * vector[k];
      return sum;
    });
  }

  const clamped = (value) => Math.min(1, Math.max(0, value));

  /** Adds one row of a sparse basis (vertex offsets), times weight, to the vertices. */
  function addRow(vertices, arrays, basis, row, weight) {
    if (weight === 0) return;
    const starts = arrays[`${basis}_starts`], indices = arrays[`${basis}_indices`], values = arrays[`${basis}_values`];
    const factor = weight * arrays[`${basis}_scales`][row];
    for (let k = starts[row]; k < starts[row + 1]; k++) {
      const v = 3 * indices[k];
      vertices[v] += factor * values[3 * k];
      vertices[v + 1] += factor * values[3 * k + 1];
      vertices[v + 2] += factor * values[3 * k + 2];
    }
  }

  class Engine {
    constructor(buffer) {
      const { info, arrays } = read(buffer);
      this.info = info;
      this.arrays = arrays;
      this.count = info.gaussians;
      this.vertices = new Float32Array(arrays.rest.length);
      this.frames = new Float32Array((arrays.faces.length / 3) * 10); // rotation, row-major, and scale
      this.splats = new Float32Array(this.count * FLOATS);
      this.depths = new Float32Array(this.count);
      this.order = new Uint32Array(this.count);
      this.keys = new Uint16Array(this.count);
      this.local = this.resting();
    }

    /** The local Gaussians without a residual, rotations as matrices; a residual overwrites these arrays. */
    resting() {
      const { quats, means, scales, colors } = this.arrays, rotations = new Float32Array(9 * this.count);
      for (let n = 0, q = 0; n < this.count; n++, q += 4) {
        setRotation(rotations, 9 * n, quats[q], quats[q + 1], quats[q + 2], quats[q + 3]);
      }
      if (!this.arrays.residual_features) return { means, rotations, scales, colors };
      return { means: means.slice(), rotations, scales: scales.slice(), colors: colors.slice() };
    }

    /** Adds the residual of the expression to the local Gaussians: residual.ExpressionResidual.at. */
    express({ expression, rotation: turn, neck, jaw, eyes }) {
      if (!this.arrays.residual_features) return;
      const skull = axisAngle(multiply(rotation(...turn), rotation(...neck)));
      const code = [...expression, ...skull, ...jaw, ...eyes];
      if (this.code && code.every((value, k) => value === this.code[k])) return; // only the camera has changed
      this.code = code;
      const { residual_features: features, residual_freedom: freedom } = this.arrays;
      const { quats, means: places, scales: sizes, colors: paints } = this.arrays;
      const { means, rotations, scales, colors } = this.local, { weight: w, bias: b } = this.folded(code);
      const width = w.length / 12, rows = this.residualRows();
      if (rows) return this.expressRows(rows, w, b);
      for (let n = 0, at = 0; n < this.count; n++) {
        let mx = b[0], my = b[1], mz = b[2], rx = b[3], ry = b[4], rz = b[5];
        let sx = b[6], sy = b[7], sz = b[8], red = b[9], green = b[10], blue = b[11];
        for (let c = 0, k = 0; c < width; c++, k += 12) {
          const value = features[at++];
          mx += value * w[k]; my += value * w[k + 1]; mz += value * w[k + 2];
          rx += value * w[k + 3]; ry += value * w[k + 4]; rz += value * w[k + 5];
          sx += value * w[k + 6]; sy += value * w[k + 7]; sz += value * w[k + 8];
          red += value * w[k + 9]; green += value * w[k + 10]; blue += value * w[k + 11];
        }
        const free = freedom[n];
        mx *= free; my *= free; mz *= free; rx *= free; ry *= free; rz *= free;
        sx *= free; sy *= free; sz *= free; red *= free; green *= free; blue *= free;
        const i = 3 * n, q = 4 * n, qw = quats[q], qx = quats[q + 1], qy = quats[q + 2], qz = quats[q + 3];
        means[i] = places[i] + mx; means[i + 1] = places[i + 1] + my; means[i + 2] = places[i + 2] + mz;
        setRotation(
          rotations, 9 * n, qw - qx * rx - qy * ry - qz * rz, qx + qw * rx + qy * rz - qz * ry,
          qy + qw * ry + qz * rx - qx * rz, qz + qw * rz + qx * ry - qy * rx,
        );
        scales[i] = sizes[i] * Math.exp(sx); scales[i + 1] = sizes[i + 1] * Math.exp(sy);
        scales[i + 2] = sizes[i + 2] * Math.exp(sz);
        colors[i] = clamped(paints[i] + red); colors[i + 1] = clamped(paints[i + 1] + green);
        colors[i + 2] = clamped(paints[i + 2] + blue);
      }
    }

    /**
     * The row of the residual's output that each feature adds to, where each adds to one row, and none to rotation or
     * scale, as in what a refinement learns; otherwise null. It takes a fifth of the time of all rows.
     */
    residualRows() {
      if (this.rows !== undefined) return this.rows;
      const { residual_output_weight: outputs, residual_output_bias: bias } = this.arrays, width = outputs.length / 12;
      const used = [...Array(width).keys()].map((c) => [...Array(12).keys()].filter((row) => outputs[row * width + c]));
      const moves = (row) => row < 3 || row > 8;
      const alone = used.every((rows) => rows.length === 0 || (rows.length === 1 && moves(rows[0])));
      const rests = bias.every((value, row) => moves(row) || value === 0);
      this.rows = alone && rests ? Uint8Array.from(used, (rows) => rows[0] ?? 0) : null;
      return this.rows;
    }

    /** express, where every feature adds to one row of positions or colours. */
    expressRows(rows, weight, bias) {
      const { residual_features: features, residual_freedom: freedom, means: places, colors: paints } = this.arrays;
      const { means, colors } = this.local, width = rows.length, sums = new Float64Array(12);
      const own = Float64Array.from(rows, (row, c) => weight[12 * c + row]);
      for (let n = 0, at = 0, i = 0; n < this.count; n++, i += 3) {
        sums.set(bias);
        for (let c = 0; c < width; c++) sums[rows[c]] += features[at++] * own[c];
        const free = freedom[n];
        for (let axis = 0; axis < 3; axis++) {
          means[i + axis] = places[i + axis] + free * sums[axis];
          colors[i + axis] = clamped(paints[i + axis] + free * sums[9 + axis]);
        }
      }
    }

    /**
     * The residual's network for one code as a linear layer of the stored bytes of the features: residual.folded, where
     * a feature is low + step * byte. weight (C, 12), bias (12).
     */
    folded(code) {
      const of = (name) => this.arrays[`residual_${name}`], outputs = of("output_weight"), low = of("low"), step = of("step");
      const hidden = linear(of("hidden_weight"), of("hidden_bias"), code).map((x) => x / (1 + Math.exp(-x)));
      const film = linear(of("film_weight"), of("film_bias"), hidden); // scale and shift (C) of each attribute
      const width = low.length, weight = new Float64Array(12 * width), bias = Float64Array.from(of("output_bias"));
      for (let row = 0; row < 12; row++) {
        const attribute = 2 * width * Math.floor(row / 3);
        for (let c = 0; c < width; c++) {
          const own = outputs[row * width + c], scaled = own * (1 + film[attribute + c]);
          weight[12 * c + row] = scaled * step[c];
          bias[row] += scaled * low[c] + own * film[attribute + width + c];
        }
      }
      return { weight, bias };
    }

    /** Linear blend skinning, HeadModel.pose. `params`: expression, rotation, translation, neck, jaw, eyes. */
    pose(params) {
      const { arrays, vertices } = this, { parents } = this.info;
      const { rest, joints: restJoints, expression_joints: jointBasis, weights } = arrays;
      vertices.set(rest);
      const joints = Float64Array.from(restJoints);
      params.expression.forEach((weight, e) => {
        addRow(vertices, arrays, "expression", e, weight);
        if (weight) for (let i = 0; i < joints.length; i++) joints[i] += weight * jointBasis[e * joints.length + i];
      });
      const { eyes } = params;
      const angles = [params.rotation, params.neck, params.jaw, eyes.slice(0, 3), eyes.slice(3)];
      const rotations = angles.map((vector) => rotation(...vector));
      rotations.slice(1).forEach((m, j) => {
        m.forEach((value, k) => addRow(vertices, arrays, "corrective", 9 * j + k, value - (k % 4 === 0 ? 1 : 0)));
      });

      const linear = [], positions = [];
      parents.forEach((parent, j) => {
        const [x, y, z] = joints.subarray(3 * j, 3 * j + 3);
        if (parent < 0) {
          linear.push(rotations[j]);
          positions.push([x, y, z]);
          return;
        }
        const step = apply(linear[parent], x - joints[3 * parent], y - joints[3 * parent + 1], z - joints[3 * parent + 2]);
        linear.push(multiply(linear[parent], rotations[j]));
        positions.push(positions[parent].map((value, k) => value + step[k]));
      });
      const count = parents.length;
      const blend = new Float64Array(12 * count); // of each joint: linear part, then offset
      for (let j = 0; j < count; j++) {
        const turned = apply(linear[j], joints[3 * j], joints[3 * j + 1], joints[3 * j + 2]);
        for (let k = 0; k < 9; k++) blend[12 * j + k] = linear[j][k];
        for (let k = 0; k < 3; k++) blend[12 * j + 9 + k] = positions[j][k] - turned[k];
      }
      const [tx, ty, tz] = params.translation;
      const mix = new Float64Array(12);
      for (let v = 0; v < vertices.length / 3; v++) {
        mix.fill(0);
        for (let j = 0; j < count; j++) {
          const weight = weights[v * count + j];
          if (weight) for (let k = 0; k < 12; k++) mix[k] += weight * blend[12 * j + k];
        }
        const x = vertices[3 * v], y = vertices[3 * v + 1], z = vertices[3 * v + 2];
        vertices[3 * v] = mix[0] * x + mix[1] * y + mix[2] * z + mix[9] + tx;
        vertices[3 * v + 1] = mix[3] * x + mix[4] * y + mix[5] * z + mix[10] + ty;
        vertices[3 * v + 2] = mix[6] * x + mix[7] * y + mix[8] * z + mix[11] + tz;
      }
      this.bind();
    }

    /** The triangles' frames, head.binding.triangle_frames; a triangle of no area hides its Gaussians (scale 0). */
    bind() {
      const { vertices: p, frames } = this, { faces } = this.arrays;
      for (let f = 0; f < faces.length / 3; f++) {
        const i = 3 * faces[3 * f], j = 3 * faces[3 * f + 1], k = 3 * faces[3 * f + 2];
        let ax = p[j] - p[i], ay = p[j + 1] - p[i + 1], az = p[j + 2] - p[i + 2];
        const ox = p[k] - p[i], oy = p[k + 1] - p[i + 1], oz = p[k + 2] - p[i + 2];
        const length = Math.sqrt(ax * ax + ay * ay + az * az);
        ax /= length; ay /= length; az /= length;
        let nx = ay * oz - az * oy, ny = az * ox - ax * oz, nz = ax * oy - ay * ox;
        const altitude = Math.sqrt(nx * nx + ny * ny + nz * nz);
        if (!(length >= 1e-9 && altitude >= 1e-9)) {
          frames.fill(0, 10 * f, 10 * f + 10);
          continue;
        }
        nx /= altitude; ny /= altitude; nz /= altitude;
        const bx = ay * nz - az * ny, by = az * nx - ax * nz, bz = ax * ny - ay * nx;
        const o = 10 * f;
        frames[o] = ax; frames[o + 1] = nx; frames[o + 2] = bx;
        frames[o + 3] = ay; frames[o + 4] = ny; frames[o + 5] = by;
        frames[o + 6] = az; frames[o + 7] = nz; frames[o + 8] = bz;
        frames[o + 9] = 0.5 * (length + Math.abs(bx * ox + by * oy + bz * oz));
      }
    }

    /** Splats of the posed avatar, farthest first. `camera`: intrinsics [fx, fy, cx, cy], view (row-major 4 x 4). */
    project(camera, width, height) {
      const { vertices: p, frames, splats, depths } = this, { means, rotations: g, scales, colors } = this.local;
      const { faces, face, bary, opacities } = this.arrays;
      const [fx, fy, cx, cy] = camera.intrinsics, m = camera.view;
      const limitX = 0.15 * width / fx, limitY = 0.15 * height / fy;
      const left = -(cx / fx + limitX), right = (width - cx) / fx + limitX;
      const top = -(cy / fy + limitY), bottom = (height - cy) / fy + limitY;
      let seen = 0;
      for (let n = 0; n < this.count; n++) {
        const f = face[n], o = 10 * f, s = frames[o + 9], opacity = opacities[n];
        if (!(opacity >= ALPHA_MIN) || s === 0) continue;
        const i = 3 * faces[3 * f], j = 3 * faces[3 * f + 1], k = 3 * faces[3 * f + 2];
        const u = bary[2 * n], v = bary[2 * n + 1], w = 1 - u - v;
        const lx = s * means[3 * n], ly = s * means[3 * n + 1], lz = s * means[3 * n + 2];
        const X = u * p[i] + v * p[j] + w * p[k] + frames[o] * lx + frames[o + 1] * ly + frames[o + 2] * lz;
        const Y = u * p[i + 1] + v * p[j + 1] + w * p[k + 1] + frames[o + 3] * lx + frames[o + 4] * ly + frames[o + 5] * lz;
        const Z = u * p[i + 2] + v * p[j + 2] + w * p[k + 2] + frames[o + 6] * lx + frames[o + 7] * ly + frames[o + 8] * lz;
        const x = m[0] * X + m[1] * Y + m[2] * Z + m[3], y = m[4] * X + m[5] * Y + m[6] * Z + m[7];
        const z = m[8] * X + m[9] * Y + m[10] * Z + m[11];
        if (!(z >= NEAR)) continue;
        const j00 = fx / z, j11 = fy / z;
        const j02 = -j00 * Math.min(Math.max(x / z, left), right), j12 = -j11 * Math.min(Math.max(y / z, top), bottom);
        // Rows of J W, then of J W R_triangle, then of J W R_triangle R_gaussian.
        const a0 = j00 * m[0] + j02 * m[8], a1 = j00 * m[1] + j02 * m[9], a2 = j00 * m[2] + j02 * m[10];
        const b0 = j11 * m[4] + j12 * m[8], b1 = j11 * m[5] + j12 * m[9], b2 = j11 * m[6] + j12 * m[10];
        const c0 = a0 * frames[o] + a1 * frames[o + 3] + a2 * frames[o + 6];
        const c1 = a0 * frames[o + 1] + a1 * frames[o + 4] + a2 * frames[o + 7];
        const c2 = a0 * frames[o + 2] + a1 * frames[o + 5] + a2 * frames[o + 8];
        const d0 = b0 * frames[o] + b1 * frames[o + 3] + b2 * frames[o + 6];
        const d1 = b0 * frames[o + 1] + b1 * frames[o + 4] + b2 * frames[o + 7];
        const d2 = b0 * frames[o + 2] + b1 * frames[o + 5] + b2 * frames[o + 8];
        const q = 9 * n;
        const s0 = s * scales[3 * n], s1 = s * scales[3 * n + 1], s2 = s * scales[3 * n + 2];
        const p0 = s0 * (c0 * g[q] + c1 * g[q + 3] + c2 * g[q + 6]), q0 = s0 * (d0 * g[q] + d1 * g[q + 3] + d2 * g[q + 6]);
        const p1 = s1 * (c0 * g[q + 1] + c1 * g[q + 4] + c2 * g[q + 7]), q1 = s1 * (d0 * g[q + 1] + d1 * g[q + 4] + d2 * g[q + 7]);
        const p2 = s2 * (c0 * g[q + 2] + c1 * g[q + 5] + c2 * g[q + 8]), q2 = s2 * (d0 * g[q + 2] + d1 * g[q + 5] + d2 * g[q + 8]);
        const cxx = p0 * p0 + p1 * p1 + p2 * p2 + EPS2D, cxy = p0 * q0 + p1 * q1 + p2 * q2;
        const cyy = q0 * q0 + q1 * q1 + q2 * q2 + EPS2D, det = cxx * cyy - cxy * cxy;
        if (!(det > 0)) continue;
        const extent = Math.sqrt(2 * Math.log(opacity / ALPHA_MIN));
        const halfX = extent * Math.sqrt(cxx), halfY = extent * Math.sqrt(cyy);
        const px = j00 * x + cx, py = j11 * y + cy;
        if (px + halfX <= 0 || px - halfX >= width || py + halfY <= 0 || py - halfY >= height) continue;
        const t = FLOATS * seen;
        splats[t] = px; splats[t + 1] = py; splats[t + 2] = halfX + 0.01; splats[t + 3] = halfY + 0.01;
        splats[t + 4] = cyy / det; splats[t + 5] = -cxy / det; splats[t + 6] = cxx / det; splats[t + 7] = opacity;
        splats[t + 8] = colors[3 * n]; splats[t + 9] = colors[3 * n + 1]; splats[t + 10] = colors[3 * n + 2];
        splats[t + 11] = z;
        depths[seen++] = z;
      }
      return seen;
    }

    /** The first `seen` splats in a fresh buffer of whole rows, farthest first: a counting sort over 65536 steps of depth. */
    sorted(seen) {
      const { depths, splats, order, keys } = this;
      let low = Infinity, high = -Infinity;
      for (let i = 0; i < seen; i++) {
        if (depths[i] < low) low = depths[i];
        if (depths[i] > high) high = depths[i];
      }
      const step = 65535 / Math.max(high - low, 1e-12), starts = new Uint32Array(65537);
      for (let i = 0; i < seen; i++) {
        keys[i] = (high - depths[i]) * step;
        starts[keys[i] + 1]++;
      }
      for (let key = 0; key < 65536; key++) starts[key + 1] += starts[key];
      for (let i = seen - 1; i >= 0; i--) order[starts[keys[i]]++] = i; // ties by index, as in the Python rasteriser
      const out = new Float32Array(FLOATS * ROW * Math.max(1, Math.ceil(seen / ROW)));
      for (let i = 0; i < seen; i++) {
        const from = FLOATS * order[i], to = FLOATS * i;
        for (let k = 0; k < FLOATS; k++) out[to + k] = splats[from + k];
      }
      return out;
    }

    /**
     * Rasterises sorted splats to RGBA bytes without a GPU: front to back, so that finished pixels are skipped, and only
     * the pixels inside each ellipse. `ground`: premultiplied RGBA of the background.
     */
    paint(splats, count, width, height, ground) {
      const size = width * height, light = new Float32Array(3 * size), through = new Float32Array(size).fill(1);
      for (let t = FLOATS * (count - 1); t >= 0; t -= FLOATS) {
        const px = splats[t] - 0.5, py = splats[t + 1] - 0.5, opacity = splats[t + 7];
        const a = 0.5 * splats[t + 4], b = splats[t + 5], c = 0.5 * splats[t + 6], limit = Math.log(opacity / ALPHA_MIN);
        const bend = Math.exp(-2 * a);
        const red = splats[t + 8], green = splats[t + 9], blue = splats[t + 10];
        const top = Math.max(0, Math.ceil(py - splats[t + 3])), bottom = Math.min(height - 1, Math.floor(py + splats[t + 3]));
        for (let y = top; y <= bottom; y++) {
          const dy = y - py, skew = b * dy, rest = c * dy * dy, root = skew * skew - 4 * a * (rest - limit);
          if (root < 0) continue;
          const reach = Math.sqrt(root), from = Math.ceil(px - (skew + reach) / (2 * a)), to = px - (skew - reach) / (2 * a);
          const last = Math.min(width - 1, Math.floor(to)), row = y * width;
          // Between neighbouring pixels a Gaussian changes by a factor, and that factor by a constant factor.
          const first = Math.max(0, from), dx = first - px;
          let alpha = opacity * Math.exp(-(a * dx * dx + skew * dx + rest)), step = Math.exp(-(a * (2 * dx + 1) + skew));
          for (let x = first; x <= last; x++, alpha *= step, step *= bend) {
            const left = through[row + x];
            if (left < COVERED) continue;
            const part = left * Math.min(0.999, alpha), k = 3 * (row + x);
            light[k] += part * red; light[k + 1] += part * green; light[k + 2] += part * blue;
            through[row + x] = left - part;
          }
        }
      }
      const pixels = new Uint8ClampedArray(4 * size);
      for (let i = 0; i < size; i++) {
        const alpha = Math.max(1 - through[i] * (1 - ground[3]), 1e-6);
        for (let k = 0; k < 3; k++) pixels[4 * i + k] = 255 * (light[3 * i + k] + ground[k] * through[i]) / alpha;
        pixels[4 * i + 3] = 255 * alpha;
      }
      return pixels;
    }

    /** One frame: { splats, count, times in milliseconds }, or { pixels, ... } if `ground` is given. */
    frame({ params, camera, width, height, ground = null }) {
      const start = performance.now();
      this.pose(params);
      this.express(params);
      const posed = performance.now();
      const count = this.project(camera, width, height);
      const projected = performance.now();
      const splats = this.sorted(count);
      const sorted = performance.now();
      const times = { pose: posed - start, project: projected - posed, sort: sorted - projected };
      if (ground === null) return { splats, count, times };
      const pixels = this.paint(splats, count, width, height, ground);
      return { pixels, count, times: { ...times, draw: performance.now() - sorted } };
    }
  }

  return { Engine, FLOATS, ROW, read, rotation, multiply, apply, transposed, axisAngle, divided };
})();

if (typeof WorkerGlobalScope !== "undefined" && self instanceof WorkerGlobalScope) {
  let engine = null;
  self.onmessage = ({ data }) => {
    if (data.buffer) engine = new SpatialAvatarEngine.Engine(data.buffer);
    else {
      const frame = engine.frame(data);
      self.postMessage({ id: data.id, ...frame }, [(frame.splats ?? frame.pixels).buffer]);
    }
  };
}
