// Lets an avatar speak what a microphone or a sound says: sound goes to the worker of speech.js, its lips come back, and
// blinks and a small sway of the head are added. The sound stays in this page.
const DELAY = 0.2; // seconds by which a played sound waits for the lips, which are complete after 0.14
const BLOCK = 1024; // samples that are sent to the worker at a time
const SWAY = [[1.5, 0.11], [0.9, 0.23], [0.5, 0.41]]; // degrees and Hz, as in speech/liveliness.py
const DEGREE = Math.PI / 180;

/** Passes the sound on in blocks of one channel; `time`: of the block's end, seconds of the audio context. */
const TAP = `registerProcessor("spatialavatar-tap", class extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(${BLOCK});
    this.count = 0;
  }
  process([channels]) {
    const length = channels[0]?.length ?? 128;
    for (let i = 0; i < length; i++) {
      let sum = 0;
      for (const channel of channels) sum += channel[i];
      this.block[this.count++] = channels.length ? sum / channels.length : 0;
      if (this.count < ${BLOCK}) continue;
      this.port.postMessage({ samples: this.block, time: (currentFrame + i + 1) / sampleRate });
      this.block = new Float32Array(${BLOCK});
      this.count = 0;
    }
    return true;
  }
});`;

/** An error whose message is shown to the visitor. */
class SpeechTrouble extends Error {}

/** Blinks and a slow sway; the same seed gives the same motion. */
class Life {
  constructor(units, seed = 0) {
    let state = seed >>> 0;
    this.random = () => { // mulberry32
      state = (state + 0x6d2b79f5) >>> 0;
      let t = Math.imul(state ^ (state >>> 15), state | 1);
      t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
      return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
    };
    this.lids = ["eyeBlinkLeft", "eyeBlinkRight"].map((name) => units.indexOf(name));
    this.phases = [0, 1, 2].map(() => SWAY.map(() => 2 * Math.PI * this.random()));
    this.blink = { start: 0.8 + 2.2 * this.random(), length: 0.28 };
  }

  /** Adds to the weights, and returns the head's rotation, at `time` in seconds; times must not decrease. */
  add(weights, time) {
    const { blink } = this, since = (time - blink.start) / blink.length, smooth = (x) => x * x * (3 - 2 * x);
    if (since >= 1) {
      this.blink = { start: time + 0.7 + 4.4 * this.random(), length: 0.22 + 0.12 * this.random() };
    } else if (since > 0) {
      const shut = smooth(since < 0.33 ? since / 0.33 : (1 - since) / 0.67);
      for (const lid of this.lids) weights[lid] = Math.max(weights[lid], shut);
    }
    const start = smooth(Math.min(1, time / 0.6));
    const [pitch, yaw, roll] = this.phases.map((phases) =>
      start * SWAY.reduce((sum, [size, hertz], k) => sum + size * Math.sin(2 * Math.PI * hertz * time + phases[k]), 0));
    return [0.6 * pitch, yaw, 0.5 * roll].map((angle) => angle * DEGREE);
  }
}

/** Returns an object that sends sound to the listener, in a worker or on the page; `heard(frames)` receives its answers. */
function listening({ info, arrays }, source, rate, heard) {
  const own = Object.fromEntries(Object.entries(arrays).filter(([name]) => name.startsWith("speech_")));
  let here = null;
  const onPage = () => {
    const { Listener, Resampler } = SpatialAvatarSpeech;
    const listener = new Listener(info.speech, own), resampler = new Resampler(rate, info.speech.rate);
    here = (samples) => heard(listener.push(resampler.push(samples)));
  };
  let worker = null;
  try {
    worker = new Worker(URL.createObjectURL(new Blob([source], { type: "text/javascript" })));
    worker.onmessage = ({ data }) => heard(data);
    worker.onerror = () => here ?? onPage(); // the embedding page's policy forbids workers
    worker.postMessage({ info: info.speech, arrays: own, rate });
  } catch {
    onPage();
  }
  return { send: (samples) => here ? here(samples) : worker.postMessage(samples), end: () => worker?.terminate() };
}

/** Asks for the microphone. */
async function microphone() {
  if (!navigator.mediaDevices) {
    throw new SpeechTrouble("The browser allows the microphone only on pages opened by https or from a file; play a sound file.");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: true });
  } catch (error) {
    throw new SpeechTrouble({
      NotAllowedError: "The browser may not use the microphone; allow it for this page, or play a sound file.",
      SecurityError: "The browser may not use the microphone; allow it for this page, or play a sound file.",
      NotFoundError: "There is no microphone; plug one in, or play a sound file.",
    }[error.name] ?? "The microphone gives no sound. Close other programs that use it, or play a sound file.");
  }
}

/** An element that plays a file, once the browser has found a form that it can play. */
async function soundOf(file) {
  const audio = new Audio(), address = URL.createObjectURL(file);
  audio.addEventListener("emptied", () => URL.revokeObjectURL(address));
  const readable = await new Promise((resolve) => {
    audio.onloadedmetadata = () => resolve(true);
    audio.onerror = () => resolve(false);
    Object.assign(audio, { preload: "auto", src: address });
  });
  if (readable) return audio;
  URL.revokeObjectURL(address);
  throw new SpeechTrouble(`${file.name ?? "The file"} holds no sound that this browser can play; choose a WAV, MP3 or M4A file.`);
}

/** Speaks one sound at a time. `follow(frame)` poses the avatar by { weights, rotation, translation }, or by nothing: null. */
class Speaker {
  /** `avatar`: { info, arrays } of its binary; `source`: the text of speech.js. */
  constructor(avatar, source, follow) {
    Object.assign(this, { avatar, source, follow, playing: null });
  }

