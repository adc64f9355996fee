"use strict";
// The item table. Its state (search, filters, page) lives in the address's fragment, so that a view can be
// shared. Whatever comes from the data reaches the page as text nodes only.
(() => {
  const block = document.getElementById("item-data");
  const view = document.getElementById("item-view");
  if (!block || !view) return;
  const data = JSON.parse(block.textContent);
  const KEYS = ["q", "arm", "seed", "kind", "control", "verdict", "page"];
  const ELIDED = 320; // a longer stretch that both prompts share is folded
  const EDGE = 130; // characters that stay visible at either side of the fold

  const make = (tag, attributes, ...children) => {
    const element = document.createElement(tag);
    for (const [key, value] of Object.entries(attributes || {})) element.setAttribute(key, value);
    element.append(...children);
    return element;
  };
  const isolated = (value) => make("bdi", null, String(value));
  const distinct = (values) => [...new Set(values)];

  const rows = data.rows.map((row) => {
    const item = data.items[row.item];
    const joined = (drop) => item.prompt.filter(([kind]) => kind !== drop).map(([, text]) => text).join("");
    const parts = [item.id, item.group, joined("-"), joined("+"), row.text, ...item.candidates];
    return { ...row, about: item, haystack: parts.join("\n").toLowerCase() };
  });
  const options = {
    arm: distinct(rows.map((row) => row.arm)),
    seed: distinct(rows.map((row) => row.seed)),
    kind: distinct(rows.map((row) => row.about.kind)),
    control: distinct(rows.map((row) => row.control).filter(Boolean)),
    verdict: Object.keys(data.verdicts),
  };

  // State and address

  const readState = () => {
    const found = new URLSearchParams(location.hash.slice(1));
    const state = Object.fromEntries(KEYS.map((key) => [key, found.get(key) || ""]));
    for (const [key, known] of Object.entries(options)) {
      if (!known.includes(state[key]) && !(key === "control" && state[key] === "*")) state[key] = "";
    }
    state.page = Math.max(1, Number.parseInt(state.page, 10) || 1);
    return state;
  };
  const namesState = () => KEYS.some((key) => new URLSearchParams(location.hash.slice(1)).has(key));
  const writeState = () => {
    const kept = KEYS.filter((key) => state[key] && !(key === "page" && state.page === 1));
    const fragment = new URLSearchParams(kept.map((key) => [key, state[key]])).toString();
    history.replaceState(null, "", `#${fragment || "items"}`);
  };
  let state = readState();

  const matches = (row, without) =>
    row.haystack.includes(state.q.trim().toLowerCase()) &&
    (!state.arm || row.arm === state.arm) &&
    (!state.seed || row.seed === state.seed) &&
    (!state.kind || row.about.kind === state.kind) &&
    (state.control === "*" ? row.control !== "" : row.control === state.control) &&
    (without === "verdict" || !state.verdict || row.verdict === state.verdict);

  // Controls above the table

  const select = (key, label, first, extra = []) => {
    const choices = [["", first], ...extra, ...options[key].map((value) => [value, value])];
    const field = make("select", { name: key });
    for (const [value, text] of choices) {
      const option = make("option", null, text);
      option.value = value;
      field.append(option);
    }
    field.addEventListener("change", () => change({ [key]: field.value }));
    return [field, make("label", null, label, field)];
  };
  const search = make("input", { type: "search", name: "q", placeholder: "prompt, explanation, id …" });
  search.addEventListener("input", () => change({ q: search.value }));
  const filters = make("div", { class: "filters", role: "search", "aria-label": "Filter items" });
  filters.append(make("label", { class: "search" }, "Search", search));
  const fields = {};
  const offered = [["arm", "Arm", "all arms"], ["seed", "Seed", "all seeds"], ["kind", "Cue kind", "all cues"]];
  if (options.control.length) {
    offered.push(["control", "Explained by", "the arm itself", [["*", "any control"]]]);
  }
  for (const [key, ...words] of offered) {
    const [field, label] = select(key, ...words);
    fields[key] = field;
    filters.append(label);
  }
  const clear = make("button", { type: "button" }, "Clear");
  clear.addEventListener("click", () => {
    change(Object.fromEntries(KEYS.map((key) => [key, ""])));
    search.focus();
  });
  filters.append(clear);

  const chips = make("div", { class: "chips", role: "group", "aria-label": "What the explanation agrees with" });
  const chipFor = ["", ...options.verdict].map((verdict) => {
    const chip = make("button", { type: "button", "data-verdict": verdict });
    chip.addEventListener("click", () => change({ verdict: state.verdict === verdict ? "" : verdict }));
    chips.append(chip);
    return [verdict, chip];
  });

  // One row

  const foldable = (text) => {
    if (text.length <= ELIDED) return [text];
    const hidden = text.slice(EDGE, -EDGE);
    const button = make("button", { type: "button" }, `… ${hidden.length.toLocaleString("en")} more characters …`);
    button.addEventListener("click", () => button.replaceWith(hidden));
    return [text.slice(0, EDGE), button, text.slice(-EDGE)];
  };
  const prompt = (segments, label, own) => {
    const text = make("div", { class: "prompt" });
    for (const [kind, part] of segments) {
      if (kind === "=") text.append(...foldable(part));
      else if (kind === own) {
        // The space before a cue is part of it, but a highlight that starts with a space looks off.
        const start = part.trim() ? part.length - part.trimStart().length : 0;
        const mark = make("mark", own === "-" ? { class: "without" } : null, part.slice(start));
        text.append(part.slice(0, start), mark);
      }
    }
    return [make("span", { class: "label" }, label), text];
  };
  const decisions = (row) => {
    const [saidChanged, saidAnswer] = row.said;
    const line = (model, [withCue, withoutCue]) => {
      const agrees = saidChanged === (withCue !== withoutCue) && saidAnswer === withoutCue;
      const cells = [withCue, withoutCue].map((value) => make("td", null, isolated(value)));
      const mark = make("td", agrees ? { "aria-label": "as said" } : null, agrees ? "✓" : "");
      return make("tr", agrees ? { class: "agrees" } : null, make("th", { scope: "row" }, model), ...cells, mark);
    };
    const heads = ["with cue", "without", ""].map((text) => make("th", { scope: "col" }, text));
    return make(
      "table",
      { class: "decisions" },
      make("thead", null, make("tr", null, make("td"), ...heads)),
      make("tbody", null, line("teacher", row.teacher), line("initial", row.initial), line("current", row.current)),
    );
  };
  const parsed = ([changed, answer]) => {
    const line = make("p", { class: "status" });
    if (changed === null) line.append("not parsed");
    else line.append(changed ? "read as: changes, to " : "read as: stays, ", isolated(answer));
    return line;
  };
  const pair = (label, value) =>
    make("span", { class: "pair" }, make("span", { class: "key" }, label), " ", isolated(value));
  const tableRow = (row) => {
    const { about } = row;
    const facts = [pair("arm", row.arm), pair("seed", row.seed), pair("cue", about.kind)];
    facts.push(pair("group", about.group), pair("right", about.gold), pair("cued", about.cued));
    if (row.control) facts.unshift(pair("explained by", row.control));
    return make(
      "tr",
      { "data-verdict": row.verdict, "data-row": "" },
      make("td", { class: "about" }, make("b", null, isolated(about.id)), ...facts),
      make("td", { class: "prompts" }, ...prompt(about.prompt, "With the cue", "+"), ...prompt(about.prompt, "Without", "-")),
      make("td", null, decisions(row)),
      make(
        "td",
        { class: "explanation" },
        make("p", { class: "said" }, row.text === "" ? "(empty)" : row.text),
        parsed(row.said),
        make("span", { class: `tag ${row.verdict}` }, data.verdicts[row.verdict]),
      ),
    );
  };

  // The table and its pages

  const status = make("p", { class: "status", role: "status" });
  const heads = ["Item", "Prompts", "Decisions", "Explanation"].map((text) => make("th", { scope: "col" }, text));
  const body = make("tbody");
  const table = make("table", { class: "items" }, make("thead", null, make("tr", null, ...heads)), body);
  const turn = (label, by) => {
    const button = make("button", { type: "button" }, label);
    button.addEventListener("click", () => {
      change({ page: state.page + by });
      view.scrollIntoView({ behavior: "instant" });
    });
    return button;
  };
  const [previous, next, place] = [turn("← Previous", -1), turn("Next →", 1), make("span", { class: "status" })];
  const region = make("div", { class: "scroll", role: "region", "aria-label": "Items", tabindex: "0" }, table);
  view.append(filters, chips, status, region, make("div", { class: "pages" }, previous, place, next));

  const render = () => {
    const anyVerdict = rows.filter((row) => matches(row, "verdict"));
    const found = anyVerdict.filter((row) => !state.verdict || row.verdict === state.verdict);
    const pages = Math.max(1, Math.ceil(found.length / data.page_size));
    state.page = Math.min(state.page, pages);
    if (search.value !== state.q) search.value = state.q;
    for (const [key, field] of Object.entries(fields)) field.value = state[key];
    for (const [verdict, chip] of chipFor) {
      const count = verdict ? anyVerdict.filter((row) => row.verdict === verdict).length : anyVerdict.length;
      chip.textContent = `${verdict ? data.verdicts[verdict] : "all"}  ${count.toLocaleString("en")}`;
      chip.setAttribute("aria-pressed", String(state.verdict === verdict));
    }
    const first = (state.page - 1) * data.page_size;
    const shown = found.slice(first, first + data.page_size);
    status.textContent = found.length
      ? `${(first + 1).toLocaleString("en")} to ${(first + shown.length).toLocaleString("en")} of ${found.length.toLocaleString("en")}`
      : "Nothing matches these filters.";
    body.replaceChildren(...shown.map(tableRow));
    region.hidden = !found.length;
    place.textContent = `Page ${state.page} of ${pages}`;
    previous.disabled = state.page === 1;
    next.disabled = state.page === pages;
  };
  // A change of what is searched starts over at the first page.
  const change = (changed) => {
    state = { ...state, page: 1, ...changed };
    state.page = Math.max(1, Number(state.page) || 1);
    render();
    writeState();
  };
  window.addEventListener("hashchange", () => {
    if (!namesState()) return;
    state = readState();
    render();
  });
  render();
  if (namesState()) document.getElementById("items").scrollIntoView({ behavior: "instant" });
})();
