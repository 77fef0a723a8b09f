// The page: sliders, the mouse, the visitor's webcam and voice, streams of motion, and what the address asks for.
const SLIDERS = [ // label, ARKit units
  ["Open mouth", ["jawOpen"]],
  ["Smile", ["mouthSmileLeft", "mouthSmileRight"]],
  ["Frown", ["mouthFrownLeft", "mouthFrownRight"]],
  ["Pucker", ["mouthPucker"]],
  ["Funnel", ["mouthFunnel"]],
  ["Jaw left", ["jawLeft"]],
  ["Jaw right", ["jawRight"]],
  ["Blink left", ["eyeBlinkLeft"]],
  ["Blink right", ["eyeBlinkRight"]],
  ["Wide eyes", ["eyeWideLeft", "eyeWideRight"]],
  ["Look left", ["eyeLookOutLeft", "eyeLookInRight"]],
  ["Look right", ["eyeLookInLeft", "eyeLookOutRight"]],
  ["Look up", ["eyeLookUpLeft", "eyeLookUpRight"]],
  ["Look down", ["eyeLookDownLeft", "eyeLookDownRight"]],
  ["Brows up", ["browInnerUp", "browOuterUpLeft", "browOuterUpRight"]],
  ["Brows down", ["browDownLeft", "browDownRight"]],
  ["Puff cheeks", ["cheekPuff"]],
  ["Sneer", ["noseSneerLeft", "noseSneerRight"]],
];
const TURNS = [["Head yaw", "yaw", 40], ["Head pitch", "pitch", 25], ["Head roll", "roll", 25]]; // label, angle, degrees
const RADIANS = Math.PI / 180;

// Another page can embed this one: without sliders, and with its own background. So does ?transparent, for OBS.
const query = new URLSearchParams(location.search);
if (query.has("transparent")) document.body.classList.add("inside", "bare");
const inside = document.body.classList.contains("inside"), bare = document.body.classList.contains("bare");
const element = (id) => document.getElementById(id);

/** The background, premultiplied RGBA in [0, 1]: the colour of the stage, so that the canvas has no visible edge. */
function ground() {
  const [red, green, blue, alpha = 1] = getComputedStyle(element("stage")).backgroundColor.match(/[\d.]+/g).map(Number);
  return [red, green, blue].map((value) => value / 255 * alpha).concat(alpha);
}

/** Shows a sentence in place of the picture. */
function fail(sentence) {
  element("message").textContent = sentence;
  element("message").className = "";
  for (const id of ["controls", "canvas"]) element(id).hidden = true;
  element("message").hidden = false;
}

function ready() {
  element("message").hidden = true;
  for (const id of ["controls", "canvas"]) element(id).hidden = false;
}

function addSlider(label, low, high, changed) {
  const row = document.createElement("label"), input = document.createElement("input");
  Object.assign(input, { type: "range", min: low, max: high, step: (high - low) / 100, value: 0 });
  input.addEventListener("input", () => changed(Number(input.value)));
  row.append(label, input);
  element("sliders").append(row);
}

function connect(viewer) {
  const { info } = viewer, canvas = element("canvas");
  const angles = {};
  for (const [label, angle, limit] of TURNS) {
    addSlider(label, -limit, limit, (degrees) => {
      angles[angle] = degrees * RADIANS;
      viewer.turn(angles);
    });
  }
  for (const [label, units] of SLIDERS) {
    addSlider(label, 0, 1, (weight) => viewer.setExpression(Object.fromEntries(units.map((unit) => [unit, weight]))));
  }
  connectOrbit(viewer, canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    viewer.dirty = true;
  });
  canvas.addEventListener("webglcontextlost", (event) => {
    event.preventDefault(); // lets the browser restore the context, which phones release for pages in the background
    fail("The browser took the graphics away; wait for them, or load the page again.");
  });
  canvas.addEventListener("webglcontextrestored", () => {
    viewer.restore();
    ready();
  });
  element("reset").addEventListener("click", () => {
    if (inside) return viewer.setPose({ orbit: { yaw: 0, pitch: 0, zoom: 1 } }); // the embedding page controls the face
    for (const [, angle] of TURNS) angles[angle] = 0;
    for (const input of element("sliders").querySelectorAll("input")) input.value = 0;
    viewer.reset();
  });
  element("play").hidden = !info.motion;
  element("play").addEventListener("click", () => {
    if (viewer.frame === null) viewer.play();
    else viewer.setPose({});
  });
  element("record").addEventListener("click", () => toggleRecording(canvas));
  connectWebcam(viewer);
  if (info.speech) connectSpeech(viewer);
}

