// Drives the avatar with the visitor's webcam. MediaPipe's Face Landmarker runs in this page. Its scores and head pose are
// converted to parameters as in spatialavatar.motion (Motion.from_track, to_track) and spatialavatar.driving (retarget),
// and smoothed as in tracking/live.py. No picture leaves the page.
const SpatialAvatarWebcam = (() => {
  const { rotation, multiply, apply, transposed, axisAngle, divided } = SpatialAvatarEngine;
  const CALIBRATION = 1; // seconds with a face
  const LONGEST_STEP = 0.25; // seconds; a longer gap resets the filters
  const CALM = 0.1; // share of the calibration frames, the calmest, that define the resting face
  const JAW = 6; // weight of a radian of the jaw relative to a full unit
  const CENTIMETRE = 0.01;

  const median = (values) => {
    const sorted = Float64Array.from(values).sort();
    return sorted[(sorted.length - 1) >> 1];
  };
  const medians = (rows) => rows[0].map((_, k) => median(rows.map((row) => row[k])));

  /** The causal one-euro filter of tracking/smoothing.py, per channel. */
  class OneEuro {
    constructor([minCutoff, beta, derivativeCutoff]) {
      Object.assign(this, { minCutoff, beta, derivativeCutoff });
    }

    step(values, seconds) {
      if (!this.last) {
        this.last = values;
        this.speed = values.map(() => 0);
        return values;
      }
      const share = (cutoff) => 2 * Math.PI * cutoff * seconds / (2 * Math.PI * cutoff * seconds + 1);
      this.speed = this.speed.map((v, k) => v + share(this.derivativeCutoff) * ((values[k] - this.last[k]) / seconds - v));
      this.last = this.last.map((v, k) => v + share(this.minCutoff + this.beta * Math.abs(this.speed[k])) * (values[k] - v));
      return this.last;
    }
  }

  /** Converts results of the Face Landmarker, frame by frame, to head parameters of the avatar. */
  class Follower {
    constructor(info, arrays) {
      Object.assign(this, { info, arrays, filters: {}, params: null });
      this.calibrate();
    }

    /** Restarts the calibration of the resting face and of the forward direction, which takes a second. */
    calibrate() {
      this.samples = [];
      this.seen = this.settled = 0;
      this.neutral = null;
    }

    /** Processes a result of the landmarker; returns "calibrating", "following" or "lost". `aspect`: width over height. */
    update(result, seconds, aspect) {
      const step = seconds - this.last;
      this.last = seconds;
      if (!result.faceBlendshapes.length || !result.facialTransformationMatrixes.length) {
        this.filters = {};
        return "lost";
      }
      if (!(step > 0 && step <= LONGEST_STEP)) this.filters = {};
      const face = this.face(result, aspect), pose = this.pose(result.facialTransformationMatrixes[0].data);
      const frame = this.smooth({ ...face, ...pose }, step);
      if (!this.neutral) {
        this.samples.push(frame);
        if (step > 0) this.seen += Math.min(step, LONGEST_STEP);
        if (this.seen < CALIBRATION) return "calibrating";
        this.neutral = this.resting();
      }
      if (step > 0) this.settle(frame, Math.min(step, LONGEST_STEP));
      this.params = this.relative(frame);
      return "following";
    }

    /** Expression, jaw and eyes from the scores minus the resting scores; shut eyes are fully shut and have no gaze. */
    face(result, aspect) {
      const { driving, units, expressions } = this.info, { unit_expression: toExpression, unit_pose: toPose } = this.arrays;
      const scores = new Map(result.faceBlendshapes[0].categories.map(({ categoryName, score }) => [categoryName, score]));
      const shut = {};
      for (const [name, lids] of Object.entries(driving.lids)) shut[name] = this.shut(result.faceLandmarks[0], lids, aspect);
      const weights = units.map((name, u) => {
        const score = scores.get(name) ?? 0, resting = driving.resting[u];
        return Math.max(Math.min(1, Math.max(0, (score - resting) / (1 - resting))), shut[name] ?? 0);
      });
      const mapped = (matrix, width) => Array.from({ length: width }, (_, k) =>
        weights.reduce((sum, weight, u) => sum + weight * matrix[u * width + k], 0));
      const angles = mapped(toPose, 9);
      const gaze = (name, from) => angles.slice(from, from + 3).map((angle) => angle * (1 - (shut[name] ?? 0)));
      return {
        expression: mapped(toExpression, expressions),
        jaw: angles.slice(0, 3),
        eyes: [...gaze("eyeBlinkLeft", 3), ...gaze("eyeBlinkRight", 6)],
      };
    }

    /** Closure of an eye, 0 to 1, from the gap of its lids (tracking/cues.py). */
    shut(points, { corners, pairs }, aspect) {
      const apart = ([a, b]) => Math.hypot((points[a].x - points[b].x) * aspect, points[a].y - points[b].y);
      const { shut, open } = this.info.driving;
      const gap = pairs.reduce((sum, pair) => sum + apart(pair) / pairs.length, 0) / Math.max(apart(corners), 1e-6);
      const openness = Math.min(1, Math.max(0, (gap - shut) / (open - shut)));
      return 1 - openness * openness * (3 - 2 * openness);
    }

    /** Rotation (row-major) and position of the root joint in metres, from the landmarker's matrix (column-major, cm). */
    pose(m) {
      const scale = Math.hypot(m[0], m[1], m[2]);
      const turn = [m[0], m[4], m[8], m[1], m[5], m[9], m[2], m[6], m[10]].map((value) => value / scale);
      const root = apply(turn, ...this.info.driving.root);
      return { turn, translation: root.map((value, k) => value + m[12 + k] * CENTIMETRE) };
    }

    smooth({ turn, ...values }, step) {
      values.rotation = quaternion(turn).map((value) => 2 * value); // doubled, so that differences are in radians
      const before = this.filters.rotation?.last;
      if (before && before.reduce((sum, value, k) => sum + value * values.rotation[k], 0) < 0) {
        values.rotation = values.rotation.map((value) => -value);
      }
      const smooth = {};
      for (const [name, value] of Object.entries(values)) {
        this.filters[name] ??= new OneEuro(this.info.driving.filters[name]);
        smooth[name] = this.filters[name].step(value, step);
      }
      return smooth;
    }

    /** The person's neutral (tracking/neutral.py): the mean of the calmest frames, each unit at most its usual value. */
    resting() {
      const sum = (values) => values.reduce((total, value) => total + Math.abs(value), 0);
      const efforts = this.samples.map(({ expression, jaw }) => sum(expression) + JAW * Math.hypot(...jaw));
      const limit = [...efforts].sort((a, b) => a - b)[Math.floor(CALM * (efforts.length - 1))];
      const all = (name) => medians(this.samples.map((sample) => sample[name]));
      const calm = (name) => medians(this.samples.filter((_, i) => efforts[i] <= limit + 1e-6).map((sample) => sample[name]));
      const usual = all("expression");
      const expression = calm("expression").map((value, k) => this.info.driving.limits ? Math.min(value, usual[k]) : value);
      return { expression, jaw: calm("jaw"), eyes: all("eyes"), rotation: all("rotation"), translation: all("translation") };
    }

    /**
     * Moves the neutral a small step towards the current frame (tracking/live.py), for faces that were not calm during
     * calibration. Named units and the jaw rest at their minimum, so their neutral only decreases.
     */
    settle(frame, step) {
      const { rates, time, radians } = this.info.driving.settling, sinking = Boolean(this.info.driving.limits);
      this.settled += step;
      const rate = Math.max(rates[1], rates[0] / (1 + this.settled / time)) * step;
      for (const [name, factor] of [["expression", 1], ["jaw", radians], ["eyes", radians]]) {
        this.neutral[name] = this.neutral[name].map((value, k) => {
          const away = frame[name][k] - value, onlySinks = sinking && (name === "expression" || name === "jaw" && k === 0);
          return value + Math.max(-rate * factor, Math.min(onlySinks ? 0 : rate * factor, away));
        });
      }
    }

    /** driving.retarget: the difference from the neutral, with the rotation shared between torso and neck. */
    relative(frame) {
      const { neutral } = this, { driving, home } = this.info, { limits, neckShare, maxShift } = driving;
      const away = (name) => frame[name].map((value, k) => value - neutral[name][k]);
      const turn = axisAngle(multiply(matrix(frame.rotation), transposed(matrix(neutral.rotation))));
      const expression = away("expression").map((value) => limits ? Math.min(limits[1], Math.max(limits[0], value)) : value);
      const shared = {
        rotation: turn.map((value) => (1 - neckShare) * value),
        neck: turn.map((value) => neckShare * value),
        translation: away("translation").map((value, k) => home[k] + Math.min(maxShift, Math.max(-maxShift, value))),
      };
      return { expression, jaw: away("jaw"), eyes: away("eyes"), ...divided(shared, driving) };
    }
  }

  /** w, x, y, z of a row-major rotation matrix. */
  function quaternion(m) {
    const [x, y, z] = axisAngle(m), angle = Math.hypot(x, y, z), s = angle < 1e-8 ? 0.5 : Math.sin(angle / 2) / angle;
    return [Math.cos(angle / 2), s * x, s * y, s * z];
  }

  /** The row-major rotation matrix of a quaternion of any nonzero length. */
  function matrix(quat) {
    const length = Math.hypot(...quat), [w, x, y, z] = quat.map((value) => value / length);
    const sine = Math.hypot(x, y, z), factor = sine < 1e-12 ? 2 : 2 * Math.atan2(sine, w) / sine;
    return rotation(factor * x, factor * y, factor * z);
  }

  class Trouble extends Error {} // its message is shown to the visitor

  async function cameraStream() {
    if (!navigator.mediaDevices) {
      throw new Trouble("The browser lends its camera only to pages opened by https or from a file; use the sliders.");
    }
    try {
      return await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480, facingMode: "user" } });
    } catch (error) {
      throw new Trouble({
        NotAllowedError: "The browser may not use the camera; allow it for this page, or use the sliders.",
        SecurityError: "The browser may not use the camera; allow it for this page, or use the sliders.",
        NotFoundError: "There is no camera; plug one in, or use the sliders.",
      }[error.name] ?? "The camera gives no picture, perhaps to another program; close that, or use the sliders.");
    }
  }

  async function landmarker({ library, model }) {
    try {
      const base = new URL(`${library}/`, document.baseURI).href;
      const { FilesetResolver, FaceLandmarker } = await import(`${base}vision_bundle.mjs`);
      return await FaceLandmarker.createFromOptions(await FilesetResolver.forVisionTasks(`${base}wasm`), {
        baseOptions: { modelAssetPath: new URL(model, document.baseURI).href },
        runningMode: "VIDEO",
        numFaces: 1,
        outputFaceBlendshapes: true,
        outputFacialTransformationMatrixes: true,
      });
    } catch {
      throw new Trouble("The face tracker could not be loaded; check the connection and try again, or use the sliders.");
    }
  }

  /**
   * Follows the webcam until stopped; returns { calibrate, stop }. `urls`: { library, model }. `changed(state, params)` is
   * called with every frame, and with "ended" if the webcam or the landmarker stops.
   */
  async function start(info, arrays, video, urls, changed) {
    const stream = await cameraStream(), follower = new Follower(info, arrays);
    let network = null, shown = -1;
    const stop = () => {
      stream.getTracks().forEach((track) => track.stop());
      video.srcObject = null;
      network?.close();
      network = null;
    };
    const look = () => {
      if (!network) return;
      requestAnimationFrame(look);
      if (video.currentTime === shown || !video.videoWidth) return;
      shown = video.currentTime;
      const now = performance.now();
      try {
        const result = network.detectForVideo(video, now);
        changed(follower.update(result, now / 1000, video.videoWidth / video.videoHeight), follower.params);
      } catch {
        stop();
        changed("ended", null);
      }
    };
    try {
      network = await landmarker(urls);
      video.srcObject = stream;
      await video.play();
    } catch (error) {
      stop();
      throw error;
    }
    stream.getVideoTracks()[0].addEventListener("ended", () => {
      stop();
      changed("ended", null);
    });
    requestAnimationFrame(look);
    return { calibrate: () => follower.calibrate(), stop };
  }

  return { Follower, Trouble, start };
})();
