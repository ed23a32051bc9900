// All cameras, and a form for a new one.

import { ask, cameraPath, follow, make, number, snapshot, tell, words } from "./api.js";

const card = name => {
  const image = make("img", { alt: "", hidden: true });
  const nothing = make("p", { class: "nothing" });
  const count = make("span", { class: "number" }), unit = make("span", { class: "quiet" }, "vehicles");
  const level = make("span"), state = make("span");
  const reason = make("p", { class: "quiet bad" });
  const element = make("li", { class: "card" },
    make("div", { class: "picture" }, nothing, image),
    make("div", { class: "inside" },
      make("a", { href: `#/camera/${encodeURIComponent(name)}` }, name),
      make("p", { class: "count" }, count, unit, level),
      make("p", { class: "quiet" }, state), reason));
  let camera = null;
  const end = follow(image, () => snapshot(name, true, 480), () => camera?.state === "live");
  return {
    element,
    end,
    update(now) {
      camera = now;
      tell(count, number(now.count));
      unit.hidden = now.count === null;
      level.className = `level ${now.level ?? ""}`;
      tell(level, now.level ?? "");
      state.className = `state ${now.state}`;
      tell(state, words(now));
      tell(reason, now.reason ?? "");
      // A picture of before is not shown as one of now.
      if (now.state !== "live") image.hidden = true;
      nothing.hidden = !image.hidden;
      tell(nothing, now.state === "live" ? "" : "no picture");
    },
  };
};

export const wallView = () => {
  const list = make("ul", { class: "wall", "aria-label": "Cameras" });
  const none = make("p", { class: "quiet", hidden: true }, "There is no camera yet.");
  const cards = new Map();
  return {
    title: "Cameras",
    element: make("div", {},
      make("div", { class: "bar" }, make("h1", {}, "Cameras"), make("a", { class: "button main", href: "#/add" }, "Add a camera")),
      none, list),
    update({ cameras }) {
      none.hidden = cameras.length > 0;
      const names = new Set(cameras.map(camera => camera.name));
      for (const [name, { element, end }] of cards) {
        if (names.has(name)) continue;
        end();
        element.remove();
        cards.delete(name);
      }
      cameras.forEach((camera, place) => {
        if (!cards.has(camera.name)) cards.set(camera.name, card(camera.name));
        const { element, update } = cards.get(camera.name);
        if (list.children[place] !== element) list.insertBefore(element, list.children[place] ?? null);
        update(camera);
      });
    },
    end() {
      cards.forEach(({ end }) => end());
    },
  };
};

