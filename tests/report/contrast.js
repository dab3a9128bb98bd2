// Texts whose contrast is below 4.5 to 1 (WCAG 2.2, 1.4.3), as [tag, class, text, ratio].
const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
function rgba(colour) { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; }
function luminance([r, g, b]) { const f = (v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }; return 0.2126 * f(r) + 0.7152 * f(g) + 0.0722 * f(b); }
function ground(e) {
  const tip = e.closest("[aria-label=tip]")?.querySelector("path");
  if (tip) return rgba(getComputedStyle(tip).fill);
  for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] > 200) return c; } return [255, 255, 255]; }
const poor = [];
for (const e of document.querySelectorAll("body *")) {
  const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || ["SCRIPT", "STYLE", "NOSCRIPT", "OPTION"].includes(e.tagName.toUpperCase()) || !e.getClientRects().length) continue;
  const style = getComputedStyle(e), svg = e.namespaceURI.endsWith("svg");
  const ink = rgba(svg ? style.fill : style.color), back = ground(e);
  const [a, b] = [luminance(ink), luminance(back)].sort((x, y) => y - x), ratio = (a + 0.05) / (b + 0.05);
  if (ratio < 4.5) poor.push([e.tagName, e.className.baseVal ?? e.className, e.textContent.slice(0, 30), ratio.toFixed(2)]);
}
return poor;