/** A drag rotates the view; the wheel, or two fingers, zoom. */
function connectOrbit(viewer, canvas) {
  const held = new Map(); // positions of pressed pointers; iOS events have no movement
  const within = (value, limit) => Math.max(-limit, Math.min(limit, value));
  const closer = (factor) => {
    viewer.orbit.zoom = Math.max(0.5, Math.min(4, viewer.orbit.zoom * factor));
    viewer.dirty = true;
  };
  const apart = () => {
    const [[x, y], [u, v]] = held.values();
    return Math.hypot(x - u, y - v);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, [event.clientX, event.clientY]);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!held.has(event.pointerId)) return;
    const [x, y] = held.get(event.pointerId), before = held.size > 1 ? apart() : 0;
    held.set(event.pointerId, [event.clientX, event.clientY]);
    if (before) return closer(apart() / before);
    const { orbit } = viewer;
    orbit.yaw = within(orbit.yaw - (event.clientX - x) * 0.006, 1.2);
    orbit.pitch = within(orbit.pitch + (event.clientY - y) * 0.006, 0.6);
    viewer.dirty = true;
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, ({ pointerId }) => held.delete(pointerId));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    closer(Math.exp(-event.deltaY * 0.001));
  }, { passive: false });
}

const STATES = {
  calibrating: "Look straight into the camera with a calm face.",
  following: "The avatar follows you.",
  lost: "No face is seen.",
  ended: "The camera stopped; use it again, or use the sliders.",
};

function connectWebcam(viewer) {
  const button = element("webcam"), sliders = element("sliders");
  let session = null;
  const show = (text) => {
    element("webcam-state").textContent = text;
    element("webcam-state").hidden = !text;
  };
  const stop = (text = "") => {
    session?.stop();
    session = null;
    viewer.drive(null);
    button.textContent = "Use my camera";
    sliders.disabled = element("speak-live").disabled = element("speak-file").disabled = false;
    element("webcam-view").hidden = true;
    show(text);
  };
  const changed = (state, params) => {
    if (state === "ended") stop(STATES.ended);
    else {
      show(STATES[state]);
      if (params) viewer.drive(params);
    }
  };
  element("calibrate").addEventListener("click", () => session?.calibrate());
  button.addEventListener("click", async () => {
    if (session) return stop();
    button.disabled = true;
    show("Starting the camera and the face tracker.");
    try {
      session = await SpatialAvatarWebcam.start(viewer.info, viewer.arrays, element("video"), button.dataset, changed);
      button.textContent = "Stop the camera";
      sliders.disabled = element("speak-live").disabled = element("speak-file").disabled = true;
      element("webcam-view").hidden = false;
    } catch (error) {
      stop(error instanceof SpatialAvatarWebcam.Trouble ? error.message : STATES.ended);
    } finally {
      button.disabled = false;
    }
  });
}