// The fields of a camera. `camera` is null for a new one. Gives what is set, as the service takes it.
export const cameraFields = camera => {
  const settings = camera?.settings;
  const field = (name, label, attributes = {}) => {
    const input = make("input", { name, ...attributes });
    return { input, label: make("label", {}, label, input) };
  };
  const url = field("url", "Address", { required: !camera, placeholder: camera?.url ?? "rtsp://10.0.0.5/stream1", spellcheck: "false", autocapitalize: "off", autocomplete: "off" });
  const user = field("user", "User name, if it needs one", { autocomplete: "off", spellcheck: "false", autocapitalize: "off" });
  const password = field("password", "Password", { type: "password", autocomplete: "new-password" });
  const figure = (name, label, min, max) => {
    const value = settings?.[name];
    return field(name, label, { type: "number", min, max, step: "any", value, placeholder: "default" });
  };
  const rate = figure("rate", "Counts a second", 0.01, 60);
  const scale = figure("scale", "Scale factor", 0.01, 100);
  const smoothing = figure("smoothing", "Smoothing, seconds", 0, 3600);
  const transport = make("select", { name: "transport" }, make("option", { value: "" }, "default"),
    make("option", { value: "tcp", selected: settings?.transport === "tcp" }, "TCP"),
    make("option", { value: "udp", selected: settings?.transport === "udp" }, "UDP"));
  const insecure = make("input", { type: "checkbox", name: "insecure", checked: settings?.insecure });
  const skip = make("input", { type: "checkbox", name: "skip-unchanged", checked: settings?.["skip-unchanged"] });
  const levels = ["moderate", "dense", "jammed"].map(level =>
    field(level, `${level[0].toUpperCase()}${level.slice(1)} from`, { type: "number", min: 0, step: "any", value: settings?.levels[level], placeholder: "default" }));
  const element = make("div", { class: "fields" },
    url.label,
    camera ? make("p", { class: "quiet" }, "A new address needs its user name and password anew. Without one, all three stay.") : null,
    make("div", { class: "pair" }, user.label, password.label),
    make("details", {}, make("summary", {}, "More settings"),
      make("div", { class: "pair" }, rate.label, scale.label, smoothing.label, make("label", {}, "Transport", transport)),
      make("div", { class: "pair" }, ...levels.map(level => level.label)),
      make("label", { class: "check" }, skip, "Pictures that do not change keep their count"),
      make("label", { class: "check" }, insecure, "Take every certificate of an rtsps or https camera")));
  return {
    element,
    keys() {
      const keys = {};
      for (const { input } of [url, user]) if (input.value.trim()) keys[input.name] = input.value.trim();
      // Blanks may be part of a password.
      if (password.input.value) keys.password = password.input.value;
      // Only what is another value than before is written into the file.
      for (const { input } of [rate, scale, smoothing]) {
        const value = input.value === "" ? null : Number(input.value);
        if (value !== (settings?.[input.name] ?? null)) keys[input.name] = value;
      }
      if (transport.value !== (settings?.transport ?? "")) keys.transport = transport.value || null;
      if (insecure.checked !== (settings?.insecure ?? false)) keys.insecure = insecure.checked;
      if (skip.checked !== (settings?.["skip-unchanged"] ?? false)) keys["skip-unchanged"] = skip.checked;
      const numbers = levels.map(({ input }) => input.value);
      const are = settings ? levels.map(({ input }) => `${settings.levels[input.name]}`) : ["", "", ""];
      if (`${numbers}` !== `${are}`) {
        const set = levels.filter(({ input }) => input.value !== "");
        keys.levels = set.length ? Object.fromEntries(set.map(({ input }) => [input.name, Number(input.value)])) : null;
      }
      return keys;
    },
  };
};

// Tries what the form says. Shows the picture, or why there is none, in `place`.
export const tryCamera = async (body, place) => {
  place.replaceChildren(make("p", {}, "Waiting for a picture …"));
  let tried;
  try {
    tried = await ask("try", "POST", body, 30000);
  } catch (error) {
    tried = { ok: false, reason: error.message, refused: error.status === 422 };
  }
  place.replaceChildren(tried.ok
    ? make("p", {}, `It sends pictures of ${tried.width} × ${tried.height}.`, make("img", { src: tried.picture, alt: "The first picture" }))
    : make("p", { class: "bad" }, tried.reason));
  return tried;
};

export const addView = () => {
  const fields = cameraFields(null);
  const name = make("input", { name: "name", required: true, maxlength: 64, autocomplete: "off" });
  const tried = make("div", { class: "tried", role: "status" });
  const attempt = make("button", { class: "main" }, "Test the address");
  const add = make("button", { type: "button", hidden: true, async click() {
    add.disabled = true;
    try {
      const camera = await ask("cameras", "POST", { name: name.value.trim(), ...fields.keys() });
      location.hash = `#/camera/${encodeURIComponent(camera.name)}`;
    } catch (error) {
      tried.replaceChildren(make("p", { class: "bad" }, error.message));
    }
    add.disabled = false;
  } });
  const form = make("form", {
    async submit(event) {
      event.preventDefault();
      attempt.disabled = true;
      const { ok, refused } = await tryCamera(fields.keys(), tried);
      attempt.disabled = false;
      add.hidden = Boolean(refused);
      add.className = ok ? "main" : "";
      attempt.className = ok ? "" : "main";
      tell(add, ok ? "Add the camera" : "Add it nevertheless");
    },
    input() {
      add.hidden = true;
      attempt.className = "main";
    },
  }, make("label", {}, "Name", name), fields.element, tried, make("div", { class: "buttons" }, attempt, add));
  return {
    title: "Add a camera",
    element: make("div", { class: "panel" }, make("h1", {}, "Add a camera"), form),
    update() {},
  };
};

export const removeCamera = async name => ask(cameraPath(name), "DELETE");
