// <spatial-avatar src="me.html" motion="ws://127.0.0.1:8765/motion" camera="left"></spatial-avatar>
import {
  ENGINE_SOURCE, SPEECH_SOURCE, Speaker, Viewer, followStream, followed, loadAvatar, readMotion, viewOf,
} from "./core.js";

export { loadAvatar };

const STYLE = ":host { display: block; aspect-ratio: 1 } canvas { width: 100%; height: 100%; display: block } [hidden] { display: none }";
const SIDE = 512; // CSS pixels where the element has no size yet

/** The ground of a page that shows through. */
const clear = () => [0, 0, 0, 0];

/** Plays frames of a motion file in a loop; returns { close }. */
function playMotion(viewer, { fps, frames }) {
  const start = performance.now();
  let request = 0;
  const step = (now) => {
    viewer.drive(followed(viewer, frames[Math.floor(Math.max(0, now - start) / 1000 * fps) % frames.length]));
    request = requestAnimationFrame(step);
  };
  request = requestAnimationFrame(step);
  return {
    close() {
      cancelAnimationFrame(request);
      viewer.drive(null);
    },
  };
}

/** The element; in a program without a page, such as a server that renders, it is a class that is never registered. */
export class SpatialAvatarElement extends (globalThis.HTMLElement ?? Object) {
  static observedAttributes = ["src", "motion", "camera"];

  constructor() {
    super();
    this.viewer = null;
    this.source = null; // of motion: { close }
    this.speaker = null;
    this.attempt = 0;
    const root = this.attachShadow({ mode: "open" });
    const style = document.createElement("style");
    style.textContent = STYLE;
    this.message = Object.assign(document.createElement("p"), { role: "alert", hidden: true });
    root.append(style, this.message);
  }

  connectedCallback() {
    this.resizing = new ResizeObserver(() => this.viewer?.fit(this.clientWidth || SIDE));
    this.resizing.observe(this);
    if (this.getAttribute("src")) this.load();
  }

  disconnectedCallback() {
    this.resizing.disconnect();
    this.stop();
  }

  attributeChangedCallback(name) {
    if (!this.isConnected) return;
    if (name === "src") this.load();
    else if (name === "motion" && this.viewer) this.move();
    else if (name === "camera" && this.viewer) this.look();
  }

  /** Loads the avatar at `src`; resolves once it is drawn. Called when `src` changes. */
  async load() {
    this.stop();
    const attempt = ++this.attempt, src = this.getAttribute("src");
    try {
      if (!src) return;
      const buffer = await loadAvatar(new URL(src, document.baseURI));
      if (attempt !== this.attempt) return;
      const canvas = Object.assign(document.createElement("canvas"), { role: "img", ariaLabel: "An AI-generated avatar" });
      this.shadowRoot.append(canvas);
      this.canvas = canvas;
      canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
      canvas.addEventListener("webglcontextrestored", () => this.viewer?.restore());
      this.viewer = new Viewer(buffer, {
        canvas,
        source: ENGINE_SOURCE,
        alpha: true,
        renderer: this.getAttribute("renderer") ?? "",
        ground: clear,
        fail: (sentence) => this.fail(sentence),
      });
      this.message.hidden = true;
      this.viewer.fit(this.clientWidth || SIDE);
      this.look();
      await this.viewer.render();
      if (attempt !== this.attempt) return;
      const { units, gaussians } = this.viewer.info;
      this.dispatchEvent(new CustomEvent("load", { detail: { units, gaussians } }));
      this.move();
      this.viewer.run().catch(() => this.fail("The avatar could not be drawn; load the page again."));
    } catch (error) {
      if (attempt === this.attempt) this.fail(error.message);
    }
  }

  /** Follows `motion`: a WebSocket's address or a motion file; without it, plays the avatar's own motion, if it has one. */
  async move() {
    this.source?.close();
    this.source = null;
    const { viewer } = this, motion = this.getAttribute("motion");
    if (!motion) {
      if (viewer.info.motion) viewer.play();
      return;
    }
    const url = new URL(motion, document.baseURI);
    if (/^wss?:$/.test(url.protocol)) {
      this.source = followStream(viewer, url.href, (open) => this.dispatchEvent(new CustomEvent("stream", { detail: { open } })));
      return;
    }
    try {
      const answer = await fetch(url);
      if (!answer.ok) throw new Error(`${url} cannot be fetched (${answer.status}).`);
      const take = readMotion(await answer.json(), viewer.info.units);
      if (viewer === this.viewer && motion === this.getAttribute("motion")) this.source = playMotion(viewer, take);
    } catch (error) {
      this.dispatchEvent(new CustomEvent("error", { detail: { message: error.message } }));
    }
  }

  look() {
    this.viewer.setView(viewOf(this.getAttribute("camera") ?? "front"));
  }

  stop() {
    this.attempt++;
    this.speaker?.stop();
    this.speaker = null;
    this.source?.close();
    this.viewer?.end();
    this.canvas?.remove();
    this.source = this.viewer = this.canvas = null;
  }

  fail(sentence) {
    this.message.textContent = sentence;
    this.message.hidden = false;
    this.dispatchEvent(new CustomEvent("error", { detail: { message: sentence } }));
  }

  get loaded() {
    return this.viewer !== null;
  }

  get avatar() {
    if (!this.viewer) throw new Error("The avatar is not loaded yet; wait for the event 'load'.");
    return this.viewer;
  }

  setExpression(weights) {
    this.avatar.setExpression(weights);
  }

  turn(angles) {
    this.avatar.turn(angles);
  }

  /** Speaks an AudioBuffer, a file or a MediaStream; `motion` goes on at its end. Call it from a click. */
  async speak(sound) {
    const viewer = this.avatar;
    this.speaker ??= new Speaker(viewer, SPEECH_SOURCE, (frame) => viewer.drive(frame && followed(viewer, frame)));
    const speech = await this.speaker.speak(sound);
    this.source?.close();
    this.source = null;
    speech.ended.then(() => viewer === this.viewer && this.move());
    return speech;
  }

  reset() {
    this.avatar.reset();
    this.look();
  }

  async snapshot() {
    await this.avatar.render();
    return new Promise((resolve) => this.canvas.toBlob(resolve, "image/png"));
  }
}

globalThis.customElements?.get("spatial-avatar") ?? globalThis.customElements?.define("spatial-avatar", SpatialAvatarElement);