/** The two buttons with which the avatar speaks; while it does, the camera and the sliders rest. */
function connectSpeech(viewer) {
  const speaker = new Speaker(viewer, element("speech").textContent, (frame) => viewer.drive(frame && followed(viewer, frame)));
  const buttons = { live: element("speak-live"), file: element("speak-file") }, chooser = element("sound");
  const words = { live: buttons.live.textContent, file: buttons.file.textContent };
  let speaking = null; // { kind, stop }
  const show = (text) => {
    element("speech-state").textContent = text;
    element("speech-state").hidden = !text;
  };
  const rest = (text = "") => {
    speaking = null;
    for (const [kind, button] of Object.entries(buttons)) Object.assign(button, { disabled: false, textContent: words[kind] });
    element("webcam").disabled = element("sliders").disabled = false;
    show(text);
  };
  const start = async (kind, sound) => {
    for (const button of [...Object.values(buttons), element("webcam")]) button.disabled = true;
    show(kind === "live" ? "Starting the microphone." : "Reading the sound.");
    let media = null;
    try {
      media = kind === "live" ? await microphone() : sound;
      const { stop, ended } = await speaker.speak(media);
      speaking = { kind, stop };
      Object.assign(buttons[kind], { disabled: false, textContent: kind === "live" ? "Stop the microphone" : "Stop the sound" });
      element("sliders").disabled = true;
      show(kind === "live" ? "Speak: the avatar's lips follow. Your voice stays in this page." : "");
      await ended;
      rest();
    } catch (error) {
      rest(error instanceof SpeechTrouble ? error.message : "The sound stopped; try again, or choose another file.");
    } finally {
      if (media instanceof MediaStream) media.getTracks().forEach((track) => track.stop());
    }
  };
  for (const [kind, button] of Object.entries(buttons)) {
    button.hidden = false;
    button.addEventListener("click", () => {
      if (speaking) speaking.stop();
      else if (kind === "live") start("live");
      else chooser.click();
    });
  }
  chooser.addEventListener("change", () => {
    const [file] = chooser.files;
    if (file) start("file", file);
    chooser.value = ""; // so that the same file can be chosen again
  });
  viewer.speaker = speaker;
}

let recorder = null;
function toggleRecording(canvas) {
  const button = element("record");
  if (recorder) {
    recorder.stop();
    return;
  }
  const type = ["video/webm", "video/mp4"].find((one) => window.MediaRecorder?.isTypeSupported(one)); // Safari: only MP4
  if (!type || !canvas.captureStream) {
    button.textContent = "This browser cannot record";
    button.disabled = true;
    return;
  }
  const chunks = [];
  recorder = new MediaRecorder(canvas.captureStream(30), { mimeType: type });
  recorder.ondataavailable = (event) => chunks.push(event.data);
  recorder.onstop = () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob(chunks, { type }));
    link.download = `avatar.${type.slice(6)}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    recorder = null;
    button.textContent = "Record";
  };
  recorder.start();
  button.textContent = "Stop and save";
}

function embedded() {
  let text;
  try {
    text = atob(element("avatar").textContent.trim());
  } catch {
    throw new Error("The avatar's data is cut short; copy or export the page again.");
  }
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0)).buffer;
}

const measured = ({ splats, pose, project, sort, draw }) => {
  element("stats").textContent = `${splats} splats · pose ${pose.toFixed(1)} · project ${project.toFixed(1)} · ` +
    `sort ${sort.toFixed(1)} · draw ${draw.toFixed(1)} ms`;
};

/** Follows the stream that the address asks for, ?motion=ws://127.0.0.1:8765/motion, or ?motion alone for that of this server. */
function followAsked(viewer) {
  if (!query.has("motion")) return;
  const address = new URL(query.get("motion") || "/motion", location.href.replace(/^http/, "ws"));
  const show = (text) => {
    element("webcam-state").textContent = text;
    element("webcam-state").hidden = !text || bare;
  };
  show(`Waiting for motion from ${address.host}.`);
  viewer.setPose({}); // ends an embedded motion
  viewer.stream = followStream(viewer, address.href, (open) => show(open ? "" : `Waiting for motion from ${address.host}.`));
}

try {
  const viewer = new Viewer(embedded(), {
    canvas: element("canvas"),
    source: element("engine").textContent,
    alpha: inside,
    renderer: location.hash.slice(1),
    ground,
    fail,
    ready,
    measured,
  });
  window.spatialAvatar = viewer;
  connect(viewer);
  if (bare) {
    viewer.fit(Math.min(innerWidth, innerHeight));
    addEventListener("resize", () => viewer.fit(Math.min(innerWidth, innerHeight)));
  }
  if (viewer.info.motion) viewer.play();
  viewer.setView(viewOf(query.get("camera") ?? "front"));
  followAsked(viewer);
  viewer.run().catch(() => fail("The avatar could not be drawn; load the page again."));
} catch (error) {
  fail(error.message);
}
