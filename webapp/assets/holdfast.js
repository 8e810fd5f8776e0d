// What the pages can do beyond HTML: the live step list, and a word before an upload that is too large. Without this
// script everything works; the page of a restore then refreshes itself.
"use strict";

(() => {
  const say = (element, text) => {
    element.hidden = !text;
    if (element.textContent !== text) element.textContent = text;
  };

  // Puts what is new in place of what is old, part by part, so that the rest of the page stays as it is: an open
  // list, a selection, the scroll position.
  const renew = (old, fresh) => {
    if (old.outerHTML === fresh.outerHTML) return;
    const parts = [...fresh.children];
    const inside = fresh.matches("#live, .steps, ol");
    if (!inside) {
      old.replaceWith(fresh);
      return;
    }
    for (const { name, value } of [...fresh.attributes]) old.setAttribute(name, value);
    parts.forEach((part, place) => {
      const before = old.children[place];
      if (!before) old.append(part);
      else if (before.id === part.id && before.tagName === part.tagName) renew(before, part);
      else before.replaceWith(part);
    });
    while (old.children.length > parts.length) old.lastElementChild.remove();
  };

  const span = (ms) => {
    const s = Math.floor(ms / 1000);
    return s < 60 ? `${s} s` : `${Math.floor(s / 60)} min ${s % 60} s`;
  };

  const follow = (live) => {
    const link = document.getElementById("link");
    const summary = document.getElementById("summary");
    let source;
    const over = () => live.dataset.over === "true";

    const tick = () => {
      for (const element of live.querySelectorAll(".elapsed")) {
        element.dataset.since ??= performance.now();
        const text = span(Number(element.dataset.ms) + performance.now() - Number(element.dataset.since));
        if (element.textContent !== text) element.textContent = text;
      }
    };

    const connect = () => {
      source = new EventSource(`/restores/${live.dataset.restore}/events?after=${live.dataset.seq}`);
      source.onopen = () => say(link, "");
      const show = (message, known) => {
        const news = JSON.parse(message.data);
        const fresh = new DOMParser().parseFromString(news.html, "text/html").getElementById("live");
        if (!fresh || Number(fresh.dataset.seq) <= known) return;
        for (const element of live.querySelectorAll(".elapsed")) element.removeAttribute("data-since");
        renew(live, document.adoptNode(fresh));
        say(link, "");
        if (summary.textContent !== news.summary) summary.textContent = news.summary;
        document.title = news.title;
        const said = document.getElementById("plan-said");
        if (said) said.textContent = live.dataset.planTitle;
        tick();
        if (over()) source.close();
      };
      source.onmessage = (message) => show(message, Number(live.dataset.seq));
      // Nothing works on it any more, or something does again: that is no record, and the list is as far as it was.
      source.addEventListener("halt", (message) => show(message, Number(live.dataset.seq) - 1));
      source.addEventListener("agent", (message) => {
        say(link, message.data === "away" ? "Reconnecting: the agent does not answer. The restore goes on by itself." : "");
      });
      source.onerror = () => {
        if (over()) {
          source.close();
          return;
        }
        say(link, "Reconnecting: the page lost its server. The restore goes on by itself.");
        if (source.readyState === EventSource.CLOSED) setTimeout(again, 2000);
      };
    };

    // The browser gives up on an answer that is no event stream. It may be a session that ended: then the page itself
    // leads to the sign-in.
    const again = async () => {
      try {
        const answer = await fetch(location.href, { redirect: "manual", cache: "no-store" });
        if (answer.type === "opaqueredirect" || answer.status === 403 || answer.status === 404) {
          location.reload();
          return;
        }
      } catch {
        // The server is away; the next connection tells.
      }
      connect();
    };

    if (!over()) {
      connect();
      setInterval(tick, 1000);
      addEventListener("pagehide", () => source.close());
    }
  };

  const watch = (form) => {
    const file = form.querySelector("input[type=file]");
    const words = form.querySelector(".says");
    const button = form.querySelector("button");
    const limit = Number(form.dataset.limitMib);
    const tooLarge = () => limit > 0 && file.files.length > 0 && file.files[0].size > limit * 1024 * 1024;
    file.addEventListener("change", () => say(words, tooLarge() ? `This file is over the limit of ${limit} MiB.` : ""));
    form.addEventListener("submit", (event) => {
      if (tooLarge()) {
        event.preventDefault();
        return;
      }
      button.textContent = "Uploading and checking…";
      button.disabled = true;
    });
    // Going back to this page must not find the button as it was left.
    addEventListener("pageshow", () => {
      button.textContent = "Upload and check";
      button.disabled = false;
    });
  };

  const live = document.getElementById("live");
  if (live) follow(live);
  for (const form of document.querySelectorAll("form.upload")) watch(form);
})();
