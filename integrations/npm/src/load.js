/** The binary of an avatar from an address: a page of `spatialavatar export --format html`, or the binary itself. */
async function loadAvatar(url) {
  const answer = await fetch(url).catch(() => null);
  if (!answer?.ok) throw new Error(`${url} cannot be fetched${answer ? ` (${answer.status})` : ""}.`);
  const buffer = await answer.arrayBuffer();
  if (new TextDecoder("latin1").decode(buffer.slice(0, 4)) === "SAVW") return buffer;
  const match = /<script type="application\/octet-stream" id="avatar">([^<]*)</.exec(new TextDecoder().decode(buffer));
  if (!match) throw new Error(`${url} holds no avatar; give a page that 'spatialavatar export --format html' wrote.`);
  return Uint8Array.from(atob(match[1].trim()), (letter) => letter.charCodeAt(0)).buffer;
}

/** Frames of a motion file (format spatialavatar.motion), relative to its neutral: { fps, frames }. */
function readMotion(data, units) {
  if (data?.format !== "spatialavatar.motion" || data.version !== 1) throw new Error("The motion is no file of SpatialAvatar.");
  const { names, fps, weights, neutral, neutral_rotation: facing } = data;
  const count = weights.length, still = new Array(count).fill([0, 0, 0]);
  const { rotation: turns = still, translation: places = still } = data;
  const columns = names.map((name) => units.indexOf(name)), back = facing && transposed(rotation(...facing));
  const frames = weights.map((row, index) => {
    const values = new Array(units.length).fill(0);
    row.forEach((value, k) => {
      values[columns[k]] = neutral ? Math.max(0, value - neutral[k]) : value;
    });
    const turn = back ? axisAngle(multiply(rotation(...turns[index]), back)) : turns[index];
    return { weights: values, rotation: turn, translation: places[index], seen: true };
  });
  if (!count || !(fps > 0)) throw new Error("The motion has no frames.");
  return { fps, frames };
}
