(() => {
  "use strict";
  const $ = (id) => document.getElementById(id);
  const token = sessionStorage.getItem("corral-token");
  const credentials = token ? { authorization: `Bearer ${token}` } : {};
  const SILENT_MS = 6000;
  const HISTORY = 300;
  const MOST_CLASSES = 4096;
  const SHOWN = 5;
  let facts = { model: "", pictures: false, classes: 0 };
  let points = [];
  let workers = [];
  let rows = new Map();
  let cores = new Map();
  let shownPhase = "";

  const number = (value) => {
    if (value === null || value === undefined) return "–";
    if (value === 0) return "0";
    if (value >= 100) return Math.round(value).toLocaleString("en");
    return value >= 10 ? value.toFixed(1) : value.toFixed(2);
  };
  const put = (id, text) => {
    const place = $(id);
    if (place.textContent !== text) place.textContent = text;
  };
  const make = (kind, text, parent, name) => {
    const made = document.createElement(kind);
    if (text) made.textContent = text;
    if (name) made.className = name;
    parent?.append(made);
    return made;
  };
  const bar = (parent, name, share, text, kind = "div") => {
    const row = make(kind, "", parent);
    make("span", name, row);
    const track = make("span", "", row, "track");
    make("span", "", track, "fill").style.setProperty("--level", `${Math.round(share * 1000) / 10}%`);
    make("b", text, row);
    return row;
  };

  // A link sends no token.
  if (token) for (const found of document.querySelectorAll("a[href='/docs']")) found.replaceWith(found.textContent);

  // --- what changes rarely ---

  const LOOKS = { serving: "ok", starting: "info", draining: "warning", stopped: "error" };
  const showView = (view) => {
    put("model", view.model);
    put("facts", `${view.mode}, ${view.engine}, ${view.precision}`);
    const phase = view.phase === "serving" && !view.ready ? "not ready" : view.phase;
    shownPhase = view.change ? `${phase}: ${view.change}` : phase;
    $("state").className = `chip ${view.change ? "info" : LOOKS[phase] || "warning"}`;
    put("state", shownPhase);
    document.title = `${view.model}: ${phase}, corral`;
    const warnings = [...view.warnings];
    if (view.synthetic) warnings.unshift("The weights are synthetic: speed is real, labels are not.");
    $("warnings").replaceChildren(...warnings.map((text) => make("li", text)));
    $("warnings").hidden = !warnings.length;
    put("precision", view.precision);
    $("guard").replaceChildren();
    if (view.guard)
      make("span", view.guard, $("guard"), `chip ${view.guard === "passed" ? "ok" : "warning"}`);
    const none = view.precision.startsWith("fp32") ? "FP32 needs none." : "Nothing was compared.";
    make("span", view.guard_says || none, $("guard"));
    put("weights", view.weights);
    put("search", view.search || "Nothing was searched.");
    for (const id of ["grpc", "metrics", "version"]) put(id, view[id]);
    showProcesses(view);
    // The server escapes what it draws; the policy that comes with the page runs no script of it.
    if (view.drawn) $("drawn").innerHTML = view.drawn;
    cores = new Map();
    for (const core of $("drawn").querySelectorAll("[data-worker]")) {
      const worker = Number(core.dataset.worker);
      cores.set(worker, [...(cores.get(worker) || []), core]);
      core.classList.add("live");
    }
    if (view.found) showFound(view.found);
    // The rows are new, and the next numbers may be a second away.
    showUse();
  };

  const showProcesses = (view) => {
    rows = new Map();
    const all = [
      ...view.frontends.map((child) => [`frontend ${child.id}`, child, false]),
      ...view.workers.map((child) => [`worker ${child.id}`, child, true]),
    ];
    const body = all.map(([name, child, works]) => {
      const row = make("tr");
      make("th", name, row).scope = "row";
      make("td", child.cpus, row);
      const good = child.state === "serving" || child.state === "ready";
      make("span", child.state, make("td", "", row), `chip ${good ? "ok" : "warning"}`);
      const use = make("td", "", row);
      const cells = ["n", "n", "n", "n"].map((name) => make("td", "", row, name));
      if (works) {
        const meter = make("div", "", use, "meter");
        const fill = make("span", "", make("span", "", meter, "track"), "fill");
        rows.set(child.id, { fill, use: make("b", "–", meter), items: cells[0], batch: cells[1] });
        cells[2].textContent = child.first_s === null ? "–" : `${number(child.first_s * 1000)} ms`;
        cells[3].textContent = child.memory_bytes ? `${Math.round(child.memory_bytes / 2 ** 20)} MB` : "–";
      }
      const restarts = Object.entries(child.restarts).map(([cause, times]) => `${times} ${cause}`);
      make("td", restarts.join(", ") || "none", row);
      return row;
    });
    $("workers").replaceChildren(...body);
  };

  const showFound = (found) => {
    put("cpu", found.machine);
    put("doctor-line", `${found.sentence}`);
    $("counts").replaceChildren();
    for (const [status, count] of Object.entries(found.counts))
      if (count) make("span", `${count} ${status}`, $("counts"), `chip ${status}`);
    $("findings").innerHTML = found.findings || "<p>Nothing that would cost speed.</p>";
  };
  // A mark in the drawing leads to a finding, which may be folded away.
  document.addEventListener("click", (event) => {
    if (event.target.closest?.("a.chip")) $("doctor").open = true;
  });

  // --- what moves ---

  const charts = corralCharts.start();
  const showUse = () => {
    for (const worker of workers) {
      const level = `${Math.round(worker.use * 100)}%`;
      const row = rows.get(worker.id);
      if (row) {
        row.fill.style.setProperty("--level", level);
        row.use.textContent = level;
        row.items.textContent = number(worker.items_s);
        row.batch.textContent = worker.batch ? number(worker.batch) : "–";
      }
      for (const core of cores.get(worker.id) || []) core.style.setProperty("--level", level);
    }
  };

  const showFrame = (frame) => {
    const told = frame.outcomes_s;
    const answered = told.succeeded;
    const refused = told.refused + told.expired;
    const failed = told.failed + told.unavailable;
    put("answered", number(answered));
    put("items", number(frame.items_s));
    for (const name of ["p50", "p90", "p99"]) put(name, number(frame.latency_ms?.[name]));
    put("waiting", number(frame.waiting));
    put("use", number(frame.use * 100));
    put("batch", frame.batch ? number(frame.batch) : "–");
    put("inflight", number(frame.inflight));
    put("invalid", number(told.invalid + told.cancelled));
    for (const [name, rate] of [["refused", refused], ["failed", failed]]) {
      put(name, number(rate));
      $(name).closest("div").className = rate > 0 ? "bad" : "";
    }
    workers = frame.workers;
    showUse();
    showSizes(frame.sizes);
    if (points.length && points[points.length - 1][0] >= frame.at_s - 0.01) return;
    const times = frame.latency_ms;
    points.push([frame.at_s, answered, refused, failed, times?.p50 ?? null, times?.p99 ?? null, frame.waiting, frame.use]);
    points = points.slice(-HISTORY);
    charts.show(points);
  };

  const showSizes = (sizes) => {
    const found = Object.entries(sizes).map(([size, count]) => [Number(size), count]);
    found.sort((one, other) => one[0] - other[0]);
    const total = found.reduce((sum, [, count]) => sum + count, 0);
    $("no-sizes").hidden = total > 0;
    $("sizes").replaceChildren();
    for (const [size, count] of found) bar($("sizes"), `${size}`, count / total, number((100 * count) / total) + " %");
  };

  // --- the stream ---

  const shows = {
    hello: (told) => {
      facts = told;
      $("try").hidden = !facts.pictures;
      $("no-pictures").hidden = facts.pictures;
    },
    history: (told) => {
      points = told;
      charts.show(points);
    },
    view: showView,
    frame: showFrame,
  };
  const take = (event) => {
    const lines = event.split("\n");
    const name = lines.find((line) => line.startsWith("event: "))?.slice(7);
    const data = lines.find((line) => line.startsWith("data: "))?.slice(6);
    if (data && shows[name]) shows[name](JSON.parse(data));
  };
  const link = (text) => put("link", text && ` ${text}`);
  const reason = async (answer) => {
    try {
      return (await answer.json()).error;
    } catch {
      return `status ${answer.status}`;
    }
  };

  let stop = null;
  let pause_ms = 1000;
  let heard_ms = 0;
  let again = 0;
  const read = async (body) => {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      heard_ms = performance.now();
      pause_ms = 1000;
      link("");
      const events = (text + value).split("\n\n");
      text = events.pop();
      events.forEach(take);
    }
  };
  const connect = async () => {
    clearTimeout(again);
    // A tab that nobody sees takes no place; its charts are filled when it is seen again.
    if (document.hidden || stop) return;
    const mine = (stop = new AbortController());
    let why = "";
    try {
      const answer = await fetch("/console/events", { headers: credentials, signal: mine.signal, cache: "no-store" });
      if (answer.status === 401) {
        location.reload();
        return;
      }
      if (answer.ok) await read(answer.body);
      else why = await reason(answer);
    } catch {
      why = mine.signal.aborted ? "" : "no answer";
    }
    if (stop === mine) stop = null;
    if (mine.signal.aborted && document.hidden) return;
    if (why) {
      link(`${why}; trying again`);
      pause_ms = Math.min(pause_ms * 2, 15000);
    }
    again = setTimeout(connect, why ? pause_ms : 250);
  };
  setInterval(() => {
    if (stop && heard_ms && performance.now() - heard_ms > SILENT_MS) {
      link("no news; trying again");
      heard_ms = 0;
      stop.abort();
    }
  }, 1000);
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) connect();
    else if (stop) {
      stop.abort();
      stop = null;
    }
  });
  connect();

  // --- a picture ---

  const verdict = (text, bad) => {
    $("verdict").className = bad ? "error" : "soft";
    put("verdict", text);
  };
  // As corral-client does it: scores that add up to 1 are probabilities already, and a sigmoid's are.
  const chances = (scores, kind) => {
    if (kind === "independent_probabilities") return scores;
    if (kind === "percentages") return scores.map((score) => score / 100);
    const sum = scores.reduce((total, score) => total + score, 0);
    if (scores.every((score) => score >= 0) && Math.abs(sum - 1) < 0.01) return scores;
    const most = Math.max(...scores);
    const powers = scores.map((score) => Math.exp(score - most));
    const total = powers.reduce((all, power) => all + power, 0);
    return powers.map((power) => power / total);
  };
  const ask = (file, count, timed) =>
    fetch(`/v2/models/${encodeURIComponent(facts.model)}/classify?k=${count}`, {
      method: "POST",
      headers: timed ? { ...credentials, "want-server-timing": "1" } : credentials,
      body: file,
    });
  const outputKind = async () => {
    const answer = await fetch(`/v2/models/${encodeURIComponent(facts.model)}/config`, {
      headers: credentials,
    });
    return answer.ok ? (await answer.json()).parameters?.output_kind?.string_value : undefined;
  };
  const name = (label) => label.label || `class ${label.index}`;
  let latest = 0;
  const classify = async (file) => {
    const turn = (latest += 1);
    $("labels").replaceChildren();
    $("stages").hidden = true;
    if ($("preview").src) URL.revokeObjectURL($("preview").src);
    $("preview").src = URL.createObjectURL(file);
    $("preview").hidden = false;
    verdict("asking …");
    const began = performance.now();
    try {
      const answer = await ask(file, Math.min(SHOWN, facts.classes), true);
      const told = answer.ok ? (await answer.json()).labels : null;
      const took_ms = performance.now() - began;
      const why = told ? "" : await reason(answer);
      if (turn !== latest) return;
      if (!told) {
        verdict(why, true);
        return;
      }
      verdict(`${name(told[0])}, in ${number(took_ms)} ms`);
      showLabels(told, null);
      showStages(took_ms, answer.headers.get("server-timing") || "");
      if (facts.classes > MOST_CLASSES) return;
      // A probability needs the scores of all classes; they are not what is timed.
      const [all, kind] = await Promise.all([ask(file, facts.classes, false), outputKind()]);
      const labels = all.ok ? (await all.json()).labels : null;
      if (!labels || turn !== latest) return;
      showLabels(labels, chances(labels.map((label) => label.score), kind));
    } catch {
      if (turn === latest) verdict("the server does not answer", true);
    }
  };
  const showLabels = (labels, found) => {
    $("labels").replaceChildren();
    labels.slice(0, SHOWN).forEach((label, place) => {
      const text = found ? `${(100 * found[place]).toFixed(1)} %` : label.score.toFixed(2);
      bar($("labels"), name(label), found ? found[place] : 0, text, "li");
    });
  };
  const showStages = (took_ms, timing) => {
    const found = timing.split(",").map((entry) => entry.trim().split(";"));
    const of = (kind) =>
      found
        .filter(([name, said]) => said?.startsWith(kind) && name !== "total" && name !== "traceparent")
        .map(([name, said]) => [name, said.slice(kind.length)]);
    const stages = of("dur=").map(([name, ms]) => [name, Number(ms)]);
    if (!stages.length) return;
    const ran = Object.fromEntries(of("desc=").map(([name, said]) => [name, said.replaceAll('"', "")]));
    put("ran", ran.worker ? `in a batch of ${ran.batch}, by worker ${ran.worker}` : "");
    const inside = stages.reduce((sum, [, ms]) => sum + ms, 0);
    stages.push(["network, browser", Math.max(0, took_ms - inside)]);
    $("stage-bars").replaceChildren();
    for (const [stage, ms] of stages) bar($("stage-bars"), stage, ms / Math.max(took_ms, inside), `${number(ms)} ms`);
    $("stages").hidden = false;
  };
  const drop = $("drop");
  $("file").addEventListener("change", (event) => {
    if (event.target.files[0]) classify(event.target.files[0]);
    // The same file again is a change, too.
    event.target.value = "";
  });
  for (const name of ["dragenter", "dragover"])
    document.addEventListener(name, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) drop.classList.remove("over");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    const file = event.dataTransfer?.files[0];
    if (file && facts.pictures) classify(file);
  });
  document.addEventListener("paste", (event) => {
    const file = event.clipboardData?.files[0];
    if (file && facts.pictures) classify(file);
  });
})();
