// Regions, drawn on the picture with the mouse, a finger or the keyboard.

import { colour, draw, make, tell } from "./api.js";

// Corners lie on a grid of a thousandth: more is below a pixel.
const round = value => Math.round(Math.min(1, Math.max(0, value)) * 1000) / 1000;

// How near, in pixels, a click closes a polygon.
const NEAR = 12;

export const regionEditor = (regions, place, list, save) => {
  // The regions as they are being changed; `drawing`: the corners of one that is not closed yet.
  let now = structuredClone(regions), chosen = null, drawing = null, dragged = null;
  const svg = draw("svg", { viewBox: "0 0 1 1", preserveAspectRatio: "none" });
  const corners = draw("svg", { "aria-label": "Corners of the regions", role: "group" });
  // Corners are round on a picture of any shape: they have a layer of their own, in per cent.
  place.append(svg, corners);
  const said = make("p", { role: "status", class: "quiet" });

  const changed = () => JSON.stringify(now) !== JSON.stringify(regions);
  const at = event => {
    const box = corners.getBoundingClientRect();
    return [round((event.clientX - box.x) / box.width), round((event.clientY - box.y) / box.height)];
  };
  const distance = (a, b) => {
    const box = corners.getBoundingClientRect();
    return Math.hypot((a[0] - b[0]) * box.width, (a[1] - b[1]) * box.height);
  };
  const unused = () => {
    for (let count = 1; ; count += 1) {
      const name = `region ${count}`;
      if (!now.some(region => region.name === name)) return name;
    }
  };
  const add = polygon => {
    now.push({ name: unused(), polygon });
    chosen = now.length - 1;
    drawing = null;
    tell(said, `${now[chosen].name} is drawn. Give it a name, move its corners, and save.`);
    refresh();
    names[chosen]?.select();
    names[chosen]?.focus();
  };

  const shapes = () => {
    svg.replaceChildren(...now.map((region, index) => draw("polygon", {
      points: region.polygon.map(point => point.join(",")).join(" "), fill: colour(index), stroke: colour(index),
      class: index === chosen ? "chosen" : "",
    })));
    if (drawing) svg.append(draw("polyline", { points: drawing.map(point => point.join(",")).join(" "), fill: "#fff", stroke: "#fff" }));
    const dot = ([x, y], attributes) => draw("circle", { class: "corner", r: 6, cx: `${x * 100}%`, cy: `${y * 100}%`, ...attributes });
    if (drawing) return corners.replaceChildren(...drawing.map(point => dot(point, { "pointer-events": "none" })));
    const region = now[chosen];
    const old = [...corners.children].indexOf(document.activeElement);
    corners.replaceChildren(...(region?.polygon ?? []).map((point, corner) => dot(point, {
      tabindex: "0", role: "button",
      "aria-label": `${region.name}, corner ${corner + 1} of ${region.polygon.length}, ${Math.round(point[0] * 100)} % from the left, ${Math.round(point[1] * 100)} % from the top. Arrow keys move it, Delete removes it.`,
      pointerdown(event) {
        event.preventDefault();
        event.stopPropagation();
        event.target.focus();
        dragged = corner;
        corners.setPointerCapture(event.pointerId);
      },
      keydown(event) {
        const step = event.shiftKey ? 0.05 : 0.01;
        const move = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
        if (move) region.polygon[corner] = [round(point[0] + move[0]), round(point[1] + move[1])];
        else if (event.key === "Delete" && region.polygon.length > 3) region.polygon.splice(corner, 1);
        else return;
        event.preventDefault();
        refresh();
      },
    })));
    if (old >= 0) corners.children[Math.min(old, corners.children.length - 1)]?.focus();
  };

  corners.addEventListener("pointermove", event => {
    if (dragged === null) return;
    now[chosen].polygon[dragged] = at(event);
    refresh();
  });
  // A click takes the focus from nothing: the name of a new region has it.
  corners.addEventListener("mousedown", event => event.preventDefault());
  const drop = () => { dragged = null; };
  corners.addEventListener("pointerup", drop);
  corners.addEventListener("pointercancel", drop);
  corners.addEventListener("pointerdown", event => {
    if (drawing) {
      const point = at(event);
      if (drawing.length > 2 && distance(point, drawing[0]) < NEAR) return add(drawing);
      if (!drawing.length || distance(point, drawing.at(-1)) > 3) drawing.push(point);
      return refresh();
    }
    // The layer of the corners lies above that of the polygons.
    const below = document.elementsFromPoint(event.clientX, event.clientY).find(element => element.tagName === "polygon");
    chosen = below ? [...svg.children].indexOf(below) : null;
    refresh();
  });

  let names = [];
  const rows = make("div"), buttons = make("div", { class: "buttons" });
  const start = make("button", { type: "button", click() {
    drawing = [];
    chosen = null;
    tell(said, "Click the corners on the picture, one after the other; a click on the first one closes the region.");
    refresh();
  } }, "Draw a region");
  const middle = make("button", { type: "button", click: () => add([[0.25, 0.75], [0.35, 0.35], [0.65, 0.35], [0.75, 0.75]]) }, "Add one in the middle");
  const close = make("button", { type: "button", class: "main", click: () => add(drawing) }, "Close the region");
  const cancel = make("button", { type: "button", click() {
    [now, chosen, drawing] = [structuredClone(regions), null, null];
    // The fields belong to the regions that are given up.
    shown = "";
    tell(said, "");
    refresh();
  } }, "Cancel");
  const store = make("button", { type: "button", class: "main", async click() {
    store.disabled = true;
    try {
      await save(now);
      tell(said, "Saved.");
    } catch (error) {
      tell(said, error.message);
    }
    store.disabled = false;
  } }, "Save regions");

  const row = (region, index) => {
    const name = make("input", { value: region.name, "aria-label": `Name of region ${index + 1}`, maxlength: 64,
      input() { region.name = name.value; buttonsNow(); shapes(); },
      focus() { if (chosen !== index) { chosen = index; shapes(); } } });
    const count = make("span", { class: "quiet number" }, `${region.polygon.length} corners`);
    const swatch = draw("svg", { class: "swatch", viewBox: "0 0 16 16", "aria-hidden": "true" }, draw("rect", { width: 16, height: 16, rx: 3, fill: colour(index) }));
    const remove = make("button", { type: "button", "aria-label": `Remove ${region.name}`, click() {
      now.splice(index, 1);
      chosen = null;
      refresh();
      start.focus();
    } }, "Remove");
    names.push(name);
    return make("div", { class: "region" }, swatch, name, count, remove);
  };
  const buttonsNow = () => {
    const wanted = drawing ? [close, cancel] : changed() ? [store, cancel, start, middle] : [start, middle];
    close.disabled = (drawing?.length ?? 0) < 3;
    if (`${[...buttons.children].map(button => button.textContent)}` !== `${wanted.map(button => button.textContent)}`) buttons.replaceChildren(...wanted);
  };
  let shown = "";
  const refresh = () => {
    svg.classList.toggle("drawing", Boolean(drawing));
    corners.classList.toggle("drawing", Boolean(drawing));
    // Fields that are being typed into stay.
    const key = JSON.stringify(now.map(region => region.polygon.length)) + now.length;
    if (key !== shown) {
      shown = key;
      names = [];
      rows.replaceChildren(...now.map(row));
    }
    buttonsNow();
    shapes();
  };
  const escape = event => {
    if (event.key === "Escape" && drawing) cancel.click();
    if (event.key === "Enter" && drawing?.length > 2 && event.target.tagName !== "BUTTON") add(drawing);
  };
  addEventListener("keydown", escape);
  list.replaceChildren(said, rows, buttons);
  refresh();
  return {
    end() {
      removeEventListener("keydown", escape);
      svg.remove();
      corners.remove();
    },
  };
};
