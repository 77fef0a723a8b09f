// Light or dark: as the visitor's system until the button is used; the choice is stored in this browser.
const KEY = "spatialavatar-theme";
const dark = (on) => document.body.classList.toggle("dark", on);
const kept = localStorage.getItem(KEY);
if (kept) dark(kept === "dark");
element.querySelector(".sa-theme").addEventListener("click", () => {
  const on = dark(!document.body.classList.contains("dark"));
  localStorage.setItem(KEY, on ? "dark" : "light");
});
