// From sound to lips: computes the same as spatialavatar/speech (features, network, coarticulation, resampling) as the sound
// arrives. It runs in a worker of its own, or on the page where workers are forbidden.
"use strict";

const SpatialAvatarSpeech = (() => {
  const CROSSINGS = 16; // zero crossings of the resampler's sinc on each side
  const KAISER = 8;

  /** The real Fourier transform's power, by a complex radix-2 transform of `size` points. */
  class Spectrum {
    constructor(size) {
      Object.assign(this, { size, re: new Float64Array(size), im: new Float64Array(size) });
      const bits = Math.log2(size);
      this.order = Uint32Array.from({ length: size }, (_, k) => {
        let out = 0;
        for (let b = 0; b < bits; b++) out |= (k >> b & 1) << (bits - 1 - b);
        return out;
      });
      this.cos = Float64Array.from({ length: size / 2 }, (_, k) => Math.cos(2 * Math.PI * k / size));
      this.sin = Float64Array.from({ length: size / 2 }, (_, k) => Math.sin(2 * Math.PI * k / size));
    }

    /** Power of frequencies 0 to size / 2 of the tapered samples from `start` on. */
    power(samples, start, taper, out) {
      const { size, re, im, order, cos, sin } = this;
      im.fill(0);
      for (let k = 0; k < size; k++) re[order[k]] = k < taper.length ? samples[start + k] * taper[k] : 0;
      for (let half = 1; half < size; half *= 2) {
        const step = size / (2 * half);
        for (let from = 0; from < size; from += 2 * half) {
          for (let k = 0; k < half; k++) {
            const a = from + k, b = a + half, c = cos[k * step], s = sin[k * step];
            const x = re[b] * c + im[b] * s, y = im[b] * c - re[b] * s;
            re[b] = re[a] - x;
            im[b] = im[a] - y;
            re[a] += x;
            im[a] += y;
          }
        }
      }
      for (let k = 0; k <= size / 2; k++) out[k] = re[k] * re[k] + im[k] * im[k];
      return out;
    }
  }

  /** Both buffers, one after the other. */
  function joined(a, b) {
    const out = new Float32Array(a.length + b.length);
    out.set(a);
    out.set(b, a.length);
    return out;
  }

  /** Sound of any rate as 16 kHz (speech/resampling.py). */
  class Resampler {
    constructor(rate, to) {
      this.step = rate / to;
      this.stretch = Math.max(1, this.step);
      this.reach = Math.ceil(CROSSINGS * this.stretch);
      this.buffer = new Float32Array(this.reach);
      this.first = -this.reach;
      this.count = 0;
      this.kernels = new Map(); // by the place between two samples; few for rates that have a simple ratio
    }

    kernel(part) {
      const key = Math.round(part * 1e6), found = this.kernels.get(key);
      if (found) return found;
      const { reach, stretch } = this, out = new Float64Array(2 * reach);
      for (let k = 0; k < 2 * reach; k++) {
        const away = (part - (k - reach + 1)) / stretch, inside = 1 - (away / CROSSINGS) ** 2;
        const sinc = away === 0 ? 1 : Math.sin(Math.PI * away) / (Math.PI * away);
        out[k] = sinc * bessel(KAISER * Math.sqrt(Math.max(0, inside))) / bessel(KAISER) / stretch;
      }
      if (this.kernels.size < 1000) this.kernels.set(key, out);
      return out;
    }

    push(samples) {
      this.buffer = joined(this.buffer, samples);
      const end = this.first + this.buffer.length - this.reach - 1;
      const count = end >= 0 ? Math.max(0, Math.floor(end / this.step) + 1 - this.count) : 0, out = new Float32Array(count);
      for (let k = 0; k < count; k++) {
        const place = (this.count + k) * this.step, low = Math.floor(place), kernel = this.kernel(place - low);
        const from = low - this.reach + 1 - this.first;
        let sum = 0;
        for (let i = 0; i < kernel.length; i++) sum += this.buffer[from + i] * kernel[i];
        out[k] = sum;
      }
      this.count += count;
      const keep = Math.min(Math.max(0, Math.floor(this.count * this.step) - this.reach - this.first), this.buffer.length);
      this.buffer = this.buffer.slice(keep);
      this.first += keep;
      return out;
    }
  }

  /** The modified Bessel function of the first kind and order 0. */
  function bessel(x) {
    let sum = 1, term = 1;
    for (let k = 1; k < 40; k++) sum += term *= (x / (2 * k)) ** 2;
    return sum;
  }

  /** Log-mel features (speech/features.py). */
  class LogMel {
    constructor(info, arrays) {
      Object.assign(this, { info, filters: arrays.speech_filters, taper: arrays.speech_taper });
      this.rest = new Float32Array(info.lead);
      this.spectrum = new Spectrum(info.fft);
      this.powers = new Float64Array(info.fft / 2 + 1);
    }

    /** The feature frames that the new samples complete. */
    push(samples) {
      const { hop, bands, floor } = this.info, window = this.taper.length, half = hop / 2;
      this.rest = joined(this.rest, samples);
      const count = Math.max(0, Math.floor((this.rest.length - (window - half)) / hop)), frames = [];
      for (let frame = 0; frame < count; frame++) {
        const values = new Float32Array(2 * bands);
        for (let part = 0; part < 2; part++) {
          const power = this.spectrum.power(this.rest, (2 * frame + part) * half, this.taper, this.powers);
          for (let band = 0; band < bands; band++) {
            let sum = 0;
            for (let bin = 0; bin < power.length; bin++) sum += power[bin] * this.filters[bin * bands + band];
            values[part * bands + band] = (Math.log10(sum / window + floor) + 3) / 3;
          }
        }
        frames.push(values);
      }
      this.rest = this.rest.slice(count * hop);
      return frames;
    }
  }

  /** `out` plus the product of a row and a matrix (rows, width), both flat. */
  function addProduct(out, row, matrix, start = 0) {
    const width = out.length;
    for (let i = 0; i < row.length; i++) {
      const value = row[i], from = start + i * width;
      if (value) for (let k = 0; k < width; k++) out[k] += value * matrix[from + k];
    }
    return out;
  }

  /** The causal network (speech/network.py). */
  class Network {
    constructor(info, arrays) {
      Object.assign(this, { info, of: (name) => arrays[`speech_${name}`] });
      this.past = info.dilations.map((dilation) => Array.from({ length: 2 * dilation }, () => new Float32Array(info.width)));
    }

    scaled(x) {
      let power = 0;
      for (const value of x) power += value * value;
      const factor = 1 / Math.sqrt(power / x.length + this.info.epsilon);
      return x.map((value) => value * factor);
    }

    /** Shares of visemes and loudness of a feature frame. */
    push(features) {
      const { of, info } = this, square = info.width * info.width;
      const x = addProduct(Float64Array.from(of("input.bias")), features, of("input.weight"));
      info.dilations.forEach((dilation, block) => {
        const past = this.past[block], now = Float32Array.from(this.scaled(x)), taps = of(`blocks.${block}.past.weight`);
        const hidden = Float64Array.from(of(`blocks.${block}.past.bias`));
        [past[0], past[dilation], now].forEach((row, tap) => addProduct(hidden, row, taps, tap * square));
        past.push(now);
        past.shift();
        const mixed = addProduct(Float64Array.from(of(`blocks.${block}.mix.bias`)), hidden.map((value) => Math.max(0, value)),
          of(`blocks.${block}.mix.weight`));
        for (let k = 0; k < x.length; k++) x[k] += mixed[k];
      });
      const out = addProduct(Float64Array.from(of("output.bias")), this.scaled(x), of("output.weight"));
      const logits = out.slice(0, info.visemes), highest = Math.max(...logits);
      const powers = logits.map((value) => Math.exp(value - highest)), total = powers.reduce((sum, value) => sum + value, 0);
      return { shares: this.dropUncertainClosures(powers.map((value) => value / total)), loudness: within(out[info.visemes + 1]) };
    }

    /** Shares without uncertain closures (coarticulation.py, drop_uncertain_closures). */
    dropUncertainClosures(probabilities) {
      const { lips, noClosure, fullClosure } = this.info, heard = probabilities[lips];
      const kept = heard * within((heard - noClosure) / (fullClosure - noClosure)), rest = (1 - kept) / Math.max(1e-6, 1 - heard);
      return probabilities.map((value, k) => k === lips ? kept : value * rest);
    }
  }

  const within = (value) => Math.min(1, Math.max(0, value));

  /** Sound of 16 kHz to ARKit weights, 50 frames a second (speech/driver.py, LipListener). */
  class Listener {
    /** `info`: of the avatar's binary, its entry `speech`; `arrays`: of the same binary. */
    constructor(info, arrays) {
      Object.assign(this, { info, arrays });
      this.start();
    }

    start() {
      const { info, arrays } = this;
      this.mel = new LogMel(info, arrays);
      this.network = new Network(info, arrays);
      this.skip = info.delay;
      const silence = { shares: Float64Array.from({ length: info.visemes }, (_, k) => Number(k === 0)), loudness: 0 };
      this.heard = new Array(info.reach).fill(silence);
      this.samples = this.frames = 0;
    }

    /** The frames, Float32Array (52), that the new samples complete. Values that are not finite count as silence. */
    push(samples) {
      this.samples += samples.length;
      const clean = samples.map((value) => Number.isFinite(value) ? Math.min(1, Math.max(-1, value)) : 0);
      const frames = [], around = 2 * this.info.reach + 1;
      for (const features of this.mel.push(clean)) {
        const heard = this.network.push(features);
        if (this.skip-- > 0) continue;
        this.heard.push(heard);
        if (this.heard.length < around) continue;
        frames.push(this.weights(this.heard));
        this.heard.shift();
      }
      this.frames += frames.length;
      return frames;
    }

    /** The frames that remain at the end of the sound; the next sound starts anew. */
    finish() {
      const { hop, delay, reach } = this.info, missing = Math.ceil(this.samples / hop) - this.frames;
      const frames = this.push(new Float32Array((missing + delay + reach + 2) * hop)).slice(0, missing);
      this.start();
      return frames;
    }

    /** Coarticulation of the frames around one (speech/coarticulation.py). */
    weights(heard) {
      const { visemes, articulators, close, quietJaw, loudJaw } = this.info;
      const { speech_targets, speech_dominances, speech_rows, speech_units } = this.arrays, size = visemes * articulators;
      const weighted = new Float64Array(articulators), total = new Float64Array(articulators);
      let level = 0;
      heard.forEach(({ shares, loudness }, offset) => {
        addProduct(weighted, shares, speech_targets, offset * size);
        addProduct(total, shares, speech_dominances, offset * size);
        level += loudness / heard.length;
      });
      const blended = weighted.map((value, k) => value / total[k]), gain = quietJaw + (loudJaw - quietJaw) * within(level);
      const free = 1 - blended[close];
      const positions = blended.map((value, k) => {
        const jaw = speech_rows[k], opening = speech_rows[articulators + k];
        return within(value * (gain * jaw + 1 - jaw) * (free * opening + 1 - opening));
      });
      return Float32Array.from(addProduct(new Float64Array(speech_units.length / articulators), positions, speech_units));
    }
  }

  return { Listener, Resampler };
})();

if (typeof WorkerGlobalScope !== "undefined" && self instanceof WorkerGlobalScope) {
  let listener = null, resampler = null;
  self.onmessage = ({ data }) => {
    if (data.info) {
      listener = new SpatialAvatarSpeech.Listener(data.info, data.arrays);
      resampler = new SpatialAvatarSpeech.Resampler(data.rate, data.info.rate);
    } else {
      self.postMessage(listener.push(resampler.push(data)));
    }
  };
}
