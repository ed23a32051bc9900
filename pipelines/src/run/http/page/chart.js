// The counts of a day as lines, and as a table for those who do not see them.

import { colour, draw, make, number } from "./api.js";

const HEIGHT = 240, LEFT = 40, RIGHT = 8, TOP = 10, BOTTOM = 24;

// A round number at or above `value`, and the steps to it.
const scale = value => {
  const step = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  const top = [1, 2, 4, 5, 10].map(factor => factor * step).find(top => top >= value);
  return { top, steps: [0, 0.25, 0.5, 0.75, 1].map(part => part * top) };
};

// Windows that follow each other; between two of these lies time that was not counted.
const stretches = (records, window) => {
  const all = [];
  for (const record of records) {
    const last = all.at(-1)?.at(-1);
    if (last && record.start - last.start <= window) all.at(-1).push(record);
    else all.push([record]);
  }
  return all;
};

// `width` is that of the place in pixels: letters keep their size.
export const chart = (series, from, to, window, width) => {
  const records = series.flatMap(({ records }) => records);
  if (!records.length) return [make("p", { class: "quiet" }, "Nothing was counted in the last 24 hours, or there is no history.")];
  const { top, steps } = scale(Math.max(...records.map(record => record.max)));
  const x = time => LEFT + (time - from) / (to - from) * (width - LEFT - RIGHT);
  const y = value => HEIGHT - BOTTOM - value / top * (HEIGHT - TOP - BOTTOM);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img",
    "aria-label": `Mean vehicles every ${window / 60} minutes: ${series.map(({ name, records }) =>
      `${name} ${records.length ? `up to ${number(Math.max(...records.map(record => record.mean)))}` : "not counted"}`).join("; ")}` });
  for (const step of steps) {
    svg.append(draw("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y(step), y2: y(step) }),
      draw("text", { x: LEFT - 6, y: y(step) + 4, "text-anchor": "end" }, `${Number(step.toFixed(2))}`));
  }
  const hour = new Date(from * 1000);
  hour.setMinutes(0, 0, 0);
  for (hour.setHours(hour.getHours() + 1); hour / 1000 <= to; hour.setHours(hour.getHours() + 1)) {
    if (hour.getHours() % (width < 480 ? 6 : 4) === 0) svg.append(draw("text", { x: x(hour / 1000), y: HEIGHT - 6, "text-anchor": "middle" }, `${hour.getHours()}:00`));
  }
  series.forEach(({ records }, index) => {
    // The whole picture has the colour of the text.
    const paint = index === 0 ? "currentColor" : colour(index - 1);
    for (const part of stretches(records, window)) {
      const points = (key, list) => list.flatMap(record => [`${x(record.start)},${y(record[key])}`, `${x(Math.min(to, record.start + window))},${y(record[key])}`]);
      if (index === 0) {
        const below = [`${x(Math.min(to, part.at(-1).start + window))},${y(0)}`, `${x(part[0].start)},${y(0)}`];
        svg.append(draw("polygon", { class: "most", fill: paint, points: [...points("max", part), ...below].join(" ") }));
      }
      svg.append(draw("polyline", { class: "mean", stroke: paint, points: points("mean", part).join(" ") }));
    }
  });
  const legend = make("ul", { class: "legend" }, ...series.map(({ name }, index) => {
    const swatch = draw("svg", { class: "swatch", viewBox: "0 0 16 16", "aria-hidden": "true" },
      draw("rect", { width: 16, height: 16, rx: 3, fill: index === 0 ? "currentColor" : colour(index - 1) }));
    return make("li", {}, swatch, name);
  }), make("li", { class: "quiet" }, "Lines: mean of 15 min. Shade: highest count of the whole picture."));
  const times = [...new Set(records.map(record => record.start))].sort((a, b) => a - b);
  const value = (records, start) => number(records.find(record => record.start === start)?.mean);
  const table = make("details", {}, make("summary", {}, "As a table"),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Counts of the last 24 hours" }, make("table", {},
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "From"), ...series.map(({ name }) => make("th", { scope: "col" }, name)))),
      make("tbody", {}, ...times.map(start => make("tr", {},
        make("th", { scope: "row" }, new Date(start * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })),
        ...series.map(({ records }) => make("td", {}, value(records, start)))))))));
  return [svg, legend, table];
};
