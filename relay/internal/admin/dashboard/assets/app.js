// What the pages do beside htmx: charts, copying, relative times, colours, the
// menu of a phone, and which fields of a form were touched. Pages work without.
"use strict";

(() => {
  const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  document.documentElement.classList.add("js");

  // Relative times. The words are those of the server's.
  const ago = (then) => {
    const seconds = Math.trunc((Date.now() - then) / 1000);
    const abs = Math.abs(seconds);
    const text = abs < 60 ? `${abs} s` : abs < 3600 ? `${Math.trunc(abs / 60)} min`
      : abs < 172800 ? `${Math.trunc(abs / 3600)} h` : `${Math.trunc(abs / 86400)} d`;
    if (abs < 1) return "now";
    return seconds < 0 ? `in ${text}` : `${text} ago`;
  };
  const refreshTimes = () => {
    for (const time of all("time[data-ago]")) {
      const text = ago(Date.parse(time.dateTime));
      if (time.textContent !== text) time.textContent = text;
    }
  };
  setInterval(refreshTimes, 5000);

  // Charts.
  const shown = (ms) => ms == null ? "–" : ms < 1000 ? `${+ms.toFixed(1)} ms` : ms < 120000 ? `${+(ms / 1000).toFixed(2)} s`
    : ms < 7200000 ? `${+(ms / 60000).toFixed(ms < 600000 ? 1 : 0)} min` : `${+(ms / 3600000).toFixed(1)} h`;
  const percent = (share) => share == null ? "–" : `${+(share * 100).toFixed(2)} %`;
  const bytes = (n) => {
    if (n == null) return "–";
    const unit = Math.min(4, Math.floor(Math.log2(Math.max(1, n)) / 10));
    return `${+(n / 1024 ** unit).toFixed(1)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
  };
  const whole = Array.from({ length: 45 }, (_, i) => [1, 2, 5][i % 3] * 10 ** Math.trunc(i / 3));
  const doubled = Array.from({ length: 50 }, (_, i) => 2 ** i);
  const perSecond = (value) => value == null ? "–" : String(+value.toFixed(value < 10 ? 2 : value < 100 ? 1 : 0));
  const kinds = {
    rate: {
      columns: ["events", "delivered", "failed"], names: ["Events", "Delivered", "Failed"],
      colours: ["--seg-wait", "--ok-fill", "--bad-fill"], text: perSecond, fill: [false, true, true],
    },
    outcome: {
      columns: ["delivered", "failed"], names: ["Delivered", "Failed"],
      colours: ["--ok-fill", "--bad-fill"], text: perSecond, fill: [true, true],
    },
    attempts: {
      columns: ["attempts", "missed"], names: ["Attempts", "Failed attempts"],
      colours: ["--seg-wait", "--bad-fill"], text: perSecond, fill: [false, true],
    },
    share: {
      columns: ["share"], names: ["Succeed"], colours: ["--ok-fill"], text: percent, fill: [false],
      range: (_, low) => [Math.max(0, Math.min(0.9, low - 0.05)), 1.005], // all that succeed are below the edge
    },
    parked: { columns: ["parked"], names: ["Parked"], colours: ["--seg-wait"], text: perSecond, fill: [true], incrs: whole },
    unsettled: { columns: ["unsettled"], names: ["Oldest unsettled"], colours: ["--seg-wait"], text: shown, fill: [true], incrs: whole },
    wal: {
      columns: ["lag", "retained"], names: ["Slot lag", "Retained WAL"],
      colours: ["--seg-wait", "--seg-dns"], text: bytes, fill: [true, false], incrs: doubled,
    },
    latency: {
      columns: ["p50", "p95", "p99"], names: ["p50", "p95", "p99"],
      colours: ["--seg-read", "--seg-wait", "--seg-dns"], text: shown, fill: [false, false, false], log: true,
    },
  };
  // Of a line only what has no neighbours is drawn as a point: else it were not seen.
  const alone = (u, i) => u.data[i].flatMap((value, at, list) => value != null && list[at - 1] == null && list[at + 1] == null ? [at] : []);
  const dataOf = (kind, series) => [series.at, ...kind.columns.map((name) => series[name])];
  const plots = [];

  const clock = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
  const times = (u, ticks, _, __, apart) => ticks.map((at) => {
    const then = new Date(at * 1000);
    return apart >= 86400 ? then.toLocaleDateString([], { day: "numeric", month: "short" }) : then.toLocaleTimeString([], clock);
  });

  // Powers of ten only: a line at each of what is between them is too much.
  const tens = {
    splits: (_, __, low, high) => {
      const list = [];
      for (let at = 10 ** Math.ceil(Math.log10(low) - 0.01); at <= high * 1.01; at *= 10) list.push(at);
      return list;
    },
    filter: (_, ticks) => ticks,
  };

  const draw = (box, kind, series) => {
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui", labelFont: "11px system-ui" };
    const fine = window.matchMedia("(min-width: 500px)").matches;
    box.replaceChildren();
    return new uPlot({
      width: box.clientWidth, height: 200, cursor: { y: false, points: { size: 6 } },
      scales: { y: kind.log ? { distr: 3 } : { range: kind.range ?? ((_, __, high) => [0, high > 0 ? high * 1.1 : 1]) } },
      axes: [{ ...axis, space: fine ? 60 : 80, size: 30, values: times }, { ...axis, ...(kind.log ? tens : {}), ...(kind.incrs && { incrs: kind.incrs }), size: 56, values: (_, ticks) => ticks.map(kind.text) }],
      legend: { live: fine },
      series: [
        { value: (u, at) => new Date((at ?? u.data[0].at(-1)) * 1000).toLocaleString([], { day: "numeric", month: "short", ...clock }), label: "Time" },
        ...kind.names.map((label, i) => {
          const stroke = colour(kind.colours[i]);
          return { label, stroke, width: 1.5, points: { show: true, size: 5, filter: alone }, spanGaps: false, fill: kind.fill[i] ? `${stroke}26` : undefined, value: (u, value, _, at) => kind.text(at == null ? u.data[i + 1].at(-1) : value) };
        }),
      ],
    }, dataOf(kind, series), box);
  };

  const load = async (charts) => {
    const answer = await fetch(charts.dataset.charts, { headers: { Accept: "application/json" }, credentials: "same-origin" });
    return answer.ok ? answer.json() : null;
  };
  const startCharts = async () => {
    for (const charts of all("[data-charts]")) {
      const series = await load(charts).catch(() => null);
      if (!series || series.at.length === 0) continue;
      for (const box of all("[data-plot]", charts)) {
        const kind = kinds[box.dataset.plot];
        plots.push({ charts, box, kind, series, plot: draw(box, kind, series) });
      }
    }
  };
  const refreshCharts = async () => {
    if (document.hidden) return;
    for (const charts of new Set(plots.map((p) => p.charts))) {
      const series = await load(charts).catch(() => null);
      if (!series) continue;
      for (const p of plots.filter((each) => each.charts === charts)) {
        p.series = series;
        p.plot.setData(dataOf(p.kind, series));
      }
    }
  };
  const redraw = () => {
    for (const p of plots) {
      p.plot.destroy();
      p.plot = draw(p.box, p.kind, p.series);
    }
  };
  let resizing;
  window.addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(() => plots.forEach((p) => p.plot.setSize({ width: p.box.clientWidth, height: 200 })), 150);
  });
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  startCharts().then(() => plots.length > 0 && setInterval(refreshCharts, 10000));

  // Colours: kept in a cookie, so that the server's first answer has them.
  document.addEventListener("change", (event) => {
    const choice = event.target.closest("[data-theme-choice]");
    if (!choice) return;
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `posthorn_theme=${choice.value}; Path=/admin/webhooks; Max-Age=31536000; SameSite=Strict${secure}`;
    if (choice.value) document.documentElement.dataset.theme = choice.value;
    else delete document.documentElement.dataset.theme;
    redraw();
  });

  // Copying.
  const copy = async (button) => {
    const text = button.parentElement.querySelector("pre").textContent;
    try {
      await navigator.clipboard.writeText(text);
    } catch { // no permission, or no https: as people do it
      const selection = getSelection();
      selection.selectAllChildren(button.parentElement.querySelector("pre"));
      document.execCommand("copy");
    }
    const label = button.querySelector("span");
    label.textContent = "Copied";
    document.getElementById("messages").textContent = "Copied.";
    setTimeout(() => { label.textContent = "Copy"; document.getElementById("messages").textContent = ""; }, 2000);
  };

  document.addEventListener("click", (event) => {
    const copying = event.target.closest("[data-copy]");
    if (copying) copy(copying);

    const menu = event.target.closest("[data-menu]");
    if (menu) {
      const open = document.getElementById("navigation").classList.toggle("open");
      menu.setAttribute("aria-expanded", String(open));
    }

    const stop = event.target.closest("[data-live-stop]");
    if (stop) {
      const listing = stop.closest("[sse-connect]");
      const fresh = listing.cloneNode(true);
      fresh.removeAttribute("sse-connect");
      all("[sse-swap]", fresh).forEach((part) => part.removeAttribute("sse-swap"));
      fresh.querySelector(".live").classList.add("off");
      fresh.querySelector("[data-live]").textContent = "Stopped.";
      fresh.querySelector("[data-live-stop]").remove();
      htmx.swap(listing, fresh.outerHTML, { swapStyle: "outerHTML" });
    }

    for (const pop of all("details.pop[open]")) {
      if (!pop.contains(event.target)) pop.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const pop of all("details.pop[open]")) {
      pop.open = false;
      pop.querySelector("summary").focus();
    }
  });

  // A live list listens only while its tab is seen: a browser has few connections
  // to a server, and each stream takes one of them from all of its tabs.
  class Stream extends EventTarget {
    #url; #source = null; #names = new Set();
    #look = () => {
      if (document.hidden) {
        this.#source?.close();
        this.#source = null;
      } else if (!this.#source) {
        this.#connect();
      }
    };
    #pass = (event) => this.dispatchEvent(new MessageEvent(event.type, { data: event.data }));

    constructor(url) {
      super();
      this.#url = url;
      document.addEventListener("visibilitychange", this.#look);
      this.#look();
    }
    #connect() {
      const source = this.#source = new EventSource(this.#url);
      source.onopen = (event) => this.onopen?.(event);
      source.onerror = (event) => {
        if (source.readyState === EventSource.CLOSED) this.close(); // htmx makes another one
        this.onerror?.(event);
      };
      for (const name of this.#names) source.addEventListener(name, this.#pass);
    }
    get readyState() { return this.#source ? this.#source.readyState : EventSource.CONNECTING; }
    addEventListener(name, listener) {
      super.addEventListener(name, listener);
      if (this.#names.has(name)) return;
      this.#names.add(name);
      this.#source?.addEventListener(name, this.#pass);
    }
    close() {
      document.removeEventListener("visibilitychange", this.#look);
      this.#source?.close();
    }
  }
  htmx.createEventSource = (url) => new Stream(url);

  // What is asked for again and again stands still while somebody is in it, or
  // nobody looks.
  document.addEventListener("htmx:beforeRequest", (event) => {
    const part = event.detail.elt;
    if (!part.getAttribute("hx-trigger")?.startsWith("every")) return;
    const within = [part, document.getElementById(part.dataset.with)];
    if (document.hidden || within.some((each) => each?.contains(document.activeElement))) event.preventDefault();
  });

  // What was done is said once, not at every reload.
  const here = new URL(location.href);
  if (here.searchParams.has("done")) {
    here.searchParams.delete("done");
    history.replaceState(null, "", here);
  }

  // A form is sent once, however often its button is pressed meanwhile.
  const sent = new WeakSet();
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.getAttribute("method") !== "post") return; // .method is a field's, where one has that name
    if (sent.has(form)) {
      event.preventDefault();
      return;
    }
    sent.add(form);
    const buttons = all("button", form).filter((button) => !button.disabled);
    const disable = (yes) => buttons.forEach((button) => { button.disabled = yes; });
    setTimeout(disable, 0, true); // not yet: what was pressed is part of the form
    const again = () => {
      sent.delete(form);
      disable(false);
    };
    setTimeout(again, 20000); // no answer comes any more
    window.addEventListener("pageshow", again, { once: true });
  });

  // Forms: what is wrong is said of fields that somebody was at.
  const touch = (event) => event.target.closest("form[data-checked] .field")?.classList.add("touched");
  document.addEventListener("input", touch);
  document.addEventListener("focusout", touch);
  const mark = () => {
    for (const problem of all("form[data-checked] .problem")) {
      const name = problem.id.replace("problem-", "");
      const input = document.getElementById(name);
      if (!input) continue;
      if (problem.textContent && input.closest(".touched, .sent")) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    }
  };
  document.addEventListener("htmx:oobAfterSwap", mark);
  document.addEventListener("focusout", mark);

  // Where the session ended under a form, what is in it stays: once somebody has
  // logged in elsewhere it goes on with that session.
  let ended = false;
  document.addEventListener("session-ended", () => {
    ended = true;
    const box = document.getElementById("form-problem") ?? document.getElementById("messages");
    const text = document.createElement("p");
    text.className = "alert";
    text.textContent = window === window.top ? "Your session has ended. Log in in another tab, then go on here: what you wrote stays."
      : "Your session has ended. Open this again from the page that shows it.";
    box.replaceChildren(text);
  });
  document.addEventListener("visibilitychange", async () => {
    if (!ended || document.hidden) return;
    const answer = await fetch(location.href, { credentials: "same-origin" }).catch(() => null);
    if (!answer?.ok) return;
    const token = new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("meta[name=csrf-token]")?.content;
    if (!token) return; // it is the login
    ended = false;
    document.querySelector("meta[name=csrf-token]").content = token;
    for (const input of all("input[name=csrf]")) input.value = token;
    document.getElementById("form-problem")?.replaceChildren();
  });
  document.addEventListener("htmx:afterSwap", refreshTimes);
})();
