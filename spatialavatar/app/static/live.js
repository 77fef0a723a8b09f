// The avatar's web page in a frame of this one. It is fetched when it first becomes visible; the sliders then move it here.
const frame = element.querySelector("iframe");
let wanted = null, shown = null;

const load = async () => {
  if (shown === wanted || !frame.checkVisibility()) return;
  const url = (shown = wanted);
  const answer = url ? await fetch(url).catch(() => null) : null;
  const page = answer?.ok ? await answer.text() : url ? "Your avatar was deleted. Make it again." : "";
  if (url === wanted) frame.srcdoc = page.replace("<body>", '<body class="inside">');
};
const change = () => {
  wanted = props.value?.url ?? null;
  load();
};

/** Move the avatar by the sliders (live.py, HOLD): their values as ARKit weights and angles (controls.py, movements). */
const move = () => {
  const viewer = frame.contentWindow.spatialAvatar, values = window.spatialAvatarHeld;
  if (!viewer || !values) return;
  const sums = {};
  values.forEach((value, k) => {
    const parts = Object.entries(props.movements[k][value >= 0 ? "up" : "down"]);
    for (const [name, weight] of parts) sums[name] = (sums[name] ?? 0) + weight * Math.abs(value);
  });
  viewer.setExpression(Object.fromEntries(viewer.info.units.map((unit) => [unit, Math.min(1, sums[unit] ?? 0)])));
  viewer.turn(sums);
};

/** Give the frame's buttons this page's font and colour scheme; the frame itself must not fetch a font. */
const letters = fetch("static/fonts/Quicksand/Quicksand-Bold.woff2").then((answer) => answer.arrayBuffer());
const shade = () => {
  frame.contentDocument.documentElement.style.colorScheme = document.body.classList.contains("dark") ? "dark" : "light";
};
const dress = async () => {
  shade();
  const face = new frame.contentWindow.FontFace("Quicksand", await letters, { weight: "600 700" });
  frame.contentDocument.fonts.add(face);
  frame.contentDocument.documentElement.style.fontFamily = "Quicksand, system-ui, sans-serif";
};

frame.addEventListener("load", move);
frame.addEventListener("load", dress);
new MutationObserver(shade).observe(document.body, { attributeFilter: ["class"] });
window.addEventListener("spatialavatar-held", move);
new IntersectionObserver(load).observe(frame);
watch("value", () => {
  window.spatialAvatarHeld = null; // another avatar starts neutral
  change();
});
change();
