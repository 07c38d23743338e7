"use strict";
(function () {
  const data = JSON.parse(document.getElementById("data").textContent);
  const words = data.words, utterances = data.utterances, PAGE = 50;
  const byId = (id) => document.getElementById(id);
  const element = (name, cls, text) => {
    const made = document.createElement(name);
    if (cls) made.className = cls;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  // Tables are sorted by a click on a column's head; numbers as numbers, largest first.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = Array.from(table.tHead.rows[0].cells);
    heads.forEach((head, column) => {
      const button = element("button", "", head.textContent);
      button.type = "button";
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") !== "descending";
        const value = (row) => row.cells[column].textContent;
        const body = table.tBodies[0], rows = Array.from(body.rows);
        const numbers = rows.every((row) => value(row) !== "" && !isNaN(value(row)));
        rows.sort((a, b) => numbers ? value(b) - value(a) : value(a).localeCompare(value(b)));
        if (!down) rows.reverse();
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        body.append(...rows);
      });
    });
  }

  // An utterance: [id, about, audio, is there, steps, equal groups]; a step is the number of a word
  // that is right, or [reference, hypothesis] with -1 for nothing.
  const errorsOf = (u) => u[4].reduce((n, step) => n + (typeof step !== "number"), 0);
  const wordsOf = (u) => u[4].reduce((n, step) => n + (typeof step === "number" || step[0] >= 0), 0);
  const inGroup = (groups, i, j) => groups.find((g) => (i !== null && i >= g[1] && i < g[2]) || (j !== null && j >= g[3] && j < g[4]));
  const unequal = (u) => {
    let i = 0, j = 0;
    return u[4].some((step) => {
      if (typeof step === "number") { i++; j++; return false; }
      const at = step[0] >= 0 ? i++ : null, other = step[1] >= 0 ? j++ : null;
      return !inGroup(u[5], at, other);
    });
  };

  const textOf = (u) => {
    const ref = [], hyp = [];
    for (const step of u[4]) {
      const pair = typeof step === "number" ? [step, step] : step;
      if (pair[0] >= 0) ref.push(words[pair[0]]);
      if (pair[1] >= 0) hyp.push(words[pair[1]]);
    }
    return [u[0], u[1], ref.join(" "), hyp.join(" ")].join("\n").toLowerCase();
  };

  const drawn = (u) => {
    const box = element("div", "utterance");
    const about = element("div", "about");
    const errors = errorsOf(u), count = wordsOf(u);
    about.append(element("b", "", u[0]), " " + (u[1] ? u[1] + " · " : "") + errors + " of " + count + " · WER " + (errors / Math.max(1, count)).toFixed(3) + (u[3] ? "" : " · missing from the hypothesis") + " ");
    if (u[2]) {
      const audio = element("audio");
      audio.controls = true;
      audio.preload = "none";
      audio.src = u[2];
      about.append(audio);
    }
    box.append(about);
    const line = element("div", "text");
    let i = 0, j = 0;
    for (const step of u[4]) {
      const hit = typeof step === "number";
      const ref = hit ? step : step[0], hyp = hit ? step : step[1];
      const group = hit ? undefined : inGroup(u[5], ref >= 0 ? i : null, hyp >= 0 ? j : null);
      const pair = element("span", "pair " + (hit ? "hit" : group ? "eq" : ref < 0 ? "ins" : hyp < 0 ? "del" : "sub"));
      if (group) pair.title = "equal by " + group[0];
      pair.append(element("span", "", ref < 0 ? "" : words[ref]), element("span", "", hyp < 0 ? "" : words[hyp]));
      line.append(pair, " ");
      i += ref >= 0;
      j += hyp >= 0;
    }
    box.append(line);
    return box;
  };

  let chosen = utterances, begin = 0;
  const draw = () => {
    const end = Math.min(begin + PAGE, chosen.length);
    byId("list").replaceChildren(...chosen.slice(begin, end).map(drawn));
    byId("where").textContent = chosen.length ? (begin + 1) + "–" + end + " of " + chosen.length : "none";
    byId("back").disabled = begin === 0;
    byId("on").disabled = end === chosen.length;
  };
  const choose = () => {
    const wanted = byId("search").value.normalize("NFC").trim().toLowerCase(), show = byId("show").value;
    const order = byId("order").value;
    chosen = utterances.filter((u) =>
      (show === "all" || (show === "wrong" && errorsOf(u)) || (show === "tolerant" && unequal(u)) || (show === "missing" && !u[3])) &&
      (!wanted || textOf(u).includes(wanted)));
    if (order === "id") chosen.sort((a, b) => a[0].localeCompare(b[0], undefined, { numeric: true }));
    if (order === "errors") chosen.sort((a, b) => errorsOf(b) - errorsOf(a));
    if (order === "rate") chosen.sort((a, b) => errorsOf(b) / Math.max(1, wordsOf(b)) - errorsOf(a) / Math.max(1, wordsOf(a)));
    begin = 0;
    draw();
  };
  let waiting;
  byId("search").addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(choose, 150); });
  byId("show").addEventListener("change", choose);
  byId("order").addEventListener("change", choose);
  byId("back").addEventListener("click", () => { begin = Math.max(0, begin - PAGE); draw(); });
  byId("on").addEventListener("click", () => { if (begin + PAGE < chosen.length) begin += PAGE; draw(); });
  // The address may name a search: page.html#q=word
  const asked = /#q=(.*)/.exec(location.hash);
  if (asked) byId("search").value = decodeURIComponent(asked[1]);
  choose();
})();
