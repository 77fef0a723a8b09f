import { Mesh, PerspectiveCamera } from "three";
import type { Expression, HeadAngles, MotionFrame, Sound, Speech } from "./index.js";

/**
 * An avatar in a scene of three.js. Its origin is the middle of the skull; y is up, the face looks along +z, units are
 * metres. Scale it uniformly only.
 */
export declare class SpatialAvatarObject extends Mesh {
  /** The avatar at an address: a page that `spatialavatar export --format html` wrote. */
  static load(src: string | URL): Promise<SpatialAvatarObject>;
  /** @param buffer the binary of an avatar, which `loadAvatar` returns */
  constructor(buffer: ArrayBuffer);
  setExpression(weights: Expression): void;
  turn(angles: HeadAngles): void;
  /** Poses the head by a frame of motion; null returns to the weights and turns set before. */
  follow(frame: MotionFrame | null): void;
  /** As `speak` of the web component. */
  speak(sound: Sound): Promise<Speech>;
  /** Back to the resting face, looking ahead. */
  reset(): void;
  /** The camera of a portrait, to be added to this object. */
  portraitCamera(): PerspectiveCamera;
  /** Frees the texture, the material and the geometry. */
  dispose(): void;
}
