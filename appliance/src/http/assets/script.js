// Keeps the page current: the server renders, this puts what it sends where it belongs.
//
// Without this script the page is complete and reloads itself every few seconds.
"use strict";

(() => {
  const RECONNECT_MS = 3000;
  const root = document.documentElement;
  const live = document.getElementById("live");
  const liveText = document.getElementById("live-text");
  let source = null;
  let timer = 0;

  // Makes `old` equal to `wanted` with as few changes as possible, so that selections, focus, open details and
  // scrolling survive. Elements with a data-key are found by it, all others by their position.
  function morph(old, wanted) {
    const keyed = new Map();
    for (const child of old.children) {
      if (child.dataset && child.dataset.key) keyed.set(child.dataset.key, child);
    }
    let at = old.firstChild;
    for (const next of [...wanted.childNodes]) {
      const key = next.dataset && next.dataset.key;
      const match = key ? keyed.get(key) : at && alike(at, next) ? at : null;
      if (!match) {
        old.insertBefore(next, at);
        continue;
      }
      if (match === at) at = at.nextSibling;
      else old.insertBefore(match, at);
      update(match, next);
    }
    while (at) {
      const rest = at.nextSibling;
      at.remove();
      at = rest;
    }
  }

  function alike(old, wanted) {
    const bothUnkeyed = !(old.dataset && old.dataset.key);
    return bothUnkeyed && old.nodeType === wanted.nodeType && old.nodeName === wanted.nodeName;
  }

  function update(old, wanted) {
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== wanted.data) old.data = wanted.data;
      return;
    }
    for (const { name } of [...old.attributes]) {
      // Whether details are open is the reader's business.
      const kept = name === "open" && old.nodeName === "DETAILS";
      if (!kept && !wanted.hasAttribute(name)) old.removeAttribute(name);
    }
    for (const { name, value } of wanted.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    morph(old, wanted);
  }

  function show(state, text) {
    live.dataset.state = state;
    if (liveText.textContent !== text) liveText.textContent = text;
    root.toggleAttribute("data-stale", state === "lost");
  }

  function receive(event) {
    for (const [id, markup] of Object.entries(JSON.parse(event.data))) {
      const place = document.getElementById(id);
      if (!place) continue;
      const template = document.createElement("template");
      template.innerHTML = markup;
      morph(place, template.content);
    }
    const titled = document.querySelector("[data-title]");
    if (titled && document.title !== titled.dataset.title) document.title = titled.dataset.title;
    show("live", "live");
  }

  function connect() {
    clearTimeout(timer);
    if (source) source.close();
    source = new EventSource("/page/events");
    source.addEventListener("fragments", receive);
    // Another version of the daemon renders for another script: start over.
    source.addEventListener("assets", (event) => {
      if (event.data !== root.dataset.assets) location.reload();
    });
    source.addEventListener("error", () => {
      show("lost", "no connection");
      // An event source gives up for good when it is refused (too many streams), so ask again ourselves.
      source.close();
      clearTimeout(timer);
      if (!document.hidden) timer = setTimeout(connect, RECONNECT_MS);
    });
  }

  // A tab nobody looks at holds no stream.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      clearTimeout(timer);
      if (source) source.close();
      show("paused", "paused");
    } else {
      connect();
    }
  });
  // A page that leaves for the back-forward cache must not count as lost.
  window.addEventListener("pagehide", () => {
    clearTimeout(timer);
    if (source) source.close();
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) connect();
  });

  show("connecting", "connecting");
  if (document.hidden) show("paused", "paused");
  else connect();
})();
