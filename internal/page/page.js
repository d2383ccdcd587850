"use strict";

const at = (id) => document.getElementById(id);

// element makes an element; texts are never taken for markup.
function element(name, text, cls) {
  const e = document.createElement(name);
  if (text !== undefined && text !== null) e.textContent = text;
  if (cls) e.className = cls;
  return e;
}

// table makes one of heads and rows of cells, each a text or an element.
function table(heads, rows, none) {
  if (!rows.length) return element("p", none, "none");
  const t = element("table"), head = t.createTHead().insertRow(), body = t.createTBody();
  for (const h of heads) head.append(element("th", h));
  for (const cells of rows) {
    const row = body.insertRow();
    cells.forEach((cell, i) => {
      const td = row.insertCell();
      if (cell === undefined || cell === null || cell === "") return;
      td.dataset.head = heads[i];
      td.append(cell instanceof Node ? cell : String(cell));
    });
  }
  return t;
}

const show = (id, node) => at(id).replaceChildren(node);

function usage(u) {
  if (!u || !u.total) return "";
  const box = element("div", `${u.assigned} of ${u.total}`), bar = element("div", "", "bar"), fill = element("i");
  const part = u.assigned / u.total;
  fill.style.setProperty("width", `${Math.max(part * 100, u.assigned ? 1 : 0)}%`);
  if (part > 0.9) fill.className = "full";
  bar.append(fill);
  box.append(bar);
  return box;
}

const state = (s) => element("span", s, s);

function service(key) {
  const b = element("button", key, "link");
  b.type = "button";
  b.addEventListener("click", () => explain(key));
  return b;
}

async function explain(key) {
  const slash = key.indexOf("/");
  at("name").value = key;
  location.hash = encodeURIComponent(key);
  const query = new URLSearchParams({ namespace: key.slice(0, slash), name: key.slice(slash + 1) });
  const answer = await fetch("explain?" + query);
  const box = element("div");
  if (!answer.ok) {
    box.append(element("p", await answer.text(), "Broken"));
    return show("explanation", box);
  }
  const e = await answer.json();
  const cause = element("div", "", "cause " + (e.cause ? e.cause.state : "OK"));
  cause.append(element("div", e.cause ? `${e.cause.name}: ${e.cause.says}` : `${(e.addresses || []).join(", ")}: nothing is wrong on the way to it`));
  if (e.cause && e.cause.fix) cause.append(element("div", e.cause.fix, "fix"));
  box.append(cause, table(["State", "Link", "Says"], (e.steps || []).map((s) => [state(s.state), s.name, s.says]), ""));
  if (e.nodes) {
    box.append(table(["Address", "Node", "Layer 2", "BGP"], e.nodes.map((n) => [n.address, n.name,
      n.answers ? `answers (${n.layer2})` : n.layer2, n.bgp === "Announced" ? `told to ${(n.told || []).length} of ${(n.peers || []).length}` : n.bgp]), ""));
  }
  show("explanation", box);
}

function when(text) {
  const d = new Date(text), e = element("time", d.toLocaleTimeString());
  e.dateTime = text;
  e.title = d.toLocaleString();
  return e;
}

function draw(o) {
  if (o.error) {
    at("live").textContent = o.error;
    at("live").className = "lost";
    show("timeline", timeline(o));
    return;
  }
  at("live").textContent = "live";
  at("live").className = "";
  at("controller").textContent = o.controller;
  const counts = element("div", "", "counts");
  for (const [n, text, cls] of [[o.services.total, "in all", ""], [o.services.ok, "as they should be", "OK"], [o.services.warning, "with a warning", "Warning"], [o.services.broken, "broken", "Broken"]]) {
    const c = element("span");
    c.append(element("b", n, n ? cls : ""), text);
    counts.append(c);
  }
  show("counts", counts);
  show("troubles", table(["State", "Service", "Address", "Why"], (o.troubles || []).map((t) => [state(t.state), service(t.service), (t.addresses || []).join(", "), t.why]), "Nothing is wrong with any of them."));
  show("pools", table(["Pool", "IPv4", "IPv6", "Says"], (o.pools || []).map((p) => [p.name, usage(p.ipv4), usage(p.ipv6), p.says]), "There is none yet: nothing gets an address."));
  show("nodes", table(["Node", "Ready", "Layer 2", "BGP", "Says"], (o.speakers || []).map((s) => [s.node, element("span", s.ready ? "yes" : "no", s.ready ? "OK" : "Broken"), s.layer2, s.sessions ? `${s.up} of ${s.sessions} up` : "", s.says]), "There are none."));
  at("s-sessions").hidden = !(o.sessions || []).length;
  show("sessions", table(["Node", "Peer", "State", "BFD", "Says"], (o.sessions || []).map((s) => [s.node, s.peer, s.state, s.bfd, s.lastError]), ""));
  at("s-problems").hidden = !(o.problems || []).length;
  at("problems").replaceChildren(...(o.problems || []).map((p) => element("li", p)));
  show("timeline", timeline(o));
}

function timeline(o) {
  return table(["When", "Address", "From", "To", "Nobody for"], (o.timeline || []).map((e) => [when(e.at), e.address, e.from || "nobody", e.to || "nobody", e.silent ? `${e.silent.toFixed(0)} s` : ""]), "Nothing has moved since this controller started.");
}

async function known() {
  const answer = await fetch("services");
  if (!answer.ok) return;
  at("known").replaceChildren(...(await answer.json()).slice(0, 5000).map((s) => {
    const o = element("option");
    o.value = s.service;
    return o;
  }));
}

at("find").addEventListener("submit", (e) => {
  e.preventDefault();
  const text = at("name").value.trim();
  if (text) explain(text.includes("/") ? text : "default/" + text);
});
at("name").addEventListener("focus", known);

const events = new EventSource("events");
events.onmessage = (m) => draw(JSON.parse(m.data));
events.onerror = () => {
  at("live").textContent = "not connected";
  at("live").className = "lost";
};
if (location.hash.length > 1) explain(decodeURIComponent(location.hash.slice(1)));
