// Motion from outside: frames of a stream (docs/reference/streams.md) and motion files, as head parameters of the avatar. The
// mapping is that of spatialavatar.motion (Motion.to_track) and spatialavatar.driving (retarget) for motion files.
const MESSAGE = 60; // floats of a binary message: version, seen, rotation (3), translation (3), weights (52)
const MESSAGE_VERSION = 1;
const PATIENCE = 2000; // milliseconds before a lost stream is tried again

const finite = (values, length) => Array.isArray(values) && values.length === length && values.every(Number.isFinite);

/** A frame { weights by unit, rotation, translation, seen } from a message, text or binary; null for any other message. */
function readMessage(data, units) {
  if (data instanceof ArrayBuffer) {
    if (data.byteLength !== 4 * MESSAGE) return null;
    const view = new DataView(data), values = Array.from({ length: MESSAGE }, (_, k) => view.getFloat32(4 * k, true));
    if (values[0] !== MESSAGE_VERSION || !values.every(Number.isFinite)) return null;
    return { weights: values.slice(8), rotation: values.slice(2, 5), translation: values.slice(5, 8), seen: values[1] > 0 };
  }
  let message;
  try {
    message = JSON.parse(data);
  } catch {
    return null;
  }
  if (!["weights", "rotation", "translation"].some((name) => message?.[name])) return null;
  const { weights = {}, rotation: turn = [0, 0, 0], translation = [0, 0, 0], seen = true } = message;
  const values = units.map((name) => weights[name] ?? 0);
  if (!finite(values, units.length) || !finite(turn, 3) || !finite(translation, 3)) return null;
  return { weights: values, rotation: turn, translation, seen: Boolean(seen) };
}

/** The head parameters of a frame. `viewer`: has info and arrays of an avatar. */
function followed({ info, arrays }, { weights, rotation: turn, translation }) {
  const { driving, home } = info, { limits, neckShare, maxShift } = driving;
  const mapped = (matrix, width) => Array.from({ length: width }, (_, k) =>
    weights.reduce((sum, weight, u) => sum + weight * matrix[u * width + k], 0));
  const within = (value, low, high) => Math.min(high, Math.max(low, value));
  const expression = mapped(arrays.unit_expression, info.expressions), angles = mapped(arrays.unit_pose, 9);
  const shared = {
    rotation: turn.map((value) => (1 - neckShare) * value),
    neck: turn.map((value) => neckShare * value),
    translation: translation.map((value, k) => home[k] + within(value, -maxShift, maxShift)),
  };
  return {
    expression: limits ? expression.map((value) => within(value, ...limits)) : expression,
    jaw: angles.slice(0, 3),
    eyes: angles.slice(3),
    ...divided(shared, driving),
  };
}

/**
 * Follows the stream at a WebSocket's address, and connects again whenever it is lost. `changed(open)` is called with every
 * change. Returns { close }.
 */
function followStream(viewer, address, changed = () => {}) {
  let socket = null, timer = 0, closed = false;
  const connect = () => {
    try {
      socket = new WebSocket(address);
    } catch {
      return again(); // the page's policy forbids the address
    }
    socket.binaryType = "arraybuffer";
    socket.onopen = () => changed(true);
    socket.onmessage = ({ data }) => {
      const frame = readMessage(data, viewer.info.units);
      if (frame) viewer.drive(followed(viewer, frame));
    };
    socket.onclose = again;
  };
  const again = () => {
    if (closed) return;
    changed(false);
    timer = setTimeout(connect, PATIENCE);
  };
  connect();
  return {
    close() {
      closed = true;
      clearTimeout(timer);
      socket?.close();
      viewer.drive(null);
    },
  };
}
