// Which view is shown, and what all of them need: the state of the service, and the token.

import { ask, clock, make, number, span, tell } from "./api.js";
import { addView, wallView } from "./wall.js";
import { cameraView } from "./camera.js";

const main = document.getElementById("main");
const engine = document.getElementById("engine");
let view = null;

const said = event => {
  const of = event.region ? `${event.camera}, ${event.region}` : event.camera;
  if (event.event === "level-changed") return `${of}: ${event.to} after ${event.from}`;
  if (event.event === "camera-lost") return `${of}: lost${event.reason ? `: ${event.reason}` : ""}`;
  return `${of}: back`;
};

const table = (heads, rows) => make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": heads.join(", ") },
  make("table", {},
    make("thead", {}, make("tr", {}, ...heads.map(head => make("th", { scope: "col" }, head)))),
    make("tbody", {}, ...rows.map(row => make("tr", {}, ...row.map(cell => make("td", {}, cell)))))));

const facts = pairs => make("dl", {}, ...pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));

const eventsView = () => {
  const list = make("div");
  let last = "";
  return {
    title: "Events",
    element: make("div", {}, make("h1", {}, "Events"), list),
    async update() {
      const { events } = await ask("events");
      const now = JSON.stringify(events[0] ?? null) + events.length;
      if (now === last) return;
      last = now;
      list.replaceChildren(events.length
        ? table(["When", "What"], events.map(event => [clock(event.time), said(event)]))
        : make("p", { class: "quiet" }, "Nothing has happened yet."));
    },
  };
};

const systemView = () => {
  const engineList = make("div"), sinkList = make("div");
  const sinkPart = make("section", { hidden: true }, make("h2", {}, "Where counts go"), sinkList);
  const past = [];
  const leave = make("button", {
    type: "button", hidden: true,
    async click() {
      await ask("logout", "POST").catch(() => null);
      location.reload();
    },
  }, "Log out");
  // Where the service answers without the cookie, there is nothing to leave.
  fetch("/api/v1/engine", { credentials: "omit" }).then(answer => { leave.hidden = answer.status !== 401; }, () => null);
  return {
    title: "System",
    element: make("div", {}, make("h1", {}, "System"), make("h2", {}, "Engine"), engineList, sinkPart, leave),
    async update() {
      const [system, { sinks }] = await Promise.all([ask("engine"), ask("sinks").catch(() => ({ sinks: [] }))]);
      // Over some seconds: a batch may take one.
      const now = { time: performance.now(), load: system.load };
      past.push(now);
      if (past.length > 10) past.shift();
      const [before] = past;
      const rate = key => past.length > 1 ? (now.load[key] - before.load[key]) * 1000 / (now.time - before.time) : null;
      const frames = rate("frames"), batches = rate("batches"), busy = rate("busy");
      const is = system.engine;
      engineList.replaceChildren(facts([
        ["Engine", is ? `${is.engine} ${is.version} on ${is.device}` : system.progress],
        ["Model", is ? `${is.model}, ${is.precision}` : "–"],
        ["Counted", `${number(frames)} pictures/s, ${number(batches > 0 ? frames / batches : null)} in a batch`],
        ["Busy", busy === null ? "–" : `${Math.min(100, busy / Math.max(1, now.load.lanes) * 100).toFixed(0)} %`],
        ["Waiting for the engine", `${system.load.waiting}`],
        ["Version", `${system.version}, running for ${span(system.uptime)}`],
      ]));
      sinkList.replaceChildren(table(["Where", "Delivered", "Waiting", "Dropped", "State"],
        sinks.map(sink => [sink.name, `${sink.delivered}`, `${sink.waiting}`, `${sink.dropped}`, [sink.state, sink.reason].filter(Boolean).join(": ")])));
      sinkPart.hidden = !sinks.length;
    },
  };
};

const views = [
  [/^#\/camera\/(.+)$/, name => cameraView(decodeURIComponent(name))],
  [/^#\/add$/, addView],
  [/^#\/events$/, eventsView],
  [/^#\/system$/, systemView],
];

const show = () => {
  view?.end?.();
  const hash = location.hash || "#/";
  const found = views.find(([pattern]) => pattern.test(hash));
  view = found ? found[1](hash.match(found[0])[1]) : wallView();
  document.title = `${view.title} – Vehicle counts`;
  main.replaceChildren(view.element);
  for (const link of document.querySelectorAll("nav a")) {
    const is_here = link.hash === hash || (link.hash === "#/" && /^#\/(camera|add)/.test(hash));
    if (is_here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  update(view);
};

// Asks for news while the page is seen.
const update = async shown => {
  if (shown !== view) return;
  if (!document.hidden && !lock.open) {
    try {
      const all = await ask("cameras");
      if (shown !== view) return;
      const is = all.engine;
      tell(engine, is ? `${is.model} ${is.precision}, ${is.engine} ${is.version} on ${is.device}` : all.progress);
      await shown.update(all);
    } catch (error) {
      tell(engine, error.message);
    }
  }
  setTimeout(() => update(shown), 1000);
};

// The token is asked for once; the browser then has a cookie.
const lock = make("dialog", { "aria-labelledby": "lock", cancel: event => event.preventDefault() });
addEventListener("locked", () => {
  if (lock.open) return;
  const token = make("input", { type: "password", autocomplete: "current-password", required: true });
  const wrong = make("p", { class: "bad", role: "alert" });
  lock.replaceChildren(make("form", {
    async submit(event) {
      event.preventDefault();
      try {
        await ask("login", "POST", { token: token.value.trim() });
        lock.close();
        show();
      } catch (error) {
        tell(wrong, error.message);
      }
    },
  },
  make("h1", { id: "lock" }, "Log in"),
  make("label", {}, "Token of this service", token), wrong,
  make("button", { class: "main" }, "Log in")));
  lock.showModal();
  token.focus();
});
document.body.append(lock);

// The hash of the skip link is no view.
document.querySelector(".skip").addEventListener("click", event => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", () => {
  show();
  main.focus();
});
show();
