// The sweep's page: the table of the points and the charts.  Data come as columns; text only ever becomes text nodes.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const columns = data.columns.map((c) => (c.index ? { ...c, values: c.index.map((i) => c.texts[i]) } : c));
  const shownColumns = columns.filter((c) => c.group !== "hidden");
  const column = (key) => columns.find((c) => c.key === key);
  const isNumeric = (c) => c.kind !== "text" && c.kind !== "state";
  const valuesOf = (key) => column(key)?.values ?? [];
  const words = (text) => (text === "invalid" ? "left out" : String(text).replaceAll("_", " "));
  const colourOf = (state) => `var(--c-${state}, var(--soft))`;
  const names = valuesOf("name"), stateOf = valuesOf("state"), hrefs = valuesOf("href");
  let active = Array.from({ length: data.count }, (_, i) => i); // the rows that the table shows

  // ---- how values are written
  const digits = new Intl.NumberFormat("en", { maximumSignificantDigits: 6 });
  const short = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
  function seconds(s) {
    if (s < 0.9995) return `${short.format(s * 1000)} ms`;
    if (s < 59.95) return `${short.format(s)} s`;
    const two = (n) => String(Math.floor(n)).padStart(2, "0");
    if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
    if (s < 86400) return `${Math.floor(s / 3600)} h ${two((s % 3600) / 60)} min`;
    return `${Math.floor(s / 86400)} d ${two((s % 86400) / 3600)} h`;
  }
  function bytes(n) {
    let unit = 0;
    for (; n >= 999.5 && unit < 5; unit++) n /= 1024;
    return `${short.format(n)} ${["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit]}`;
  }
  const plain = (v) => (Math.abs(v) >= 1e6 || (v !== 0 && Math.abs(v) < 1e-3) ? d3.format("~g")(v) : digits.format(v));
  function clock(s) {
    const when = new Date(s * 1000), two = (n) => String(n).padStart(2, "0");
    return `${when.getFullYear()}-${two(when.getMonth() + 1)}-${two(when.getDate())} ${two(when.getHours())}:${two(when.getMinutes())}:${two(when.getSeconds())}`;
  }
  const writers = {
    number: (v) => digits.format(v), seconds, bytes, time: clock, text: String, state: words,
    ratio: (v) => `${short.format(v * 100)} %`,
  };
  const write = (c, v) => (v === null || v === undefined ? "" : c.kind === "number" && c.group === "result" ? short.format(v) : writers[c.kind](v));
  const label = (c) => c.title + ({ seconds: " [s]", bytes: " [MiB]", ratio: " [%]" }[c.kind] ?? "");
  const plotted = (c, v) => (v === null || v === undefined ? v : c.kind === "bytes" ? v / 2 ** 20 : c.kind === "ratio" ? v * 100 : c.kind === "time" ? new Date(v * 1000) : v);

  // ---- what is kept over a reload
  const storeKey = `rompy-hydra report ${data.id}`;
  let kept = {};
  try { kept = JSON.parse(sessionStorage.getItem(storeKey) ?? "{}"); } catch { kept = {}; }
  function keep(changes) {
    Object.assign(kept, changes);
    try { sessionStorage.setItem(storeKey, JSON.stringify(kept)); } catch { /* no storage here: nothing is kept */ }
  }

  // ---- the table
  function compare(a, b, dir) {
    const none = (v) => v === null || v === undefined || v === "";
    if (none(a) || none(b)) return none(a) && none(b) ? 0 : none(a) === (dir === "asc") ? 1 : -1; // last, whichever way
    return typeof a === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
  }
  const CONDITION = /^\s*(<=|>=|<|>|=)\s*(-?[\d.]+(?:e[+-]?\d+)?)\s*$/i, RANGE = /^\s*(-?[\d.]+)\s*\.\.\s*(-?[\d.]+)\s*$/;
  function passes(filter, value, written) {
    const found = CONDITION.exec(filter), range = RANGE.exec(filter);
    if (typeof value === "number" && range) return value >= +range[1] && value <= +range[2];
    if (typeof value === "number" && found) {
      const limit = Number(found[2]);
      return { "<": value < limit, ">": value > limit, "<=": value <= limit, ">=": value >= limit, "=": value === limit }[found[1]];
    }
    const sought = filter.trim().toLowerCase();
    if (typeof value === "number" && sought !== "" && !Number.isNaN(Number(sought))) return value === Number(sought) || written().startsWith(sought);
    return written().toLowerCase().includes(sought);
  }
  function textCell(c) {
    return (cell) => {
      const value = cell.getValue();
      if (c.kind !== "state" && c.key !== "name") return document.createTextNode(write(c, value));
      const span = document.createElement(c.key === "name" && hrefs[cell.getData().i] ? "a" : "span");
      if (c.kind === "state") {
        const swatch = document.createElement("span");
        swatch.className = `swatch s-${value}`;
        span.append(swatch);
      } else if (span.tagName === "A") span.href = hrefs[cell.getData().i];
      span.append(write(c, value));
      return span;
    };
  }
  function head(c) {
    return () => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "head";
      button.textContent = c.title;
      button.title = c.key.includes(":") ? c.key.slice(c.key.indexOf(":") + 1) : c.title;
      return button;
    };
  }
  const isNarrow = matchMedia("(max-width: 40rem)").matches;
  const fields = shownColumns.map((c, n) => ({
    title: c.title, field: `c${n}`, hozAlign: isNumeric(c) ? "right" : "left", headerHozAlign: "left",
    titleFormatter: head(c), formatter: textCell(c), frozen: c.key === "name" && !isNarrow,
    minWidth: c.kind === "state" ? 110 : 76, maxInitialWidth: 300, widthGrow: c.key === "reason" ? 3 : 1,
    sorter: (a, b, _ra, _rb, _col, dir) => compare(a, b, dir),
    headerFilter: "input", headerFilterPlaceholder: isNumeric(c) ? "e.g. >1" : "",
    headerFilterParams: { elementAttributes: { "aria-label": `filter ${c.title}` } },
    headerFilterFunc: (filter, value) => passes(filter, value, () => write(c, value)),
  }));
  const rows = Array.from({ length: data.count }, (_, i) => {
    const row = { i };
    for (let n = 0; n < shownColumns.length; n++) row[`c${n}`] = shownColumns[n].values[i];
    return row;
  });
  const chosenStates = new Set();
  let sought = (kept.search ?? "").toLowerCase();
  const searchable = new Map();
  function textOf(i) { // made when it is searched for the first time
    if (!searchable.has(i)) searchable.set(i, shownColumns.map((c) => write(c, c.values[i])).join(" ").toLowerCase());
    return searchable.get(i);
  }
  const wanted = (row) => (chosenStates.size === 0 || chosenStates.has(stateOf[row.i])) && (sought === "" || textOf(row.i).includes(sought));
  const table = new Tabulator("#table", {
    data: rows, columns: fields, index: "i", layout: "fitData", nestedFieldSeparator: false, autoResize: true,
    height: data.count > 14 ? Math.min(560, Math.round(window.innerHeight * 0.7)) : false,
    placeholder: data.count ? "No point matches." : "The sweep has no points.", headerSortTristate: true,
  });
  const built = new Promise((resolve) => table.on("tableBuilt", resolve));

  function tellShown() {
    byId("shown").textContent = active.length === data.count
      ? `${digits.format(data.count)} point${data.count === 1 ? "" : "s"}.`
      : `${digits.format(active.length)} of ${digits.format(data.count)} points.`;
  }
  let later = 0;
  table.on("dataFiltered", (_filters, found) => {
    active = found.map((row) => row.getData().i);
    tellShown();
    clearTimeout(later);
    later = setTimeout(drawFiltered, 120);
  });
  const refilter = () => table.setFilter(wanted);

  // ---- controls
  const counts = d3.rollup(stateOf, (v) => v.length, (s) => s);
  for (const [state, count] of counts) {
    const box = document.createElement("input"), boxLabel = document.createElement("label"), swatch = document.createElement("span");
    box.type = "checkbox";
    box.value = state;
    box.checked = (kept.states ?? []).includes(state);
    if (box.checked) chosenStates.add(state);
    swatch.className = `swatch s-${state}`;
    boxLabel.className = "check";
    boxLabel.append(box, swatch, `${words(state)} (${digits.format(count)})`);
    box.addEventListener("change", () => {
      if (box.checked) chosenStates.add(state); else chosenStates.delete(state);
      keep({ states: [...chosenStates] });
      refilter();
    });
    byId("states").append(boxLabel);
  }
  byId("search").value = kept.search ?? "";
  byId("search").addEventListener("input", (event) => {
    sought = event.target.value.trim().toLowerCase();
    keep({ search: event.target.value });
    refilter();
  });
  byId("reset").addEventListener("click", () => {
    chosenStates.clear();
    sought = byId("search").value = "";
    document.querySelectorAll("#states input").forEach((box) => { box.checked = false; });
    keep({ states: [], search: "", heads: [] });
    table.clearHeaderFilter();
    table.clearSort();
    refilter();
  });
  function inOrder() { return table.getRows("active").map((row) => row.getData().i); }
  byId("csv").addEventListener("click", () => {
    const quoted = (v) => {
      let text = v === null || v === undefined ? "" : String(v);
      if (typeof v === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`; // a spreadsheet would run it
      return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    const keyOf = (c) => c.key.replace(/^(swept|metric):/, "");
    const lines = [shownColumns.map((c) => quoted(keyOf(c))), ...inOrder().map((i) => shownColumns.map((c) => quoted(c.values[i])))];
    const anchor = document.createElement("a");
    anchor.href = URL.createObjectURL(new Blob([lines.map((line) => line.join(",")).join("\r\n")], { type: "text/csv" }));
    anchor.download = `${document.title.split(" · ")[0]}.csv`;
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(anchor.href), 10000);
  });

  // ---- charts
  function show(id, chart, name) {
    const place = byId(id);
    const svg = chart.tagName === "svg" ? chart : chart.querySelector("svg:last-of-type") ?? chart;
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", name);
    place.replaceChildren(chart);
  }
  function tell(id, text) {
    const p = document.createElement("p");
    p.textContent = text;
    byId(id).replaceChildren(p);
  }
  let onPaper = false; // paper is narrower than most screens, and the text of a chart must not shrink with it
  const widthOf = (id) => (onPaper ? (byId(id).closest(".three") ? 225 : 700) : Math.max(260, byId(id).clientWidth || 640));
  const pointWords = (i, ...more) => [`point ${names[i]}: ${words(stateOf[i])}`, ...columns.filter((c) => c.group === "swept").slice(0, 8).map((c) => `${c.title} = ${write(c, c.values[i])}`), ...more].join("\n");

  function elapsedUnit(total) {
    return total < 180 ? [1, "seconds"] : total < 3 * 3600 ? [60, "minutes"] : total < 72 * 3600 ? [3600, "hours"] : [86400, "days"];
  }
  const line = data.timeline;
  function drawTimeline() {
    if (!line.count || !byId("chart-use")) return;
    const total = d3.max(line.start, (s, n) => s + line.length[n]) || 1, [unit, unitName] = elapsedUnit(total);
    const isActive = new Uint8Array(data.count);
    for (const i of active) isActive[i] = 1;
    const x = { domain: [0, total / unit], label: `${unitName} since ${clock(line.begin)}` };
    const use = line.use_time.map((t, n) => ({ t: t / unit, cpus: line.use_cpus[n] }));
    show("chart-use", Plot.plot({
      width: widthOf("chart-use"), height: 150, marginLeft: 46, x: { ...x, label: null }, y: { label: "CPUs in use", grid: true, zero: true, nice: true, ticks: Math.max(1, Math.min(4, d3.max(line.use_cpus))), tickFormat: "~s" },
      marks: [
        Plot.areaY(use, { x: "t", y: "cpus", curve: "step-after", fill: "var(--accent)", fillOpacity: 0.25 }),
        Plot.lineY(use, { x: "t", y: "cpus", curve: "step-after", stroke: "var(--accent)", tip: use.length < 3000 }),
        Plot.ruleY([0]),
      ],
    }), `CPUs in use over time, at most ${digits.format(d3.max(line.use_cpus) || 0)}`);
    if (!line.slot.length) return tell("chart-lanes", "Too many CPUs to draw each of them: see the CPUs in use above.");
    const most = d3.max(line.slot, (slot, n) => slot + line.cpus[n]), least = total / unit / 800, bars = [];
    for (let n = 0; n < line.count; n++) {
      const start = line.start[n] / unit;
      if (isActive[line.row[n]]) bars.push({ n, low: line.slot[n], high: line.slot[n] + line.cpus[n], from: start, to: Math.max(start + line.length[n] / unit, start + least), state: line.states[line.state[n]] });
    }
    const crowded = bars.length > 1500;
    show("chart-lanes", Plot.plot({
      width: widthOf("chart-lanes"), height: 70 + Math.min(420, most * (most < 12 ? 24 : most < 40 ? 12 : 5)), marginLeft: 46, marginBottom: 42, x,
      y: { domain: [0, most], label: "CPUs", ticks: Math.min(8, most), tickFormat: "d" },
      marks: [
        Plot.rect(bars, { y1: "low", y2: "high", x1: "from", x2: "to", fill: (d) => colourOf(d.state), stroke: crowded ? undefined : "var(--card)", strokeWidth: 1 }),
        Plot.tip(bars, Plot.pointer({ y: (d) => (d.low + d.high) / 2, x: (d) => (d.from + d.to) / 2, maxRadius: 80, title: (d) => pointWords(line.row[d.n], `attempt: ${words(d.state)}, ${line.cpus[d.n]} CPU${line.cpus[d.n] === 1 ? "" : "s"}`, `took ${seconds(line.length[d.n])}`) })),
      ],
    }), `${digits.format(bars.length)} attempts on at most ${digits.format(most)} CPUs over ${seconds(total)}`);
  }

  const selects = { x: byId("x"), y: byId("y"), colour: byId("colour") };
  const groups = [["swept", "what varies"], ["resources", "resources"], ["result", "results"], ["metric", "figures of the analysis"], ["point", "point"]];
  function fillSelect(select, fitting, start) {
    for (const [group, title] of groups) {
      const found = shownColumns.filter((c) => c.group === group && fitting(c));
      if (!found.length) continue;
      const optgroup = document.createElement("optgroup");
      optgroup.label = title;
      for (const c of found) optgroup.append(new Option(c.title, c.key));
      select.append(optgroup);
    }
    select.value = start;
    if (select.selectedIndex < 0) select.selectedIndex = 0;
  }
  const useful = (c) => c.key !== "reason" && c.key !== "name";
  const firstSwept = shownColumns.find((c) => c.group === "swept");
  const firstMetric = shownColumns.find((c) => c.group === "metric");
  fillSelect(selects.x, useful, kept.x ?? firstSwept?.key ?? "cpus");
  fillSelect(selects.y, (c) => useful(c) && isNumeric(c), kept.y ?? firstMetric?.key ?? "wall");
  fillSelect(selects.colour, useful, kept.colour ?? "state");
  for (const [name, select] of Object.entries(selects)) select.addEventListener("change", () => { keep({ [name]: select.value }); drawScatter(); });
  for (const id of ["x-log", "y-log"]) {
    byId(id).checked = kept[id] ?? false;
    byId(id).addEventListener("change", () => { keep({ [id]: byId(id).checked }); drawScatter(); });
  }

  function axis(c, isLog, values) {
    if (!isNumeric(c)) return { type: "point", label: label(c), domain: [...new Set(values)].sort((a, b) => String(a).localeCompare(String(b), undefined, { numeric: true })), tickFormat: (v) => (String(v).length > 24 ? `${String(v).slice(0, 23)}…` : String(v)) };
    const distinct = new Set(values), few = c.kind === "number" && distinct.size <= 12 ? [...distinct].sort((a, b) => a - b) : undefined;
    const common = { label: label(c), grid: true, ticks: few, inset: 8 };
    if (isLog && c.kind !== "time") return { ...common, type: "log", tickFormat: few ? digits.format : plain };
    return { ...common, nice: !few, tickFormat: few ? digits.format : undefined };
  }
  function drawScatter() {
    const cx = column(selects.x.value), cy = column(selects.y.value), cc = column(selects.colour.value);
    if (!cx || !cy) return tell("chart-scatter", "There is nothing to compare yet.");
    const logX = byId("x-log").checked, logY = byId("y-log").checked;
    const shows = (c, v, isLog) => v !== null && v !== undefined && v !== "" && !(isLog && isNumeric(c) && c.kind !== "time" && v <= 0);
    const dots = active.filter((i) => shows(cx, cx.values[i], logX) && shows(cy, cy.values[i], logY))
      .map((i) => ({ i, x: plotted(cx, cx.values[i]), y: plotted(cy, cy.values[i]), c: cc ? plotted(cc, cc.values[i]) : "" }));
    const groupsOf = d3.rollup(dots, (g) => ({ x: g[0].x, y: d3.median(g, (d) => d.y), count: g.length }), (d) => d.x);
    const medians = groupsOf.size <= 30 && dots.length >= 3 * groupsOf.size && cy.kind !== "time" ? [...groupsOf.values()] : [];
    byId("scatter-words").textContent = `${cy.title} against ${cx.title}: ${digits.format(dots.length)} of ${digits.format(active.length)} points have both.${medians.length ? " The crosses are medians." : ""}`;
    if (!dots.length) return tell("chart-scatter", `No point has both ${cx.title} and ${cy.title}.`);
    const isState = cc?.kind === "state", colours = isState ? null : new Set(dots.map((d) => d.c));
    const isScale = cc && isNumeric(cc) && colours?.size > 8;
    const many = dots.length > 1500;
    const domain = !isState && !isScale && cc ? [...colours].sort((a, b) => (typeof a === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true }))) : undefined;
    show("chart-scatter", Plot.plot({
      width: widthOf("chart-scatter"), height: 420, marginLeft: 62, marginBottom: 44, x: axis(cx, logX, dots.map((d) => d.x)), y: axis(cy, logY, []),
      color: isState ? undefined : isScale ? { scheme: "viridis", legend: true, label: label(cc), type: cc.kind === "time" ? "time" : "linear" }
        : { type: "ordinal", domain, scheme: "observable10", legend: domain.length <= 12, label: label(cc) },
      marks: [
        Plot.dot(dots, { x: "x", y: "y", fill: isState ? (d) => colourOf(stateOf[d.i]) : "c", r: many ? 1.8 : 4, fillOpacity: many ? 0.6 : 0.85 }),
        Plot.dot(medians, { x: "x", y: "y", symbol: "plus", r: 7, stroke: "var(--ink)", strokeWidth: 1.5 }),
        Plot.tip(dots, Plot.pointer({ x: "x", y: "y", title: (d) => pointWords(d.i, `${cx.title}: ${write(cx, cx.values[d.i])}`, `${cy.title}: ${write(cy, cy.values[d.i])}`) })),
      ],
    }), `${cy.title} against ${cx.title}, ${digits.format(dots.length)} points`);
  }

  function drawScaling() {
    if (!data.studies.length || !byId("chart-time")) return;
    const study = data.studies[Number(byId("study")?.value ?? 0)];
    const settings = study.lines.flatMap((l) => l.settings.map((s) => ({ ...s, line: l.title })));
    const repeats = settings.flatMap((s) => s.walls.map((wall) => ({ ...s, wall })));
    const most = d3.max(settings, (s) => s.cpus), base = study.base, ticks = [...new Set(settings.map((s) => s.cpus))].sort((a, b) => a - b);
    const fits = study.lines.filter((l) => l.fit).flatMap((l) => d3.range(0, 1.0001, 1 / 40).map((t) => {
      const last = d3.max(l.settings, (one) => one.cpus), cpus = base.cpus * (last / base.cpus) ** t, wall = l.fit.one * (l.fit.serial + (1 - l.fit.serial) / cpus);
      return { line: l.title, cpus, wall, speedup: base.wall / wall, efficiency: (base.wall / wall) * (base.cpus / cpus) };
    }));
    const ideal = d3.range(0, 1.0001, 1 / 20).map((t) => base.cpus * (most / base.cpus) ** t);
    const domain = study.lines.map((l) => l.title);
    const color = { domain, range: ["#2f7fd6", "#d1731b", "#2a9d6f", "#b04fb8", "#c24545", "#7a7a1f"] };
    const x = { type: "log", base: 2, ticks, tickFormat: "d", label: "CPUs" };
    const derive = { wall: (w) => w, speedup: (w) => base.wall / w, efficiency: (w, s) => (base.wall / w) * (base.cpus / s.cpus) };
    const tipOf = (s) => [s.title, `time ${seconds(s.wall)} (${seconds(d3.min(s.walls))} to ${seconds(d3.max(s.walls))}, ${s.walls.length} repeat${s.walls.length === 1 ? "" : "s"})`, `speed-up ${short.format(s.speedup)}`, `efficiency ${short.format(s.efficiency * 100)} %`].join("\n");
    function draw(id, name, key, y, extra) {
      const value = (s) => (key === "wall" ? s.wall : s[key]);
      show(id, Plot.plot({
        width: widthOf(id), height: 300, marginLeft: 52, marginBottom: 40, inset: 4, x, y, color,
        marks: [
          ...extra,
          Plot.line(fits, { x: "cpus", y: key, stroke: "line", strokeDasharray: "5 4", strokeOpacity: 0.8 }),
          Plot.ruleX(settings, { x: "cpus", y1: (s) => derive[key](d3.min(s.walls), s), y2: (s) => derive[key](d3.max(s.walls), s), stroke: "line", strokeWidth: 2.5, strokeOpacity: 0.55 }),
          Plot.line(settings, { x: "cpus", y: value, stroke: "line", strokeWidth: 2 }),
          Plot.dot(repeats, { x: "cpus", y: (s) => derive[key](s.wall, s), stroke: "line", r: 2.5, strokeOpacity: 0.8 }),
          Plot.dot(settings, { x: "cpus", y: value, fill: "line", r: 4.5 }),
          Plot.dot(settings.filter((s) => s.chosen), { x: "cpus", y: value, stroke: "var(--good)", strokeWidth: 2.5, r: 10 }),
          Plot.tip(settings, Plot.pointer({ x: "cpus", y: value, title: tipOf })),
        ],
      }), `${name} against the number of CPUs`);
    }
    const grey = { stroke: "var(--soft)", strokeOpacity: 0.6 };
    draw("chart-time", "time", "wall", { type: "log", label: "time [s]", grid: true, tickFormat: "~g" }, [Plot.line(ideal, { x: (p) => p, y: (p) => (base.wall * base.cpus) / p, ...grey })]);
    draw("chart-speedup", "speed-up", "speedup", { type: "log", base: 2, label: "speed-up", grid: true, tickFormat: "~g" }, [Plot.line(ideal, { x: (p) => p, y: (p) => p / base.cpus, ...grey })]);
    draw("chart-efficiency", "efficiency", "efficiency", { label: "efficiency [%]", grid: true, percent: false, tickFormat: (v) => String(Math.round(v * 100)), domain: [0, Math.max(1.05, d3.max(settings, (s) => (base.wall / d3.min(s.walls)) * (base.cpus / s.cpus)))] }, [Plot.ruleY([data.worth], grey), Plot.ruleY([1], { ...grey, strokeOpacity: 0.3 })]);
    byId("scaling-legend").replaceChildren(...(domain.length > 1 ? [Plot.legend({ color })] : []));
  }

  function drawMemory() {
    if (!byId("chart-memory")) return;
    const peak = column("peak"), asked = column("memory");
    const dots = active.filter((i) => peak.values[i]).map((i) => ({ i, used: peak.values[i] / 2 ** 20, asked: asked?.values[i] ? asked.values[i] / 2 ** 20 : null }));
    const limits = dots.filter((d) => d.asked);
    if (!dots.length) return tell("chart-memory", "None of the points shown has a measured peak.");
    const options = { width: widthOf("chart-memory"), height: 320, marginLeft: 62, marginBottom: 42 };
    const askedFor = [...new Set(limits.map((d) => d.asked))].sort((a, b) => a - b);
    if (askedFor.length > 1) {
      const few = askedFor.length <= 12; // then each has its place, and its dots lie beside each other
      const most = d3.max(limits, (d) => Math.max(d.asked, d.used)), least = d3.min(limits, (d) => Math.min(d.asked, d.used));
      const across = few ? (d) => askedFor.indexOf(d.asked) + (((d.i * 0.618034) % 1) - 0.5) * 0.5 : (d) => d.asked;
      show("chart-memory", Plot.plot({
        ...options,
        x: few ? { domain: [-0.6, askedFor.length - 0.4], ticks: d3.range(askedFor.length), tickFormat: (n) => bytes(askedFor[n] * 2 ** 20), label: "memory asked for" } : { type: "log", label: "memory asked for [MiB]", tickFormat: plain },
        y: few ? { label: "peak memory [MiB]", grid: true, zero: true, nice: true } : { type: "log", label: "peak memory [MiB]", grid: true, tickFormat: plain },
        marks: [
          few ? Plot.ruleY(askedFor, { y: (d) => d, x1: (d) => askedFor.indexOf(d) - 0.35, x2: (d) => askedFor.indexOf(d) + 0.35, stroke: "var(--ink)", strokeWidth: 2 }) : Plot.line([[least, least], [most, most]], { stroke: "var(--soft)", strokeDasharray: "4 4" }),
          Plot.dot(limits, { x: across, y: "used", fill: (d) => colourOf(stateOf[d.i]), r: limits.length > 1500 ? 1.8 : 4, fillOpacity: limits.length > 1500 ? 0.55 : 0.85 }),
          Plot.tip(limits, Plot.pointer({ x: across, y: "used", title: (d) => pointWords(d.i, `peak ${bytes(d.used * 2 ** 20)} of ${bytes(d.asked * 2 ** 20)}`) })),
        ],
      }), "peak memory against memory asked for");
    } else {
      const limit = limits[0]?.asked;
      show("chart-memory", Plot.plot({
        ...options, x: { label: "peak memory [MiB]", nice: true }, y: { label: "points", grid: true, tickFormat: (v) => (Number.isInteger(v) ? digits.format(v) : "") },
        marks: [
          Plot.rectY(dots, Plot.binX({ y: "count" }, { x: "used", fill: "var(--accent)", fillOpacity: 0.7, tip: true })),
          Plot.ruleY([0]),
          ...(limit ? [Plot.ruleX([limit], { stroke: "var(--c-failed)", strokeWidth: 2 })] : []),
        ],
      }), "how many points had which peak of memory");
    }
  }

  // Charts are drawn when they come into view, and again when the width or the filter changes.
  const charts = { timeline: drawTimeline, compare: drawScatter, scaling: drawScaling, memory: drawMemory };
  const drawn = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting && !drawn.has(entry.target.id)) { drawn.add(entry.target.id); charts[entry.target.id](); }
  }, { rootMargin: "300px" });
  for (const id of Object.keys(charts)) if (byId(id)) observer.observe(byId(id));
  function redraw(ids) { for (const id of ids) if (drawn.has(id)) charts[id](); }
  function drawFiltered() { redraw(["timeline", "compare", "memory"]); }
  byId("study")?.addEventListener("change", drawScaling);
  let resizing = 0, width = window.innerWidth;
  addEventListener("resize", () => {
    if (window.innerWidth === width) return; // a phone's bars come and go
    width = window.innerWidth;
    clearTimeout(resizing);
    resizing = setTimeout(() => redraw(Object.keys(charts)), 150);
  });

  // ---- paper: a plain table in the order of the screen
  const MOST_PRINTED = 500;
  addEventListener("beforeprint", () => {
    onPaper = true;
    for (const id of Object.keys(charts)) if (byId(id)) { drawn.add(id); charts[id](); }
    const paper = document.createElement("table"), wantedColumns = shownColumns.filter((c) => c.key !== "started").slice(0, 14);
    const headRow = paper.createTHead().insertRow(), body = paper.createTBody();
    for (const c of wantedColumns) { const th = document.createElement("th"); th.textContent = c.title; headRow.append(th); }
    const order = inOrder();
    for (const i of order.slice(0, MOST_PRINTED)) { const row = body.insertRow(); for (const c of wantedColumns) { const cell = row.insertCell(); cell.textContent = write(c, c.values[i]); cell.className = c.kind === "text" ? "words" : ""; } }
    if (order.length > MOST_PRINTED) paper.createCaption().textContent = `The first ${MOST_PRINTED} of ${digits.format(order.length)} points; filter or sort on the screen for others.`;
    byId("print-table").replaceChildren(paper);
  });
  addEventListener("afterprint", () => {
    onPaper = false;
    byId("print-table").replaceChildren();
    redraw(Object.keys(charts));
  });

  // ---- begin
  addEventListener("pagehide", () => keep({ scroll: window.scrollY, sort: table.getSorters().map((s) => ({ column: s.field, dir: s.dir })), heads: table.getHeaderFilters().map((f) => ({ field: f.field, value: f.value })) }));
  built.then(() => {
    if (chosenStates.size || sought) refilter();
    for (const filter of kept.heads ?? []) if (fields.some((f) => f.field === filter.field)) table.setHeaderFilterValue(filter.field, filter.value);
    const sort = (kept.sort ?? []).filter((s) => fields.some((f) => f.field === s.column));
    if (sort.length) table.setSort(sort);
    const reloads = document.querySelector("meta[http-equiv=refresh]") !== null;
    if (reloads && kept.scroll) window.scrollTo({ top: kept.scroll, behavior: "instant" });
    tellShown();
    document.documentElement.dataset.ready = String(Math.round(performance.now()));
  });
})();
