// Keeps an open page up to date, and a few keys. Everything works without it: pages read well, forms are plain forms.
"use strict";

(() => {
  const stream = document.body.dataset.live;
  const note = document.getElementById("live-note");

  // Keys: "/" goes to the search field, "?" is left to the browser, and nothing happens while somebody types.
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const search = document.getElementById("q");
    if (!search) return;
    event.preventDefault();
    search.focus();
    search.select();
  });

  // A choice in a filter is a wish for its answer; without scripts there is the button.
  document.querySelectorAll("form.filters select").forEach((select) =>
    select.addEventListener("change", () => select.form.requestSubmit()));

  if (!stream || !("EventSource" in window)) return;

  const FIRST_PAUSE = 1000, LONGEST_PAUSE = 60000;
  let source = null, pause = FIRST_PAUSE, timer = 0;
  let reading = false, again = false, waiting = false;

  // What somebody is using right now is left as it is, and brought up to date when they let go of it.
  function inUse(element) {
    if (element.contains(document.activeElement) && document.activeElement !== document.body) return true;
    for (const field of element.querySelectorAll("textarea, input:not([type=hidden])"))
      if (field.value !== field.defaultValue) return true;
    const selection = document.getSelection();
    return Boolean(selection && !selection.isCollapsed && selection.containsNode(element, true));
  }

  function differs(shown, fresh) {
    const plain = (element) => {
      const copy = element.cloneNode(true);
      copy.querySelectorAll("details").forEach((each) => each.removeAttribute("open"));
      return copy;
    };
    return !plain(shown).isEqualNode(plain(fresh));
  }

  function replace(shown, fresh) {
    if (!differs(shown, fresh)) return;
    if (inUse(shown)) { waiting = true; return; }
    const opened = [...shown.querySelectorAll("details")].map((each) => each.open);
    const atEnd = shown.dataset.follow !== undefined && shown.scrollTop + shown.clientHeight >= shown.scrollHeight - 8;
    const top = shown.scrollTop;
    const copy = document.importNode(fresh, true);
    const details = [...copy.querySelectorAll("details")];
    if (details.length === opened.length) details.forEach((each, index) => { each.open = opened[index]; });
    shown.replaceWith(copy);
    if (copy.dataset.follow !== undefined) copy.scrollTop = atEnd ? copy.scrollHeight : top;
  }

  // Entries with an id come, change and go one by one, so that the others keep their place and their focus.
  function replaceEntries(shown, fresh) {
    let added = 0;
    const wanted = new Set([...fresh.children].map((each) => each.id));
    for (const each of [...shown.children]) {
      if (wanted.has(each.id)) continue;
      if (!inUse(each)) { each.remove(); continue; }
      waiting = true;
      if (each.classList.contains("review"))
        tell("open", "The review that you are writing on was closed meanwhile. Your words are still there: copy them.");
    }
    let before = null;
    for (const each of fresh.children) {
      const present = document.getElementById(each.id);
      if (present) replace(present, each);
      else {
        const copy = document.importNode(each, true);
        if (before) before.after(copy); else shown.prepend(copy);
        added += 1;
      }
      before = document.getElementById(each.id);
    }
    return added;
  }

  function show(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html");
    waiting = false;
    let added = 0;
    for (const region of document.querySelectorAll("[data-region]")) {
      const match = fresh.querySelector(`[data-region="${region.dataset.region}"]`);
      if (!match) continue;
      if (region.dataset.entries !== undefined) added += replaceEntries(region, match);
      else replace(region, match);
    }
    document.title = fresh.title;
    if (added) note.textContent = added === 1 ? "One new entry on this page." : `${added} new entries on this page.`;
    document.body.dataset.read = String(Number(document.body.dataset.read || 0) + 1);
  }

  async function read() {
    if (reading) { again = true; return; }
    reading = true;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, cache: "no-store" });
      if (answer.redirected && new URL(answer.url).pathname === "/sign-in") { stop("You were signed out. Reload the page to sign in again; copy first what you have written."); return; }
      if (answer.status === 404) { stop("This was deleted. What you see is how it was."); return; }
      if (answer.ok) show(await answer.text());
    } catch { /* The board does not answer; the stream's own pauses bring us back. */ }
    finally {
      reading = false;
      if (again) { again = false; read(); }
    }
  }

  function tell(state, words) {
    document.body.dataset.stream = state;
    const sign = document.getElementById("live-state");
    if (sign && sign.textContent !== words) sign.textContent = words;
  }

  function stop(words) {
    if (source) source.close();
    source = null;
    clearTimeout(timer);
    tell("ended", words);
  }

  function open() {
    source = new EventSource(stream);
    source.addEventListener("open", () => {
      // What happened while there was no stream is told by nobody.
      if (document.body.dataset.stream === "lost") read();
      pause = FIRST_PAUSE;
      tell("open", "");
    });
    source.addEventListener("changed", read);
    source.addEventListener("error", () => {
      source.close();
      source = null;
      if (document.body.dataset.stream === "ended") return;
      tell("lost", pause > 4 * FIRST_PAUSE ? "The board does not answer. Trying again; what you see may be old." : "");
      timer = setTimeout(open, pause * (0.5 + Math.random()));
      pause = Math.min(pause * 2, LONGEST_PAUSE);
      read();
    });
  }

  // A browser keeps few connections to one server: a page that nobody sees gives its own back.
  document.addEventListener("visibilitychange", () => {
    if (document.body.dataset.stream === "ended") return;
    clearTimeout(timer);
    if (document.hidden && source) { source.close(); source = null; document.body.dataset.stream = "lost"; }
    else if (!document.hidden && !source) open();
  });
  window.addEventListener("pagehide", () => { if (source) { source.close(); source = null; } });
  window.addEventListener("pageshow", (event) => { if (event.persisted) { document.body.dataset.stream = "lost"; open(); } });
  document.addEventListener("focusout", () => { if (waiting) setTimeout(read, 50); });
  document.querySelectorAll("[data-follow]").forEach((each) => { each.scrollTop = each.scrollHeight; });
  open();
})();
