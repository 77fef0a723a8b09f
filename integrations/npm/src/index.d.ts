/** Names of the 52 ARKit units. */
export type ArkitUnit =
@@UNITS@@;

/** Weights by unit, 0 to 1; the others do not change. */
export type Expression = Partial<Record<ArkitUnit, number>>;

/** Angles of the head, radians: positive yaw turns to the subject's left, positive pitch looks down. */
export interface HeadAngles {
  yaw?: number;
  pitch?: number;
  roll?: number;
}

/** A frame of motion. */
export interface MotionFrame {
  /** 52 weights in the order of the avatar's units. */
  weights: number[];
  /** Rotation, axis-angle, radians. */
  rotation: [number, number, number];
  /** Displacement from rest, metres. */
  translation: [number, number, number];
}

/** What an avatar can speak, if its page was exported with --speech. */
export type Sound = AudioBuffer | Blob | MediaStream;

/** A speech that has begun. */
export interface Speech {
  stop(): void;
  /** Resolves at the end, or after `stop`. */
  ended: Promise<void>;
}

export interface SpatialAvatarEventMap extends Omit<HTMLElementEventMap, "load" | "error"> {
  /** The first picture is drawn. */
  load: CustomEvent<{ units: ArkitUnit[]; gaussians: number }>;
  /** The avatar or the motion cannot be shown. */
  error: CustomEvent<{ message: string }>;
  /** The stream of `motion` was opened or lost. */
  stream: CustomEvent<{ open: boolean }>;
}

/**
 * `<spatial-avatar src="me.html" motion="ws://127.0.0.1:8765/motion" camera="left">`
 */
export declare class SpatialAvatarElement extends HTMLElement {
  /** Whether an avatar is shown. */
  readonly loaded: boolean;
  /** Loads the avatar at `src` again. */
  load(): Promise<void>;
  setExpression(weights: Expression): void;
  turn(angles: HeadAngles): void;
  /**
   * Moves the lips to a sound, and plays it unless it is a MediaStream; resolves once it speaks. Call it from a click. Rejects
   * with a sentence where the avatar or the browser cannot.
   */
  speak(sound: Sound): Promise<Speech>;
  /** Back to the resting face, looking ahead. */
  reset(): void;
  /** The current picture as a PNG with transparency. */
  snapshot(): Promise<Blob>;
  addEventListener<K extends keyof SpatialAvatarEventMap>(
    type: K,
    listener: (this: SpatialAvatarElement, event: SpatialAvatarEventMap[K]) => unknown,
    options?: boolean | AddEventListenerOptions,
  ): void;
  addEventListener(
    type: string,
    listener: EventListenerOrEventListenerObject,
    options?: boolean | AddEventListenerOptions,
  ): void;
}

/** The binary of an avatar from the address of its page. */
export declare function loadAvatar(url: string | URL): Promise<ArrayBuffer>;

declare global {
  interface HTMLElementTagNameMap {
    "spatial-avatar": SpatialAvatarElement;
  }
}
