// One camera: its picture with its regions, what it counts, its last day, its settings.

import { ask, cameraPath, follow, make, number, snapshot, tell, words } from "./api.js";
import { chart } from "./chart.js";
import { regionEditor } from "./regions.js";
import { cameraFields, removeCamera, tryCamera } from "./wall.js";

const DAY = 86400, WINDOW = 900;

const whole = (records, start) => {
  const covered = records.reduce((sum, record) => sum + record.covered, 0);
  if (!covered) return [];
  const mean = records.reduce((sum, record) => sum + record.mean * record.covered, 0) / covered;
  return [{ start, mean, max: Math.max(...records.map(record => record.max)) }];
};

export const cameraView = name => {
  const count = make("span", { class: "number" }), level = make("span"), state = make("span");
  const reason = make("p", { class: "bad" });
  const now = make("tbody"), heads = ["Region", "Vehicles", "Level"].map(head => make("th", { scope: "col" }, head));
  const regionTable = make("table", { hidden: true }, make("thead", {}, make("tr", {}, ...heads)), now);
  const history = make("div", { class: "chart" });
  const image = make("img", { alt: `Picture of ${name}`, hidden: true });
  const unit = make("span", { class: "quiet", hidden: true }, "vehicles");
  const nothing = make("p", { class: "nothing", hidden: true });
  const place = make("div", { class: "editor" }, image, nothing);
  const regionPlace = make("div"), settingsPlace = make("div");
  let paint = null, painted = 0;
  const resized = new ResizeObserver(() => {
    if (paint && history.clientWidth !== painted) paint();
    painted = history.clientWidth;
  });
  resized.observe(history);
  let live = false, editor = null, regions = [], charted = 0, ended = false;
  const stop = follow(image, () => snapshot(name, false, 1280), () => live);

  const setUp = async () => {
    const camera = await ask(cameraPath(name));
    if (ended) return;
    editor?.end();
    regions = camera.settings.regions;
    editor = regionEditor(regions, place, regionPlace, async regions => {
      await ask(cameraPath(name), "PUT", { regions }, 30000);
      await setUp();
    });
    settingsPlace.replaceChildren(settingsForm(camera, setUp));
  };

  const drawChart = async () => {
    charted = Date.now();
    const to = Math.floor(charted / 1000), from = (Math.floor((to - DAY) / WINDOW) + 1) * WINDOW;
    const names = regions.map(region => region.name);
    const series = await Promise.all([null, ...names].map(async region => {
      const read = async (window, from) => {
        const query = new URLSearchParams({ camera: name, window, from, to });
        if (region !== null) query.set("region", region);
        return (await ask(`history?${query}`)).records;
      };
      // The window that has not ended is put together of short ones.
      const start = Math.floor(to / WINDOW) * WINDOW;
      const [records, short] = await Promise.all([read(WINDOW, from), read(10, start)]);
      const last = records.at(-1)?.start === start ? [] : whole(short, start);
      return { name: region ?? "whole picture", records: [...records, ...last] };
    }));
    paint = () => history.replaceChildren(...chart(series, from, to, WINDOW, Math.max(260, history.clientWidth)));
    if (!ended) paint();
  };

  return {
    title: name,
    element: make("div", {},
      make("div", { class: "bar" }, make("h1", {}, name), make("a", { href: "#/" }, "All cameras")),
      make("div", { class: "camera" },
        make("section", { class: "panel", "aria-label": "Regions" }, make("h2", {}, "Picture and regions"), place, regionPlace),
        make("section", { class: "panel", "aria-label": "Now" }, make("h2", {}, "Now"),
          make("p", { class: "count" }, count, unit, level),
          make("p", {}, state), reason, regionTable),
        make("section", { class: "panel", "aria-label": "The last 24 hours" }, make("h2", {}, "The last 24 hours"), history),
        make("section", { class: "panel", "aria-label": "Settings" }, make("h2", {}, "Settings"), settingsPlace))),
    async update({ cameras }) {
      const camera = cameras.find(camera => camera.name === name);
      if (!camera) {
        live = false;
        tell(state, "There is no camera of that name.");
        return;
      }
      live = camera.state === "live";
      // Regions may be drawn on the last picture.
      place.classList.toggle("old", !live);
      nothing.hidden = live;
      tell(nothing, image.hidden ? "no picture" : "this is the last picture");
      tell(count, number(camera.count));
      unit.hidden = camera.count === null;
      level.className = `level ${camera.level ?? ""}`;
      tell(level, camera.level ?? "");
      state.className = `state ${camera.state}`;
      tell(state, words(camera));
      tell(reason, camera.reason ?? "");
      regionTable.hidden = !camera.regions.length;
      now.replaceChildren(...camera.regions.map(region => make("tr", {},
        make("th", { scope: "row" }, region.name),
        make("td", {}, number(region.count)),
        make("td", { class: `level ${region.level ?? ""}` }, region.level ?? "–"))));
      if (!editor) await setUp();
      // A new camera's line begins soon.
      if (Date.now() - charted > (history.querySelector("svg") ? 60000 : 10000)) drawChart().catch(error => history.replaceChildren(make("p", { class: "quiet" }, error.message)));
    },
    end() {
      ended = true;
      resized.disconnect();
      stop();
      editor?.end();
    },
  };
};

const settingsForm = (camera, changed) => {
  const fields = cameraFields(camera);
  const said = make("div", { class: "tried", role: "status" });
  const attempt = make("button", { type: "button", async click() {
    attempt.disabled = true;
    await tryCamera({ name: camera.name, ...fields.keys() }, said);
    attempt.disabled = false;
  } }, "Test");
  const sure = make("dialog", { "aria-labelledby": "sure" },
    make("h1", { id: "sure" }, `Remove ${camera.name}?`),
    make("p", {}, "It is taken out of the configuration. What was counted stays in the history."),
    make("div", { class: "buttons" },
      make("button", { type: "button", class: "danger", async click() {
        try {
          await removeCamera(camera.name);
          location.hash = "#/";
        } catch (error) {
          sure.close();
          said.replaceChildren(make("p", { class: "bad" }, error.message));
        }
      } }, "Remove"),
      make("button", { type: "button", click: () => sure.close() }, "Keep")));
  return make("form", {
    async submit(event) {
      event.preventDefault();
      try {
        await ask(cameraPath(camera.name), "PUT", fields.keys(), 30000);
        await changed();
      } catch (error) {
        said.replaceChildren(make("p", { class: "bad" }, error.message));
      }
    },
  }, make("p", { class: "quiet" }, camera.url), fields.element, said,
  make("div", { class: "buttons" }, make("button", { class: "main" }, "Save"), attempt,
    make("button", { type: "button", class: "danger", click: () => sure.showModal() }, "Remove …")), sure);
};
