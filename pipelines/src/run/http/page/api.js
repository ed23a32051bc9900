// What the page asks of the service, and small tools for its elements.

export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export const ask = async (path, method = "GET", body = undefined, patience = 10000) => {
  const options = { method, signal: AbortSignal.timeout(patience) };
  if (body !== undefined) {
    options.headers = { "Content-Type": "application/json" };
    options.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(`/api/v1/${path}`, options);
  } catch {
    throw new Failure(0, "the service does not answer");
  }
  const json = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (answer.status === 401 && path !== "login") dispatchEvent(new Event("locked"));
  if (!answer.ok) throw new Failure(answer.status, json?.error ?? `the service answers ${answer.status}`);
  return json;
};

export const cameraPath = name => `cameras/${encodeURIComponent(name)}`;
export const snapshot = (name, annotated, width) =>
  `/api/v1/${cameraPath(name)}/snapshot?annotated=${annotated}&width=${width}`;

// make("p", { class: "quiet" }, "text", child): an element. Functions become listeners.
export const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  set(element, attributes);
  element.append(...children.filter(child => child !== null && child !== undefined));
  return element;
};

export const draw = (tag, attributes = {}, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  set(element, attributes);
  element.append(...children);
  return element;
};

const set = (element, attributes) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) element.setAttribute(name, value);
  }
};

// Writes a text where it is news: what has not changed is not read out again.
export const tell = (element, text) => {
  if (element.textContent !== text) element.textContent = text;
};

export const number = value => value === null || value === undefined ? "–" : value.toFixed(1);
export const clock = time => new Date(time * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "medium" });

export const span = seconds => {
  if (seconds < 60) return `${Math.max(0, seconds).toFixed(0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
};

// The words under a count: how the camera is, and how old the count is.
export const words = camera => {
  const since = span(Date.now() / 1000 - camera.since);
  if (camera.state !== "live") return `${camera.state} for ${since}`;
  if (camera.time === null) return "live, not counted yet";
  const age = Date.now() / 1000 - camera.time + (camera.confirmed ? 0 : camera.age);
  return camera.stale || age > 3 ? `live, counted ${span(age)} ago` : "live";
};

// Regions by their place in the list, on the picture and in the chart.
export const COLOURS = ["#3b82c4", "#d9730d", "#2f9e6e", "#b05bb8", "#c44536", "#8a8d1f", "#1f9aa8", "#7a6cd6"];
export const colour = index => COLOURS[index % COLOURS.length];

// Pictures one after the other, while the element is seen and `wanted` says so. Few are on their
// way at once: a browser has few connections.
const ROOM = 4;
let under_way = 0;

export const follow = (image, address, wanted, pause = 500) => {
  let seen = false, ended = false, timer = 0;
  const again = wait => {
    clearTimeout(timer);
    if (!ended) timer = setTimeout(next, wait);
  };
  const next = async () => {
    if (ended || !image.isConnected) return ended || again(300);
    if (!seen || document.hidden || !wanted() || under_way >= ROOM) return again(300);
    under_way += 1;
    let wait = pause;
    try {
      const answer = await fetch(address(), { signal: AbortSignal.timeout(10000) });
      if (!answer.ok) throw new Error(answer.status);
      const url = URL.createObjectURL(await answer.blob());
      if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
      image.src = url;
      image.hidden = false;
    } catch {
      wait = 3000;
    }
    under_way -= 1;
    again(wait);
  };
  const observer = new IntersectionObserver(entries => { seen = entries.at(-1).isIntersecting; });
  observer.observe(image.parentElement ?? image);
  again(0);
  return () => {
    ended = true;
    observer.disconnect();
    clearTimeout(timer);
    if (image.src.startsWith("blob:")) URL.revokeObjectURL(image.src);
  };
};