  /**
   * Speaks an AudioBuffer, a file (Blob) or a MediaStream; resolves once it speaks, to { stop, ended }: a function, and a
   * promise that resolves at the end. A second call ends the first. Call it from a click.
   */
  async speak(sound) {
    const { avatar } = this;
    if (!avatar.info.speech) {
      throw new SpeechTrouble("This avatar has no speech network; export its page with --speech.");
    }
    if (![AudioBuffer, Blob, MediaStream].some((kind) => sound instanceof kind)) {
      throw new SpeechTrouble("Give an AudioBuffer, a file or a MediaStream to speak.");
    }
    this.stop();
    const context = new AudioContext(), attempt = (this.playing = { stop: () => {} });
    const closing = [];
    let media = sound;
    const free = () => { // the element that was made here lets go of its file
      if (media === sound) return;
      media.pause();
      media.removeAttribute("src");
      media.load();
    };
    try {
      await this.ready(context);
      const tap = await tapOf(context);
      if (sound instanceof Blob) media = await soundOf(sound);
      const [node, begin] = nodeOf(context, media);
      const live = media instanceof MediaStream;
      node.connect(tap.node);
      if (!live) node.connect(new DelayNode(context, { delayTime: DELAY, maxDelayTime: 1 })).connect(context.destination);
      if (this.playing !== attempt) throw new SpeechTrouble("Another sound was started.");
      const ended = new Promise((resolve) => closing.push(resolve));
      const show = this.shown(context, live ? 0 : DELAY);
      const { rate } = this.avatar.info.speech.frames;
      const lips = listening(avatar, this.source, context.sampleRate, show.add);
      tap.listen((samples, time) => {
        show.start ??= time - samples.length / context.sampleRate + 0.5 / rate;
        lips.send(samples);
      });
      attempt.stop = () => {
        if (this.playing !== attempt) return;
        this.playing = null;
        show.end();
        lips.end();
        tap.listen(() => {});
        free();
        context.close();
        this.follow(null);
        closing.forEach((resolve) => resolve());
      };
      const last = () => setTimeout(attempt.stop, 1000 * (DELAY + 0.3));
      if (live) media.getAudioTracks().forEach((track) => track.addEventListener("ended", attempt.stop));
      else (media instanceof AudioBuffer ? node : media).addEventListener("ended", last);
      await begin();
      return { stop: attempt.stop, ended };
    } catch (error) {
      free();
      attempt.stop();
      if (this.playing === attempt) this.playing = null;
      if (context.state !== "closed") context.close();
      throw error;
    }
  }

  /** Waits until the context plays. */
  async ready(context) {
    const patience = new Promise((resolve) => setTimeout(resolve, 2000));
    await Promise.race([context.resume(), patience]);
    if (context.state !== "running") {
      throw new SpeechTrouble("The browser plays sound only after a click; start the speech from one.");
    }
  }

  /** Shows frames at their time: frame k of the sound at `start` + k / rate + `delay` seconds of the context. */
  shown(context, delay) {
    const { rate, count } = this.avatar.info.speech.frames, life = new Life(this.avatar.info.units);
    const show = { start: null, frames: [], first: 0, done: false }, began = context.currentTime;
    let lips = new Float32Array(count);
    const step = () => {
      if (show.done) return;
      requestAnimationFrame(step);
      const now = context.currentTime - (delay ? context.outputLatency ?? 0 : 0);
      const due = show.start === null ? 0 : delay ? Math.floor((now - show.start - delay) * rate) + 1 - show.first : Infinity;
      const passed = show.frames.splice(0, Math.max(0, due));
      show.first += passed.length;
      lips = passed.at(-1) ?? lips;
      const weights = Array.from(lips);
      this.follow({ weights, rotation: life.add(weights, context.currentTime - began), translation: [0, 0, 0], seen: true });
    };
    requestAnimationFrame(step);
    show.add = (frames) => show.frames.push(...frames);
    show.end = () => (show.done = true);
    return show;
  }

  /** Ends the speech; the avatar then shows what it showed before. */
  stop() {
    const { playing } = this;
    playing?.stop();
    this.playing = null; // ends a speech that is still starting, too
  }
}

/**
 * A node that passes its sound to the function which `listen` is given: (samples, time of their end in seconds of the context).
 * Pages that are opened from a file, or whose policy forbids worklets, get the older processor on the page's own thread.
 */
async function tapOf(context) {
  let hear = () => {};
  const listen = (function_) => (hear = function_);
  const address = URL.createObjectURL(new Blob([TAP], { type: "text/javascript" }));
  try {
    await context.audioWorklet.addModule(address);
    const node = new AudioWorkletNode(context, "spatialavatar-tap");
    node.port.onmessage = ({ data: { samples, time } }) => hear(samples, time);
    return { node, listen };
  } catch {
    const node = context.createScriptProcessor(BLOCK, 1, 1);
    node.onaudioprocess = ({ inputBuffer }) => hear(inputBuffer.getChannelData(0).slice(), context.currentTime);
    node.connect(context.destination); // which it gives silence; without a destination it does not run
    return { node, listen };
  } finally {
    URL.revokeObjectURL(address);
  }
}

/** A node that sounds, and a function that starts it. */
function nodeOf(context, sound) {
  if (sound instanceof AudioBuffer) {
    const node = new AudioBufferSourceNode(context, { buffer: sound });
    return [node, async () => node.start()];
  }
  if (sound instanceof MediaStream) {
    if (!sound.getAudioTracks().length) throw new SpeechTrouble("The stream has no sound; ask for a microphone.");
    return [context.createMediaStreamSource(sound), async () => {}];
  }
  return [context.createMediaElementSource(sound), () => sound.play()];
}
